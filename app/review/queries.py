"""The SQL of reviewing, readable top to bottom. One statement and one round trip each.

The database's clock alone decides what has expired.
"""

from __future__ import annotations

from app.ledger import counters, events

# Whether a reviewer has had an item and did not simply lose or return it: such a one is not met
# again. Asked item by item: as NOT EXISTS it was planned to read all that the reviewer ever had.
_HAD = """
(
    SELECT 1 FROM assignments had
    WHERE had.item_id = {item}.item_id AND had.reviewer = {reviewer}
      AND had.round = {item}.round AND had.state IN ('leased', 'submitted', 'skipped')
    LIMIT 1
) IS NOT NULL
"""

# Lowest confidence first, unknown (-infinity) before all. Rows that another claim is taking are
# skipped, so nobody waits and nothing is handed out twice. The commit does not wait for the disk: a
# lease lost in a crash is an item back in the queue, and its random token is never reissued.
#
# Those who ask together get the head of the queue in the order they came; whoever has had the item
# that fell to them gets nothing here (`refused`) and asks alone.
#
# The plan is made once, perhaps while the tables are small, and kept: tables are met by the places
# of locked rows, by the ids of an array or inside a fence (OFFSET 0), so that no other plan than by
# their keys can be made.
_CLAIM = """
WITH asked AS (
    SELECT position, reviewer, id, token
    FROM jsonb_to_recordset(%(asked)s) AS a (position int, reviewer text, id uuid, token uuid)
), picked AS (
    SELECT q.ctid AS place, q.item_id, q.slot, q.round, q.score
    FROM review_queue q
    WHERE q.project_id = %(project_id)s AND q.assignment_id IS NULL {condition}
    ORDER BY q.score, q.item_id
    LIMIT %(count)s
    FOR UPDATE OF q SKIP LOCKED
), numbered AS (
    SELECT *, row_number() OVER (ORDER BY score, item_id) AS position FROM picked
), matched AS (
    SELECT n.place, n.item_id, n.slot, n.round, a.position, a.reviewer, a.id, a.token
    FROM numbered n JOIN asked a USING (position)
    WHERE NOT {had}
), taken AS (
    UPDATE review_queue q SET assignment_id = m.id FROM matched m WHERE q.ctid = m.place
), leased AS (
    INSERT INTO assignments (id, project_id, item_id, slot, round, reviewer, lease_token,
                             lease_expires_at)
    SELECT m.id, %(project_id)s, m.item_id, m.slot, m.round, m.reviewer, m.token,
           now() + make_interval(secs => (
               SELECT review_lease_seconds FROM projects WHERE id = %(project_id)s
           ))
    FROM matched m
    RETURNING id, lease_expires_at
)
SELECT a.position, n.item_id IS NOT NULL AND m.id IS NULL AS refused, m.id, m.item_id, m.round,
       m.token AS lease_token, l.lease_expires_at, 'leased' AS state, a.reviewer,
       shown.*, NULL::jsonb AS draft, quick.quick
FROM (SELECT set_config('synchronous_commit', 'off', true) AS quick) quick
CROSS JOIN asked a
LEFT JOIN numbered n USING (position)
LEFT JOIN matched m USING (position)
LEFT JOIN leased l ON l.id = m.id
LEFT JOIN LATERAL (
    SELECT i.external_id, p.content, p.metadata, i.label, i.confidence, i.confidence_source,
           i.unknown_reason, i.route_reason, i.prediction_id, r.alternatives, r.parts
    FROM items i
    JOIN item_payloads p ON p.item_id = i.id
    LEFT JOIN predictions r ON r.id = i.prediction_id
    WHERE i.id = m.item_id
    OFFSET 0
) shown ON true
ORDER BY a.position
"""
CLAIM_TOGETHER = _CLAIM.format(condition="", had=_HAD.format(item="n", reviewer="a.reviewer"))
CLAIM_ALONE = _CLAIM.format(
    condition="AND NOT " + _HAD.format(item="q", reviewer="%(reviewer)s"), had="false"
)

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
       i.unknown_reason, i.route_reason, i.prediction_id, r.alternatives, r.parts,
       a.project_id
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

# What a value's offsets count in: the item's text as the labeler that labelled it makes it.
TEXT = """
SELECT p.content, l.template
FROM items i
JOIN item_payloads p ON p.item_id = i.id
JOIN projects o ON o.id = i.project_id
LEFT JOIN predictions r ON r.id = i.prediction_id
JOIN labelers l ON l.id = coalesce(r.labeler_id, o.labeler_id)
WHERE i.id = %(item_id)s
"""

RECORDED = """
SELECT id, item_id, project_id, label, comment, created_at, label_schema_id,
       (SELECT p.label FROM predictions p WHERE p.id = reviews.prediction_id) AS predicted
FROM reviews WHERE assignment_id = %(assignment_id)s
"""

# How assignments and their items stand. Nothing is locked: what is written then names what was
# read.
STANDING = """
SELECT standing.*
FROM unnest(%(assignment_ids)s::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT a.id, a.project_id, a.item_id, a.slot, a.round, a.state, a.reviewer, a.lease_token,
           i.state AS item_state, i.label, i.confidence, i.route, i.prediction_id,
           p.label_schema_id, s.version AS label_schema_version,
           a.lease_expires_at > clock_timestamp() AS alive,
           EXISTS (
               SELECT 1 FROM assignments o
               WHERE o.item_id = a.item_id AND o.slot = a.slot AND o.id <> a.id
                 -- ids are by the clocks of who made them, leases by the database's
                 AND o.lease_expires_at > a.lease_expires_at
                 AND o.state IN ('leased', 'submitted')
           ) AS taken_over
    FROM assignments a
    JOIN items i ON i.id = a.item_id
    JOIN projects p ON p.id = a.project_id
    JOIN label_schemas s ON s.id = p.label_schema_id
    WHERE a.id = wanted.id
    OFFSET 0
) standing
"""

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

# Verdicts and everything that follows from them, in one statement; of one whose lease is over, or
# whose item is not as it was read, nothing at all. Those that are recorded together pass by what
# somebody else holds, so that nobody waits for another's lock.
_RECORD = f"""
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS r (
        assignment_id uuid, reviewer text, lease_token uuid, prediction_id uuid, review_id uuid,
        final_id uuid, label text, comment text, label_schema_id uuid, tally jsonb, deltas jsonb,
        events jsonb
    )
), held AS (
    SELECT g.*, a.item_id, a.slot, a.round, i.policy_id
    FROM given g
    CROSS JOIN LATERAL (
        SELECT project_id, item_id, slot, round, reviewer, state, lease_token, lease_expires_at
        FROM assignments WHERE id = g.assignment_id
        OFFSET 0 FOR UPDATE {{wait}}
    ) a
    CROSS JOIN LATERAL (
        SELECT state, prediction_id, policy_id FROM items WHERE id = a.item_id
        OFFSET 0 FOR UPDATE {{wait}}
    ) i
    WHERE a.reviewer = g.reviewer AND a.lease_token = g.lease_token
      AND a.project_id = %(project_id)s AND a.state = 'leased'
      AND a.lease_expires_at > clock_timestamp()
      AND i.state = 'in_review' AND i.prediction_id IS NOT DISTINCT FROM g.prediction_id
), closed AS (
    UPDATE assignments SET state = 'submitted', closed_at = now()
    WHERE id = ANY (ARRAY(SELECT assignment_id FROM held))
), dequeued AS (
    DELETE FROM review_queue
    WHERE item_id = ANY (ARRAY(SELECT item_id FROM held))
      AND assignment_id = ANY (ARRAY(SELECT assignment_id FROM held))
), reviewed AS (
    INSERT INTO reviews (id, project_id, item_id, assignment_id, round, reviewer, label, comment,
                         prediction_id, label_schema_id, tally)
    SELECT h.review_id, %(project_id)s, h.item_id, h.assignment_id, h.round, h.reviewer, h.label,
           h.comment, h.prediction_id, h.label_schema_id, h.tally
    FROM held h
    RETURNING id, created_at
), completed AS (
    UPDATE items i
    SET state = 'completed', completed_at = now(),
        final_label = (SELECT h.label FROM held h WHERE h.item_id = i.id)
    WHERE i.id = ANY (ARRAY(SELECT item_id FROM held))
), final AS (
    INSERT INTO final_labels (id, project_id, item_id, label, prediction_id, review_id, policy_id,
                              label_schema_id)
    SELECT h.final_id, %(project_id)s, h.item_id, h.label, h.prediction_id, h.review_id,
           h.policy_id, h.label_schema_id
    FROM held h
), counted AS ({counters.append_of("held")}), told AS ({events.insert_of("held")})
SELECT id, created_at FROM reviewed
"""
RECORD_TOGETHER = _RECORD.format(wait="SKIP LOCKED")
RECORD_ALONE = _RECORD.format(wait="")

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
