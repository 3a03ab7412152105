"""Storing what came of calls: micro-batches, one transaction each, fenced by the lease token."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from app.domain.backoff import (
    Backoff,
    GiveUp,
    PauseEndpoint,
    TryAgain,
    decide_after_failure,
)
from app.domain.routing import Decision, Policy, Route, decide_route, policy_from_json
from app.infra.db import Connection, Database
from app.infra.ids import Kind, new_id, to_wire
from app.labeling import queries
from app.labeling.call import Answered, Failed, Job, Outcome

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Whose answers these are: provenance of every prediction of a drain."""

    project_id: uuid.UUID
    labeler_id: uuid.UUID
    label_schema_id: uuid.UUID
    endpoint: str


@dataclass(frozen=True, slots=True)
class Returned:
    """An item that goes back to the queue."""

    job: Job
    attempts: int
    delay: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Settled:
    """An item that leaves labelling: with an answer, or given up on."""

    outcome: Outcome
    attempts: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch of outcomes comes to, decided before anything is written."""

    settled: list[Settled]
    returned: list[Returned]
    pause_seconds: float | None


def plan(outcomes: Sequence[Outcome], *, backoff: Backoff, rng: random.Random) -> Plan:
    """Decides for each outcome: settle, return, and whether the endpoint must rest."""
    settled: list[Settled] = []
    returned: list[Returned] = []
    pause: float | None = None
    for outcome in outcomes:
        job = outcome.job
        if isinstance(outcome, Answered):
            settled.append(Settled(outcome, job.attempts + 1))
            continue
        decision = decide_after_failure(
            outcome.failure,
            attempts=job.attempts,
            retry_after=outcome.retry_after,
            jitter=rng.random(),
            backoff=backoff,
        )
        match decision:
            case TryAgain(delay, attempts):
                returned.append(Returned(job, attempts, delay, outcome.detail))
            case PauseEndpoint(delay):
                returned.append(Returned(job, job.attempts, delay, outcome.detail))
                pause = max(delay, pause or 0.0)
            case GiveUp(attempts):
                settled.append(Settled(outcome, attempts))
    return Plan(settled, returned, pause)


class Recorder:
    """Writes plans."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # the newest version met of each project; versions never change
        self._policies: dict[uuid.UUID, tuple[uuid.UUID, Policy]] = {}

    async def write(self, source: Source, plan: Plan) -> int:
        """Writes a batch in one transaction; how many items left labelling.

        An item whose lease is no longer ours is left alone: somebody else has it.
        """
        async with self._database.transaction() as connection:
            policy_id = await _hold_project(connection, source.project_id)
            if plan.pause_seconds is not None:
                await connection.execute(
                    queries.PAUSE, {"endpoint": source.endpoint, "seconds": plan.pause_seconds}
                )
            if policy_id is None:
                # the project was deleted meanwhile, and its items with it
                return 0
            if plan.returned:
                await _return(connection, source.project_id, plan.returned)
            if not plan.settled:
                return 0
            policy = await self._policy(connection, source.project_id, policy_id)
            rows = [_row(settled, policy) for settled in plan.settled]
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            cursor = await connection.execute(
                queries.RECORD,
                {
                    "project_id": source.project_id,
                    "policy_id": policy_id,
                    "labeler_id": source.labeler_id,
                    "label_schema_id": source.label_schema_id,
                    **columns,
                },
                prepare=True,
            )
            stored = await cursor.fetchall()
        if len(stored) < len(rows):
            _log.info("%d labels came after their lease", len(rows) - len(stored))
        return len(stored)

    async def give_back(self, project_id: uuid.UUID, jobs: Sequence[Job]) -> None:
        """Returns items that were claimed and not labelled; nobody is to blame, so no loss."""
        if jobs:
            async with self._database.transaction() as connection:
                await _hold_project(connection, project_id)
                returned = [Returned(job, job.attempts, 0.0, None) for job in jobs]
                await _return(connection, project_id, returned)

    async def _policy(
        self, connection: Connection, project_id: uuid.UUID, policy_id: uuid.UUID
    ) -> Policy:
        known = self._policies.get(project_id)
        if known is not None and known[0] == policy_id:
            return known[1]
        cursor = await connection.execute(queries.POLICY, {"policy_id": policy_id}, prepare=True)
        row = await cursor.fetchone()
        assert row is not None, "a project points at its policy by a foreign key"
        policy = policy_from_json(row["document"])
        self._policies[project_id] = (policy_id, policy)
        return policy


async def _hold_project(connection: Connection, project_id: uuid.UUID) -> uuid.UUID | None:
    """The current policy of a project, which stays current until the transaction ends."""
    cursor = await connection.execute(
        queries.HOLD_PROJECT, {"project_id": project_id}, prepare=True
    )
    row = await cursor.fetchone()
    return None if row is None else row["policy_id"]


async def _return(
    connection: Connection, project_id: uuid.UUID, returned: Sequence[Returned]
) -> None:
    await connection.execute(
        queries.RETURN,
        {
            "project_id": project_id,
            "item_ids": [each.job.item_id for each in returned],
            "tokens": [each.job.token for each in returned],
            "attempts": [each.attempts for each in returned],
            "delays": [each.delay for each in returned],
            "last_errors": [each.error for each in returned],
        },
        prepare=True,
    )


def _row(settled: Settled, policy: Policy) -> dict[str, Any]:
    """One item's columns of RECORD, routed by the policy."""
    outcome = settled.outcome
    job = outcome.job
    answer = _answer_columns(outcome)
    decision = decide_route(policy, confidence=answer["confidences"])
    item_id = to_wire(Kind.ITEM, job.item_id)
    return {
        "item_ids": job.item_id,
        "tokens": job.token,
        "attempts": settled.attempts,
        **answer,
        "routes": decision.route.value,
        "route_reasons": decision.reason.value,
        "final_ids": new_id() if decision.route is Route.ACCEPT else None,
        "labeled_event_ids": new_id(),
        "labeled_events": Jsonb(_labeled_event(item_id, answer["prediction_ids"])),
        "routed_event_ids": new_id(),
        "routed_events": Jsonb(_routed_event(item_id, decision)),
    }


def _answer_columns(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Failed):
        return {
            "prediction_ids": None,
            "labels": None,
            "confidences": None,
            "sources": None,
            "unknown_reasons": outcome.reason.value,
            "scores": None,
            "last_errors": outcome.detail,
            "details": None,
            "evidence": None,
            "alternatives": None,
        }
    reading = outcome.reading
    score, unknown = reading.score, reading.unknown
    return {
        "prediction_ids": new_id(),
        "labels": reading.label,
        "confidences": None if score is None else score.p_norm,
        "sources": reading.source.value,
        "unknown_reasons": None if unknown is None else unknown.reason.value,
        "scores": None if score is None else score.logit,
        "last_errors": None if unknown is None else unknown.detail,
        "details": Jsonb(_details(outcome)),
        "evidence": None if reading.evidence is None else Jsonb(reading.evidence),
        "alternatives": None if score is None else Jsonb([list(a) for a in score.alternatives]),
    }


def _details(outcome: Answered) -> dict[str, Any]:
    reading = outcome.reading
    score, served = reading.score, reading.served
    figures = ("p_raw", "p_norm", "margin", "entropy", "off_label", "ambiguous", "unseen")
    return {
        **{name: None if score is None else getattr(score, name) for name in figures},
        "answer": reading.answer,
        "repaired": outcome.repaired,
        "served_model": served.model,
        "system_fingerprint": served.system_fingerprint,
        "finish_reason": served.finish_reason,
        "prompt_tokens": served.prompt_tokens,
        "completion_tokens": served.completion_tokens,
        "latency_ms": round(outcome.seconds * 1000),
    }


def _labeled_event(item_id: str, prediction_id: uuid.UUID | None) -> dict[str, Any]:
    named = None if prediction_id is None else to_wire(Kind.PREDICTION, prediction_id)
    return {"item_id": item_id, "prediction_id": named}


def _routed_event(item_id: str, decision: Decision) -> dict[str, Any]:
    return {"item_id": item_id, "route": decision.route.value, "reason": decision.reason.value}
