"""Every message ten times: one effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.duplicates import delivered_again
from tests.faults.ledger import Labelled, count_labelled
from tests.faults.support import running_service

pytestmark = pytest.mark.timeout(300)

ITEMS = 400
SETTINGS = {
    "calls_in_flight": 4,
    "call_deadline_seconds": 30.0,
    "label_lease_seconds": 60.0,
    # many drains, and so many messages
    "time_slice_seconds": 0.2,
    "sweep_seconds": 0.2,
}


class TestEveryMessageTenTimes:
    async def test_has_one_effect(self, tmp_path: Path) -> None:
        async with running_service(tmp_path, settings=SETTINGS, worker_processes=2) as service:
            service.model.latency = 0.02
            with delivered_again(service.engines.redis_url, times=9) as again:
                service.sweeper.start()
                service.worker.start()
                for project in range(4):
                    made = await service.api.make_project(policy={"kind": "accept_all"})
                    texts = [f"text {project} {n}" for n in range(ITEMS // 4)]
                    await service.api.send_items(made, texts)
                await service.until_value(
                    "SELECT count(*) FROM items WHERE state = 'accepted'", ITEMS
                )
            assert again.messages > 4
            assert again.added == 9 * again.messages
            assert await count_labelled(service) == Labelled(once=ITEMS, poison=0)
            assert set(service.model.calls_per_item.values()) == {1}
