"""Clients that do not give up: each asks again until it is answered, as clients should."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2

from tests.support import processes


class Killable(Protocol):
    """An API process."""

    def kill(self) -> None: ...

    def start(self) -> None: ...


@dataclass
class Door:
    """One API process and a way to it.

    Attributes:
        server: the process.
        http: a client of it.
        acknowledged: requests it has answered 2xx since it was last started.
        kills: how often it was killed.
    """

    server: Killable
    http: httpx2.AsyncClient
    acknowledged: int = 0
    kills: int = 0

    def kill(self) -> None:
        """kill -9, and a new start that nobody waits for."""
        self.server.kill()
        self.acknowledged = 0
        self.kills += 1
        self.server.start()


@dataclass
class Doors:
    """All API processes of a service; who is refused at one asks at the next.

    Attributes:
        refused: requests that were not answered or answered 503, by what happened.
    """

    doors: Sequence[Door]
    refused: Counter[str] = field(default_factory=Counter)
    _next: int = 0

    async def post(self, path: str, body: object) -> httpx2.Response:
        """The first answer that is none of 503, which must say when to ask again."""
        async with asyncio.timeout(processes.PATIENCE):
            while True:
                self._next += 1
                door = self.doors[self._next % len(self.doors)]
                try:
                    answer = await door.http.post(path, json=body)
                except httpx2.HTTPError as error:
                    self.refused[type(error).__name__] += 1
                    await asyncio.sleep(0.05)
                    continue
                if answer.is_success:
                    door.acknowledged += 1
                if answer.status_code != 503:
                    return answer
                assert "Retry-After" in answer.headers
                self.refused["503"] += 1
                await asyncio.sleep(0.1)

    async def kill_in_turn(
        self, rng: random.Random, *, kills: int, over: Callable[[], bool] = lambda: False
    ) -> int:
        """Kills one after another, each once it has acknowledged something; how many."""
        for done in range(kills):
            door = self.doors[done % len(self.doors)]
            while not door.acknowledged or over():
                if over():
                    return done
                await asyncio.sleep(0.002)
            # in a moment, wherever that falls in a request
            await asyncio.sleep(rng.random() * 0.05)
            door.kill()
        return kills


@dataclass
class Sender:
    """Sends items in bulk and singly, with external ids and without.

    Attributes:
        acknowledged: external id -> item id, of everything that was answered 2xx.
        anonymous: item ids of rows without an external id that were answered 2xx.
    """

    doors: Doors
    project: str
    name: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    anonymous: list[str] = field(default_factory=list)

    async def send(
        self, batches: int, *, pause: float = 0.0, over: Callable[[], bool] = lambda: False
    ) -> None:
        """So many rounds, or fewer if it is over before."""
        for batch in range(batches):
            if over():
                return
            named = [f"{self.name}-{batch}-{n}" for n in range(8)]
            rows = [{"external_id": each, "text": each} for each in named]
            await self._bulk([*rows, {"text": f"{self.name}-{batch}-anonymous"}])
            await self._single({"external_id": f"{self.name}-{batch}-8", "text": "alone"})
            await self._single({"text": "alone and anonymous"})
            await asyncio.sleep(pause)

    async def _bulk(self, rows: list[dict[str, str]]) -> None:
        answer = await self.doors.post(f"/v1/projects/{self.project}/items/bulk", {"items": rows})
        assert answer.status_code == 200, answer.text
        for row, result in zip(rows, answer.json()["results"], strict=True):
            self._keep(row, result["id"])

    async def _single(self, row: dict[str, str]) -> None:
        answer = await self.doors.post(f"/v1/projects/{self.project}/items", row)
        assert answer.status_code in {200, 201}, answer.text
        self._keep(row, answer.json()["id"])

    def _keep(self, row: dict[str, str], item: str) -> None:
        if "external_id" in row:
            self.acknowledged[row["external_id"]] = item
        else:
            self.anonymous.append(item)


@dataclass
class Annotator:
    """Claims and decides until nothing waits.

    Attributes:
        acknowledged: review id -> item id, of every verdict that was answered 2xx.
    """

    doors: Doors
    project: str
    label: str
    acknowledged: dict[str, str] = field(default_factory=dict)

    async def review(self, *, pause: float = 0.0, over: Callable[[], bool] = lambda: False) -> None:
        """Until nothing waits, or it is over."""
        while not over():
            answer = await self.doors.post(f"/v1/projects/{self.project}/claims", {"limit": 3})
            assert answer.status_code == 200, answer.text
            claimed = answer.json()["data"]
            if not claimed:
                return
            for assignment in claimed:
                await self._submit(assignment)
            await asyncio.sleep(pause)

    async def _submit(self, assignment: dict[str, Any]) -> None:
        verdict = {"lease_token": assignment["lease_token"], "label": self.label}
        answer = await self.doors.post(f"/v1/assignments/{assignment['id']}/submit", verdict)
        assert answer.status_code == 200, answer.text
        review = answer.json()
        assert review["item_id"] == assignment["item"]["id"]
        self.acknowledged[review["id"]] = review["item_id"]


async def cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Ends tasks that would not end by themselves."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
