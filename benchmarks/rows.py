"""The rows that speak to a running service."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.measure import Row
from benchmarks.service import ROOT, Measured

_SECONDS = "10"


def _json(service: Measured, module: str, *arguments: str) -> dict[str, float]:
    """Runs a process of the benchmark and reads the object it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=service.environ,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _load(service: Measured, step: str, project: str, *more: str) -> dict[str, float]:
    where = ("--base-url", service.base_url, "--key", service.key, "--project", project)
    return _json(service, "benchmarks.load", step, *where, "--seconds", _SECONDS, *more)


def review_cycle(service: Measured, *, waiting: int) -> Row:
    """Claim and submit over HTTP, 32 annotators; the limit is the same SQL with no HTTP."""
    project = service.make_project()
    service.fill_queue(project, waiting)
    raw_claim = _json(service, "benchmarks.raw_review", "--project", project, "--claims-only")
    raw = _json(service, "benchmarks.raw_review", "--project", project)
    claims = _load(service, "claim", project)
    cycle = _load(service, "review", project)
    return Row(
        key="review_cycle",
        value=cycle["rate"],
        unit="cycles/s",
        limit=raw["rate"],
        higher_is_better=True,
        goal="at least 500/s, p99 at most 150 ms",
        notes={
            "p50 ms": cycle["p50"],
            "p99 ms": cycle["p99"],
            "claims/s over HTTP": claims["rate"],
            "claims/s in SQL": raw_claim["rate"],
        },
    )


def poll_cost(service: Measured) -> Row:
    """304s of an unchanged queue; the limit is a route that does nothing."""
    project = service.make_project()
    service.fill_queue(project, 1000)
    bare = _load(service, "bare", project)
    poll = _load(service, "poll", project)
    return Row(
        key="poll_cost",
        value=poll["rate"],
        unit="polls/s",
        limit=bare["rate"],
        higher_is_better=True,
        goal="at least 2,500/s",
        notes={"p99 ms": poll["p99"]},
    )


def bulk_items(service: Measured) -> Row:
    """Rows a second through the 1,000-item call, 500 bytes a row; the limit is COPY alone."""
    project = service.make_project()
    text = "some words of text " * 25
    calls, began = 20, time.perf_counter()
    for call in range(calls):
        rows = [{"external_id": f"{call}-{n}", "text": text} for n in range(1000)]
        service.call("POST", f"/v1/projects/{project}/items/bulk", {"items": rows})
    rate = calls * 1000 / (time.perf_counter() - began)
    return Row(
        key="bulk_import",
        value=rate,
        unit="rows/s",
        limit=_copy_rate(service, text),
        higher_is_better=True,
        goal="at least 20,000/s by import job; this is the 1,000-item call, one after another",
    )


def _copy_rate(service: Measured, text: str) -> float:
    count = 20_000
    with psycopg.connect(service.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE copied (id bigint PRIMARY KEY, content jsonb)")
        began = time.perf_counter()
        with connection.cursor().copy("COPY copied FROM STDIN") as copy:
            for number in range(count):
                copy.write_row((number, json.dumps({"text": text})))
        rate = count / (time.perf_counter() - began)
        connection.execute("DROP TABLE copied")
    return rate


def label_calls(service: Measured, *, model_url: str, items: int) -> Row:
    """Labels a second end to end, 200 calls in flight of 200 ms, one worker process."""
    project = service.make_project()
    for begin in range(0, items, 1000):
        rows = [{"text": f"text {n}"} for n in range(begin, min(items, begin + 1000))]
        service.call("POST", f"/v1/projects/{project}/items/bulk", {"items": rows})
    raw = _json(service, "benchmarks.raw_calls", "--url", model_url, "--count", str(items))
    done = _json(service, "benchmarks.drain", "--project", project)
    return Row(
        key="label_calls",
        value=done["rate"],
        unit="labels/s",
        limit=raw["rate"],
        higher_is_better=True,
        goal="at least 400/s, at most 2.5 ms CPU a label",
        notes={"CPU ms a label": done["cpu_ms"], "CPU ms of a bare call": raw["cpu_ms"]},
    )


@contextmanager
def model_process() -> Iterator[str]:
    """The scripted model server, answering after 200 ms; its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.model_server", "--latency", "0.2"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()
