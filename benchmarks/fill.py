"""Fills a project by SQL as the service would have: what stands there passes the doctor.

In steps, so that no statement grows with the size asked for. Foreign keys are not checked while
filling (the doctor reads everything afterwards), which is four times as quick.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from app.domain.agreement import CONFIDENCE_BINS, UNKNOWN_BIN

STEP = 50_000
_EDGES = f"ARRAY[{', '.join(str(edge) for edge in CONFIDENCE_BINS)}]::float8[]"
_LABELS = 13
LABELS = [f"label {number}" for number in range(_LABELS)]

_CURRENT = "SELECT label_schema_id, labeler_id, policy_id FROM projects WHERE id = %s"

# Time-ordered ids as the service gives them. Scores are spread, so that the order of the queue is
# not the order of insertion.
_MADE = f"""
WITH made AS MATERIALIZED (
    SELECT uuidv7() AS id, uuidv7() AS prediction_id, uuidv7() AS assignment_id,
           uuidv7() AS review_id, random() AS u, floor(random() * {_LABELS})::int AS predicted,
           CASE WHEN random() < 0.8 THEN 0 ELSE floor(random() * {_LABELS})::int END AS shift,
           number
    FROM generate_series(1, %(count)s) AS number
), payloads AS (
    INSERT INTO item_payloads (item_id, project_id, content, digest)
    SELECT id, %(project)s, jsonb_build_object('text', repeat('some words of text ', 25)), '\\x00'
    FROM made
), predicted AS (
    INSERT INTO predictions (id, project_id, item_id, labeler_id, label_schema_id, label,
                             confidence, confidence_source, score, alternatives, repaired,
                             latency_ms)
    SELECT prediction_id, %(project)s, id, %(labeler)s, %(schema)s, 'label ' || predicted, u,
           'logprobs', ln((u + 1e-9) / (1 - u + 1e-9)),
           '[["label 1", 0.6], ["label 2", 0.4]]', false, 200
    FROM made
), labelled AS (
    INSERT INTO events (id, project_id, type, data)
    SELECT uuidv7(), %(project)s, type, jsonb_build_object('item_id', id)
    FROM made CROSS JOIN (VALUES ('item.labeled'), ('item.routed')) AS kinds (type)
)
"""

_ITEMS = """
    INSERT INTO items (id, project_id, state, rank, coin, audit_probability, train_probability,
                       label, confidence, confidence_source, route, route_reason, policy_id,
                       prediction_id, labeled_at, final_label, completed_at)
    SELECT id, %(project)s, '{state}', u, 'none', 0.1, 0.025, 'label ' || predicted, u,
           'logprobs', 'review', 'below_threshold', %(policy)s, prediction_id, now(),
           {final}, {completed}
    FROM made
"""

_WAITING = (
    _MADE
    + ", items AS ("
    + _ITEMS.format(state="in_review", final="NULL", completed="NULL")
    + """
), counted AS (
    INSERT INTO counter_deltas (project_id, name, delta)
    VALUES (%(project)s, 'items.in_review', %(count)s)
)
INSERT INTO review_queue (item_id, slot, project_id, round, score)
SELECT id, 1, %(project)s, 1, ln((u + 1e-9) / (1 - u + 1e-9)) FROM made
"""
)

_DECIDED = f"'label ' || (predicted + shift) %% {_LABELS}"
_BIN = f"least(width_bucket(u, {_EDGES}), {UNKNOWN_BIN}) - 1"

# `grain`: how many reviews share a delta; one each is what the service appends before a fold.
_REVIEWED = (
    _MADE
    + ", items AS ("
    + _ITEMS.format(state="completed", final=_DECIDED, completed="now()")
    + f"""
), assigned AS (
    INSERT INTO assignments (id, project_id, item_id, slot, round, reviewer, state, lease_token,
                             lease_expires_at, closed_at)
    SELECT assignment_id, %(project)s, id, 1, 1, 'reviewer-' || number %% 32, 'submitted',
           gen_random_uuid(), now(), now()
    FROM made
), reviewed AS (
    INSERT INTO reviews (id, project_id, item_id, assignment_id, round, reviewer, label,
                         prediction_id, label_schema_id)
    SELECT review_id, %(project)s, id, assignment_id, 1, 'reviewer-' || number %% 32, {_DECIDED},
           prediction_id, %(schema)s
    FROM made
), final AS (
    INSERT INTO final_labels (id, project_id, item_id, label, prediction_id, review_id, policy_id,
                              label_schema_id)
    SELECT uuidv7(), %(project)s, id, {_DECIDED}, prediction_id, review_id, %(policy)s, %(schema)s
    FROM made
), told AS (
    INSERT INTO events (id, project_id, type, data)
    SELECT uuidv7(), %(project)s, type, jsonb_build_object('item_id', id)
    FROM made CROSS JOIN (VALUES ('review.submitted'), ('item.completed')) AS kinds (type)
)
INSERT INTO counter_deltas (project_id, name, delta)
SELECT %(project)s, name, count(*)
FROM made CROSS JOIN LATERAL (VALUES
    ('items.completed'),
    ('agreement.1.' || {_BIN} || '.' || predicted || '.' || (predicted + shift) %% {_LABELS})
) AS counters (name)
GROUP BY name, number / %(grain)s
"""
)

# What people decided of a batch of leases, as the model had it, with all that follows.
_SUBMIT = f"""
WITH closed AS (
    UPDATE assignments SET state = 'submitted', closed_at = now()
    WHERE id = ANY(%(assignments)s) AND state = 'leased'
    RETURNING id, item_id, slot, round, reviewer
), dequeued AS (
    DELETE FROM review_queue q USING closed c
    WHERE q.item_id = c.item_id AND q.slot = c.slot AND q.assignment_id = c.id
), completed AS (
    UPDATE items i SET state = 'completed', final_label = label, completed_at = now()
    FROM closed WHERE i.id = closed.item_id
    RETURNING i.id, closed.id AS assignment_id, round, reviewer, label, confidence AS u,
              prediction_id, policy_id, uuidv7() AS review_id
), reviewed AS (
    INSERT INTO reviews (id, project_id, item_id, assignment_id, round, reviewer, label,
                         prediction_id, label_schema_id)
    SELECT review_id, %(project)s, id, assignment_id, round, reviewer, label, prediction_id,
           %(schema)s
    FROM completed
), final AS (
    INSERT INTO final_labels (id, project_id, item_id, label, prediction_id, review_id, policy_id,
                              label_schema_id)
    SELECT uuidv7(), %(project)s, id, label, prediction_id, review_id, policy_id, %(schema)s
    FROM completed
), told AS (
    INSERT INTO events (id, project_id, type, data)
    SELECT uuidv7(), %(project)s, type, jsonb_build_object('item_id', id)
    FROM completed CROSS JOIN (VALUES ('review.submitted'), ('item.completed')) AS kinds (type)
)
INSERT INTO counter_deltas (project_id, name, delta)
SELECT %(project)s, name, sum(delta)
FROM completed CROSS JOIN LATERAL (VALUES
    ('items.in_review', -1), ('items.completed', 1),
    ('agreement.1.' || {_BIN} || '.' || substr(label, 7) || '.' || substr(label, 7), 1)
) AS counters (name, delta)
GROUP BY name
"""


class Filler:
    """Writes into one project of a database."""

    def __init__(self, connection: psycopg.Connection[Any], project_id: uuid.UUID) -> None:
        """Takes a superuser's connection, in autocommit."""
        self._connection = connection
        row = connection.execute(_CURRENT, (project_id,)).fetchone()
        assert row is not None
        names = ("schema", "labeler", "policy")
        self._project = {"project": project_id, **dict(zip(names, row, strict=True))}

    def wait(self, count: int) -> None:
        """Adds labelled items that wait in the queue."""
        for size in _steps(count):
            self._run(_WAITING, count=size)

    def review(self, count: int, *, grain: int = STEP) -> None:
        """Adds items that people decided."""
        for size in _steps(count):
            self._run(_REVIEWED, count=size, grain=grain)

    def submit(self, assignments: list[uuid.UUID]) -> None:
        """Decides leased items."""
        self._run(_SUBMIT, assignments=assignments)

    def settle(self) -> None:
        """What a database that was not just filled has behind it."""
        self._connection.execute("VACUUM (ANALYZE)")
        self._connection.execute("CHECKPOINT")

    def _run(self, statement: str, **parameters: object) -> None:
        self._connection.execute(statement, {**self._project, **parameters}, prepare=False)


@contextmanager
def filling(database_url: str, project_id: uuid.UUID) -> Iterator[Filler]:
    """A filler with a connection of its own."""
    with psycopg.connect(
        database_url, autocommit=True, options="-c session_replication_role=replica"
    ) as connection:
        yield Filler(connection, project_id)


def _steps(count: int) -> Iterator[int]:
    for done in range(0, count, STEP):
        yield min(STEP, count - done)
