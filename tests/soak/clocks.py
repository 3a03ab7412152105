"""Everybody's clock an hour wrong, for longer than the tests have time for."""

from __future__ import annotations

from pathlib import Path

from tests.faults.clocks import work_through, wrong_clocks
from tests.faults.support import running_service
from tests.soak.figures import Part

_SETTINGS = {
    "calls_in_flight": 8,
    "call_deadline_seconds": 60.0,
    "label_lease_seconds": 300.0,
    "sweep_seconds": 0.2,
}


async def wrong(part: Part, directory: Path, scale: float) -> None:
    """No lease ends early, whoever's clock says so."""
    items = max(200, round(3000 * scale))
    async with (
        running_service(directory, settings=_SETTINGS) as service,
        wrong_clocks(service, directory) as clocks,
    ):
        service.model.latency = 0.2
        early = await work_through(clocks, items=items)
    part.tell("items labelled and reviewed", items)
    part.tell("leases ended early", early, limit=0)
