"""`make bench`: every figure of the table of goals that has landed, beside its limit.

    python -m benchmarks.bench [--size full] [--only KEY …]

Writes benchmarks/results/latest.json (`{key: {value, unit, limit, ratio, notes}}`) with what this
run measured and prints it as a table. Everything runs on loopback, is bounded in time and count,
and stops by itself. In the end the doctor looks through what was written: a figure of a service
that broke its own rules counts for nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.reports.invariants import check_invariants
from benchmarks.guarantee_refit import guarantee_refit
from benchmarks.labelling import label_calls, label_scale
from benchmarks.measure import Block, Meter, Row
from benchmarks.queueing import claim_after_churn, claim_growth
from benchmarks.reviewing import agreement_read, poll_cost, review_cycle
from benchmarks.service import ROOT, Measured, measured_service, model_process
from benchmarks.writing import bulk_import, review_write_cost

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
_WAITING = 100_000
_CHURN = 200_000
_GROWTH = (100_000, 1_000_000, 5_000_000)
_ITEMS = 4000


@dataclass(frozen=True, slots=True)
class Size:
    """How much: `reviews` to read agreement of, `calls` of a bulk import, `growth` if any."""

    reviews: int
    calls: int
    growth: tuple[int, ...]


SIZES = {
    "standard": Size(reviews=100_000, calls=30, growth=()),
    "full": Size(reviews=1_000_000, calls=200, growth=_GROWTH),
}

Measure = Callable[[Measured, str, Size], Row]

# In this order: what is small first, and what fills the database last.
SERVED: dict[str, Measure] = {
    "poll_cost": lambda service, _url, _size: poll_cost(service),
    "bulk_import": lambda service, _url, size: bulk_import(service, calls=size.calls),
    "label_calls": lambda service, url, _size: label_calls(service, model_url=url, items=_ITEMS),
    "label_scale": lambda service, url, _size: label_scale(service, model_url=url, items=_ITEMS),
    "review_cycle": lambda service, _url, _size: review_cycle(service, waiting=_WAITING),
    "review_write_cost": lambda service, _url, _size: review_write_cost(service, waiting=50_000),
    "claim_after_churn": lambda service, _url, _size: claim_after_churn(
        service, waiting=_WAITING, churn=_CHURN
    ),
    "agreement_read": lambda service, _url, size: agreement_read(service, reviews=size.reviews),
    "claim_growth": lambda service, _url, size: claim_growth(service, sizes=size.growth),
}
KEYS = ("guarantee_refit", *SERVED)


def main() -> None:
    """Measures, prints, writes; ends with 1 if the doctor found something."""
    parser = argparse.ArgumentParser(description="Measure the goals, each beside its limit.")
    parser.add_argument("--only", nargs="+", choices=KEYS)
    parser.add_argument("--size", choices=sorted(SIZES), default="standard")
    given = parser.parse_args()
    size = SIZES[given.size]
    keys = given.only or [key for key in KEYS if key != "claim_growth" or size.growth]
    if "claim_growth" in keys and not size.growth:
        parser.error("claim_growth is measured with --size full (make bench SIZE=full)")
    bench = _Bench(Console(soft_wrap=True, highlight=False))
    if "guarantee_refit" in keys:
        bench.measure_alone("certificates after one more audit", guarantee_refit)
    served = [key for key in SERVED if key in keys]
    if served:
        bench.measure(served, size)
    bench.write(given.size)
    sys.exit(1 if bench.violations else 0)


class _Bench:
    """What one run has measured so far."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: list[tuple[Row, list[Block]]] = []
        self.violations: int | None = None
        """What the doctor found; None where nothing was written that it could look at."""

    def measure_alone(self, name: str, row: Callable[[], Row]) -> None:
        """Measures a row that needs no service and commits nothing."""
        meter = Meter(Path(), self._tell)
        with meter.block(name, commits=False):
            measured = row()
        self.finish(measured, meter.take())

    def measure(self, keys: Sequence[str], size: Size) -> None:
        """Measures rows on one service, one after another."""
        with tempfile.TemporaryDirectory() as name, model_process() as (url, pid):
            directory = Path(name)
            directory.chmod(0o755)  # the embedded server runs as its own account
            with measured_service(directory, model_url=url, tell=self._tell) as service:
                service.meter.watch("model server", pid)
                for key in keys:
                    self.finish(SERVED[key](service, url, size), service.meter.take())
                self._examine(service.database_url)

    def finish(self, row: Row, blocks: list[Block]) -> None:
        """Keeps a row and tells it."""
        self._rows.append((row, blocks))
        said = [f"{row.key}: {row.value:.4g} {row.unit}"]
        said += [f"{name} {value:.4g}" for name, value in row.figures.items()]
        self._console.print("; ".join(said))

    def write(self, size: str) -> None:
        """The table, and the file of results."""
        self._console.print(_table([row for row, _ in self._rows]))
        RESULTS.parent.mkdir(exist_ok=True)
        measured_at = datetime.now(UTC).isoformat(timespec="seconds")
        run = {"measured_at": measured_at, "size": size, "violations": self.violations}
        found = {row.key: _entry(row, blocks, run) for row, blocks in self._rows}
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")

    def _tell(self, block: Block) -> None:
        self._console.print(f"  {block.sentence()}")

    def _examine(self, database_url: str) -> None:
        violations = asyncio.run(check_invariants(database_url))
        self.violations = len(violations)
        for each in violations:
            self._console.print(f"violated: {each.invariant}: {each.detail}")
        if not violations:
            self._console.print("the doctor finds nothing wrong with what was written")


def _entry(row: Row, blocks: Sequence[Block], run: Mapping[str, object]) -> dict[str, object]:
    return {
        "value": row.value,
        "unit": row.unit,
        "limit": row.limit,
        "ratio": row.ratio,
        "notes": {**run, "figures": row.figures, "blocks": [asdict(block) for block in blocks]},
    }


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="Each figure beside its limit in the same run", title_justify="left")
    for name in ("key", "value", "limit", "value / limit", "goal"):
        table.add_column(name, overflow="fold", no_wrap=name == "key")
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.key, f"{row.value:.4g} {row.unit}", limit, ratio, row.goal)
    return table


if __name__ == "__main__":
    main()
