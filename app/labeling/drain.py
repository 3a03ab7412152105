"""Draining a project: claim, ask with many calls in flight, record in micro-batches, claim more.

No transaction is open while a model thinks. A drain ends when nothing is due, when its time slice
is over (projects take turns) or when the process is asked to stop; it then wakes a successor if
work remains, since the message that woke it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from app.domain.backoff import Backoff, FailureClass
from app.domain.unknown import UnknownReason
from app.infra.db import Database
from app.infra.jobs import WakeUps
from app.infra.logging import log_about
from app.labeling import queries
from app.labeling.batches import BatchWriter
from app.labeling.call import Failed, Job, Outcome, ask, observe_attempt
from app.labeling.client import ModelClients
from app.labeling.load import LoadedProject, load_project
from app.labeling.record import Recorder

_log = logging.getLogger(__name__)
# how often a drain that has calls in flight, but nothing to claim, looks again
_IDLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class DrainLimits:
    """How a process labels.

    Attributes:
        calls_in_flight: model calls under way at once.
        deadline_seconds: total time of an item's calls.
        lease_seconds: how long a claim holds; longer than the deadline.
        slice_seconds: how long a drain claims.
        stop_seconds: how long a stopping process waits for calls in flight.
        backoff: delays after failures.
    """

    calls_in_flight: int
    deadline_seconds: float
    lease_seconds: float
    slice_seconds: float
    stop_seconds: float = 5.0
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True)
class DrainResult:
    """How a drain ended: items that left labelling, and whether due work may remain."""

    settled: int
    work_remains: bool


@dataclass(frozen=True, slots=True)
class _Tools:
    """What every drain of a process shares."""

    database: Database
    recorder: Recorder
    wake_ups: WakeUps
    limits: DrainLimits
    rng: random.Random


class Drainer:
    """Labels due items of one project at a time; used by workers and, at need, by the sweeper."""

    def __init__(
        self,
        database: Database,
        clients: ModelClients,
        wake_ups: WakeUps,
        *,
        limits: DrainLimits,
        rng: random.Random,
    ) -> None:
        self._clients = clients
        self._tools = _Tools(database, Recorder(database), wake_ups, limits, rng)

    async def drain(
        self, project_id: uuid.UUID, *, stopping: Callable[[], bool] = lambda: False
    ) -> DrainResult:
        """Labels what is due in a project until nothing is, time is up, or `stopping` says so."""
        log_about(project_id=project_id)
        project = await load_project(self._tools.database, self._clients, project_id)
        if project is None:
            return DrainResult(0, work_remains=False)
        result = await _Run(self._tools, project, stopping).drain()
        if result.work_remains:
            self._tools.wake_ups.request(project_id)
        return result


class _Run:
    """The state of one drain."""

    def __init__(self, tools: _Tools, project: LoadedProject, stopping: Callable[[], bool]) -> None:
        self._tools = tools
        self._project = project
        self._stopping = stopping
        self._slice_ends = time.monotonic() + tools.limits.slice_seconds
        self._running: dict[asyncio.Task[None], Job] = {}
        self._paused_until = 0.0
        self._cancelled = False
        self._outcomes = BatchWriter(
            tools.recorder,
            project.source,
            backoff=tools.limits.backoff,
            rng=tools.rng,
            patience=self._patience,
        )

    async def drain(self) -> DrainResult:
        recording = asyncio.create_task(self._outcomes.run())
        try:
            await self._one_suspect()
            remains = await self._label()
        except asyncio.CancelledError:
            self._cancelled = True
            raise
        finally:
            try:
                await self._finish_calls()
            finally:
                self._outcomes.finish()
                await recording
        return DrainResult(self._outcomes.settled, work_remains=remains)

    def _patience(self) -> float:
        """How long a batch is worth writing: as long as its leases may last, unless we must go."""
        limits = self._tools.limits
        hurried = self._cancelled or self._stopping()
        return limits.stop_seconds if hurried else limits.lease_seconds

    def _may_claim(self) -> bool:
        now = time.monotonic()
        return not self._stopping() and now < self._slice_ends and now >= self._paused_until

    async def _label(self) -> bool:
        """Keeps calls in flight; whether due work may remain when it ends."""
        limit = self._tools.limits.calls_in_flight
        dry_until = 0.0
        asked_for_help = False
        while True:
            free = limit - len(self._running)
            claimed = 0
            wanted = free >= max(1, limit // 4) and time.monotonic() >= dry_until
            if wanted and self._may_claim():
                claimed = await self._claim(queries.CLAIM, free)
                if claimed < free:
                    dry_until = time.monotonic() + _IDLE_SECONDS
                elif not asked_for_help:
                    # more waits than one process can carry: another may join
                    asked_for_help = True
                    self._tools.wake_ups.request(self._project.source.project_id)
            if self._running:
                await asyncio.wait(
                    self._running, timeout=_IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if self._stopping():
                    return True
            elif not self._may_claim():
                # a paused endpoint is the sweeper's to watch; else somebody must look again
                return time.monotonic() >= self._paused_until
            elif not claimed and not await self._one_suspect():
                return False

    async def _one_suspect(self) -> bool:
        """Labels one item that lost its worker twice, with nothing else in flight or unwritten.

        Should it kill this worker too, nobody else's label goes with it.
        """
        await self._outcomes.written()
        if not self._may_claim() or not await self._claim(queries.CLAIM_SUSPECT, 1):
            return False
        while self._running and not self._stopping():
            await asyncio.wait(self._running, timeout=_IDLE_SECONDS)
        await self._outcomes.written()
        return True

    async def _claim(self, statement: str, limit: int) -> int:
        source = self._project.source
        token = uuid.uuid4()
        rows = await self._tools.database.fetch_all(
            statement,
            {
                "project_id": source.project_id,
                "endpoint": source.endpoint,
                "token": token,
                "lease_seconds": self._tools.limits.lease_seconds,
                "limit": limit,
            },
        )
        for row in rows:
            job = Job(row["id"], token, row["attempts"], row["content"])
            task = asyncio.create_task(self._ask(job))
            self._running[task] = job
            task.add_done_callback(self._running.pop)
        return len(rows)

    async def _ask(self, job: Job) -> None:
        log_about(item_id=job.item_id)
        outcome: Outcome
        try:
            outcome = await ask(
                self._project.client,
                self._project.question,
                job,
                deadline_seconds=self._tools.limits.deadline_seconds,
                rest_seconds=lambda: self._paused_until - time.monotonic(),
            )
        except Exception as error:  # noqa: BLE001  # our own mistake: it must not look poisonous
            _log.exception("an item could not be asked about")
            outcome = Failed(
                job,
                FailureClass.TRANSIENT,
                UnknownReason.ATTEMPTS_EXHAUSTED,
                f"labelling failed: {type(error).__name__}",
                None,
            )
        if isinstance(outcome, Failed) and outcome.failure is FailureClass.RATE_LIMITED:
            # at once here; for all other workers when the pause is stored
            wait = outcome.retry_after or self._tools.limits.backoff.base / 2
            self._paused_until = max(self._paused_until, time.monotonic() + wait)
        observe_attempt(outcome)
        self._outcomes.put(outcome)

    async def _finish_calls(self) -> None:
        """Waits for calls in flight, for a bounded time; gives back what is not done by then."""
        left = dict(self._running)
        if not left:
            return
        try:
            await self._wait_for(left)
        finally:
            unfinished = {task: job for task, job in left.items() if not task.done()}
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            await self._tools.recorder.give_back(
                self._project.source.project_id, list(unfinished.values())
            )

    async def _wait_for(self, calls: Collection[asyncio.Task[None]]) -> None:
        stopped_at: float | None = None
        while not self._cancelled and not all(task.done() for task in calls):
            if self._stopping():
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() >= stopped_at + self._tools.limits.stop_seconds:
                    return
            await asyncio.wait(calls, timeout=_IDLE_SECONDS)
