"""What a service does while its disk is full, and after."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import httpx2

from app.infra.ids import Kind, from_wire
from app.reports.invariants import check_invariants
from tests.faults.full_disk import Disk
from tests.faults.support import Service
from tests.support import processes

_ROW_BYTES = 50_000


@dataclass(frozen=True)
class Filled:
    """How it went.

    Attributes:
        acknowledged: items that were answered 2xx.
        refused: requests that were refused for the full disk.
        lost: items that were acknowledged and are not there, or not as they were sent.
    """

    acknowledged: int
    refused: int
    lost: int


async def fill_up(service: Service, disk: Disk, *, rounds: int) -> Filled:
    """Fills the disk and frees it, so many times, under ingest and labelling."""
    sender = _Sender(
        service, await service.api.make_project(policy={"kind": "accept_all"}), random.Random(5)
    )
    service.sweeper.start()
    service.worker.start()
    refused = 0
    for _ in range(rounds):
        for _ in range(20):
            assert await sender.send() is None
        disk.fill()
        refused += await sender.until_refused()
        await sender.read()
        disk.clear()
        async with asyncio.timeout(processes.PATIENCE):
            while await sender.send() is not None:  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.1)
    await service.until_value(
        "SELECT count(*) FROM items WHERE state IN ('pending', 'labeling')", 0
    )
    service.worker.kill()
    service.sweeper.kill()
    assert await check_invariants(service.settings.database_url) == []
    return Filled(len(sender.sent), refused, await sender.lost())


@dataclass
class _Sender:
    """Sends items that take room.

    Attributes:
        sent: item id -> text, of what was acknowledged.
    """

    service: Service
    project: str
    rng: random.Random
    sent: dict[str, str] = field(default_factory=dict)

    async def send(self) -> httpx2.Response | None:
        """One item; the refusal, if it is one."""
        # random, so that it can't be packed into less
        text = f"{len(self.sent)} {self.rng.randbytes(_ROW_BYTES // 2).hex()}"
        answer = await self.service.api.http.post(
            f"/v1/projects/{self.project}/items", json={"text": text}
        )
        if answer.is_success:
            self.sent[answer.json()["id"]] = text
            return None
        return answer

    async def until_refused(self) -> int:
        """How many of the next requests were refused, each in the right words.

        PostgreSQL still takes what it has room for in the pages it has.
        """
        refused = 0
        for _ in range(200):
            answer = await self.send()
            if answer is not None:
                assert answer.status_code == 503, answer.text
                assert answer.json()["code"] == "storage_full"
                assert int(answer.headers["Retry-After"]) > 0
                refused += 1
            if refused == 5:
                break
        return refused

    async def read(self) -> None:
        """Reading goes on."""
        path = f"/v1/projects/{self.project}"
        for shown in (path, f"{path}/items", f"{path}/queue", f"{path}/stats"):
            assert (await self.service.api.http.get(shown)).status_code == 200
        for item, text in list(self.sent.items())[:3]:
            assert (await self.service.api.get(f"/v1/items/{item}"))["content"]["text"] == text

    async def lost(self) -> int:
        """How many acknowledged items are not there as they were sent."""
        kept = {
            row["id"]: row["text"]
            for row in await self.service.rows(
                "SELECT item_id AS id, content->>'text' AS text FROM item_payloads"
            )
        }
        return sum(kept.get(from_wire(Kind.ITEM, item)) != text for item, text in self.sent.items())
