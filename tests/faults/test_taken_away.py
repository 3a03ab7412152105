"""Parts of the service killed, frozen and restarted under its clients."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.reports.invariants import check_invariants
from tests.faults.clients import Annotator, Door, Doors, Sender
from tests.faults.ledger import count_acknowledged, count_reviews, label_all
from tests.faults.support import Service, running_service
from tests.support import processes

pytestmark = pytest.mark.timeout(300)

KILLS = 6
SETTINGS: dict[str, Any] = {
    "calls_in_flight": 8,
    "call_deadline_seconds": 1.0,
    "label_lease_seconds": 2.0,
    "time_slice_seconds": 2.0,
    "retry_base_seconds": 0.05,
    "sweep_seconds": 0.2,
}


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One service for all tests here: each leaves it whole."""
    async with running_service(tmp_path_factory.mktemp("service"), settings=SETTINGS) as running:
        yield running


class TestTheApiKilled:
    async def test_in_the_middle_of_ingest_and_review_keeps_what_it_acknowledged(
        self, service: Service
    ) -> None:
        ingested = await service.api.make_project()
        reviewed = await service.api.make_project()
        await service.api.send_items(reviewed, [f"text {n}" for n in range(200)])
        await label_all(service, reviewed)
        doors = Doors([Door(service.server, service.api.http)])
        senders = [Sender(doors, ingested, f"sender-{n}") for n in range(4)]
        annotators = [Annotator(doors, reviewed, label) for label in ("spam", "ham")]
        working = [asyncio.create_task(sender.send(40)) for sender in senders]
        working += [asyncio.create_task(each.review()) for each in annotators]
        kills = await doors.kill_in_turn(
            random.Random(99), kills=KILLS, over=lambda: all(task.done() for task in working)
        )
        await asyncio.gather(*working)
        assert kills == KILLS
        assert doors.refused.total() > 0
        assert await count_acknowledged(service, senders) == 4 * 40 * 11
        assert await count_reviews(service, annotators) > 0
        # sent once more, each is what it was
        external, item = next(iter(senders[0].acknowledged.items()))
        again = await service.api.http.post(
            f"/v1/projects/{ingested}/items", json={"external_id": external, "text": external}
        )
        assert (again.status_code, again.json()["id"]) == (200, item)
        assert await check_invariants(service.settings.database_url) == []


class TestTheBrokerFrozen:
    async def test_holds_up_neither_ingest_nor_claims_and_is_used_again(
        self, service: Service
    ) -> None:
        project = await service.api.make_project()
        service.worker.start()
        try:
            await service.worker.until_it_says(" ready.")
            await service.api.send_items(project, ["before"])
            await self.until_labelled(service, project, 1)
            service.engines.valkey.freeze()
            try:
                answers = await asyncio.gather(
                    *(self.ingest(service, project, n) for n in range(60))
                )
                assert set(answers) == {201}
                assert len(await service.api.claim(project)) == 1
                ready = await service.api.get("/readyz")
                assert ready["status"] == "ok"
            finally:
                service.engines.valkey.thaw()
            # what could not be told is found by who comes next
            async with asyncio.timeout(processes.PATIENCE):
                n = 60
                while (await self.counts(service, project))["pending"]:
                    n += 1
                    await self.ingest(service, project, n)
                    await asyncio.sleep(0.2)
        finally:
            service.worker.kill()

    async def ingest(self, service: Service, project: str, n: int) -> int:
        answer = await service.api.http.post(
            f"/v1/projects/{project}/items", json={"text": f"text {n}"}
        )
        return answer.status_code

    async def counts(self, service: Service, project: str) -> dict[str, int]:
        counted: dict[str, int] = (await service.api.get(f"/v1/projects/{project}/stats"))["items"]
        return counted

    async def until_labelled(self, service: Service, project: str, wanted: int) -> None:
        async with asyncio.timeout(processes.PATIENCE):
            while (await self.counts(service, project))["in_review"] < wanted:  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.05)


class TestPostgresRestarted:
    async def test_under_everything_loses_nothing_and_is_found_again(
        self, service: Service
    ) -> None:
        project = await service.api.make_project(policy={"kind": "accept_all"})
        service.model.latency = 0.05
        service.sweeper.start()
        service.worker.start()
        try:
            doors = Doors([Door(service.server, service.api.http)])
            sender = Sender(doors, project, "during")
            sending = asyncio.create_task(sender.send(40))
            for restart in range(3):
                async with asyncio.timeout(processes.PATIENCE):
                    while len(sender.acknowledged) < (restart + 1) * 60:  # noqa: ASYNC110  # polled
                        await asyncio.sleep(0.01)
                await asyncio.to_thread(service.engines.postgres.restart)
            await sending
            assert doors.refused.total() > 0
            await service.until_value(
                "SELECT count(*) FROM items WHERE state <> 'accepted' AND project_id = "
                "(SELECT project_id FROM items WHERE external_id = 'during-0-0')",
                0,
            )
        finally:
            service.model.latency = 0
            service.worker.kill()
            service.sweeper.kill()
        assert await count_acknowledged(service, [sender]) == 40 * 11
        assert await check_invariants(service.settings.database_url) == []
