"""What is done to a service while it labels, one thing after another, drawn from a seed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil
import redis

from tests.faults.clients import cancel
from tests.faults.support import Service
from tests.support import processes

SETTLED = "SELECT count(*) FROM items WHERE state IN ('accepted', 'in_review')"
# An item that lost two workers is taken alone, and one that is lost alone goes to people: that is
# what poison is. These kills are nobody's fault, so they come when there is no such item.
SUSPECTS = "SELECT count(*) FROM items WHERE losses >= 2 AND state IN ('pending', 'labeling')"
# Where thousands are killed there is nearly always one that waits; then none may be in a call.
SUSPECTS_HELD = "SELECT count(*) FROM items WHERE losses >= 2 AND state = 'labeling'"
KILLS = ("kill_a_child", "kill_the_worker", "kill_the_sweeper")
# how long the model server may take to notice that a caller is gone
_NOTICED_SECONDS = 0.15
_LATEST_CALLS = 500


@dataclass(frozen=True, slots=True)
class Cut:
    """A model call whose worker was killed.

    Attributes:
        item: the text of its item.
        at: when, by time.time().
        monotonic: the same by time.monotonic().
    """

    item: str
    at: float
    monotonic: float


class Havoc:
    """Breaks a service part by part, each time when some more items have got through.

    Attributes:
        done: what was done how often.
        cuts: the model calls that kills have cut.
    """

    def __init__(
        self,
        service: Service,
        rng: random.Random,
        *,
        plan: Mapping[str, int],
        items: int | None = None,
        between: tuple[int, int] = (15, 35),
        suspects: str = SUSPECTS,
    ) -> None:
        """Does nothing before `wreak`.

        Args:
            service: with worker and sweeper running, and items to label.
            rng: draws the order and every choice.
            plan: what is to be done how often, by the names of methods.
            items: how many there are in all; None: enough.
            between: how many items get through from one thing to the next, at least and at most.
            suspects: nothing is done while this query finds any.
        """
        self.service = service
        self.done: Counter[str] = Counter()
        self.cuts: list[Cut] = []
        self._rng = rng
        self._items = items
        self._between = between
        self._suspects = suspects
        self._worker_wanted = True
        self._plan = [name for name, times in plan.items() for _ in range(times)]
        rng.shuffle(self._plan)

    @property
    def kills(self) -> int:
        return sum(self.done[name] for name in KILLS)

    async def wreak(self) -> None:
        """Everything that was planned."""
        looking_after = asyncio.create_task(self._look_after_the_worker())
        try:
            await self._wreak()
        finally:
            await cancel([looking_after])

    async def _look_after_the_worker(self) -> None:
        """Starts it where it has ended by itself, as whoever runs it does.

        Celery gives up where a child is killed in the moment in which its worker starts.
        """
        while True:
            if self._worker_wanted and not self.service.worker.alive:
                self.service.worker.start()
                self.done["worker started again"] += 1
            await asyncio.sleep(0.2)

    async def _wreak(self) -> None:
        for name in self._plan:
            wanted = await self.service.value(SETTLED) + self._rng.randint(*self._between)
            await self._until_settled(wanted)
            await self.service.until_value(self._suspects, 0)
            await getattr(self, name)()
            self.done[name] += 1

    async def _until_settled(self, wanted: int) -> None:
        if self._items is not None:
            wanted = min(wanted, self._items - 1)
        async with asyncio.timeout(processes.PATIENCE):
            while await self.service.value(SETTLED) < wanted:  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.02)

    async def kill_a_child(self) -> None:
        """One that speaks to the model; the calls that it was in are remembered."""
        async with asyncio.timeout(processes.PATIENCE):
            while not (children := self._children_in_calls()):  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.02)
        moment = (time.time(), time.monotonic())
        with suppress(ProcessLookupError):
            os.kill(self._rng.choice(children), signal.SIGKILL)
        await self._remember_cuts(*moment)

    def _children_in_calls(self) -> list[int]:
        found = []
        for child in self.service.worker.children():
            with suppress(psutil.NoSuchProcess):
                connections = psutil.Process(child).net_connections("tcp4")
                if any(
                    each.raddr and each.raddr.port == self.service.model.port
                    for each in connections
                ):
                    found.append(child)
        return found

    async def kill_the_worker(self) -> None:
        moment = (time.time(), time.monotonic())
        self.service.worker.kill()
        self.service.worker.start()
        await self._remember_cuts(*moment)

    async def _remember_cuts(self, at: float, monotonic: float) -> None:
        await asyncio.sleep(_NOTICED_SECONDS)
        for call in self.service.model.calls[-_LATEST_CALLS:]:
            if call.abandoned and call.ended is not None and call.ended >= monotonic:
                self.cuts.append(Cut(call.item, at, monotonic))

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
        """Until something has been labelled all the same."""
        self.service.engines.valkey.stop()
        self._worker_wanted = False
        self.service.worker.kill()
        # as when nobody has come for a minute
        await self.service.rows(
            "UPDATE items SET next_attempt_at = now() - interval '1 minute' WHERE state = 'pending'"
        )
        before = await self.service.value(SETTLED)
        await self._until_settled(before + 30)
        self.service.engines.valkey.start()
        self.service.worker.start()
        self._worker_wanted = True
