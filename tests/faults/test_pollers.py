"""A crowd that watches a queue while some of it work the queue off."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from app.reports.invariants import check_invariants
from tests.faults.clients import Annotator, Door, Doors
from tests.faults.ledger import count_reviews, label_all
from tests.faults.support import Service, running_service
from tests.support import processes

pytestmark = pytest.mark.timeout(300)

ITEMS = 150
POLLERS = 40
SETTINGS = {"call_deadline_seconds": 30.0, "label_lease_seconds": 60.0, "sweep_seconds": 0.2}


async def watch(service: Service, project: str, over: asyncio.Event) -> Counter[int]:
    """Polls by the ETag until it is over; the answers by their status."""
    seen: Counter[int] = Counter()
    known = ""
    headers = {"Authorization": f"Bearer {service.api.admin_key}"}
    async with processes.client(service.api.base_url, headers) as http:
        while not over.is_set():
            answer = await http.get(
                f"/v1/projects/{project}/queue", headers={"If-None-Match": known}
            )
            seen[answer.status_code] += 1
            known = answer.headers.get("ETag", "")
            await asyncio.sleep(0.3)
    return seen


class TestACrowdOfPollers:
    async def test_keeps_nobody_from_working_and_sees_what_changes(self, tmp_path: Path) -> None:
        async with running_service(tmp_path, settings=SETTINGS) as service:
            project = await service.api.make_project(policy={"kind": "review_all"})
            await service.api.send_items(project, [f"text {n}" for n in range(ITEMS)])
            await label_all(service, project)
            over = asyncio.Event()
            watching = [asyncio.create_task(watch(service, project, over)) for _ in range(POLLERS)]
            doors = Doors([Door(service.server, service.api.http)])
            people = [Annotator(doors, project, label) for label in ("spam", "ham")]
            await asyncio.gather(*(each.review(pause=0.05) for each in people))
            over.set()
            seen = await asyncio.gather(*watching)

            assert await count_reviews(service, people) == ITEMS
            assert doors.refused.total() == 0
            for each in seen:
                # the head of the queue, which moved on, and nothing that is neither
                assert set(each) <= {200, 304}
                assert each[200] > 1
            assert await check_invariants(service.settings.database_url) == []
