"""Workers killed in model calls, and an item that kills them."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

from app.infra.ids import Kind, from_wire
from tests.faults.clients import cancel
from tests.faults.havoc import SETTLED, SUSPECTS_HELD, Cut, Havoc, feed
from tests.faults.ledger import count_labelled
from tests.faults.plays import Deadly
from tests.faults.support import Service, running_service
from tests.soak.figures import Part, percentile
from tests.support import processes

LEASE_SECONDS = 4.0
SETTINGS = {
    "calls_in_flight": 6,
    "call_deadline_seconds": 3.0,
    "label_lease_seconds": LEASE_SECONDS,
    "time_slice_seconds": 1.0,
    "retry_base_seconds": 0.05,
    "sweep_seconds": 0.2,
}
# a machine with other things to do may not get through all that was planned
_MINUTES = 40
_WORKERS = 4
_PROJECTS = 12
_BACKLOG = 800
_SENT_AT_ONCE = 100


async def worker_kills(part: Part, directory: Path, scale: float) -> None:
    """A thousand kills in model calls, while items keep coming."""
    kills = max(20, round(1000 * scale))
    plan = {"kill_a_child": kills * 95 // 100, "kill_the_sweeper": kills // 50}
    plan["kill_the_worker"] = kills - plan["kill_a_child"]
    settings = {**SETTINGS, "calls_in_flight": 8, "time_slice_seconds": 3.0}
    async with (
        running_service(directory, settings=settings, worker_processes=3) as service,
        AsyncExitStack() as stack,
    ):
        others = [
            processes.worker(service.settings, directory, processes=3, name=f"worker-{n}")
            for n in range(_WORKERS - 1)
        ]
        havoc = Havoc(
            service,
            random.Random(20_261),
            plan=plan,
            call_seconds=0.8,
            between=(1, 4),
            suspects=SUSPECTS_HELD,
            others=others,
        )
        for worker in (service.worker, *others):
            stack.callback(worker.kill)
            worker.start()
        projects = [
            await service.api.make_project(policy={"kind": "accept_all"}) for _ in range(_PROJECTS)
        ]
        service.sweeper.start()
        sent: list[str] = []
        over = asyncio.Event()
        feeding = asyncio.create_task(feed(service, projects, sent, over=over, backlog=_BACKLOG))
        ends = time.monotonic() + _MINUTES * 60
        havocking = asyncio.create_task(havoc.wreak(over=lambda: time.monotonic() > ends))
        try:
            while not havocking.done():
                await asyncio.wait({havocking}, timeout=30)
                part.say(f"{havoc.kills} kills, {len(sent)} items")
                if feeding.done():
                    feeding.result()
            havocking.result()
            over.set()
            await feeding
        finally:
            await cancel([feeding, havocking])
        await service.until_value(SETTLED, len(sent))
        await _tell_kills(part, service, havoc, len(sent), planned=sum(plan.values()))


async def _tell_kills(
    part: Part, service: Service, havoc: Havoc, sent: int, *, planned: int
) -> None:
    labelled = await count_labelled(service)
    cuts = havoc.cuts()
    part.tell("kills of worker children", havoc.done["kill_a_child"])
    part.tell("kills of whole workers", havoc.done["kill_the_worker"])
    part.tell("kills of the sweeper", havoc.done["kill_the_sweeper"])
    part.tell("kills there was no time for", planned - havoc.kills, limit=0)
    part.tell("kills that cut model calls", len({cut.at for cut in cuts}))
    part.tell("model calls cut", len(cuts))
    part.tell("workers started again by hand", havoc.done["worker started again"])
    part.tell("items sent", sent)
    part.tell("items labelled once", labelled.once)
    part.tell("items that lost three workers, with people", labelled.poison)
    part.tell("items lost", sent - labelled.once - labelled.poison, limit=0)
    part.tell("items labelled twice", 0, limit=0)
    # Who is lost while more keeps coming than is labelled waits for its turn as all do: what a kill
    # itself costs is for `lone_kills` to say.
    for losses, delays in sorted(_delays(service, cuts).items()):
        name = f"from a kill to the next call, items that lost {losses}"
        part.tell(f"median {name}", statistics.median(delays), "s")
        part.tell(f"p99 {name}", percentile(delays, 0.99), "s")


async def lone_kills(part: Part, directory: Path, scale: float) -> None:
    """One kill at a time, each with work that the others can carry."""
    kills = max(5, round(50 * scale))
    async with running_service(directory, settings=SETTINGS, worker_processes=4) as service:
        project = await service.api.make_project(policy={"kind": "accept_all"})
        havoc = Havoc(service, random.Random(3), plan={}, call_seconds=0.8)
        service.sweeper.start()
        service.worker.start()
        for number in range(kills):
            texts = [f"text {number} {n}" for n in range(_SENT_AT_ONCE)]
            await service.api.send_items(project, texts)
            await havoc.kill_a_child()
            await service.until_value(SETTLED, (number + 1) * _SENT_AT_ONCE)
        labelled = await count_labelled(service)
        delays = _delays(service, havoc.cuts())[1]
        part.tell("kills", kills)
        part.tell("model calls cut", len(delays))
        part.tell("items not labelled once", kills * _SENT_AT_ONCE - labelled.once, limit=0)
        name = "from a kill to the next call"
        part.tell(f"median {name}", statistics.median(delays), "s")
        part.tell(f"longest {name}", max(delays), "s", limit=LEASE_SECONDS + 10)


def _delays(service: Service, cuts: list[Cut]) -> dict[int, list[float]]:
    """Seconds from each kill to the next call of each of its items, by which loss it was."""
    began = defaultdict(list)
    for call in service.model.calls:
        began[call.item].append(call.began)
    delays = defaultdict(list)
    losses: Counter[str] = Counter()
    for cut in cuts:
        losses[cut.item] += 1
        later = [moment for moment in began[cut.item] if moment > cut.at]
        if later:
            delays[losses[cut.item]].append(min(later) - cut.at)
    return delays


async def poison(part: Part, directory: Path, scale: float) -> None:
    """An item that kills its worker: what its neighbours notice of it."""
    count = max(300, round(5000 * scale))
    async with running_service(directory, settings=SETTINGS, worker_processes=4) as service:
        service.model.latency = 0.25
        service.model.rules = {"poison": [Deadly(service.worker)]}
        service.sweeper.start()
        service.worker.start()
        # every child has begun by the end of it
        await _mean_wait(service, count // 4, 0)
        waits: dict[str, float] = {}
        for name, deadly in (("before", 0), ("with", 1), ("after", 0)):
            waits[name] = await _mean_wait(service, count, deadly)
        without = (waits["before"] + waits["after"]) / 2
        labelled = await count_labelled(service)
        losses = await service.value(
            "SELECT losses FROM items WHERE unknown_reason = 'leases_lost'"
        )
        part.tell("losses before it went to people", losses, limit=3)
        part.tell("calls of the poison item", service.model.calls_per_item["poison"])
        part.tell("items not with people that should be", 1 - labelled.poison, limit=0)
        sent = 3 * count + count // 4
        part.tell("neighbours not labelled once", sent - labelled.once, limit=0)
        part.tell("mean wait of its neighbours", waits["with"], "s")
        part.tell("mean wait without it", without, "s")
        part.tell("neighbours' delay", 100 * (waits["with"] / without - 1), "%", limit=5)


async def _mean_wait(service: Service, count: int, deadly: int) -> float:
    """Mean seconds from arrival to label of a project's ordinary items."""
    project = await service.api.make_project(policy={"kind": "accept_all"})
    texts = [f"text {n}" for n in range(count)] + ["poison"] * deadly
    random.Random(1).shuffle(texts)
    await service.api.send_items(project, texts)
    await service.until_value(
        "SELECT count(*) FROM items WHERE state IN ('pending', 'labeling')",
        0,
        patience=10 * processes.PATIENCE,
    )
    return float(
        await service.value(
            "SELECT avg(extract(epoch FROM labeled_at - created_at))::float8 FROM items "
            "WHERE state = 'accepted' AND project_id = %(project)s",
            project=from_wire(Kind.PROJECT, project),
        )
    )
