"""The API killed under its clients."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from app.reports.invariants import check_invariants
from tests.faults.clients import Annotator, Door, Doors, Sender, cancel
from tests.faults.ledger import count_acknowledged, count_reviews, label_all
from tests.faults.support import Service, running_service
from tests.soak.figures import Part
from tests.soak.workers import SETTINGS
from tests.support import processes

# a machine with other things to do may not get through all that was planned
_MINUTES = 40
_SERVERS = 4
_REVIEWED_PER_KILL = 12


async def api_kills(part: Part, directory: Path, scale: float) -> None:
    """A thousand kills under ingest and review; each server in turn, once it has answered."""
    kills = max(12, round(1000 * scale))
    async with (
        running_service(directory, settings=SETTINGS) as service,
        _doors(service, directory) as doors,
    ):
        ingested = await service.api.make_project()
        reviewed = await service.api.make_project()
        waiting = kills * _REVIEWED_PER_KILL
        await service.api.send_items(reviewed, [f"text {n}" for n in range(waiting)])
        await label_all(service, reviewed)
        # answers 1,000 kills long, and nothing of it but what its clients do
        service.server.kill()
        senders = [Sender(doors, ingested, f"sender-{n}") for n in range(5)]
        annotators = [Annotator(doors, reviewed, label) for label in ("spam", "ham")]
        over = asyncio.Event()
        working = [
            *(
                asyncio.create_task(each.send(10**6, pause=0.1, over=over.is_set))
                for each in senders
            ),
            *(asyncio.create_task(each.review(pause=0.1, over=over.is_set)) for each in annotators),
        ]
        ends = time.monotonic() + _MINUTES * 60
        killing = asyncio.create_task(
            doors.kill_in_turn(random.Random(7), kills=kills, over=lambda: time.monotonic() > ends)
        )
        try:
            await _until(killing, working, part, doors)
        finally:
            over.set()
            if not killing.done():
                await cancel([killing, *working])
        await asyncio.gather(*working)
        items = await count_acknowledged(service, senders)
        reviews = await count_reviews(service, annotators)
        done = sum(door.kills for door in doors.doors)
        part.tell("kills", done)
        part.tell("kills there was no time for", kills - done, limit=0)
        part.tell("items acknowledged", items)
        part.tell("verdicts acknowledged", reviews)
        part.tell("requests cut or refused", doors.refused.total())
        part.tell("acknowledged items lost or doubled", 0, limit=0)
        part.tell("acknowledged verdicts lost or doubled", 0, limit=0)
        violations = await check_invariants(service.settings.database_url)
        part.tell("invariants violated", len(violations), limit=0)


async def _until(
    killing: asyncio.Task[int], working: Sequence[asyncio.Task[None]], part: Part, doors: Doors
) -> None:
    """Until all is killed, or a client fails."""
    while not killing.done():
        await asyncio.wait({killing}, timeout=60)
        part.say(f"{sum(door.kills for door in doors.doors)} kills")
        for task in working:
            if task.done():
                task.result()
    killing.result()


@asynccontextmanager
async def _doors(service: Service, directory: Path) -> AsyncIterator[Doors]:
    """Servers of the same service on ports of their own, and clients of them."""
    async with AsyncExitStack() as stack:
        doors = []
        for _ in range(_SERVERS):
            port = processes.free_port()
            server = processes.ForkedServer(service.settings, directory, port=port)
            stack.callback(server.kill)
            server.start()
            url = f"http://127.0.0.1:{port}"
            await processes.until_answered(f"{url}/readyz")
            http = await stack.enter_async_context(
                processes.client(url, {"Authorization": f"Bearer {service.api.admin_key}"})
            )
            doors.append(Door(server, http))
        yield Doors(doors)
