"""What every row of the benchmark shares: its result, and what the machine did meanwhile.

Machines are noisy: a figure counts only beside its limit, measured in the same run. Every stretch
of measuring is a block; with each one stand the share of time the host took away (steal), how busy
the machine was, who used its cores, and, where it commits, the disk's fsync rate just before it.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LOAD = "load"
"""In `Block.cores`: this process and the ones it started and saw end within the block."""

OTHERS = "others"
"""In `Block.cores`: whoever else is on this machine. Much of it, and the figure is not ours."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        key: as in the table of goals.
        value: what was measured.
        unit: of value and limit.
        limit: what the parts underneath reach in the same run; None where there is no such thing.
        goal: what it should reach, in words.
        figures: others that help to judge it, by name with unit.
    """

    key: str
    value: float
    unit: str
    limit: float | None
    goal: str
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How near the value comes to the limit."""
        return None if not self.limit else self.value / self.limit


@dataclass(slots=True)
class Block:
    """A stretch of measuring and the machine during it; filled in when it ends.

    Attributes:
        name: what ran.
        seconds: how long.
        steal: share of CPU time the host took away, in [0, 1].
        busy: share of CPU time in use, in [0, 1].
        fsyncs: appends a second the disk made durable just before; None where nothing commits.
        cores: how many cores each group of processes used, on average.
    """

    name: str
    seconds: float = 0.0
    steal: float = 0.0
    busy: float = 0.0
    fsyncs: float | None = None
    cores: dict[str, float] = field(default_factory=dict)

    def cpu_ms(self, group: str, count: float) -> float:
        """CPU milliseconds that a group of processes spent on each of `count` things."""
        return 1000 * self.cores[group] * self.seconds / max(1.0, count)

    def sentence(self) -> str:
        """One line for the reader."""
        words = [f"{self.name}: {self.seconds:.0f} s", f"steal {self.steal:.0%}"]
        words.append(f"busy {self.busy:.0%}")
        if self.fsyncs is not None:
            words.append(f"disk {self.fsyncs:.0f} fsyncs/s")
        used = ", ".join(f"{group} {cores:.2f}" for group, cores in self.cores.items())
        return "; ".join([*words, f"cores: {used}"])


class Meter:
    """Watches the machine block by block."""

    def __init__(self, disk: Path, tell: Callable[[Block], None]) -> None:
        """Names nobody yet.

        Args:
            disk: a directory on the disk that is measured.
            tell: told of every block that ended.
        """
        self._disk = disk
        self._tell = tell
        self._groups: dict[str, int] = {}
        self._blocks: list[Block] = []

    def watch(self, group: str, pid: int) -> None:
        """Counts what a process and its children use under a name from now on."""
        self._groups[group] = pid

    @contextmanager
    def block(self, name: str, *, commits: bool) -> Iterator[Block]:
        """A stretch of measuring; probes the disk first if it commits."""
        block = Block(name, fsyncs=fsync_rate(self._disk) if commits else None)
        began, machine, spent = time.perf_counter(), _machine_times(), self._spent()
        yield block
        block.seconds = time.perf_counter() - began
        block.steal, block.busy = _shares(machine, _machine_times())
        now = self._spent()
        block.cores = {group: (now[group] - spent[group]) / block.seconds for group in now}
        ours = sum(block.cores.values())
        block.cores[OTHERS] = max(0.0, block.busy * (os.cpu_count() or 1) - ours)
        self._blocks.append(block)
        self._tell(block)

    def take(self) -> list[Block]:
        """The blocks since this was last asked."""
        taken, self._blocks = self._blocks, []
        return taken

    def _spent(self) -> Mapping[str, float]:
        """CPU seconds of each group since its processes began."""
        own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        load = sum(usage.ru_utime + usage.ru_stime for usage in own)
        return {**{group: _tree(pid) for group, pid in self._groups.items()}, LOAD: load}


def _tree(pid: int) -> float:
    """CPU seconds of a process, of its living children, and of those it has seen end."""
    parent = psutil.Process(pid)
    times = parent.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in parent.children():
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it is among the ended ones now: a loss within one reading
        total += times.user + times.system
    return float(total)


def _machine_times() -> list[int]:
    """Ticks by kind of all cores; all zeros where /proc is absent."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:
        return [0] * 8
    return [int(word) for word in first.split()[1:9]]


def _shares(before: list[int], after: list[int]) -> tuple[float, float]:
    """Steal and busy."""
    spent = [late - early for early, late in zip(before, after, strict=True)]
    total = sum(spent)
    return (spent[7] / total, 1 - (spent[3] + spent[4]) / total) if total > 0 else (0.0, 0.0)


def fsync_rate(directory: Path, *, seconds: float = 0.5) -> float:
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
