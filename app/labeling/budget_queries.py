"""The SQL of money. Amounts are micros of the labeler's currency; months the database's, in UTC.

Locks are taken in one order: the project, items, the budget. A budget's row is held by a claim for
a few statements in which it waits for nobody.
"""

from __future__ import annotations

_MONTH = "to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')"

# Holds the budget until the transaction ends: whoever reserves next sees what this one did. A
# project that is being deleted is passed by.
HOLD = f"""
SELECT b.monthly_limit_micros, b.reserved_micros, {_MONTH} AS month
FROM projects p JOIN budgets b ON b.project_id = p.id
WHERE p.id = %(project_id)s
FOR KEY SHARE OF p SKIP LOCKED
FOR UPDATE OF b
"""  # noqa: S608  # an expression of our own

# What the counter of a month says. A statement of its own, after HOLD: its snapshot has what
# those committed who held the budget before.
SPENT = """
SELECT coalesce(sum(value), 0)::bigint AS micros FROM (
    SELECT value FROM counter_totals WHERE project_id = %(project_id)s AND name = %(counter)s
    UNION ALL
    SELECT delta FROM counter_deltas WHERE project_id = %(project_id)s AND name = %(counter)s
) AS parts
"""

# A reservation lives with its item's lease.
RESERVE = """
WITH kept AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS r (item_id uuid, micros bigint)
), marked AS (
    UPDATE items i SET reserved_micros = kept.micros
    FROM kept WHERE i.id = kept.item_id AND i.lease_token = %(token)s
)
UPDATE budgets
SET reserved_micros = reserved_micros + (SELECT sum(micros) FROM kept)
WHERE project_id = %(project_id)s AND EXISTS (SELECT 1 FROM kept)
"""

# That nothing more can be reserved, for the sweeper to know; told once a project, month and limit.
EXHAUST = """
WITH noted AS (
    UPDATE budgets
    SET exhausted_month = %(month)s, exhausted_limit_micros = monthly_limit_micros,
        exhausted_labeler_id = %(labeler_id)s
    WHERE project_id = %(project_id)s AND monthly_limit_micros IS NOT NULL
    RETURNING monthly_limit_micros
)
INSERT INTO budget_exhaustions (project_id, month, limit_micros)
SELECT %(project_id)s, %(month)s, monthly_limit_micros FROM noted
ON CONFLICT DO NOTHING
RETURNING limit_micros
"""

# What turns cost, each once: a turn is an item under a claim's token. What was counted as an
# estimate, because nobody lived to tell, gives way to what somebody does tell after all. `reserved`
# is what the turn's lease held; it is given here by whoever ends the lease, in that transaction.
SPEND = f"""
WITH turn AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS r (
        item_id uuid, token uuid, micros bigint, calls smallint, labels smallint,
        estimated boolean, reserved bigint
    )
), before AS MATERIALIZED (
    SELECT s.token, s.item_id, s.micros, s.calls, s.labels
    FROM spendings s JOIN turn USING (token, item_id)
    WHERE s.project_id = %(project_id)s AND s.estimated
    FOR UPDATE OF s
), spent AS (
    INSERT INTO spendings (project_id, token, item_id, month, micros, calls, labels, estimated)
    SELECT %(project_id)s, token, item_id, {_MONTH}, micros, calls, labels, estimated
    -- asking for it lets what was before be read before it is changed
    FROM turn WHERE calls > 0 AND (SELECT count(*) FROM before) >= 0
    ON CONFLICT (project_id, token, item_id) DO UPDATE
    SET micros = excluded.micros, calls = excluded.calls, labels = excluded.labels,
        estimated = false
    WHERE spendings.estimated AND NOT excluded.estimated
    RETURNING token, item_id, month, micros, calls, labels
), change AS (
    SELECT s.month, s.micros - coalesce(b.micros, 0) AS micros,
           s.calls - coalesce(b.calls, 0) AS calls, s.labels - coalesce(b.labels, 0) AS labels
    FROM spent s LEFT JOIN before b USING (token, item_id)
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT %(project_id)s, d.name, sum(d.delta)
    FROM change c CROSS JOIN LATERAL (VALUES
        ('cost.' || c.month, c.micros), ('cost.total', c.micros), ('cost.calls', c.calls),
        ('cost.labels', c.labels)
    ) AS d (name, delta)
    GROUP BY d.name HAVING sum(d.delta) <> 0
)
UPDATE budgets
SET reserved_micros = reserved_micros - (SELECT sum(reserved) FROM turn)
WHERE project_id = %(project_id)s AND EXISTS (SELECT 1 FROM turn WHERE reserved > 0)
"""  # noqa: S608  # an expression of our own

SET_LIMIT = """
INSERT INTO budgets (project_id, monthly_limit_micros) VALUES (%(project_id)s, %(limit)s)
ON CONFLICT (project_id) DO UPDATE
SET monthly_limit_micros = excluded.monthly_limit_micros, updated_at = now()
"""

# Held before its budget is, as by all who hold both; no row: it is gone.
HOLD_PROJECT = f"""
SELECT labeler_id, {_MONTH} AS month FROM projects WHERE id = %(project_id)s FOR KEY SHARE
"""  # noqa: S608  # an expression of our own

# What a budget stands at, for people.
STANDING = f"""
SELECT l.prices, {_MONTH} AS month, b.monthly_limit_micros,
       coalesce(b.reserved_micros, 0) AS reserved_micros,
       (b.monthly_limit_micros IS NOT NULL AND b.exhausted_month = {_MONTH}
        AND b.exhausted_limit_micros = b.monthly_limit_micros
        AND b.exhausted_labeler_id = p.labeler_id) IS TRUE AS exhausted
FROM projects p
JOIN labelers l ON l.id = p.labeler_id
LEFT JOIN budgets b ON b.project_id = p.id
WHERE p.id = %(project_id)s
"""  # noqa: S608  # an expression of our own

# In `queries.DUE_PROJECTS`: a project whose labelling waits for money.
IS_EXHAUSTED = f"""EXISTS (
    SELECT 1 FROM budgets b
    WHERE b.project_id = p.id AND b.exhausted_month = {_MONTH}
      AND b.exhausted_limit_micros = b.monthly_limit_micros
      AND b.exhausted_labeler_id = p.labeler_id
)"""  # noqa: S608  # an expression of our own
HAS_BUDGET = """EXISTS (
    SELECT 1 FROM budgets b
    WHERE b.project_id = p.id AND b.monthly_limit_micros IS NOT NULL
)"""
