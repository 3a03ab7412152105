"""Figures of a soak: what was counted or measured beside what is allowed."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        part: of the soak.
        name: what it says.
        value: how much of it.
        unit: of value and limit.
        limit: what it may be at most; None where it only tells how much was done.
    """

    part: str
    name: str
    value: float
    unit: str = ""
    limit: float | None = None

    @property
    def holds(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "holds": self.holds}


@dataclass
class Part:
    """The figures of one part as they come, and what it says meanwhile."""

    name: str
    figures: list[Figure] = field(default_factory=list)

    def tell(self, name: str, value: float, unit: str = "", *, limit: float | None = None) -> None:
        """Keeps a figure."""
        self.figures.append(Figure(self.name, name, value, unit, limit))
        allowed = "" if limit is None else f" (at most {limit:g})"
        self.say(f"{name}: {value:g} {unit}{allowed}")

    def say(self, words: str) -> None:
        """A line for whoever watches."""
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {self.name}: {words}\n")
        sys.stdout.flush()


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies; 0 for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
