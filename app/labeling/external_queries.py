"""The SQL of labels made elsewhere."""

from __future__ import annotations

PROJECT = """
SELECT p.label_schema_id, s.version, l.template
FROM projects p
JOIN label_schemas s ON s.id = p.label_schema_id
JOIN labelers l ON l.id = p.labeler_id
WHERE p.id = %(project_id)s
"""

# Who the rows speak of; the content only where a value can't be checked without it.
ITEMS = """
SELECT i.id, i.external_id, i.state, i.label, i.confidence, i.prediction_id, r.labeler_id,
       CASE WHEN %(with_content)s THEN p.content END AS content
FROM items i
JOIN item_payloads p ON p.item_id = i.id
LEFT JOIN predictions r ON r.id = i.prediction_id
WHERE i.project_id = %(project_id)s
  AND (i.id = ANY(%(item_ids)s) OR i.external_id = ANY(%(external_ids)s))
"""

PRODUCER = """
SELECT id FROM labelers
WHERE project_id = %(project_id)s AND source = 'external' AND model = %(producer)s
  AND template IS NOT DISTINCT FROM %(template)s
ORDER BY revision DESC LIMIT 1
"""
HOLD_PROJECT = "SELECT id FROM projects WHERE id = %(project_id)s FOR NO KEY UPDATE"
# A producer is a labeler like any other, in the order in which it was met.
ADD_PRODUCER = """
INSERT INTO labelers (id, project_id, revision, model, base_url, instructions, prompt_version,
                      prompt_hash, parameters, source, template)
SELECT %(id)s, %(project_id)s, coalesce(max(revision), 0) + 1, %(producer)s, NULL, '', 'external',
       '', '{}', 'external', %(template)s
FROM labelers WHERE project_id = %(project_id)s
"""

# Items that wait for a label, and those that are being labelled: whoever holds one of those finds
# its lease gone and writes nothing. Ours lasts until the transaction ends, by which time the labels
# are stored. The project is held already.
TAKE = """
WITH due AS (
    SELECT id, state, lease_token, reserved_micros FROM items
    WHERE project_id = %(project_id)s AND id = ANY(%(item_ids)s)
      AND state IN ('pending', 'labeling')
    ORDER BY id
    FOR UPDATE
), taken AS (
    UPDATE items i
    SET state = 'labeling', lease_token = %(token)s, reserved_micros = NULL,
        lease_expires_at = now() + interval '1 minute'
    FROM due WHERE i.id = due.id
    RETURNING i.id, i.project_id, i.attempts, due.state AS stood, due.lease_token,
              due.reserved_micros
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    SELECT %(project_id)s, d.name, d.sign * c.n
    FROM (SELECT count(*) AS n FROM taken WHERE stood = 'pending') c,
         (VALUES ('items.pending', -1), ('items.labeling', 1)) AS d (name, sign)
    WHERE c.n > 0
)
SELECT id, project_id, attempts, lease_token, reserved_micros FROM taken
"""
