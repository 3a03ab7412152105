"""The SQL of projects that is no ordinary work."""

from __future__ import annotations

DELETE_STEP = 2000

# A part of a project's items, with all that hangs on them; the counters go down with them, so
# that a removal that is cut short leaves no figure that is not true.
DELETE_SOME_ITEMS = f"""
WITH gone AS (
    DELETE FROM items WHERE id IN (
        SELECT id FROM items WHERE project_id = %(project_id)s LIMIT {DELETE_STEP}
    )
    RETURNING state, reserved_micros
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT %(project_id)s, 'items.' || state, -count(*) FROM gone GROUP BY state
), given_back AS (
    UPDATE budgets
    SET reserved_micros = reserved_micros - (SELECT sum(reserved_micros) FROM gone)
    WHERE project_id = %(project_id)s
      AND EXISTS (SELECT 1 FROM gone WHERE reserved_micros IS NOT NULL)
)
SELECT count(*) AS n FROM gone
"""

# What is told of a project, and its counters, are many rows too, and go when it has no items.
DELETE_SOME_EVENTS = f"""
WITH gone AS (
    DELETE FROM events WHERE id IN (
        SELECT id FROM events WHERE project_id = %(project_id)s LIMIT {DELETE_STEP}
    )
    RETURNING id
)
SELECT count(*) AS n FROM gone
"""
DELETE_SOME_SPENDINGS = f"""
WITH gone AS (
    DELETE FROM spendings WHERE project_id = %(project_id)s AND (token, item_id) IN (
        SELECT token, item_id FROM spendings
        WHERE project_id = %(project_id)s LIMIT {DELETE_STEP}
    )
    RETURNING month, micros, calls, labels
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT %(project_id)s, d.name, -sum(d.delta)
    FROM gone g CROSS JOIN LATERAL (VALUES
        ('cost.' || g.month, g.micros), ('cost.total', g.micros), ('cost.calls', g.calls),
        ('cost.labels', g.labels)
    ) AS d (name, delta)
    GROUP BY d.name HAVING sum(d.delta) <> 0
)
SELECT count(*) AS n FROM gone
"""
DELETE_SOME_DELTAS = f"""
WITH gone AS (
    DELETE FROM counter_deltas WHERE id IN (
        SELECT id FROM counter_deltas WHERE project_id = %(project_id)s LIMIT {DELETE_STEP}
    )
    RETURNING id
)
SELECT count(*) AS n FROM gone
"""
DELETE_STEPS = (
    DELETE_SOME_ITEMS,
    DELETE_SOME_EVENTS,
    DELETE_SOME_SPENDINGS,
    DELETE_SOME_DELTAS,
)

DELETE = "DELETE FROM projects WHERE id = %(project_id)s"
