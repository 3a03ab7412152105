"""Processes whose clocks are wrong, each by an hour, some one way and some the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2

from app.infra.ids import Kind, from_wire
from tests.faults.ledger import count_labelled
from tests.faults.support import Service
from tests.support import processes
from tests.support.processes import Program

HOUR = 3600.0
_CLOCK = Path(__file__).parent / "clock"


def by(seconds: float) -> dict[str, str]:
    """What the environment of a process needs whose clock is to be wrong."""
    return {"PYTHONPATH": str(_CLOCK), "CLOCK_SHIFT_SECONDS": str(seconds)}


@dataclass(frozen=True)
class Wrong:
    """A service in which nobody's clock is right but the database's.

    Attributes:
        service: the engines, the model, and a right API that nobody here asks.
        ahead: a client of an API whose clock is an hour fast.
        behind: one of an API whose clock is an hour slow.
    """

    service: Service
    ahead: httpx2.AsyncClient
    behind: httpx2.AsyncClient


@asynccontextmanager
async def wrong_clocks(service: Service, directory: Path) -> AsyncIterator[Wrong]:
    """Two APIs, two workers and two sweepers, one an hour fast and one an hour slow of each."""
    async with AsyncExitStack() as stack:

        def run(program: Program) -> None:
            stack.callback(program.kill)
            program.start()

        clients = []
        for name, seconds in (("ahead", HOUR), ("behind", -HOUR)):
            shift = by(seconds)
            run(processes.worker(service.settings, directory, name=f"worker-{name}", more=shift))
            run(processes.sweeper(service.settings, directory, name=f"sweeper-{name}", more=shift))
            port = processes.free_port()
            run(
                processes.api_server(
                    service.settings, directory, port=port, name=f"api-{name}", **shift
                )
            )
            url = f"http://127.0.0.1:{port}"
            await processes.until_answered(f"{url}/readyz")
            headers = {
                "Authorization": f"Bearer {service.api.admin_key}",
                "Secondlook-Reviewer": name,
            }
            http = await stack.enter_async_context(processes.client(url, headers))
            said = parsedate_to_datetime((await http.get("/livez")).headers["Date"]).timestamp()
            # it does believe that it is another time
            assert abs(said - time.time() - seconds) < HOUR / 2
            clients.append(http)
        yield Wrong(service, *clients)


async def work_through(wrong: Wrong, *, items: int) -> int:
    """Ingest, labelling and review in a service of wrong clocks; how many leases ended early.

    What one API leased is decided through the other.
    """
    service = wrong.service
    project = await service.api.make_project(policy={"kind": "review_all"})
    for begin in range(0, items, 500):
        rows = [{"text": f"text {n}"} for n in range(begin, min(items, begin + 500))]
        http = wrong.behind if begin % 1000 else wrong.ahead
        answer = await http.post(f"/v1/projects/{project}/items/bulk", json={"items": rows})
        assert answer.status_code == 200, answer.text
    await service.until_value(
        "SELECT count(*) FROM items WHERE project_id = %(project)s AND state = 'in_review'",
        items,
        patience=10 * processes.PATIENCE,
        project=from_wire(Kind.PROJECT, project),
    )
    pairs = [(wrong.ahead, wrong.behind), (wrong.behind, wrong.ahead)]
    decided = await asyncio.gather(*(_review(project, *pair) for pair in pairs))
    assert sum(decided) == items
    assert (await count_labelled(service)).once == items
    early = await service.value(
        "SELECT (SELECT count(*) FROM assignments WHERE state = 'expired')"
        " + (SELECT sum(losses) FROM items) AS n"
    )
    return int(early)


async def _review(project: str, one: httpx2.AsyncClient, other: httpx2.AsyncClient) -> int:
    """Claims at one API, decides at the other, until nothing waits; how many were decided."""
    decided = 0
    reviewer = one.headers["Secondlook-Reviewer"]
    while claimed := await _claim(project, one):
        decided += len(claimed)
        for each in claimed:
            answer = await other.post(
                f"/v1/assignments/{each['id']}/submit",
                json={"lease_token": each["lease_token"], "label": "spam"},
                headers={"Secondlook-Reviewer": reviewer},
            )
            assert answer.status_code == 200, answer.text
    return decided


async def _claim(project: str, http: httpx2.AsyncClient) -> Sequence[dict[str, str]]:
    answer = await http.post(f"/v1/projects/{project}/claims", json={"limit": 5})
    assert answer.status_code == 200, answer.text
    claimed: list[dict[str, str]] = answer.json()["data"]
    return claimed
