"""PostgreSQL restarted, killed, its backends terminated, all under load."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.faults.ledger import count_labelled
from tests.faults.support import Service, running_service
from tests.soak.broker import SETTINGS
from tests.soak.figures import Part
from tests.soak.traffic import Traffic, flowing

_HEALED_SECONDS = 10.0


async def database_restarts(part: Part, directory: Path, scale: float) -> None:
    """Nobody gets anything but 503 with Retry-After, and soon after it is there all is well."""
    rounds = max(1, round(5 * scale))
    settings = {**SETTINGS, "sweep_seconds": 0.5}
    async with running_service(directory, settings=settings) as service:
        service.model.latency = 0.1
        project = await service.api.make_project(policy={"kind": "review_all"})
        service.sweeper.start()
        service.worker.start()
        # when the server was there again, and when the next fault began
        calm: list[tuple[float, float]] = []
        async with flowing(service, project, items=20, others=5) as traffic:
            await asyncio.sleep(3)
            for number in range(4 * rounds):
                await _break(service, number)
                ready = time.monotonic()
                await asyncio.sleep(_HEALED_SECONDS)
                calm.append((ready, time.monotonic()))
        await service.until_value(
            "SELECT count(*) FROM items WHERE state IN ('pending', 'labeling')", 0
        )
        stored = await service.rows("SELECT external_id FROM items")
        names = [row["external_id"] for row in stored]
        assert len(set(names)) == len(names)
        lost = set(traffic.acknowledged) - set(names)
        labelled = await count_labelled(service)
        part.tell("restarts and crashes", 2 * rounds)
        part.tell("times all backends were terminated", 2 * rounds)
        part.tell("requests", len(traffic.answers))
        part.tell("answered 503", sum(each.status == 503 for each in traffic.answers))
        part.say(f"neither good nor 503: {dict(traffic.bad())}")
        part.tell("answers that were neither good nor 503", traffic.bad().total(), limit=0)
        part.tell("acknowledged items lost", len(lost), limit=0)
        part.tell("items not labelled once", len(names) - labelled.once, limit=0)
        healed = max(_healing(traffic, *span) for span in calm)
        part.tell("last 503 after it was ready", healed, "s", limit=_HEALED_SECONDS - 1)


async def _break(service: Service, number: int) -> None:
    """A restart, a crash, and twice all backends terminated, in turn; ends when it is ready."""
    postgres = service.engines.postgres
    if number % 2:
        await service.break_connections()
    elif number % 4:
        await asyncio.to_thread(postgres.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(postgres.start)
    else:
        await asyncio.to_thread(postgres.restart)


def _healing(traffic: Traffic, ready: float, next_fault: float) -> float:
    """Seconds from when the server was there again to the last failure, 0 where none failed."""
    return max(
        (
            each.ended - ready
            for each in traffic.answers
            if not each.good and ready <= each.ended < next_fault
        ),
        default=0.0,
    )
