"""The limit of `review_cycle`: the service's own statements with no HTTP in front.

A few connections in each of a few processes: with 32 in one, its event loop would be measured too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
import uuid

import uvloop

from app.access.keys import Caller, Scope
from app.infra.db import Database
from app.infra.ids import Kind, from_wire
from app.review.record import Verdict
from app.review.service import ReviewService

CONNECTIONS = 4


def reviewer(name: str) -> Caller:
    """Somebody who may review anything."""
    return Caller(uuid.uuid4(), frozenset({Scope.ADMIN}), None, name)


async def cycles(project: str, *, seconds: float, submit: bool) -> dict[str, float]:
    """Cycles (or, without submit, claims), when they ran, and this process's CPU for each."""
    url = os.environ["DATABASE_URL"]
    database = Database(url, pool_size=CONNECTIONS, application_name="secondlook-bench")
    await database.open()
    review = ReviewService(database)
    wanted = from_wire(Kind.PROJECT, project)
    count = 0

    async def client(number: int) -> None:
        nonlocal count
        caller = reviewer(f"raw-{os.getpid()}-{number}")
        while time.monotonic() < ends:
            claimed = await review.claim(wanted, limit=1, caller=caller)
            if not claimed:
                return
            if submit:
                row = claimed[0]
                await review.submit(
                    row["id"],
                    Verdict("label 2", None),
                    lease_token=row["lease_token"],
                    caller=caller,
                )
            count += 1

    began, cpu = time.monotonic(), time.process_time()
    ends = began + seconds
    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    ended, spent = time.monotonic(), time.process_time() - cpu
    await database.close()
    return {"began": began, "ended": ended, "count": count, "cpu_ms": spent * 1000 / max(1, count)}


def main() -> None:
    """Prints what it measured as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("claim", "cycle"))
    parser.add_argument("--project", required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    seconds = min(given.seconds, 60.0)
    work = cycles(given.project, seconds=seconds, submit=given.what == "cycle")
    print(json.dumps(uvloop.run(work)))


if __name__ == "__main__":
    main()
