"""The SQL of labelling, readable top to bottom. One statement each; the database's clock rules."""

from __future__ import annotations

from app.labeling.budget_queries import HAS_BUDGET, IS_EXHAUSTED

# By what name workers know the endpoint of a labeler `l`, whose pauses they share.
ENDPOINT = "coalesce(lower(rtrim(l.base_url, '/')), 'default') || ' ' || l.model"

# What a worker needs to know of a project for as long as it drains it. Versions never change.
LOAD_PROJECT = f"""
SELECT l.id AS labeler_id, l.model, l.base_url, l.instructions, l.parameters,
       l.source, l.api, l.template, l.examples, l.limits, l.prices,
       {ENDPOINT} AS endpoint, s.id AS label_schema_id, s.kind, s.definition,
       {HAS_BUDGET} AS has_budget, b.delay AS broken_delay
FROM projects p
JOIN labelers l ON l.id = p.labeler_id
JOIN label_schemas s ON s.id = p.label_schema_id
LEFT JOIN endpoint_breakers b ON b.endpoint = {ENDPOINT}
WHERE p.id = %(project_id)s
"""

# In rank order: what is labelled and audited first is a random part of what is there, however the
# sender sorted it. The project is held before its items: its deletion takes them in that order too,
# and neither can wait for the other.
_DUE = """
    SELECT id FROM items
    WHERE project_id = %(project_id)s AND state = 'pending' AND next_attempt_at <= now()
      AND losses {losses}
      AND EXISTS (SELECT 1 FROM project)
      AND NOT EXISTS (
          SELECT 1 FROM endpoint_pauses
          WHERE endpoint = %(endpoint)s AND paused_until > now()
      )
      AND NOT EXISTS (SELECT 1 FROM endpoint_breakers WHERE endpoint = %(endpoint)s)
    ORDER BY rank
    LIMIT {limit}
    FOR UPDATE SKIP LOCKED
"""
# With a budget only who reserves may claim. `endpoint` is NULL for the trial of a broken one.
_CLAIM = """
WITH project AS (
    SELECT id FROM projects p
    WHERE id = %(project_id)s AND (%(reserving)s OR NOT {has_budget})
    FOR KEY SHARE OF p SKIP LOCKED
), {due}, claimed AS (
    UPDATE items i
    SET state = 'labeling', lease_token = %(token)s,
        lease_expires_at = now() + make_interval(secs => %(lease_seconds)s)
    FROM due WHERE i.id = due.id
    RETURNING i.id, i.attempts
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT %(project_id)s, d.name, d.sign * c.n
    FROM (SELECT count(*) AS n FROM claimed) c,
         (VALUES ('items.pending', -1), ('items.labeling', 1)) AS d (name, sign)
    WHERE c.n > 0
)
SELECT c.id, c.attempts, p.content
FROM claimed c JOIN item_payloads p ON p.item_id = c.id
"""
SUSPECT_LOSSES = 2
# First what lost its worker once: its turn had come, and items of a lower rank could come in for as
# long as more is sent than can be labelled.
CLAIM = _CLAIM.format(
    has_budget=HAS_BUDGET,
    due=f"""
lost AS ({_DUE.format(losses="= 1", limit="%(limit)s")}
), others AS ({_DUE.format(losses="= 0", limit="(SELECT %(limit)s - count(*) FROM lost)")}
), due AS (SELECT id FROM lost UNION ALL SELECT id FROM others)
""",
)
# Items that lost their worker twice are taken one at a time, so that one that kills its worker
# takes no neighbour with it again.
CLAIM_SUSPECT = _CLAIM.format(
    has_budget=HAS_BUDGET,
    due=f"due AS ({_DUE.format(losses=f'>= {SUSPECT_LOSSES}', limit='%(limit)s')})",
)

# Shared, so that recorders do not wait for one another, but a new policy version waits for them
# and they for it: an item is routed by the policy that is current when its label is stored. Held
# before any item, as a claim does.
HOLD_PROJECT = "SELECT policy_id FROM projects WHERE id = %(project_id)s FOR SHARE"

# A statement of its own: whoever waited for a new version has a snapshot without it, so that a
# join with HOLD_PROJECT would find no policy at all.
POLICY = "SELECT document FROM policies WHERE id = %(policy_id)s"

# Labels with all that follows from them. Whoever lost the lease in the meantime writes nothing.
RECORD = """
WITH result AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS r (
        item_id uuid, token uuid, attempts int, prediction_id uuid, label text, confidence float8,
        source text, unknown_reason text, score float8, route text, route_reason text,
        last_error text, alternatives jsonb, evidence jsonb, final_id uuid,
        labeled_event_id uuid, labeled_event jsonb, routed_event_id uuid, routed_event jsonb,
        p_raw float8, p_norm float8, margin float8, entropy float8, off_label float8,
        ambiguous float8, unseen float8, answer text, repaired boolean, served_model text,
        system_fingerprint text, finish_reason text, prompt_tokens int, completion_tokens int,
        latency_ms int, parts jsonb, figures jsonb, calls smallint, cost_micros bigint
    )
), done AS (
    UPDATE items i
    SET state = CASE r.route WHEN 'accept' THEN 'accepted' ELSE 'in_review' END,
        lease_token = NULL, lease_expires_at = NULL, attempts = r.attempts,
        last_error = r.last_error, prediction_id = r.prediction_id, label = r.label,
        confidence = r.confidence, confidence_source = r.source,
        unknown_reason = r.unknown_reason, route = r.route, route_reason = r.route_reason,
        policy_id = %(policy_id)s, labeled_at = now(), reserved_micros = NULL,
        final_label = CASE r.route WHEN 'accept' THEN r.label END
    FROM result r
    WHERE i.id = r.item_id AND i.lease_token = r.token AND i.state = 'labeling'
    RETURNING i.id, r.token, i.state
), predicted AS (
    INSERT INTO predictions (
        id, project_id, item_id, labeler_id, label_schema_id, label, confidence,
        confidence_source, unknown_reason, score, p_raw, p_norm, margin, entropy, off_label,
        ambiguous, unseen, alternatives, evidence, answer, repaired, served_model,
        system_fingerprint, finish_reason, prompt_tokens, completion_tokens, latency_ms, parts,
        figures, calls, cost_micros)
    SELECT r.prediction_id, %(project_id)s, r.item_id, %(labeler_id)s, %(label_schema_id)s,
           r.label, r.confidence, r.source, r.unknown_reason, r.score, r.p_raw, r.p_norm,
           r.margin, r.entropy, r.off_label, r.ambiguous, r.unseen, r.alternatives, r.evidence,
           r.answer, r.repaired, r.served_model, r.system_fingerprint, r.finish_reason,
           r.prompt_tokens, r.completion_tokens, r.latency_ms, r.parts, r.figures, r.calls,
           r.cost_micros
    FROM result r
    JOIN done ON done.id = r.item_id AND done.token = r.token
    WHERE r.prediction_id IS NOT NULL
), queued AS (
    INSERT INTO review_queue (item_id, slot, project_id, round, score)
    SELECT r.item_id, 1, %(project_id)s, 1, coalesce(r.score, '-infinity')
    FROM result r JOIN done ON done.id = r.item_id AND done.token = r.token
    WHERE r.route = 'review'
), final AS (
    INSERT INTO final_labels (id, project_id, item_id, label, prediction_id, policy_id,
                              label_schema_id)
    SELECT r.final_id, %(project_id)s, r.item_id, r.label, r.prediction_id, %(policy_id)s,
           %(label_schema_id)s
    FROM result r JOIN done ON done.id = r.item_id AND done.token = r.token
    WHERE r.route = 'accept'
), told AS (
    INSERT INTO events (id, project_id, type, data)
    SELECT e.id, %(project_id)s, e.type, e.data
    FROM result r
    JOIN done ON done.id = r.item_id AND done.token = r.token
    CROSS JOIN LATERAL (VALUES
        (r.labeled_event_id, 'item.labeled', r.labeled_event),
        (r.routed_event_id, 'item.routed', r.routed_event)
    ) AS e (id, type, data)
    WHERE e.type <> 'item.labeled' OR r.label IS NOT NULL
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT %(project_id)s, 'items.' || state, count(*) FROM done GROUP BY state
    UNION ALL
    SELECT %(project_id)s, 'items.labeling', -count(*) FROM done HAVING count(*) > 0
)
SELECT id, token FROM done
"""

# Back to the queue, due later. Also how a worker that stops gives back what it has not begun.
RETURN = """
WITH returned AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS r (
        item_id uuid, token uuid, attempts int, delay float8, last_error text
    )
), done AS (
    UPDATE items i
    SET state = 'pending', lease_token = NULL, lease_expires_at = NULL, attempts = r.attempts,
        next_attempt_at = now() + make_interval(secs => r.delay), reserved_micros = NULL,
        last_error = coalesce(r.last_error, i.last_error)
    FROM returned r
    WHERE i.id = r.item_id AND i.lease_token = r.token AND i.state = 'labeling'
    RETURNING i.id, r.token
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT %(project_id)s, d.name, d.sign * c.n
    FROM (SELECT count(*) AS n FROM done) c,
         (VALUES ('items.labeling', -1), ('items.pending', 1)) AS d (name, sign)
    WHERE c.n > 0
)
SELECT id, token FROM done
"""

# Items whose worker is gone. A third loss makes an item poison: it goes to people. Bounded, so
# that the transaction stays short. A project that is being deleted is left alone.
EXPIRE = """
WITH due AS (
    SELECT i.id, i.lease_token, i.reserved_micros, p.policy_id
    FROM items i JOIN projects p ON p.id = i.project_id
    WHERE i.state = 'labeling' AND i.lease_expires_at <= now()
    ORDER BY i.lease_expires_at LIMIT %(limit)s
    FOR UPDATE OF i SKIP LOCKED FOR KEY SHARE OF p SKIP LOCKED
), freed AS (
    UPDATE items i
    SET losses = i.losses + 1, lease_token = NULL, lease_expires_at = NULL,
        reserved_micros = NULL, last_error = 'the worker that held it was lost',
        next_attempt_at = now(),
        state = CASE WHEN i.losses + 1 < %(max_losses)s THEN 'pending' ELSE 'in_review' END,
        route = CASE WHEN i.losses + 1 >= %(max_losses)s THEN 'review' END,
        route_reason = CASE WHEN i.losses + 1 >= %(max_losses)s THEN 'unknown_confidence' END,
        unknown_reason = CASE WHEN i.losses + 1 >= %(max_losses)s THEN 'leases_lost' END,
        policy_id = CASE WHEN i.losses + 1 >= %(max_losses)s THEN due.policy_id END,
        labeled_at = CASE WHEN i.losses + 1 >= %(max_losses)s THEN now() END
    FROM due
    WHERE i.id = due.id
    RETURNING i.id, i.project_id, i.state, due.lease_token, due.reserved_micros
), queued AS (
    INSERT INTO review_queue (item_id, slot, project_id, round, score)
    SELECT id, 1, project_id, 1, '-infinity' FROM freed WHERE state = 'in_review'
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT project_id, 'items.' || state, count(*) FROM freed GROUP BY project_id, state
    UNION ALL
    SELECT project_id, 'items.labeling', -count(*) FROM freed GROUP BY project_id
)
SELECT id, project_id, state, lease_token, reserved_micros FROM freed
"""

# Projects with items to label now, with how long somebody could have begun with the oldest. Not
# those whose endpoint rests: nobody may call it. Nor those that have spent their budget. One index
# probe a project, however many items wait.
DUE_PROJECTS = f"""
SELECT p.id AS project_id,
       extract(epoch FROM now() - greatest(d.next_attempt_at, e.paused_until))::float8
           AS overdue_seconds
FROM projects p
JOIN labelers l ON l.id = p.labeler_id
LEFT JOIN endpoint_pauses e ON e.endpoint = {ENDPOINT}
CROSS JOIN LATERAL (
    SELECT next_attempt_at FROM items
    WHERE project_id = p.id AND state = 'pending' AND next_attempt_at <= now()
    ORDER BY next_attempt_at LIMIT 1
) d
WHERE l.source <> 'external'
  AND (e.paused_until IS NULL OR e.paused_until <= now()) AND NOT {IS_EXHAUSTED}
ORDER BY d.next_attempt_at
"""

PREDICTIONS = """
SELECT r.id, r.item_id, r.label, r.confidence, r.confidence_source, r.unknown_reason, r.score,
       r.p_raw, r.p_norm, r.margin, r.entropy, r.off_label, r.ambiguous, r.unseen,
       r.alternatives, r.parts, r.figures,
       CASE WHEN %(with_evidence)s THEN r.evidence END AS evidence, r.answer,
       r.calls, r.cost_micros, l.prices->>'currency' AS currency,
       r.repaired, r.served_model, r.system_fingerprint, r.finish_reason, r.prompt_tokens,
       r.completion_tokens, r.latency_ms, r.created_at, l.id AS labeler_id, l.revision, l.model,
       l.prompt_version, l.prompt_hash, l.parameters, s.id AS label_schema_id,
       s.version AS label_schema_version
FROM predictions r
JOIN labelers l ON l.id = r.labeler_id
JOIN label_schemas s ON s.id = r.label_schema_id
WHERE r.item_id = %(item_id)s
ORDER BY r.id DESC
"""
