"""Steady traffic: so many requests a second whatever the answers, each of them timed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.faults.clients import cancel
from tests.faults.support import Service
from tests.soak.figures import percentile


@dataclass(frozen=True, slots=True)
class Answer:
    """A request as its client saw it.

    Attributes:
        kind: what was asked.
        sent: when, by time.monotonic().
        ended: when it was answered.
        status: of the answer; 0 where there was none.
        error: why there was none.
        retry_after: whether it said when to ask again.
    """

    kind: str
    sent: float
    ended: float
    status: int
    retry_after: bool
    error: str = ""

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300 or self.status == 304


@dataclass
class Traffic:
    """Requests of several kinds to one API, by the clock.

    Attributes:
        answers: all of them, in the order in which they ended.
        acknowledged: external ids of items that were answered 2xx.
    """

    service: Service
    project: str
    http: httpx2.AsyncClient
    answers: list[Answer] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def flow(self, *, items: float, others: float) -> None:
        """Until cancelled: so many items a second, and so many requests of each other kind."""
        await asyncio.gather(
            self._tick(items, self._ingest),
            self._tick(others, self._claim),
            self._tick(others, self._read),
        )

    async def _tick(self, rate: float, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
        begun = time.monotonic()
        for number in itertools.count(1):
            task = asyncio.create_task(ask())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))

    async def drained(self) -> None:
        """Until every request is answered."""
        while self._running:
            await asyncio.wait(set(self._running))

    def latencies(self, kind: str, begin: float, end: float) -> list[float]:
        """Milliseconds of the requests of a kind that were sent in a time."""
        return [
            (each.ended - each.sent) * 1000
            for each in self.answers
            if each.kind == kind and begin <= each.sent < end
        ]

    def p95(self, kind: str, begin: float, end: float) -> float:
        return percentile(self.latencies(kind, begin, end), 0.95)

    def bad(self) -> Counter[str]:
        """Answers that are neither good nor a 503 that says when to ask again."""
        return Counter(
            f"{each.kind} {each.status} {each.error}".strip()
            for each in self.answers
            if not each.good and not (each.status == 503 and each.retry_after)
        )

    async def _ingest(self) -> None:
        name = f"traffic-{next(self._numbers)}"
        row = {"external_id": name, "text": name}
        if await self._ask("ingest", "POST", f"/v1/projects/{self.project}/items", row):
            self.acknowledged.append(name)

    async def _claim(self) -> None:
        await self._ask("claim", "POST", f"/v1/projects/{self.project}/claims", {"limit": 1})

    async def _read(self) -> None:
        # by the ORM, which has connections of its own
        await self._ask("read", "GET", f"/v1/projects/{self.project}", None)

    async def _ask(self, kind: str, method: str, path: str, body: object) -> bool:
        sent = time.monotonic()
        status, retry, error = 0, False, ""
        try:
            answer = await self.http.request(method, path, json=body)
            status, retry = answer.status_code, "Retry-After" in answer.headers
        except httpx2.HTTPError as failed:
            error = type(failed).__name__
        self.answers.append(Answer(kind, sent, time.monotonic(), status, retry, error))
        return self.answers[-1].good


@asynccontextmanager
async def flowing(
    service: Service, project: str, *, items: float, others: float = 2.0
) -> AsyncIterator[Traffic]:
    """Traffic for as long as the block lasts; at its end every request has been answered."""
    async with httpx2.AsyncClient(
        base_url=service.api.base_url,
        headers={"Authorization": f"Bearer {service.api.admin_key}"},
        timeout=60,
        verify=False,
        # The server closes what idles for 5 s, and a request that is sent in that moment has no
        # answer: a client must be the first to let go.
        limits=httpx2.Limits(max_connections=200, keepalive_expiry=2.0),
    ) as http:
        traffic = Traffic(service, project, http)
        flow = asyncio.create_task(traffic.flow(items=items, others=others))
        try:
            yield traffic
        finally:
            await cancel([flow])
            await traffic.drained()
