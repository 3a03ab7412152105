"""`make bench`: every figure of the table of goals that has landed, beside its limit.

    python -m benchmarks.bench [--only KEY …] [--size 100000]

Writes benchmarks/results/latest.json (`{key: {value, unit, limit, ratio}}`) and prints a table.
Everything runs on loopback, is bounded in time and count, and stops by itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.guarantee_refit import guarantee_refit
from benchmarks.measure import Row, Weather, fsync_rate, weather
from benchmarks.rows import bulk_items, label_calls, model_process, poll_cost, review_cycle
from benchmarks.service import ROOT, measured_service

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
KEYS = ("guarantee_refit", "review_cycle", "poll_cost", "bulk_import", "label_calls")


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description="Measure the goals, each beside its limit.")
    parser.add_argument("--only", nargs="+", choices=KEYS, default=KEYS)
    parser.add_argument("--size", type=int, default=100_000, help="items that wait in the queue")
    given = parser.parse_args()
    console = Console()
    rows: list[Row] = []

    def measure(key: str, row: Callable[[], Row], *, disk: Path | None = None) -> None:
        if key not in given.only:
            return
        synced = fsync_rate(disk) if disk else None
        with weather() as seen:
            rows.append(row())
        _tell(console, rows[-1], seen, synced)

    measure("guarantee_refit", guarantee_refit)
    if set(given.only) - {"guarantee_refit"}:
        with tempfile.TemporaryDirectory() as name, model_process() as model_url:
            disk = Path(name)
            disk.chmod(0o755)  # the embedded server runs as its own account
            with measured_service(disk, model_url=model_url) as service:
                measure("poll_cost", lambda: poll_cost(service))
                measure("bulk_import", lambda: bulk_items(service), disk=disk)
                measure(
                    "label_calls",
                    lambda: label_calls(service, model_url=model_url, items=4000),
                    disk=disk,
                )
                measure(
                    "review_cycle", lambda: review_cycle(service, waiting=given.size), disk=disk
                )
    console.print(_table(rows))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({row.key: _entry(row) for row in rows}, indent=2) + "\n")


def _entry(row: Row) -> dict[str, object]:
    return {"value": row.value, "unit": row.unit, "limit": row.limit, "ratio": row.ratio}


def _tell(console: Console, row: Row, seen: Weather, synced: float | None) -> None:
    words = [f"{row.key}: {row.value:.4g} {row.unit}", f"steal {seen.steal:.0%}"]
    words.append(f"busy {seen.busy:.0%}")
    if synced is not None:
        words.append(f"disk {synced:.0f} fsyncs/s")
    words += [f"{name} {value:.4g}" for name, value in row.notes.items()]
    console.print("; ".join(words), highlight=False)


def _table(rows: list[Row]) -> Table:
    table = Table(title="Each figure beside its limit in the same run", title_justify="left")
    for name in ("key", "value", "limit", "value / limit", "goal"):
        table.add_column(name)
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:.4g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.key, f"{row.value:.4g} {row.unit}", limit, ratio, row.goal)
    return table


if __name__ == "__main__":
    main()
