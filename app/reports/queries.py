"""The SQL of reports. None of it grows with the number of reviews."""

from __future__ import annotations

# Ids are time-ordered, so the oldest of a state is the first of an index.
WAITING = """
SELECT
    (SELECT extract(epoch FROM now() - created_at)::float8 FROM items
     WHERE project_id = %(project_id)s AND state = 'pending' ORDER BY id LIMIT 1)
        AS oldest_pending_seconds,
    (SELECT extract(epoch FROM now() - created_at)::float8 FROM items
     WHERE project_id = %(project_id)s AND state = 'in_review' ORDER BY id LIMIT 1)
        AS oldest_in_review_seconds,
    (SELECT count(*) FROM assignments
     WHERE project_id = %(project_id)s AND state = 'leased'
       AND lease_expires_at > now()) AS leased,
    (SELECT count(*) FROM events
     WHERE project_id = %(project_id)s AND type = 'item.routed'
       AND created_at > now() - make_interval(secs => %(window_seconds)s)) AS routed_in_window
"""

SCHEMA = """
SELECT s.version, s.definition
FROM projects p JOIN label_schemas s ON s.id = p.label_schema_id
WHERE p.id = %(project_id)s
"""
