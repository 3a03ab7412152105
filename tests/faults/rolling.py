"""Programs replaced one by one while clients go on, each request of which must succeed."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from app.settings import Settings
from tests.faults.support import Service
from tests.support import processes
from tests.support.processes import Program

DRAIN_SECONDS = 4.0
GOOD = {200, 201, 204, 304}


def api_program(
    settings: Settings,
    directory: Path,
    *,
    port: int,
    serving: int = 1,
    drain_seconds: float = DRAIN_SECONDS,
    **more: str,
) -> Program:
    """The API as it is deployed."""
    return Program(
        *("-m", "app.cli", "serve", "--port", str(port), "--processes", str(serving)),
        env=processes.environment(settings, SECONDLOOK_DRAIN_SECONDS=str(drain_seconds), **more),
        log=directory / f"api-{port}.log",
    )


@dataclass
class Backends:
    """What a balancer knows: who says at `/readyz` that requests may be sent there."""

    urls: Sequence[str]
    ready: set[str] = field(default_factory=set)
    _turns: itertools.count[int] = field(default_factory=itertools.count)

    def next(self) -> str:
        """Whose turn it is."""
        ready = [url for url in self.urls if url in self.ready]
        assert ready, "nobody is ready"
        return ready[next(self._turns) % len(ready)]

    async def watch(self) -> None:
        """Asks everybody again and again."""
        await asyncio.gather(*map(self._watch, self.urls))

    async def _watch(self, url: str) -> None:
        async with httpx2.AsyncClient(timeout=30, verify=False) as http:
            while True:
                ready = False
                with suppress(httpx2.HTTPError):
                    ready = (await http.get(f"{url}/readyz")).status_code == 200
                (self.ready.add if ready else self.ready.discard)(url)
                await asyncio.sleep(0.05)

    async def until_ready(self, url: str) -> None:
        await processes.until(lambda: url in self.ready)


@dataclass
class Load:
    """Clients that keep their connections and never ask twice.

    Attributes:
        project: what they work on.
        answered: good answers, by what was asked.
        failures: everything else.
        sent: external ids that were acknowledged.
        held: ids of assignments that were claimed and not submitted yet.
    """

    project: str
    backends: Backends
    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    over: bool = False

    async def goes_on(self, at_least: int = 20) -> None:
        """Until every kind of request has been answered some more."""
        before = self.answered.copy()
        kinds = {"ingest", "claim", "submit", "poll", "stats"}
        await processes.until(
            lambda: (
                bool(self.failures)
                or all(self.answered[kind] >= before[kind] + at_least for kind in kinds)
            )
        )
        assert not self.failures, self.failures[:5]


class Caller:
    """One client: a pool of connections to each backend."""

    def __init__(self, load: Load, pools: dict[str, httpx2.AsyncClient]) -> None:
        self._load = load
        self._pools = pools

    async def ask(self, kind: str, method: str, path: str, **more: Any) -> httpx2.Response | None:
        """The answer if it is a good one; all others are failures."""
        url = self._load.backends.next()
        try:
            answer = await self._pools[url].request(method, path, **more)
        except httpx2.HTTPError as error:
            self._load.failures.append(f"{kind} at {url}: {error!r}")
            return None
        if answer.status_code not in GOOD:
            self._load.failures.append(f"{kind} at {url}: {answer.status_code} {answer.text}")
            return None
        self._load.answered[kind] += 1
        return answer


async def ingest(load: Load, caller: Caller, name: str) -> None:
    for n in itertools.count():
        if load.over:
            return
        rows = [{"external_id": f"{name}-{n}-{k}", "text": f"{name}-{n}-{k}"} for k in range(3)]
        path = f"/v1/projects/{load.project}/items/bulk"
        if await caller.ask("ingest", "POST", path, json={"items": rows}):
            load.sent += [row["external_id"] for row in rows]
        await asyncio.sleep(0.08)


async def annotate(load: Load, caller: Caller, label: str) -> None:
    while not load.over or load.held:
        claimed = await caller.ask(
            "claim", "POST", f"/v1/projects/{load.project}/claims", json={"limit": 2}
        )
        assignments = claimed.json()["data"] if claimed else []
        load.held |= {each["id"] for each in assignments}
        await asyncio.sleep(0.03)
        for each in assignments:
            verdict = {"lease_token": each["lease_token"], "label": label}
            await caller.ask("submit", "POST", f"/v1/assignments/{each['id']}/submit", json=verdict)
            # one that could not be submitted is among the failures
            load.held.discard(each["id"])


async def poll(load: Load, caller: Caller, _name: str) -> None:
    headers: dict[str, str] = {}
    while not load.over:
        path = f"/v1/projects/{load.project}/queue"
        if answer := await caller.ask("poll", "GET", path, headers=headers):
            headers = {"If-None-Match": answer.headers["etag"]}
        await asyncio.sleep(0.03)


async def watch_stats(load: Load, caller: Caller, _name: str) -> None:
    while not load.over:
        await caller.ask("stats", "GET", f"/v1/projects/{load.project}/stats")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def under_load(service: Service, urls: Sequence[str]) -> AsyncIterator[Load]:
    """Clients at work until the block ends; then every assignment they hold is submitted."""
    project = await service.api.make_project(policy={"kind": "review_all"})
    backends = Backends(urls)
    load = Load(project, backends)
    keys = [await service.api.make_key("reviewer") for _ in range(2)]
    plan: list[tuple[Callable[[Load, Caller, str], Any], str, str]] = [
        (ingest, service.api.admin_key, "one"),
        (ingest, service.api.admin_key, "other"),
        (annotate, keys[0], "spam"),
        (annotate, keys[1], "ham"),
        (poll, keys[0], ""),
        (watch_stats, service.api.admin_key, ""),
    ]
    async with AsyncExitStack() as stack:
        watching = asyncio.create_task(backends.watch())
        stack.callback(watching.cancel)
        for url in urls:
            await backends.until_ready(url)
        working = []
        for client, key, name in plan:
            headers = {"Authorization": f"Bearer {key}"}
            pools = {
                url: await stack.enter_async_context(processes.client(url, headers)) for url in urls
            }
            working.append(asyncio.create_task(client(load, Caller(load, pools), name)))
        try:
            yield load
        finally:
            load.over = True
            await asyncio.gather(*working)


class Background:
    """A worker and a sweeper that are replaced by others."""

    def __init__(self, service: Service, directory: Path) -> None:
        self._service = service
        self._directory = directory
        self._workers: list[Program] = []
        self.replaced = 0

    async def start(self) -> None:
        await self._start_worker()
        self._service.sweeper.start()

    async def replace(self) -> None:
        """First the new worker, then the old one goes; a sweeper is alone and has a gap."""
        old = self._workers[-1]
        await self._start_worker()
        old.ask_to_stop()
        assert await old.ended() == 0
        self._service.sweeper.ask_to_stop()
        assert await self._service.sweeper.ended() == 0
        self._service.sweeper.start()
        self.replaced += 1

    async def _start_worker(self) -> None:
        name = f"worker-{len(self._workers)}"
        worker = processes.worker(self._service.settings, self._directory, processes=1, name=name)
        self._workers.append(worker)
        worker.start()
        await worker.until_it_says(" ready.")

    def kill(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._service.sweeper.kill()
