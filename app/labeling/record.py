"""Storing what came of calls: micro-batches, one transaction each, fenced by the lease token."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from psycopg.rows import DictRow

from app.domain.kinds.base import Score
from app.domain.routing import Decision, Policy, Route, decide_route, policy_from_json
from app.domain.usage import Usage
from app.infra.db import Connection, Database, json_rows
from app.infra.ids import Kind, new_id, to_wire
from app.infra.metrics import results_lost
from app.labeling import endpoint_queries, queries
from app.labeling.call import Answered, Failed, Job, Outcome
from app.labeling.plan import Broken, Mended, Plan, Rest, Returned, Settled
from app.labeling.reckoning import Reckoning
from app.labeling.spending import Turn, spend

# a lease, by its item and its token
Ended = tuple[uuid.UUID, uuid.UUID]
_FIGURES = ("p_raw", "p_norm", "margin", "entropy", "off_label", "ambiguous", "unseen")
# a call that was broken off: it was sent, and nobody will tell what it used
_UNTOLD = Usage(calls=1, untold=1)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Whose answers these are: provenance of every prediction of a drain.

    Attributes:
        project_id, labeler_id, label_schema_id: as stored.
        endpoint: by what name all workers know it.
        shown: the endpoint for people: a model and a host.
    """

    project_id: uuid.UUID
    labeler_id: uuid.UUID
    label_schema_id: uuid.UUID
    endpoint: str
    shown: str = ""


class Recorder:
    """Writes plans."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # the newest version met of each project; versions never change
        self._policies: dict[uuid.UUID, tuple[uuid.UUID, Policy]] = {}

    async def write(self, source: Source, plan: Plan, *, reckoning: Reckoning | None = None) -> int:
        """Writes a batch in one transaction; how many items left labelling.

        An item whose lease is no longer ours is left alone: somebody else has it. What its turn
        cost is counted all the same.
        """
        async with self._database.transaction() as connection:
            policy_id = await hold_project(connection, source.project_id)
            changes = await _tell(connection, source.endpoint, plan)
            stored: set[Ended] = set()
            if policy_id is not None:
                stored = await self._end(connection, source, plan, policy_id, reckoning)
        for change in changes:
            _log.warning("%s %s", source.shown or source.endpoint, change)
        # of a project that was deleted meanwhile, the items are gone as well
        late = 0 if policy_id is None else len(plan.settled) - len(stored)
        if late:
            results_lost("late", late)
            _log.info("%d labels came after their lease", late)
        return len(stored)

    async def settle(
        self,
        connection: Connection,
        source: Source,
        settled: Sequence[Settled],
        *,
        policy_id: uuid.UUID,
        reckoning: Reckoning | None = None,
    ) -> set[Ended]:
        """Routes and stores labels in a transaction that holds their project.

        Returns:
            The leases that were ours, each with its item out of labelling by it.
        """
        if not settled:
            return set()
        policy = await self._policy(connection, source.project_id, policy_id)
        rows = [_row(each, policy, reckoning) for each in settled]
        return await _record(connection, source, policy_id, rows)

    async def _end(
        self,
        connection: Connection,
        source: Source,
        plan: Plan,
        policy_id: uuid.UUID,
        reckoning: Reckoning | None,
    ) -> set[Ended]:
        """Ends the leases of a plan's items; those that left labelling."""
        ended: set[Ended] = set()
        if plan.returned:
            ended = await return_items(connection, source.project_id, plan.returned)
        stored = await self.settle(
            connection, source, plan.settled, policy_id=policy_id, reckoning=reckoning
        )
        if reckoning is not None and reckoning.prices is not None:
            turns = _turns(plan, reckoning, ended | stored)
            await spend(connection, source.project_id, turns)
        return stored

    async def give_back(
        self,
        project_id: uuid.UUID,
        jobs: Sequence[Job],
        *,
        reckoning: Reckoning | None = None,
    ) -> None:
        """Returns items that were claimed and not labelled; nobody is to blame, so no loss.

        Their calls may have been under way: what they were reckoned to cost is counted.
        """
        if not jobs:
            return
        async with self._database.transaction() as connection:
            await hold_project(connection, project_id)
            returned = [Returned(job, job.attempts, 0.0, None, _UNTOLD) for job in jobs]
            ended = await return_items(connection, project_id, returned)
            if reckoning is not None and reckoning.prices is not None:
                turns = _turns(Plan([], returned, None), reckoning, ended)
                await spend(connection, project_id, turns)

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


async def hold_project(connection: Connection, project_id: uuid.UUID) -> uuid.UUID | None:
    """The current policy of a project, which stays current until the transaction ends."""
    cursor = await connection.execute(
        queries.HOLD_PROJECT, {"project_id": project_id}, prepare=True
    )
    row = await cursor.fetchone()
    return None if row is None else row["policy_id"]


async def _tell(connection: Connection, endpoint: str, plan: Plan) -> list[str]:
    """Tells all workers how the endpoint is; what changed by it, for the log.

    The log has no words of the server.
    """
    named = {"endpoint": endpoint}
    pause, said = plan.pause_seconds, plan.pause_said
    changes: list[str] = []
    for news in plan.news:
        match news:
            case Mended():
                if await _one(connection, endpoint_queries.MEND, named):
                    changes.append("answers again; the calls go on")
            case Broken(opened, trial):
                broken = {"seconds": opened.seconds, "delay": opened.delay, "trial": trial}
                row = await _one(
                    connection, endpoint_queries.BREAK, {**named, **broken, "said": news.said}
                )
                if row is not None and row["opened"]:
                    changes.append(f"fails again and again ({news.reason.value}); it is left alone")
            case Rest(seconds):
                pause, said = max(seconds, pause or 0.0), said or news.said
    if pause is not None:
        paused = {"seconds": pause, "said": said}
        await connection.execute(endpoint_queries.PAUSE, named | paused)
    return changes


async def _one(connection: Connection, sql: str, parameters: dict[str, Any]) -> DictRow | None:
    cursor = await connection.execute(sql, parameters)
    return await cursor.fetchone()


async def _record(
    connection: Connection, source: Source, policy_id: uuid.UUID, rows: Sequence[dict[str, Any]]
) -> set[Ended]:
    """The leases that ended, each with its item out of labelling."""
    cursor = await connection.execute(
        queries.RECORD,
        {
            "project_id": source.project_id,
            "policy_id": policy_id,
            "labeler_id": source.labeler_id,
            "label_schema_id": source.label_schema_id,
            # items are locked in one order by all who lock several
            "rows": json_rows(sorted(rows, key=lambda row: row["item_id"])),
        },
        prepare=True,
    )
    return {(row["id"], row["token"]) for row in await cursor.fetchall()}


async def return_items(
    connection: Connection, project_id: uuid.UUID, returned: Sequence[Returned]
) -> set[Ended]:
    """Puts items back into the queue; the leases that were still ours."""
    cursor = await connection.execute(
        queries.RETURN,
        {
            "project_id": project_id,
            "rows": json_rows(
                {
                    "item_id": str(each.job.item_id),
                    "token": str(each.job.token),
                    "attempts": each.attempts,
                    "delay": each.delay,
                    "last_error": each.error,
                }
                for each in sorted(returned, key=lambda each: each.job.item_id)
            ),
        },
        prepare=True,
    )
    return {(row["id"], row["token"]) for row in await cursor.fetchall()}


def _turns(plan: Plan, reckoning: Reckoning, ended: AbstractSet[Ended]) -> Iterator[Turn]:
    """What a plan's turns cost.

    Of a lease that somebody else ended, nothing is given back: they did.
    """
    turns: list[tuple[Job, Usage, Outcome | None]] = [
        (each.outcome.job, each.outcome.usage, each.outcome) for each in plan.settled
    ]
    turns += [(each.job, each.usage, None) for each in plan.returned]
    for job, usage, outcome in turns:
        yield Turn(
            job.item_id,
            job.token,
            micros=reckoning.spent(job.content, usage),
            calls=usage.calls,
            labeled=isinstance(outcome, Answered) and outcome.reading.label is not None,
            reserved=job.reserved if (job.item_id, job.token) in ended else 0,
        )


def _row(settled: Settled, policy: Policy, reckoning: Reckoning | None) -> dict[str, Any]:
    """One item's row of RECORD, routed by the policy; what it does not name is NULL."""
    job = settled.outcome.job
    answer = _answer(settled.outcome)
    if reckoning is not None and reckoning.prices is not None:
        answer["cost_micros"] = reckoning.spent(job.content, settled.outcome.usage)
    decision = decide_route(policy, confidence=answer.get("confidence"))
    item_id = to_wire(Kind.ITEM, job.item_id)
    return {
        "item_id": str(job.item_id),
        "token": str(job.token),
        "attempts": settled.attempts,
        **answer,
        "route": decision.route.value,
        "route_reason": decision.reason.value,
        "final_id": str(new_id()) if decision.route is Route.ACCEPT else None,
        "routed_event_id": str(new_id()),
        "routed_event": _routed_event(item_id, decision),
    }


def _answer(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Failed):
        return {"unknown_reason": outcome.reason.value, "last_error": outcome.detail}
    reading = outcome.reading
    unknown, served = reading.unknown, reading.served
    prediction_id = new_id()
    return {
        "prediction_id": str(prediction_id),
        "label": reading.label,
        "source": reading.source.value,
        "unknown_reason": None if unknown is None else unknown.reason.value,
        "last_error": None if unknown is None else unknown.detail,
        "evidence": reading.evidence,
        **_figures(reading.score),
        "answer": reading.answer,
        "repaired": outcome.repaired,
        "served_model": served.model,
        "system_fingerprint": served.system_fingerprint,
        "finish_reason": served.finish_reason,
        "prompt_tokens": served.prompt_tokens,
        "completion_tokens": served.completion_tokens,
        "latency_ms": round(outcome.seconds * 1000),
        "calls": outcome.usage.calls or None,
        "labeled_event_id": str(new_id()),
        "labeled_event": {
            "item_id": to_wire(Kind.ITEM, outcome.job.item_id),
            "prediction_id": to_wire(Kind.PREDICTION, prediction_id),
        },
    }


def _figures(score: Score | None) -> dict[str, Any]:
    if score is None:
        return {}
    return {
        "confidence": score.confidence,
        "score": score.logit,
        "alternatives": score.alternatives,
        "parts": [[part.name, part.value, part.confidence, part.logit] for part in score.parts]
        or None,
        "figures": dict(score.figures) or None,
        **{name: getattr(score, name) for name in _FIGURES},
    }


def _routed_event(item_id: str, decision: Decision) -> dict[str, Any]:
    return {"item_id": item_id, "route": decision.route.value, "reason": decision.reason.value}
