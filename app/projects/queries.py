"""The SQL of projects that is no ordinary work."""

from __future__ import annotations

DELETE_STEP = 2000

# A part of a project's items, with all that hangs on them.
DELETE_SOME_ITEMS = f"""
DELETE FROM items WHERE id IN (
    SELECT id FROM items WHERE project_id = %(project_id)s LIMIT {DELETE_STEP}
)
"""

DELETE = "DELETE FROM projects WHERE id = %(project_id)s"
