"""What a verdict costs beside a bare insert: the same pool, the same settings, turn by turn.

Three kinds of write, each answered after its commit: the service's submit; a review, its counters
and its events inserted together, and nothing else; the review alone. The last two go to copies of
the tables with their indexes, without foreign keys, dropped in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from app.infra.db import Database
from app.infra.ids import Kind, from_wire, new_id
from app.review.record import Verdict
from app.review.service import ReviewService
from benchmarks.raw_review import reviewer

CONNECTIONS = 8
Write = Callable[[dict[str, Any]], Awaitable[object]]

_TABLES = ("reviews", "counter_deltas", "events")
_ALONE = """
INSERT INTO bare_reviews (id, project_id, item_id, assignment_id, round, reviewer, label,
                          prediction_id, label_schema_id)
VALUES (%(id)s, %(project)s, %(item)s, %(assignment)s, 1, 'writer', 'label 2', %(prediction)s,
        %(project)s)
RETURNING created_at
"""
_TOGETHER = f"""
WITH counted AS (
    INSERT INTO bare_counter_deltas (project_id, name, delta)
    VALUES (%(project)s, 'agreement.1.0.1.2', 1), (%(project)s, 'items.in_review', -1),
           (%(project)s, 'items.completed', 1)
), told AS (
    INSERT INTO bare_events (id, project_id, type, data)
    SELECT unnest(%(events)s::uuid[]), %(project)s,
           unnest(ARRAY['review.submitted', 'item.completed']),
           jsonb_build_object('item_id', %(item)s::uuid, 'reviewer', 'writer', 'agreed', false)
)
{_ALONE}
"""


def _bare(row: dict[str, Any], project: uuid.UUID) -> dict[str, Any]:
    return {
        "id": new_id(),
        "events": [new_id(), new_id()],
        "project": project,
        "item": row["item_id"],
        "assignment": row["id"],
        "prediction": row["prediction_id"],
    }


async def costs(project: str, *, rounds: int, each: int) -> dict[str, float]:
    """Milliseconds a write of each kind, eight at a time: wall time by number of writes."""
    database = Database(
        os.environ["DATABASE_URL"], pool_size=CONNECTIONS, application_name="secondlook-bench"
    )
    await database.open()
    for table in _TABLES:
        await database.execute(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)", {})
    review = ReviewService(database)
    wanted = from_wire(Kind.PROJECT, project)
    writer = reviewer("writer")

    async def submit(row: dict[str, Any]) -> None:
        verdict = Verdict("label 2", None)
        await review.submit(row["id"], verdict, lease_token=row["lease_token"], caller=writer)

    async def together(row: dict[str, Any]) -> None:
        await database.fetch_one(_TOGETHER, _bare(row, wanted))

    async def alone(row: dict[str, Any]) -> None:
        await database.fetch_one(_ALONE, _bare(row, wanted))

    kinds: dict[str, Write] = {"submit": submit, "together": together, "alone": alone}
    spent = dict.fromkeys(kinds, 0.0)
    # the first round prepares every statement on every connection and does not count
    for number in range(rounds + 1):
        for kind, write in kinds.items():
            rows = await review.claim(wanted, limit=each, caller=writer)
            began = time.perf_counter()
            await _write_all(rows, write)
            if number:
                spent[kind] += time.perf_counter() - began
    for table in _TABLES:
        await database.execute(f"DROP TABLE bare_{table}", {})
    await database.close()
    return {kind: 1000 * seconds / (rounds * each) for kind, seconds in spent.items()}


async def _write_all(rows: list[dict[str, Any]], write: Write) -> None:
    left = iter(rows)

    async def client() -> None:
        for row in left:
            await write(row)

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


def main() -> None:
    """Prints what it measured as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", required=True)
    given = parser.parse_args()
    print(json.dumps(uvloop.run(costs(given.project, rounds=8, each=400))))


if __name__ == "__main__":
    main()
