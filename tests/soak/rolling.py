"""Everything renewed again and again under clients that never ask twice."""

from __future__ import annotations

from pathlib import Path

from tests.faults.renewals import renew_hosts, renew_in_place
from tests.soak.figures import Part


async def rolling_restarts(part: Part, directory: Path, scale: float) -> None:
    """API, workers and sweepers, in place and behind a balancer: no request fails."""
    rolls = max(2, round(50 * scale))
    for name, renew in (("in place", renew_in_place), ("behind a balancer", renew_hosts)):
        part.say(f"{rolls} rolling restarts {name}")
        place = directory / name.replace(" ", "-")
        place.mkdir()
        load = await renew(place, rolls=rolls)
        part.tell(f"restarts {name}", rolls)
        part.tell(f"requests {name}", load.answered.total())
        part.tell(f"failed requests {name}", len(load.failures), limit=0)
        part.tell(f"items labelled {name}", len(load.sent))
