"""Audits: which items are drawn, how many, and which of those drawn may be counted.

The coin of an item is drawn at ingest, uniform on [0, 1), and stored with it; it knows neither the
item's content nor its confidence. See docs/guarantee.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from app.domain.guarantee import Bools, Floats


def audit_rate(audits: int, *, certified: bool) -> float:
    """Audits as a share of the items received.

    Everything while nothing is certified (people see it anyway), then 10% to 1,000 audits, 5% to
    3,000, then 2%. `audits` are those counted since the certificates' window began.
    """
    if not certified:
        return 1.0
    if audits < 1_000:
        return 0.10
    return 0.05 if audits < 3_000 else 0.02


@dataclass(frozen=True)
class AuditPlan:
    """Which items are drawn for audit: those at or above `floor`, with `probability`.

    A plan must be fixed before an item it applies to is seen, from counted trials only. The coin is
    drawn at ingest, uniform on [0, 1) and stored, so the draw can be checked for ever.
    """

    floor: float
    probability: float

    def draws(self, score: float, coin: float) -> bool:
        """Whether an item with this score (-inf if unknown) and coin is audited."""
        return score >= self.floor and coin < self.probability


EVERYTHING = AuditPlan(-math.inf, 1.0)


class Verdict(Enum):
    """How an audit stands."""

    OPEN = "open"
    RIGHT = "right"
    WRONG = "wrong"
    UNRESOLVED = "unresolved"
    """Closed without a verdict (skipped by all): counts as an error."""


@dataclass(frozen=True)
class Audit:
    """One audited item: `rank` orders the audits, `opened_at` is in seconds on any one clock."""

    rank: int
    score: float | None
    verdict: Verdict
    opened_at: float


def counted_audits(
    audits: Sequence[Audit], *, now: float, patience: float = 7 * 24 * 3600.0
) -> tuple[Floats, Bools]:
    """Scores and errors of the completed prefix in rank order, ready for `Certificates.add_all`.

    Counting stops at the first audit still open, whatever came back after it: quick verdicts are
    not a random sample. One open for longer than `patience` seconds no longer holds up the others
    and counts as an error. An unknown score becomes -inf.
    """
    scores: list[float] = []
    wrong: list[bool] = []
    for audit in sorted(audits, key=lambda each: each.rank):
        if audit.verdict is Verdict.OPEN and now - audit.opened_at <= patience:
            break
        scores.append(-math.inf if audit.score is None else audit.score)
        wrong.append(audit.verdict is not Verdict.RIGHT)
    return np.array(scores, float), np.array(wrong, bool)
