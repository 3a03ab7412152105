"""Rows of what is written: items in bulk, and what a verdict costs."""

from __future__ import annotations

import json
import time

import psycopg

from benchmarks.measure import LOAD, Row
from benchmarks.service import Measured

_TEXT = "some words of text " * 25
_CALL = 1000


def bulk_import(service: Measured, *, calls: int) -> Row:
    """Rows a second through the 1,000-item call, 500 bytes a row; the limit is COPY alone."""
    project = service.make_project()
    bodies = [
        {"items": [{"external_id": f"{call}-{n}", "text": _TEXT} for n in range(_CALL)]}
        for call in range(calls)
    ]
    with service.meter.block("COPY", commits=True):
        limit = _copy_rate(service, calls * _CALL)
    with service.meter.block("1,000-item calls, one after another", commits=True) as block:
        began = time.perf_counter()
        for body in bodies:
            service.call("POST", f"/v1/projects/{project}/items/bulk", body)
        rate = calls * _CALL / (time.perf_counter() - began)
    return Row(
        key="bulk_import",
        value=rate,
        unit="rows/s",
        limit=limit,
        goal="at least 20,000/s by import job; this is the 1,000-item call, one after another",
        figures={
            "api CPU ms a call": block.cpu_ms("api", calls),
            "postgres CPU ms a call": block.cpu_ms("postgres", calls),
            "load CPU ms a call": block.cpu_ms(LOAD, calls),
        },
    )


def _copy_rate(service: Measured, count: int) -> float:
    with psycopg.connect(service.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE copied (id bigint PRIMARY KEY, content jsonb)")
        began = time.perf_counter()
        with connection.cursor().copy("COPY copied FROM STDIN") as copy:
            for number in range(count):
                copy.write_row((number, json.dumps({"text": _TEXT})))
        rate = count / (time.perf_counter() - began)
        connection.execute("DROP TABLE copied")
    return rate


def review_write_cost(service: Measured, *, waiting: int) -> Row:
    """A submit by a bare insert; the limit is the insert with counters and outbox by the bare one.

    In SQL, eight connections of one pool, turn by turn.
    """
    project = service.make_project()
    service.fill_queue(project, waiting)
    with service.meter.block("submits, inserts with counters and outbox, inserts", commits=True):
        (ms,) = service.run(("benchmarks.raw_write", "--project", project))
    return Row(
        key="review_write_cost",
        value=ms["submit"] / ms["alone"],
        unit="bare inserts",
        limit=ms["together"] / ms["alone"],
        goal="at most 3",
        figures={
            "ms a submit": ms["submit"],
            "ms an insert with counters and outbox": ms["together"],
            "ms a bare insert": ms["alone"],
        },
    )
