"""The SQL of reviewing, readable top to bottom. One statement and one round trip each.

The database's clock alone decides what has expired.
"""

from __future__ import annotations

from app.ledger import counters, events

# Lowest confidence first, unknown (-infinity) before all. Rows that another claim is taking are
# skipped, so nobody waits and nothing is handed out twice. A reviewer who has had an item and
# did not simply lose or return it does not meet it again (asked item by item: as NOT EXISTS it was
# planned to read all that the reviewer ever had). The commit does not wait for the disk: a
# lease lost in a crash is an item back in the queue, and its random token is never reissued.
CLAIM = """
WITH settings AS (
    SELECT make_interval(secs => review_lease_seconds) AS lease
    FROM projects WHERE id = %(project_id)s
), picked AS (
    SELECT q.item_id, q.slot, q.round, q.score
    FROM review_queue q
    WHERE q.project_id = %(project_id)s AND q.assignment_id IS NULL
      AND (
          SELECT 1 FROM assignments a
          WHERE a.item_id = q.item_id AND a.reviewer = %(reviewer)s AND a.round = q.round
            AND a.state IN ('leased', 'submitted', 'skipped')
          LIMIT 1
      ) IS NULL
    ORDER BY q.score, q.item_id
    LIMIT %(limit)s
    FOR UPDATE OF q SKIP LOCKED
), numbered AS (
    SELECT *, row_number() OVER (ORDER BY score, item_id) AS position FROM picked
), fresh AS (
    SELECT id, token, position
    FROM unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) WITH ORDINALITY AS f (id, token, position)
), taken AS (
    UPDATE review_queue q SET assignment_id = f.id
    FROM numbered n JOIN fresh f USING (position)
    WHERE q.item_id = n.item_id AND q.slot = n.slot
    RETURNING q.item_id, q.slot, q.round, f.id, f.token, n.position
), leased AS (
    INSERT INTO assignments (id, project_id, item_id, slot, round, reviewer, lease_token,
                             lease_expires_at)
    SELECT t.id, %(project_id)s, t.item_id, t.slot, t.round, %(reviewer)s, t.token,
           now() + s.lease
    FROM taken t CROSS JOIN settings s
    RETURNING id, item_id, round, lease_token, lease_expires_at
)
SELECT l.id, l.item_id, l.round, l.lease_token, l.lease_expires_at, 'leased' AS state,
       %(reviewer)s::text AS reviewer, i.external_id, p.content, p.metadata, i.label,
       i.confidence, i.confidence_source, i.unknown_reason, i.route_reason, i.prediction_id,
       r.alternatives, NULL::jsonb AS draft, quick.quick
FROM (SELECT set_config('synchronous_commit', 'off', true) AS quick) quick
CROSS JOIN leased l
JOIN taken t ON t.id = l.id
JOIN items i ON i.id = l.item_id
JOIN item_payloads p ON p.item_id = l.item_id
LEFT JOIN predictions r ON r.id = i.prediction_id
ORDER BY t.position
"""

PROJECT_EXISTS = "SELECT 1 AS one FROM projects WHERE id = %(project_id)s"

# What a peek shows: no payload, so that polling stays light; leased slots are not shown.
PEEK = """
SELECT q.item_id, i.external_id, i.label, i.confidence, i.confidence_source, i.unknown_reason,
       i.route_reason, i.labeled_at
FROM (
    SELECT item_id, score FROM review_queue
    WHERE project_id = %(project_id)s AND assignment_id IS NULL
    ORDER BY score, item_id LIMIT %(limit)s
) q JOIN items i ON i.id = q.item_id
ORDER BY q.score, q.item_id
"""

_VISIBLE = "AND (%(projects)s::uuid[] IS NULL OR a.project_id = ANY(%(projects)s::uuid[])) "

_ASSIGNMENT = """
SELECT a.id, a.item_id, a.round, a.state, a.reviewer, a.lease_token, a.lease_expires_at, a.draft,
       i.external_id, p.content, p.metadata, i.label, i.confidence, i.confidence_source,
       i.unknown_reason, i.route_reason, i.prediction_id, r.alternatives
FROM assignments a
JOIN items i ON i.id = a.item_id
JOIN item_payloads p ON p.item_id = a.item_id
LEFT JOIN predictions r ON r.id = i.prediction_id
"""

GET_ASSIGNMENT = (
    _ASSIGNMENT
    + """
WHERE a.id = %(assignment_id)s AND a.reviewer = %(reviewer)s
"""
    + _VISIBLE
)

# what a reviewer holds: a frontend that was reloaded finds its work and its tokens again
HELD = (
    _ASSIGNMENT
    + """
WHERE a.project_id = %(project_id)s AND a.reviewer = %(reviewer)s AND a.state = 'leased'
  AND a.lease_expires_at > now()
ORDER BY a.id
"""
)

RECORDED = """
SELECT id, item_id, project_id, label, comment, created_at,
       (SELECT p.label FROM predictions p WHERE p.id = reviews.prediction_id) AS predicted
FROM reviews WHERE assignment_id = %(assignment_id)s
"""

# How an assignment and its item stand. Nothing is locked: what is written then names what was read.
STANDING = (
    """
SELECT a.id, a.project_id, a.item_id, a.slot, a.round, a.state, a.reviewer, a.lease_token,
       i.state AS item_state, i.label, i.confidence, i.route, i.prediction_id, i.policy_id,
       p.label_schema_id, s.version AS label_schema_version,
       a.lease_expires_at > clock_timestamp() AS alive,
       EXISTS (
           SELECT 1 FROM assignments o
           WHERE o.item_id = a.item_id AND o.slot = a.slot AND o.id > a.id
             AND o.state IN ('leased', 'submitted')
       ) AS taken_over
FROM assignments a
JOIN items i ON i.id = a.item_id
JOIN projects p ON p.id = a.project_id
JOIN label_schemas s ON s.id = p.label_schema_id
WHERE a.id = %(assignment_id)s
"""
    + _VISIBLE
)

# The fence: whoever does not hold the lease now changes nothing.
_HELD_NOW = """
a.id = %(assignment_id)s AND a.reviewer = %(reviewer)s AND a.lease_token = %(lease_token)s
AND a.state = 'leased' AND a.lease_expires_at > clock_timestamp()
"""

RENEW = f"""
UPDATE assignments a
SET lease_expires_at = now() + make_interval(secs => p.review_lease_seconds)
FROM projects p
WHERE {_HELD_NOW} {_VISIBLE} AND p.id = a.project_id
RETURNING a.project_id, a.lease_expires_at
"""

# released: the slot is free for anybody; skipped: for anybody else
HAND_BACK = f"""
WITH closed AS (
    UPDATE assignments a SET state = %(state)s, closed_at = now()
    WHERE {_HELD_NOW} {_VISIBLE}
    RETURNING a.id, a.project_id, a.item_id, a.slot
), freed AS (
    UPDATE review_queue q SET assignment_id = NULL
    FROM closed c
    WHERE q.item_id = c.item_id AND q.slot = c.slot AND q.assignment_id = c.id
)
SELECT project_id FROM closed
"""

KEEP_DRAFT = """
UPDATE assignments SET draft = %(draft)s
WHERE id = %(assignment_id)s AND state IN ('leased', 'expired')
"""

# The verdict and everything that follows from it, in one statement; nothing at all if the lease is
# over, or the item is not as it was read.
RECORD_REVIEW = f"""
WITH held AS (
    SELECT a.id, a.item_id, a.slot, a.round, a.reviewer, i.prediction_id, i.policy_id
    FROM assignments a JOIN items i ON i.id = a.item_id
    WHERE {_HELD_NOW} AND i.state = 'in_review'
      AND i.prediction_id IS NOT DISTINCT FROM %(prediction_id)s
    FOR UPDATE OF a, i
), closed AS (
    UPDATE assignments a SET state = 'submitted', closed_at = now()
    FROM held h WHERE a.id = h.id
), dequeued AS (
    DELETE FROM review_queue q USING held h
    WHERE q.item_id = h.item_id AND q.slot = h.slot AND q.assignment_id = h.id
), reviewed AS (
    INSERT INTO reviews (id, project_id, item_id, assignment_id, round, reviewer, label, comment,
                         prediction_id, label_schema_id)
    SELECT %(review_id)s, %(project_id)s, h.item_id, h.id, h.round, h.reviewer, %(label)s,
           %(comment)s, h.prediction_id, %(label_schema_id)s
    FROM held h
    RETURNING created_at
), completed AS (
    UPDATE items i SET state = 'completed', final_label = %(label)s, completed_at = now()
    FROM held h WHERE i.id = h.item_id
), final AS (
    INSERT INTO final_labels (id, project_id, item_id, label, prediction_id, review_id, policy_id,
                              label_schema_id)
    SELECT %(final_id)s, %(project_id)s, h.item_id, %(label)s, h.prediction_id, %(review_id)s,
           h.policy_id, %(label_schema_id)s
    FROM held h
), counted AS (
    {counters.APPEND} WHERE EXISTS (SELECT 1 FROM held)
), told AS (
    {events.INSERT} WHERE EXISTS (SELECT 1 FROM held)
)
SELECT created_at FROM reviewed
"""

# Leases that ran out. The slot goes back to the queue where it stood; the event tells whose it
# was. Bounded, so that a sweep after a long night holds no long transaction.
EXPIRE = """
WITH due AS (
    SELECT id FROM assignments
    WHERE state = 'leased' AND lease_expires_at <= now()
      AND (%(project_id)s::uuid IS NULL OR project_id = %(project_id)s)
    ORDER BY lease_expires_at LIMIT 500
    FOR UPDATE SKIP LOCKED
), expired AS (
    UPDATE assignments a SET state = 'expired', closed_at = now()
    FROM due WHERE a.id = due.id
    RETURNING a.id, a.project_id, a.item_id, a.slot, a.reviewer
), freed AS (
    UPDATE review_queue q SET assignment_id = NULL
    FROM expired e
    WHERE q.item_id = e.item_id AND q.slot = e.slot AND q.assignment_id = e.id
)
SELECT id, project_id, item_id, reviewer FROM expired
"""
