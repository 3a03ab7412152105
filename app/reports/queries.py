"""The SQL of reports. None of it grows with the number of reviews."""

from __future__ import annotations

from app.labeling.queries import ENDPOINT as NAMED

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
SELECT s.version, s.kind, s.definition
FROM projects p JOIN label_schemas s ON s.id = p.label_schema_id
WHERE p.id = %(project_id)s
"""

# How the endpoint of a project's labels does; no row where they are made elsewhere.
ENDPOINT = f"""
SELECT e.paused_until, e.paused_until > now() AS rests, b.endpoint IS NOT NULL AS broken, e.said
FROM projects p
JOIN labelers l ON l.id = p.labeler_id
LEFT JOIN endpoint_pauses e ON e.endpoint = {NAMED}
LEFT JOIN endpoint_breakers b ON b.endpoint = {NAMED}
WHERE p.id = %(project_id)s AND l.source <> 'external'
"""  # an expression of our own

# Of all projects, for the operator. Totals of few names and what is not folded yet.
STATES_OF_ALL = """
SELECT project_id, name, sum(value)::bigint AS value FROM (
    SELECT t.project_id, t.name, t.value
    FROM projects p JOIN counter_totals t ON t.project_id = p.id AND t.name = ANY(%(names)s)
    UNION ALL
    SELECT project_id, name, delta FROM counter_deltas WHERE name = ANY(%(names)s)
) AS parts
GROUP BY project_id, name HAVING sum(value) <> 0
"""

# One index probe a project. The sweeper that is active holds an advisory lock.
WAITING_OF_ALL = """
SELECT
    (SELECT count(*) FROM assignments
     WHERE state = 'leased' AND lease_expires_at > now()) AS leased,
    (SELECT coalesce(extract(epoch FROM now() - min(oldest.created_at)), 0)::float8
     FROM projects p CROSS JOIN LATERAL (
         SELECT created_at FROM items
         WHERE project_id = p.id AND state = 'pending' ORDER BY id LIMIT 1
     ) oldest) AS oldest_pending_seconds,
    (SELECT coalesce(extract(epoch FROM now() - min(oldest.created_at)), 0)::float8
     FROM projects p CROSS JOIN LATERAL (
         SELECT created_at FROM items
         WHERE project_id = p.id AND state = 'in_review' ORDER BY id LIMIT 1
     ) oldest) AS oldest_in_review_seconds,
    (SELECT count(*) FROM (
         SELECT endpoint FROM endpoint_pauses WHERE paused_until > now()
         UNION SELECT endpoint FROM endpoint_breakers
     ) left_alone) AS endpoints_resting,
    EXISTS (
        SELECT 1 FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND classid = (%(sweeper_lock)s::bigint >> 32)::oid
          AND objid = (%(sweeper_lock)s::bigint & 4294967295)::oid
    ) AS sweeping
"""
