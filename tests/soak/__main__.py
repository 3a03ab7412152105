"""`make soak`: every fault in full, with figures; an hour of a machine.

    python -m tests.soak [--only NAME …] [--scale 0.02]

Everything runs on loopback, is bounded in time and count, and stops by itself. Prints a table,
writes benchmarks/results/soak.json (parts that were left out keep their last figures), and ends
with status 1 where a figure is beyond its limit or a part fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.soak.api import api_kills
from tests.soak.broker import broker_absent, broker_away, duplicates
from tests.soak.clocks import wrong
from tests.soak.database import database_restarts
from tests.soak.disk import full_disk
from tests.soak.figures import Part
from tests.soak.pollers import pollers
from tests.soak.rolling import rolling_restarts
from tests.soak.workers import lone_kills, poison, worker_kills
from tests.support import processes

Soak = Callable[[Part, Path, float], Coroutine[Any, Any, None]]
RESULTS = processes.ROOT / "benchmarks" / "results" / "soak.json"
# the longest first: what is most likely to fail is known early
PARTS: dict[str, Soak] = {
    "worker_kills": worker_kills,
    "lone_kills": lone_kills,
    "api_kills": api_kills,
    "rolling_restarts": rolling_restarts,
    "broker_away": broker_away,
    "broker_absent": broker_absent,
    "duplicates": duplicates,
    "database_restarts": database_restarts,
    "pollers": pollers,
    "poison": poison,
    "clocks": wrong,
    "full_disk": full_disk,
}


def main() -> None:
    """Runs the parts one after another, prints and writes what they found."""
    parser = argparse.ArgumentParser(description="Every fault in full, with figures.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--scale", type=float, default=1.0, help="of all counts and times")
    given = parser.parse_args()
    # whatever was started is ended, however this ends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts = [_run(name, given.scale) for name in given.only]
    Console(width=120).print(_table(parts))
    # a trial is no result
    if given.scale == 1.0:
        _write(parts)
    kept = all(figure.holds for part in parts for figure in part.figures)
    sys.exit(0 if kept else 1)


def _run(name: str, scale: float) -> Part:
    part = Part(name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"secondlook-{name}-") as directory:
        try:
            asyncio.run(PARTS[name](part, Path(directory), scale))
        except Exception:  # noqa: BLE001  # whatever it is, the other parts are still worth running
            part.say(traceback.format_exc())
            part.tell("failures", 1, limit=0)
    part.tell("minutes", round((time.monotonic() - began) / 60, 2))
    return part


def _table(parts: list[Part]) -> Table:
    table = Table(title="Soak", title_justify="left")
    for name in ("part", "figure", "value", "at most", ""):
        table.add_column(name)
    for part in parts:
        for figure in part.figures:
            limit = "" if figure.limit is None else f"{figure.limit:,.4g} {figure.unit}"
            verdict = "" if figure.limit is None else ("ok" if figure.holds else "FAILS")
            shown = f"{figure.value:,.6g} {figure.unit}"
            table.add_row(part.name, figure.name, shown, limit, verdict)
        table.add_section()
    return table


def _write(parts: list[Part]) -> None:
    written: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in parts:
        written[part.name] = [figure.as_json() for figure in part.figures]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
