"""One drain of a project: claim, ask with many calls in flight, record, claim more."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from app.domain.backoff import Backoff, FailureClass
from app.domain.breaker import Breaker, BreakerRules
from app.domain.rates import Limits, RateHeaders
from app.domain.unknown import UnknownReason
from app.infra.db import Database
from app.infra.jobs import WakeUps
from app.infra.logging import log_about
from app.labeling import endpoint_queries, queries
from app.labeling.batches import BatchWriter
from app.labeling.call import Failed, Job, Outcome, ask, observe_attempt
from app.labeling.claims import Claims
from app.labeling.health import EndpointHealth, HeardClient
from app.labeling.load import LoadedProject
from app.labeling.rates import SharedRates
from app.labeling.ration import Ration
from app.labeling.reckoning import FEW, Reckoning
from app.labeling.record import Recorder

_log = logging.getLogger(__name__)
# how often a drain that has calls in flight, but nothing to claim, looks again
_IDLE_SECONDS = 0.25
# for how long a drain waits for a rate; what takes longer is the sweeper's to watch
_RATE_SECONDS = 1.0
# how long a trial may take beyond its call
_TRIAL_SECONDS = 10.0


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
        breaker: when an endpoint that fails for everybody is left alone.
    """

    calls_in_flight: int
    deadline_seconds: float
    lease_seconds: float
    slice_seconds: float
    stop_seconds: float = 5.0
    backoff: Backoff = field(default_factory=Backoff)
    breaker: BreakerRules = field(default_factory=BreakerRules)


@dataclass(frozen=True, slots=True)
class DrainResult:
    """How a drain ended: items that left labelling, and whether due work may remain."""

    settled: int
    work_remains: bool


@dataclass(frozen=True, slots=True)
class Tools:
    """What every drain of a process shares."""

    database: Database
    recorder: Recorder
    wake_ups: WakeUps
    limits: DrainLimits
    rng: random.Random
    rates: SharedRates
    breakers: dict[str, Breaker] = field(default_factory=dict)


class Run:
    """The state of one drain."""

    def __init__(
        self,
        tools: Tools,
        project: LoadedProject,
        reckoning: Reckoning,
        stopping: Callable[[], bool],
    ) -> None:
        self._tools = tools
        self._project = project
        self._stopping = stopping
        self._slice_ends = time.monotonic() + tools.limits.slice_seconds
        self._running: dict[asyncio.Task[None], Job] = {}
        self._cancelled = False
        self._client = HeardClient(project.client, self._hear)
        self._reckoning = reckoning
        self._claims = Claims(
            tools.database,
            project.source,
            reckoning,
            has_budget=project.has_budget,
            lease_seconds=tools.limits.lease_seconds,
        )
        endpoint = project.source.endpoint
        limits = Limits.from_json(project.limits)
        self._ration = None
        if limits is not None:
            self._ration = Ration(
                tools.rates, endpoint=endpoint, limits=limits, reckoning=reckoning
            )
        self._sparing = limits is not None or project.has_budget
        self._health = EndpointHealth(
            endpoint,
            breakers=tools.breakers,
            broken_delay=project.broken_delay,
            rules=tools.limits.breaker,
            rng=tools.rng,
        )
        self._outcomes = BatchWriter(
            tools.recorder,
            project.source,
            reckoning=reckoning,
            backoff=tools.limits.backoff,
            rng=tools.rng,
            patience=self._patience,
        )

    async def drain(self) -> DrainResult:
        recording = asyncio.create_task(self._outcomes.run())
        try:
            if self._health.broken and not await self._trial():
                remains = self._stopping()
            else:
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
        if self._ration is not None:
            await self._ration.close()
        return DrainResult(self._outcomes.settled, work_remains=remains)

    def _patience(self) -> float:
        """How long a batch is worth writing: as long as its leases may last, unless we must go."""
        limits = self._tools.limits
        hurried = self._cancelled or self._stopping()
        return limits.stop_seconds if hurried else limits.lease_seconds

    def _may_claim(self) -> bool:
        in_time = time.monotonic() < self._slice_ends
        return not self._stopping() and in_time and self._health.rest_left <= 0

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
                    dry_until = time.monotonic() + max(_IDLE_SECONDS, self._rate_wait)
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
                return self._health.rest_left <= 0
            elif not claimed and not await self._something_else(dry_until):
                return False

    async def _something_else(self, dry_until: float) -> bool:
        """What is left to do where nothing could be claimed; False: nothing, for now."""
        if not self._rate_wait:
            again = self._claims.short and await self._claim(queries.CLAIM, 1)
            return bool(again) or await self._one_suspect()
        if self._rate_wait > _RATE_SECONDS:
            return False
        await asyncio.sleep(max(0.0, dry_until - time.monotonic()))
        return True

    @property
    def _rate_wait(self) -> float:
        """Seconds that the last claim was told to wait for its rate."""
        return self._ration.wait if self._ration is not None else 0.0

    async def _one_suspect(self) -> bool:
        """Labels one item that lost its worker twice, with nothing else in flight or unwritten.

        Should it kill this worker too, nobody else's label goes with it.
        """
        await self._outcomes.written()
        if not self._may_claim() or not await self._claim(queries.CLAIM_SUSPECT, 1):
            return False
        await self._until_written()
        return True

    async def _trial(self) -> bool:
        """Asks a broken endpoint about one item, if nobody else does; whether it answered."""
        endpoint = {"endpoint": self._project.source.endpoint}
        seconds = self._tools.limits.deadline_seconds + _TRIAL_SECONDS
        if self._stopping() or not await self._tools.database.fetch_one(
            endpoint_queries.TRY, endpoint | {"seconds": seconds}
        ):
            return False
        for statement in (queries.CLAIM, queries.CLAIM_SUSPECT):
            if await self._claim(statement, 1, trial=True):
                await self._until_written()
                break
        if self._running or self._health.untried:
            # nothing was due, or there is no time to wait for the answer
            await self._tools.database.execute(endpoint_queries.LEAVE, endpoint)
        return not self._health.broken

    async def _until_written(self) -> None:
        """Waits for what is in flight, unless we must go."""
        while self._running and not self._stopping():
            await asyncio.wait(self._running, timeout=_IDLE_SECONDS)
        await self._outcomes.written()

    async def _claim(self, statement: str, limit: int, *, trial: bool = False) -> int:
        if self._sparing and not self._reckoning.tried:
            limit = min(limit, max(0, FEW - len(self._running)))
        if self._ration is not None:
            limit = await self._ration.take(limit)
        jobs = await self._claims.take(statement, limit, trial=trial) if limit else []
        if self._ration is not None:
            self._ration.claimed(jobs)
        for job in jobs:
            task = asyncio.create_task(self._ask(job, trial=trial))
            self._running[task] = job
            task.add_done_callback(self._running.pop)
        return len(jobs)

    async def _ask(self, job: Job, *, trial: bool) -> None:
        log_about(item_id=job.item_id)
        outcome: Outcome
        news = None
        try:
            outcome = await ask(
                self._client,
                self._project.question,
                job,
                deadline_seconds=self._tools.limits.deadline_seconds,
                rest_seconds=lambda: self._health.rest_left,
            )
            outcome, news = self._health.judge(outcome, trial=trial)
        except Exception as error:  # noqa: BLE001  # our own mistake: it must not look poisonous
            _log.exception("an item could not be asked about")
            outcome = Failed(
                job,
                FailureClass.TRANSIENT,
                UnknownReason.ATTEMPTS_EXHAUSTED,
                f"labelling failed: {type(error).__name__}",
                None,
            )
        if news is not None:
            self._outcomes.put(news)
        if isinstance(outcome, Failed) and outcome.failure is FailureClass.RATE_LIMITED:
            # at once here; for all other workers when the pause is stored
            self._health.rest(outcome.retry_after or self._tools.limits.backoff.base / 2)
        if self._ration is not None:
            self._ration.ended(job, outcome.usage)
        elif self._reckoning.prices is not None:
            self._reckoning.observe(job.content, outcome.usage)
        observe_attempt(outcome)
        self._outcomes.put(outcome)

    def _hear(self, told: RateHeaders) -> None:
        """What an answer said of its server's limits."""
        if self._ration is not None:
            self._ration.heard(told)
        if (news := self._health.heard(told)) is not None:
            self._outcomes.put(news)

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
                self._project.source.project_id,
                list(unfinished.values()),
                reckoning=self._reckoning,
            )

    async def _wait_for(self, calls: Collection[asyncio.Task[None]]) -> None:
        stopped_at: float | None = None
        while not self._cancelled and not all(task.done() for task in calls):
            if self._stopping():
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() >= stopped_at + self._tools.limits.stop_seconds:
                    return
            await asyncio.wait(calls, timeout=_IDLE_SECONDS)
