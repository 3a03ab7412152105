"""Rows of a queue that has lived: after many claims, and at many that wait."""

from __future__ import annotations

import asyncio
import time

import psycopg

from app.infra.db import Database
from app.review.service import ReviewService
from benchmarks.fill import filling
from benchmarks.measure import Row
from benchmarks.raw_review import reviewer
from benchmarks.reviewing import raw
from benchmarks.service import Measured

_BATCH = 1000
_REFILL = 20_000
_CHURN_SECONDS = 180.0
_PROBES = 3000

_DEAD = """
SELECT n_dead_tup, autovacuum_count FROM pg_stat_user_tables WHERE relname = 'review_queue'
"""
_PROBE = """
SELECT item_id FROM review_queue WHERE project_id = %s AND assignment_id IS NULL
ORDER BY score, item_id LIMIT 1
"""


def claim_after_churn(service: Measured, *, waiting: int, churn: int) -> Row:
    """Claims a second after many were claimed, decided and replaced, by those of a fresh queue.

    Each left two dead rows and a dead entry at the head of the index. Only the server's own
    autovacuum may clean between; the limit is the same after a vacuum by hand.
    """
    project = service.make_project()
    service.fill_queue(project, waiting)
    block = service.meter.block
    with block("claims, fresh", commits=True) as first:
        fresh, at_first = raw(service, "claim", project)
    with block("claimed, decided, replaced", commits=True) as churning:
        churned = asyncio.run(_churn(service, project, churn))
    dead, vacuums = _dead(service)
    with block("claims after it", commits=True) as then:
        worn, counted = raw(service, "claim", project)
    _, vacuums_then = _dead(service)
    with psycopg.connect(service.database_url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) review_queue")
    with block("claims after a vacuum", commits=True):
        vacuumed, _ = raw(service, "claim", project)
    return Row(
        key="claim_after_churn",
        value=worn / fresh,
        unit="of fresh",
        limit=vacuumed / fresh,
        goal="at least 0.7",
        figures={
            "claims/s fresh": fresh,
            "claims/s after": worn,
            "claims/s vacuumed": vacuumed,
            "postgres CPU ms a claim fresh": first.cpu_ms("postgres", at_first),
            "postgres CPU ms a claim after": then.cpu_ms("postgres", counted),
            "claimed": churned,
            "claimed/s": churned / churning.seconds,
            "dead rows at the start": dead,
            "autovacuums until then": vacuums,
            "autovacuums meanwhile": vacuums_then - vacuums,
        },
    )


def claim_growth(service: Measured, *, sizes: tuple[int, ...]) -> Row:
    """Claims a second at the last size by those at the first.

    The limit is the growth of the look at the head of the index alone.
    """
    project = service.make_project()
    waiting, claims, probes = 0, {}, {}
    for size in sizes:
        service.fill_queue(project, size - waiting)
        waiting = size
        probes[size] = _probe(service, project)
        with service.meter.block(f"claims at {size}", commits=True):
            claims[size], _ = raw(service, "claim", project)
    first, last = sizes[0], sizes[-1]
    return Row(
        key="claim_growth",
        value=claims[last] / claims[first],
        unit=f"of {first}",
        limit=probes[last] / probes[first],
        goal="at least 0.5",
        figures={
            **{f"claims/s at {size}": rate for size, rate in claims.items()},
            **{f"looks at the head/s at {size}": rate for size, rate in probes.items()},
        },
    )


async def _churn(service: Measured, project: str, count: int) -> int:
    """Refills, claims as reviewers do, decides: as many wait in the end as before.

    How many it were, where the time was over before the count.
    """
    database = Database(service.database_url, pool_size=1, application_name="secondlook-bench")
    await database.open()
    review = ReviewService(database)
    wanted = service.project_id(project)
    done, ends = 0, time.monotonic() + _CHURN_SECONDS
    with filling(service.database_url, wanted) as filler:
        while done < count and time.monotonic() < ends:
            refill = min(_REFILL, count - done)
            filler.wait(refill)
            for begin in range(0, refill, _BATCH):
                claimed = await review.claim(
                    wanted,
                    limit=min(_BATCH, refill - begin),
                    caller=reviewer(f"churn-{done + begin}"),
                )
                filler.submit([row["id"] for row in claimed])
            done += refill
    await database.close()
    return done


def _dead(service: Measured) -> tuple[int, int]:
    with psycopg.connect(service.database_url, autocommit=True) as connection:
        row = connection.execute(_DEAD).fetchone()
    assert row is not None
    return row[0], row[1]


def _probe(service: Measured, project: str) -> float:
    with psycopg.connect(service.database_url, autocommit=True) as connection:
        began = time.perf_counter()
        for _ in range(_PROBES):
            connection.execute(_PROBE, (service.project_id(project),), prepare=True).fetchone()
        return _PROBES / (time.perf_counter() - began)
