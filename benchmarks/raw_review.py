"""The limit of `review_cycle`: the same SQL with no HTTP in front, 32 connections, one process."""

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


async def cycles(project: str, *, clients: int, seconds: float, submit: bool) -> float:
    """Cycles (or, without submit, claims) a second."""
    url = os.environ["DATABASE_URL"]
    database = Database(url, pool_size=clients, application_name="secondlook-bench")
    await database.open()
    review = ReviewService(database)
    wanted = from_wire(Kind.PROJECT, project)
    count = 0

    async def client(number: int) -> None:
        nonlocal count
        caller = Caller(uuid.uuid4(), frozenset({Scope.ADMIN}), None, f"raw-{number}")
        while time.perf_counter() < ends:
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

    began = time.perf_counter()
    ends = began + seconds
    await asyncio.gather(*(client(number) for number in range(clients)))
    elapsed = time.perf_counter() - began
    await database.close()
    return count / elapsed


def main() -> None:
    """Prints the rate as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--claims-only", action="store_true")
    given = parser.parse_args()
    rate = uvloop.run(
        cycles(given.project, clients=32, seconds=given.seconds, submit=not given.claims_only)
    )
    print(json.dumps({"rate": rate}))


if __name__ == "__main__":
    main()
