"""Rows of the API under load: claim and submit, polls, reports."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid

import psycopg

from app.access.keys import Caller, Scope
from app.infra.db import Database
from app.ledger import counters
from app.reports import queries
from app.reports.service import ReportService
from benchmarks.fill import filling
from benchmarks.measure import LOAD, Row
from benchmarks.service import Measured, joint_rate

_SECONDS = "10"
_READS = 300
# what the sweeper has not folded yet: two seconds of many reviewers
_TAIL = 500

_GROUP_BY = """
SELECT p.label, r.label, count(*), sum((p.label = r.label)::int)
FROM reviews r JOIN predictions p ON p.id = r.prediction_id
WHERE r.project_id = %s GROUP BY 1, 2
"""


def load(service: Measured, step: str, project: str, *, clients: int = 32) -> dict[str, float]:
    """Runs the load generator on one step and reads what it measured."""
    where = ("--base-url", service.base_url, "--key", service.key, "--project", project)
    many = ("--seconds", _SECONDS, "--clients", str(clients))
    (answer,) = service.run(("benchmarks.load", step, *where, *many))
    return answer


def raw(service: Measured, what: str, project: str) -> tuple[float, float]:
    """Claims or cycles of the same statements, two processes of four connections.

    How many a second, and how many in all.
    """
    command = ("benchmarks.raw_review", what, "--project", project)
    answers = service.run(command, command)
    return joint_rate(answers), sum(each["count"] for each in answers)


def review_cycle(service: Measured, *, waiting: int) -> Row:
    """Claim and submit over HTTP, 32 annotators; the limit is the same SQL with no HTTP."""
    project = service.make_project()
    service.fill_queue(project, waiting)
    block = service.meter.block
    with block("claims in SQL", commits=True):
        raw_claims, _ = raw(service, "claim", project)
    with block("claims over HTTP", commits=True):
        claims = load(service, "claim", project)
    with block("cycles in SQL", commits=True) as in_sql:
        raw_cycles, counted = raw(service, "cycle", project)
    with block("cycles over HTTP", commits=True) as over_http:
        cycles = load(service, "review", project)
    return Row(
        key="review_cycle",
        value=cycles["rate"],
        unit="cycles/s",
        limit=raw_cycles,
        goal="at least 500/s, p99 at most 150 ms",
        figures={
            "p50 ms": cycles["p50"],
            "p99 ms": cycles["p99"],
            "claims/s over HTTP": claims["rate"],
            "claims/s in SQL": raw_claims,
            "claims in SQL / over HTTP": raw_claims / claims["rate"],
            "api CPU ms a cycle": over_http.cpu_ms("api", cycles["count"]),
            "postgres CPU ms a cycle": over_http.cpu_ms("postgres", cycles["count"]),
            "load CPU ms a cycle": cycles["cpu_ms"],
            "postgres CPU ms a cycle in SQL": in_sql.cpu_ms("postgres", counted),
            "load CPU ms a cycle in SQL": in_sql.cpu_ms(LOAD, counted),
        },
    )


def poll_cost(service: Measured) -> Row:
    """304s of an unchanged queue; the limit is a route that does nothing."""
    project = service.make_project()
    service.fill_queue(project, 1000)
    with service.meter.block("a bare route", commits=False):
        bare = load(service, "bare", project)
    with service.meter.block("polls", commits=False) as block:
        polls = load(service, "poll", project)
    return Row(
        key="poll_cost",
        value=polls["rate"],
        unit="polls/s",
        limit=bare["rate"],
        goal="at least 2,500/s",
        figures={
            "p99 ms": polls["p99"],
            "api CPU ms a poll": block.cpu_ms("api", polls["count"]),
            "load CPU ms a poll": polls["cpu_ms"],
            "load cores": polls["cores"],
        },
    )


def agreement_read(service: Measured, *, reviews: int) -> Row:
    """The agreement report over HTTP, one reader; the limit is the reads it is made of."""
    project = service.make_project()
    wanted = service.project_id(project)
    with filling(service.database_url, wanted) as filler:
        filler.review(reviews - _TAIL)
        asyncio.run(_fold(service, wanted))
        filler.review(_TAIL, grain=1)
        filler.settle()
    with service.meter.block("the report over HTTP", commits=False) as block:
        answer = load(service, "agreement", project, clients=1)
    with service.meter.block("the reads of it in SQL", commits=False):
        in_sql, built = asyncio.run(_reads(service, wanted))
    with service.meter.block("the same by GROUP BY", commits=False):
        grouped = _grouped(service, wanted)
    return Row(
        key="agreement_read",
        value=answer["p50"],
        unit="ms",
        limit=in_sql,
        goal="at 1M reviews: at most 15 ms over HTTP, at most 5 in the database",
        figures={
            "p99 ms": answer["p99"],
            "reviews": reviews,
            "unfolded reviews": _TAIL,
            "service ms without HTTP": built,
            "GROUP BY ms": grouped,
            "api CPU ms a read": block.cpu_ms("api", answer["count"]),
            "postgres CPU ms a read": block.cpu_ms("postgres", answer["count"]),
        },
    )


async def _fold(service: Measured, project: uuid.UUID) -> None:
    database = Database(service.database_url, pool_size=1, application_name="secondlook-bench")
    await database.open()
    await counters.fold(database, project)
    await database.close()


async def _reads(service: Measured, project: uuid.UUID) -> tuple[float, float]:
    """Median milliseconds of the report's statements, round trips included; and of the report."""
    database = Database(service.database_url, pool_size=1, application_name="secondlook-bench")
    await database.open()
    reports = ReportService(database)
    caller = Caller(uuid.uuid4(), frozenset({Scope.ADMIN}), None, "reader")
    read, built = [], []
    for _ in range(_READS):
        began = time.perf_counter()
        await database.fetch_one(queries.SCHEMA, {"project_id": project})
        await counters.read(database, project, prefix="")
        between = time.perf_counter()
        await reports.agreement(project, caller=caller)
        read.append(1000 * (between - began))
        built.append(1000 * (time.perf_counter() - between))
    await database.close()
    return statistics.median(read), statistics.median(built)


def _grouped(service: Measured, project: uuid.UUID) -> float:
    with psycopg.connect(service.database_url, autocommit=True) as connection:
        began = time.perf_counter()
        connection.execute(_GROUP_BY, (project,)).fetchall()
        return 1000 * (time.perf_counter() - began)
