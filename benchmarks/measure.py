"""What every benchmark row shares: its result, and what the machine was doing meanwhile.

Machines are noisy: a figure counts only beside its limit, measured in the same run. The share of
time the host took away (steal) is printed with each row, and the disk's fsync rate beside each row
that commits; rows of different phases are not compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        key: as in the table of goals.
        value: what was measured.
        unit: of value and limit.
        limit: what the parts underneath reach in the same run; None where there is no such thing.
        higher_is_better: whether a larger value is the better one.
        goal: what it should reach, in words.
        notes: figures beside it.
    """

    key: str
    value: float
    unit: str
    limit: float | None
    higher_is_better: bool
    goal: str
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How near the value comes to the limit."""
        return None if not self.limit else self.value / self.limit


@dataclass(slots=True)
class Weather:
    """What the machine did during a row: share of CPU time stolen, and busy, in [0, 1]."""

    steal: float = 0.0
    busy: float = 0.0


@contextmanager
def weather() -> Iterator[Weather]:
    """Watches the machine for as long as the block lasts; all zeros where /proc is absent."""
    seen = Weather()
    before = _cpu_times()
    yield seen
    after = _cpu_times()
    spent = [late - early for early, late in zip(before, after, strict=True)]
    total = sum(spent)
    if total > 0:
        seen.steal = spent[7] / total
        seen.busy = 1 - (spent[3] + spent[4]) / total


def _cpu_times() -> list[int]:
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return [0] * 8
    return [int(word) for word in first.split()[1:9]]


def fsync_rate(directory: Path, *, seconds: float = 1.0) -> float:
    """How many 8 KiB appends a second this disk makes durable, one after another."""
    path = directory / "fsync-probe"
    block = os.urandom(8192)
    count = 0
    with path.open("wb", buffering=0) as file:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            file.write(block)
            os.fsync(file.fileno())
            count += 1
        elapsed = time.perf_counter() - began
    path.unlink()
    return count / elapsed


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies; 0 for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
