"""The coin and the rank every item draws at ingest (docs/guarantee.md).

Both are independent of content and confidence and stored with the probabilities they were drawn
with, so that whatever is later learned from audited items can be weighted back to all items.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Face(StrEnum):
    """AUDIT counts in certificates; TRAIN trains scorers and never counts; NONE is neither."""

    AUDIT = "audit"
    TRAIN = "train"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CoinProbabilities:
    """The chances of the two faces that are reviewed blind, each in [0, 1], together at most 1.

    Raises:
        ValueError: a probability out of range.
    """

    audit: float
    train: float

    def __post_init__(self) -> None:
        if not (0 <= self.audit <= 1 and 0 <= self.train <= 1 and self.audit + self.train <= 1):
            raise ValueError("coin probabilities must be in [0, 1] and sum to at most 1")

    @classmethod
    def from_audit_rate(cls, rate: float) -> CoinProbabilities:
        """The default split: the train face has a quarter of the audit face's chance."""
        return cls(audit=rate, train=min(rate / 4, 1 - rate))


def toss(probabilities: CoinProbabilities, *, uniform: float) -> Face:
    """The face that a uniform draw from [0, 1) shows."""
    if uniform < probabilities.audit:
        return Face.AUDIT
    if uniform < probabilities.audit + probabilities.train:
        return Face.TRAIN
    return Face.NONE
