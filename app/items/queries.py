"""The SQL of items, readable top to bottom."""

from __future__ import annotations

PROJECT_COIN = """
SELECT audit_probability, train_probability FROM projects WHERE id = %(project_id)s
"""

# One statement and one round trip for up to 1,000 rows: the items, their payloads, the counter.
# A row whose external id exists already is left alone and does not come back. In the order of
# external ids, so that two calls that bring the same ones wait for each other and never deadlock;
# of equal ones the first of the call. The rows are one JSON value: as arrays they cost the driver
# three times as long.
INSERT = """
WITH input AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS rows (
        id uuid, external_id text, content jsonb, metadata jsonb, digest bytea, rank float8,
        coin text
    )
), inserted AS (
    INSERT INTO items (id, project_id, external_id, rank, coin,
                       audit_probability, train_probability)
    SELECT id, %(project_id)s, external_id, rank, coin,
           %(audit_probability)s, %(train_probability)s
    FROM input
    ORDER BY external_id, id
    ON CONFLICT (project_id, external_id) DO NOTHING
    RETURNING id
), payloads AS (
    INSERT INTO item_payloads (item_id, project_id, content, metadata, digest)
    SELECT id, %(project_id)s, content, metadata, digest FROM input JOIN inserted USING (id)
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT %(project_id)s, 'items.pending', count(*) FROM inserted HAVING count(*) > 0
)
SELECT id FROM inserted
"""

# After INSERT, so that it sees what a concurrent call has written in the meantime.
EXISTING = """
SELECT i.external_id, i.id, p.digest
FROM items i JOIN item_payloads p ON p.item_id = i.id
WHERE i.project_id = %(project_id)s AND i.external_id = ANY(%(external_ids)s)
"""

_COLUMNS = """
SELECT i.id, i.project_id, i.external_id, i.state, p.content, p.metadata, i.label, i.confidence,
       i.confidence_source, i.unknown_reason, i.route, i.route_reason, i.final_label,
       i.prediction_id, i.policy_id, i.attempts, i.last_error,
       CASE WHEN i.state = 'pending' THEN i.next_attempt_at END AS next_attempt_at,
       i.created_at, i.labeled_at, i.completed_at
FROM items i JOIN item_payloads p ON p.item_id = i.id
"""

GET = (
    _COLUMNS
    + """
WHERE i.id = %(item_id)s
  AND (%(projects)s::uuid[] IS NULL OR i.project_id = ANY(%(projects)s::uuid[]))
"""
)

# A condition a filter; only those that are asked for stand in the statement, so that each
# combination gets the plan it deserves.
_FILTERS = {
    "after": "i.id > %(after)s",
    "state": "i.state = %(state)s",
    "label": "i.label = %(label)s",
    "final_label": "i.final_label = %(final_label)s",
    "route": "i.route = %(route)s",
    "external_id": "i.external_id = %(external_id)s",
    "min_confidence": "i.confidence >= %(min_confidence)s",
    "max_confidence": "i.confidence <= %(max_confidence)s",
    "confidence_unknown": "(i.unknown_reason IS NOT NULL) = %(confidence_unknown)s",
    "metadata": "p.metadata @> %(metadata)s",
}


def list_statement(filters: dict[str, object]) -> str:
    """The listing with the conditions of the given filters, keyset by id."""
    conditions = ["i.project_id = %(project_id)s", *(_FILTERS[name] for name in filters)]
    where = " AND ".join(conditions)
    return f"{_COLUMNS} WHERE {where} ORDER BY i.id LIMIT %(limit)s"
