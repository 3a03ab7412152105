"""A thousand items through everything at once: killed workers, a broker that comes and goes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from app.reports.invariants import check_invariants
from tests.faults.support import Service, running_service
from tests.support import processes

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(600)]

ITEMS = 1000
KILLS = 20
SETTLED = "SELECT count(*) FROM items WHERE state IN ('accepted', 'in_review')"
# An item that lost two workers is taken alone, and one that is lost alone goes to people: that is
# what poison is. These kills are nobody's fault, so they come when there is no such item.
SUSPECTS = "SELECT count(*) FROM items WHERE losses >= 2 AND state IN ('pending', 'labeling')"


class Havoc:
    """What is done to a service, drawn from a seed."""

    def __init__(self, service: Service, rng: random.Random) -> None:
        self.service = service
        self.done: Counter[str] = Counter()
        self._rng = rng
        self._plan: list[Callable[[], Awaitable[None]]] = [
            *[self.kill_a_child] * 13,
            *[self.kill_the_worker] * 5,
            *[self.kill_the_sweeper] * 2,
            *[self.flush_the_broker] * 2,
            *[self.restart_the_broker] * 2,
            *[self.break_connections] * 3,
            self.take_the_broker_away,
        ]
        rng.shuffle(self._plan)

    async def wreak(self) -> None:
        """One thing after another, each when some more items have got through."""
        for act in self._plan:
            wanted = await self.service.value(SETTLED) + self._rng.randint(15, 35)
            await self.until_settled(wanted)
            await self.service.until_value(SUSPECTS, 0)
            await act()
            self.done[act.__name__] += 1

    async def until_settled(self, wanted: int) -> None:
        async with asyncio.timeout(processes.PATIENCE):
            while await self.service.value(SETTLED) < min(wanted, ITEMS - 1):  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.02)

    async def kill_a_child(self) -> None:
        children = self.service.worker.children()
        if children:
            with suppress(ProcessLookupError):
                os.kill(self._rng.choice(children), signal.SIGKILL)

    async def kill_the_worker(self) -> None:
        self.service.worker.kill()
        self.service.worker.start()

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
        self.service.worker.kill()
        # as when nobody has come for a minute
        await self.service.rows(
            "UPDATE items SET next_attempt_at = now() - interval '1 minute' WHERE state = 'pending'"
        )
        before = await self.service.value(SETTLED)
        await self.until_settled(before + 30)
        self.service.engines.valkey.start()
        self.service.worker.start()


class TestAThousandItems:
    async def test_are_all_labelled_once_each_whatever_is_killed(self, tmp_path: Path) -> None:
        seed = 20_261
        settings = {
            "calls_in_flight": 6,
            "call_deadline_seconds": 1.0,
            "label_lease_seconds": 2.0,
            "time_slice_seconds": 2.0,
            "retry_base_seconds": 0.05,
            "sweep_seconds": 0.2,
        }
        async with running_service(tmp_path, settings=settings) as service:
            service.model.latency = 0.1
            project = await service.api.make_project(
                policy={"kind": "fixed_threshold", "threshold": 0.7}
            )
            service.sweeper.start()
            service.worker.start()
            ids = await service.api.send_items(project, [f"text {n}" for n in range(ITEMS)])
            havoc = Havoc(service, random.Random(seed))
            await havoc.wreak()
            await service.until_value(SETTLED, ITEMS)

            assert sum(havoc.done[name] for name in havoc.done if "kill" in name) == KILLS
            assert len(ids) == ITEMS
            labelled = await service.rows(
                "SELECT i.id, i.label, count(p.id) AS predictions FROM items i "
                "LEFT JOIN predictions p ON p.item_id = i.id GROUP BY i.id, i.label"
            )
            assert Counter((row["label"] is not None, row["predictions"]) for row in labelled) == {
                (True, 1): ITEMS
            }
            # every item was asked about, and those that lost no worker once
            assert set(service.model.calls_per_item) == {f"text {n}" for n in range(ITEMS)}
            counted = await service.api.get(f"/v1/projects/{project}/stats")
            recounted = await service.rows(
                "SELECT state, count(*)::int AS n FROM items GROUP BY state"
            )
            assert {state: n for state, n in counted["items"].items() if n} == {
                row["state"]: row["n"] for row in recounted
            }
            assert await check_invariants(service.settings.database_url) == []
