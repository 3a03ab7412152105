"""Has the model become worse than the certificate allows? A Shiryaev-Roberts e-detector.

Certificates assume that items to come are like those audited. The detector watches the audits of
accepted items, in rank order, for an error rate above r0 = alpha / c, the highest rate the
certificate allows among them (c the accepted share). M sums the bets that began at each audit so
far, so a change is found whenever it happens, and while there is none M - n is a martingale: on
average M needs at least as many audits to reach a level as the level says.

Source: Shin, Ramdas and Rinaldo 2022, E-detectors (Shiryaev-Roberts form). Thresholds and factors:
docs/guarantee.md, measured there.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.domain.guarantee import accepted_error_bound

FACTORS = (2.0, 3.0, 5.0)
WARN_AT = 1_000.0
REVOKE_AT = 10_000.0


class Drift(Enum):
    """What the detector says."""

    NONE = "none"
    WARN = "warn"
    """Tell people."""
    REVOKE = "revoke"
    """Everything to review: the promise no longer holds."""


def advance(
    statistics: NDArray[np.float64], wrong: ArrayLike, r0: ArrayLike
) -> NDArray[np.float64]:
    """The statistics after one more audit of an accepted item each.

    `statistics` has one detector along the last axis for each of `FACTORS` (leading axes are
    independent detectors); `wrong` and `r0` (in (0, 1)) have the leading shape. A detector's
    alternative is the rate factor * r0, held below 1 at halfway from r0 to 1 where r0 is large.
    """
    base = np.asarray(r0, float)[..., None]
    rate = np.minimum(np.array(FACTORS) * base, (1 + base) / 2)
    bet = np.where(np.asarray(wrong, bool)[..., None], rate / base, (1 - rate) / (1 - base))
    return np.asarray((statistics + 1) * bet, float)


@dataclass(frozen=True)
class Detector:
    """The detector of one policy's window; a value, `add` gives the next one."""

    statistics: tuple[float, ...] = (0.0,) * len(FACTORS)

    def add(self, *, wrong: bool, alpha: float, accepted: float) -> "Detector":
        """After one more audited item that the policy accepted.

        `accepted` is the share of items the policy accepts; it may change along the way, as long as
        it is fixed before the audit. A share of at most alpha bounds nothing and changes nothing.
        """
        r0 = accepted_error_bound(alpha, accepted)
        if r0 >= 1:
            return self
        return Detector(tuple(advance(np.array(self.statistics), wrong, r0).tolist()))

    @property
    def value(self) -> float:
        """M, the mean over the factors."""
        return sum(self.statistics) / len(self.statistics)

    @property
    def drift(self) -> Drift:
        """What M amounts to."""
        if self.value >= REVOKE_AT:
            return Drift.REVOKE
        return Drift.WARN if self.value >= WARN_AT else Drift.NONE
