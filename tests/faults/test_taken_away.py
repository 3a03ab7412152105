"""Parts of the service killed, frozen and restarted under its clients."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from app.reports.invariants import check_invariants
from tests.faults.support import Service, running_service
from tests.support import processes

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(300)]

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


@dataclass
class Sender:
    """A client that sends a batch until it is acknowledged, as clients should.

    Attributes:
        acknowledged: external id -> item id, of everything that was answered 2xx.
        anonymous: item ids of rows without an external id that were answered 2xx.
    """

    service: Service
    project: str
    name: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    anonymous: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    async def send(self, batches: int) -> None:
        for batch in range(batches):
            named = [f"{self.name}-{batch}-{n}" for n in range(8)]
            rows = [{"external_id": each, "text": each} for each in named]
            await self.until_acknowledged([*rows, {"text": f"{self.name}-{batch}-anonymous"}])

    async def until_acknowledged(self, rows: list[dict[str, str]]) -> None:
        async with asyncio.timeout(processes.PATIENCE):
            while True:
                try:
                    answer = await self.service.api.http.post(
                        f"/v1/projects/{self.project}/items/bulk", json={"items": rows}
                    )
                except httpx2.HTTPError as error:
                    self.refused[type(error).__name__] += 1
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    break
                assert answer.status_code == 503, answer.text
                assert "Retry-After" in answer.headers
                self.refused["503"] += 1
                await asyncio.sleep(0.1)
        for row, result in zip(rows, answer.json()["results"], strict=True):
            if "external_id" in row:
                self.acknowledged[row["external_id"]] = result["id"]
            else:
                self.anonymous.append(result["id"])


class TestTheApiKilled:
    async def test_in_the_middle_of_ingest_keeps_what_it_acknowledged(
        self, service: Service
    ) -> None:
        project = await service.api.make_project()
        senders = [Sender(service, project, f"sender-{n}") for n in range(4)]
        sending = [asyncio.create_task(sender.send(40)) for sender in senders]
        rng = random.Random(99)
        kills = 0
        while not all(task.done() for task in sending):
            before = sum(len(sender.acknowledged) for sender in senders)
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while sum(len(s.acknowledged) for s in senders) == before:  # noqa: ASYNC110  # polled
                        await asyncio.sleep(0.005)
            if kills < KILLS:
                # in a moment, wherever that falls in a request
                await asyncio.sleep(rng.random() * 0.05)
                service.server.kill()
                service.server.start()
                kills += 1
        await asyncio.gather(*sending)
        assert kills == KILLS
        assert sum(sum(sender.refused.values()) for sender in senders) > 0

        stored = {
            row["external_id"]: row["n"]
            for row in await service.rows(
                "SELECT external_id, count(*) AS n FROM items "
                "WHERE external_id LIKE 'sender-%%' GROUP BY 1"
            )
        }
        acknowledged = {key for sender in senders for key in sender.acknowledged}
        assert len(acknowledged) == 4 * 40 * 8
        assert stored == dict.fromkeys(acknowledged, 1)
        for sender in senders:
            for item in sender.anonymous[:5]:
                assert (await service.api.get(f"/v1/items/{item}"))["id"] == item
        # sent once more, each is what it was
        external, item = next(iter(senders[0].acknowledged.items()))
        again = await service.api.http.post(
            f"/v1/projects/{project}/items", json={"external_id": external, "text": external}
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
            sender = Sender(service, project, "during")
            sending = asyncio.create_task(sender.send(40))
            for restart in range(3):
                async with asyncio.timeout(processes.PATIENCE):
                    while len(sender.acknowledged) < (restart + 1) * 60:  # noqa: ASYNC110  # polled
                        await asyncio.sleep(0.01)
                await asyncio.to_thread(service.engines.postgres.restart)
            await sending
            assert sum(sender.refused.values()) > 0
            await service.until_value(
                "SELECT count(*) FROM items WHERE state <> 'accepted' AND project_id = "
                "(SELECT project_id FROM items WHERE external_id = 'during-0-0')",
                0,
            )
        finally:
            service.model.latency = 0
            service.worker.kill()
            service.sweeper.kill()
        stored = await service.value(
            "SELECT count(DISTINCT external_id) FROM items WHERE external_id LIKE 'during-%%'"
        )
        assert stored == len(sender.acknowledged) == 40 * 8
        assert await check_invariants(service.settings.database_url) == []
