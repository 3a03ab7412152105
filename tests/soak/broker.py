"""The broker flushed, restarted, frozen, absent; and every message ten times."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis

from tests.faults.duplicates import delivered_again
from tests.faults.ledger import count_labelled
from tests.faults.support import Service, running_service
from tests.soak.figures import Part, percentile
from tests.soak.traffic import Traffic, flowing
from tests.support import processes

# as it is deployed, but for the calls' deadline
SETTINGS: dict[str, Any] = {
    "calls_in_flight": 16,
    "call_deadline_seconds": 10.0,
    "label_lease_seconds": 20.0,
    "time_slice_seconds": 10.0,
    "sweep_seconds": 2.0,
}
_ITEMS_A_SECOND = 20.0
_ALLOWED_MS = 50.0
_RESTARTS = 20
_WAITING = "SELECT count(*) FROM items WHERE state IN ('pending', 'labeling')"


async def broker_away(part: Part, directory: Path, scale: float) -> None:
    """Ingest goes on as fast as before, and everything is labelled."""
    calm = max(10.0, 60.0 * scale)
    async with _service(part, directory / "service") as (service, traffic):
        phases: dict[str, tuple[float, float]] = {}

        @asynccontextmanager
        async def phase(name: str) -> AsyncIterator[None]:
            part.say(name)
            begun = time.monotonic()
            yield
            phases[name] = (begun, time.monotonic())

        async with phase("healthy before"):
            await asyncio.sleep(calm)
        async with phase("flushed again and again"):
            await _flush(service, seconds=calm / 2)
        async with phase(f"restarted {_RESTARTS} times"):
            for _ in range(_RESTARTS):
                await asyncio.to_thread(service.engines.valkey.kill)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(service.engines.valkey.start)
                await asyncio.sleep(1.0)
        async with phase("healthy between"):
            await asyncio.sleep(calm)
        frozen = max(15.0, 300 * scale)
        service.engines.valkey.freeze()
        try:
            async with phase(f"frozen for {frozen:g} s"):
                await asyncio.sleep(frozen)
        finally:
            service.engines.valkey.thaw()
        async with phase("healthy after"):
            await asyncio.sleep(calm)
        healthy = [
            value
            for name, span in phases.items()
            if name.startswith("healthy")
            for value in traffic.latencies("ingest", *span)
        ]
    limit = _tell_healthy(part, healthy)
    for name, span in phases.items():
        if not name.startswith("healthy"):
            part.tell(f"ingest p95, {name}", traffic.p95("ingest", *span), "ms", limit=limit)
            part.tell(f"claim p95, {name}", traffic.p95("claim", *span), "ms")


async def broker_absent(part: Part, directory: Path, scale: float) -> None:
    """Nobody has ever listened where the broker should be, beside a service that has one.

    Both run at the same time, so that whatever else the machine does meets both.
    """
    seconds = max(15.0, 90 * scale)
    async with (
        _service(part, directory / "healthy") as (_, healthy),
        _service(part, directory / "absent", broker=False) as (_, absent),
    ):
        # the first seconds of a service are its start
        await asyncio.sleep(5)
        begun = time.monotonic()
        await asyncio.sleep(seconds)
        span = (begun, time.monotonic())
    limit = _tell_healthy(part, healthy.latencies("ingest", *span))
    p95 = absent.p95("ingest", *span)
    part.tell("ingest p95, absent from the start", p95, "ms", limit=limit)
    part.tell("claim p95, healthy", healthy.p95("claim", *span), "ms")
    part.tell("claim p95, absent from the start", absent.p95("claim", *span), "ms")


def _tell_healthy(part: Part, latencies: list[float]) -> float:
    """The p95 of the same traffic without the fault; what is allowed with it."""
    p95 = percentile(latencies, 0.95)
    part.tell("ingest p95, healthy", p95, "ms")
    return p95 + _ALLOWED_MS


@asynccontextmanager
async def _service(
    part: Part, directory: Path, *, broker: bool = True
) -> AsyncIterator[tuple[Service, Traffic]]:
    """A whole service under steady ingest; at the end every item that was acknowledged is labelled.

    Raises:
        AssertionError: one is lost, doubled or not labelled.
    """
    async with running_service(directory, settings=SETTINGS, broker=broker) as service:
        service.model.latency = 0.2
        project = await service.api.make_project(policy={"kind": "review_all"})
        service.sweeper.start()
        service.worker.start()
        async with flowing(service, project, items=_ITEMS_A_SECOND) as traffic:
            yield service, traffic
        answered = Counter(f"{each.kind} {each.status}" for each in traffic.answers)
        part.say(f"{dict(answered)}")
        refused = sum(not each.good for each in traffic.answers)
        part.tell(f"requests refused, {directory.name}", refused, limit=0)
        await service.until_value(_WAITING, 0, patience=10 * processes.PATIENCE)
        stored = await service.rows("SELECT external_id FROM items")
        names = [row["external_id"] for row in stored]
        assert len(set(names)) == len(names)
        assert set(traffic.acknowledged) <= set(names)
        labelled = await count_labelled(service)
        part.tell(f"items labelled, {directory.name}", labelled.once)
        part.tell(
            f"items lost or not labelled, {directory.name}", len(names) - labelled.once, limit=0
        )


async def _flush(service: Service, *, seconds: float) -> None:
    ends = time.monotonic() + seconds
    with redis.Redis.from_url(service.engines.redis_url) as client:
        while time.monotonic() < ends:
            client.flushall()
            await asyncio.sleep(0.2)


async def duplicates(part: Part, directory: Path, scale: float) -> None:
    """Every message is delivered ten times."""
    count = max(300, round(10_000 * scale))
    settings = {**SETTINGS, "time_slice_seconds": 1.0}
    async with running_service(directory, settings=settings, worker_processes=3) as service:
        service.model.latency = 0.05
        with delivered_again(service.engines.redis_url, times=9) as again:
            service.sweeper.start()
            service.worker.start()
            projects = [
                await service.api.make_project(policy={"kind": "accept_all"}) for _ in range(20)
            ]
            for number, project in enumerate(projects):
                share = range(number, count, len(projects))
                await service.api.send_items(project, [f"text {n}" for n in share])
            await service.until_value(_WAITING, 0, patience=10 * processes.PATIENCE)
        labelled = await count_labelled(service)
        part.tell("items", count)
        part.tell("messages", again.messages)
        part.tell("deliveries added", again.added)
        part.tell("items with another number of effects than one", count - labelled.once, limit=0)
        twice = sum(calls > 1 for calls in service.model.calls_per_item.values())
        part.tell("items asked about twice", twice, limit=0)
