"""Items through everything at once: killed workers, a broker that comes and goes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.havoc import SETTLED, Havoc, feed
from tests.faults.ledger import count_labelled
from tests.faults.support import running_service

pytestmark = pytest.mark.timeout(600)

BACKLOG = 300
SETTINGS = {
    "calls_in_flight": 6,
    "call_deadline_seconds": 1.0,
    "label_lease_seconds": 2.0,
    "time_slice_seconds": 2.0,
    "retry_base_seconds": 0.05,
    "sweep_seconds": 0.2,
}
PLAN = {
    "kill_a_child": 13,
    "kill_the_worker": 5,
    "kill_the_sweeper": 2,
    "flush_the_broker": 2,
    "restart_the_broker": 2,
    "break_connections": 3,
    "take_the_broker_away": 1,
}


class TestItemsThatKeepComing:
    async def test_are_all_labelled_once_each_whatever_is_killed(self, tmp_path: Path) -> None:
        async with running_service(tmp_path, settings=SETTINGS) as service:
            project = await service.api.make_project(
                policy={"kind": "fixed_threshold", "threshold": 0.7}
            )
            havoc = Havoc(service, random.Random(20_261), plan=PLAN, call_seconds=0.1)
            service.sweeper.start()
            service.worker.start()
            sent: list[str] = []
            over = asyncio.Event()
            feeding = asyncio.create_task(
                feed(service, [project], sent, over=over, backlog=BACKLOG)
            )
            await havoc.wreak()
            over.set()
            await feeding
            await service.until_value(SETTLED, len(sent))

            assert havoc.kills == 20
            assert havoc.cuts()
            labelled = await count_labelled(service)
            # one that three kills happened to hit went to people, as it should
            assert labelled.once + labelled.poison == len(sent)
            assert labelled.poison < havoc.kills
            # every item was asked about
            assert set(service.model.calls_per_item) == set(sent)
