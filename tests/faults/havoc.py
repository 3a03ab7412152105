"""What is done to a service while it labels, one thing after another, drawn from a seed."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import redis

from tests.faults.clients import cancel
from tests.faults.plays import Traced, child_at
from tests.faults.support import Service
from tests.support import processes
from tests.support.processes import Program

SETTLED = "SELECT count(*) FROM items WHERE state IN ('accepted', 'in_review')"
# An item that lost two workers is taken alone, and one that is lost alone goes to people: that is
# what poison is. These kills are nobody's fault, so they come when there is no such item.
SUSPECTS = "SELECT count(*) FROM items WHERE losses >= 2 AND state IN ('pending', 'labeling')"
# Where thousands are killed there is nearly always one that waits; then none may be in a call.
SUSPECTS_HELD = "SELECT count(*) FROM items WHERE losses >= 2 AND state = 'labeling'"
KILLS = ("kill_a_child", "kill_the_worker", "kill_the_sweeper")
# on a busy machine a process takes its time to die, and only then are its connections closed
_DYING_SECONDS = 2.0
_SENT_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Cut:
    """A model call whose worker was killed.

    Attributes:
        item: the text of its item.
        at: when it was killed, by time.monotonic().
    """

    item: str
    at: float


class Havoc:
    """Breaks a service part by part, each time when it has asked about some more items.

    Attributes:
        done: what was done how often.
        calls: what the model answers.
    """

    def __init__(
        self,
        service: Service,
        rng: random.Random,
        *,
        plan: Mapping[str, int],
        call_seconds: float,
        between: tuple[int, int] = (15, 35),
        suspects: str = SUSPECTS,
        others: Sequence[Program] = (),
    ) -> None:
        """Does nothing before `wreak`.

        Args:
            service: with worker and sweeper running, and more than enough items to label.
            rng: draws the order and every choice.
            plan: what is to be done how often, by the names of methods.
            call_seconds: how long the model takes over a call.
            between: how many model calls come from one thing to the next, at least and at most.
            suspects: nothing is done while this query finds any.
            others: workers beside that of the service, running too.
        """
        self.service = service
        self.done: Counter[str] = Counter()
        self._moments: list[float] = []
        self.calls = Traced(call_seconds)
        self._rng = rng
        self._between = between
        self._suspects = suspects
        self._workers = [service.worker, *others]
        service.model.default = [self.calls]
        self._workers_wanted = True
        self._plan = [name for name, times in plan.items() for _ in range(times)]
        rng.shuffle(self._plan)

    @property
    def kills(self) -> int:
        return sum(self.done[name] for name in KILLS)

    def cuts(self) -> list[Cut]:
        """The model calls that kills have cut, in the order in which they ended."""
        found = []
        for call in self.service.model.calls:
            if call.abandoned and call.ended is not None:
                before = bisect.bisect(self._moments, call.ended)
                # what was given up for its deadline was cut by nobody
                if before and call.ended - self._moments[before - 1] < _DYING_SECONDS:
                    found.append(Cut(call.item, self._moments[before - 1]))
        return found

    async def wreak(self, *, over: Callable[[], bool] = lambda: False) -> None:
        """Everything that was planned, or what of it is done when it is over."""
        looking_after = asyncio.create_task(self._look_after_workers())
        try:
            await self._wreak(over)
        finally:
            await cancel([looking_after])

    async def _look_after_workers(self) -> None:
        """Starts one that has ended by itself, as whoever runs it does.

        Celery gives up where a child is killed in the moment in which its worker starts.
        """
        while True:
            for worker in self._workers:
                if self._workers_wanted and not worker.alive:
                    worker.start()
                    self.done["worker started again"] += 1
            await asyncio.sleep(0.2)

    async def _wreak(self, over: Callable[[], bool]) -> None:
        for name in self._plan:
            if over():
                return
            await self._until_asked(self._rng.randint(*self._between))
            await self.service.until_value(self._suspects, 0)
            await getattr(self, name)()
            self.done[name] += 1

    async def _until_asked(self, calls: int) -> None:
        """Until so many more calls have come to the model."""
        wanted = self.service.model.count + calls
        async with asyncio.timeout(processes.PATIENCE):
            while self.service.model.count < wanted:  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.02)

    async def kill_a_child(self) -> None:
        """One that is in a model call."""
        async with asyncio.timeout(processes.PATIENCE):
            while (child := self._child_in_a_call()) is None:  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.02)
        self._moments.append(time.monotonic())
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    def _child_in_a_call(self) -> int | None:
        callers = sorted(self.calls.callers)
        if not callers:
            return None
        children = [child for worker in self._workers for child in worker.children()]
        return child_at(self._rng.choice(callers), children)

    async def kill_the_worker(self) -> None:
        worker = self._rng.choice(self._workers)
        self._moments.append(time.monotonic())
        worker.kill()
        worker.start()

    async def kill_the_sweeper(self) -> None:
        self.service.sweeper.kill()
        self.service.sweeper.start()

    async def flush_the_broker(self) -> None:
        with redis.Redis.from_url(self.service.engines.redis_url) as client:
            client.flushall()

    async def restart_the_broker(self) -> None:
        self.service.engines.valkey.kill()
        self.service.engines.valkey.start()

    async def break_connections(self) -> None:
        await self.service.break_connections()

    async def take_the_broker_away(self) -> None:
        """Until something has been asked about all the same."""
        self.service.engines.valkey.stop()
        self._workers_wanted = False
        for worker in self._workers:
            worker.kill()
        # as when nobody has come for a minute
        await self.service.rows(
            "UPDATE items SET next_attempt_at = now() - interval '1 minute' WHERE state = 'pending'"
        )
        await self._until_asked(30)
        self.service.engines.valkey.start()
        for worker in self._workers:
            worker.start()
        self._workers_wanted = True


async def feed(
    service: Service,
    projects: Sequence[str],
    sent: list[str],
    *,
    over: asyncio.Event,
    backlog: int,
) -> None:
    """Keeps about so many items waiting until it is over, whatever is killed.

    Their texts, which are their external ids too, are appended to `sent`.
    """
    for project in itertools.cycle(projects):
        if over.is_set():
            return
        if len(sent) - await service.value(SETTLED) < backlog:
            texts = [f"text {len(sent) + n}" for n in range(_SENT_AT_ONCE)]
            rows = [{"text": text, "external_id": text} for text in texts]
            answer = await service.api.http.post(
                f"/v1/projects/{project}/items/bulk", json={"items": rows}
            )
            assert answer.status_code == 200, answer.text
            sent += texts
        else:
            await asyncio.sleep(0.5)
