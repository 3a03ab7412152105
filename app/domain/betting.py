"""Audits that look where the doubt is, and certificates that count them exactly.

A uniform audit spends much of its work on items that go to people anyway: below every threshold
still in question an item is no error of any of them, whatever its label. So once something is
certified, audits are drawn only at or above the loosest threshold still in doubt, with a higher
probability for the same number of audits. Every item received is then a trial: with probability
q * R(t) it shows "accepted at t, drawn and wrong", q the known probability of the draw, and an item
that was not drawn is a trial without an error.

Evidence is counted as exposure: a trial without an error adds -log(1 - q * alpha), one with an
error adds 1 to k. For any x in [0, 1] the bet that multiplies its wealth by x at an error and by
(1 - q * alpha)^(x - 1) otherwise expects at most q * alpha * x + (1 - q * alpha)^x <= 1 where
R(t) >= alpha (Bernoulli's inequality), whatever earlier trials made of q. The e-process is the
mixture of these bets. It is inverse-propensity betting (Xu, Karampatziakis and Mineiro, arXiv
2406.10490) with one propensity for a whole region; docs/guarantee.md has other designs measured.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln, pdtrc

from app.domain.audits import EVERYTHING, AuditPlan, audit_rate
from app.domain.guarantee import Floats, Ints, Missing, Walk, observed_alpha


def log_e_exposure(errors: ArrayLike, exposure: ArrayLike) -> Floats:
    """Log wealth against "the error rate is alpha or more" after `errors` in `exposure`.

    log of the integral over x in [0, 1] of 2 (1 - x) x^k exp(tau (1 - x)): x is the error rate as a
    share of alpha, and the density 2 (1 - x) wastes no wealth on rates next to alpha, which no
    number of audits would tell from it. The arguments broadcast. Where k + 1 > tau the answer is
    -inf (the true wealth is below 1 there); elsewhere the incomplete gamma function is of the order
    of one half, so its logarithm cannot underflow and nothing cancels.
    """
    k, tau = np.broadcast_arrays(np.asarray(errors, float), np.asarray(exposure, float))
    out = np.full(k.shape, -np.inf)
    bet = k + 1 <= tau
    a, tau = k[bet] + 1, tau[bet]
    # G(a) = int x^(a-1) e^(-tau x) is `power`; by parts, G(a+1) = (a G(a) - e^-tau) / tau
    power = gammaln(a) + np.log(gammainc(a, tau)) - a * np.log(tau)
    rest = np.exp(-tau - power) / tau  # at most of order one: power >= -tau - log(tau) - log(a)
    out[bet] = math.log(2) + tau + power + np.log1p(rest - a / tau)
    return out


def exposure_needed(errors: int, delta: float) -> float:
    """The exposure that certifies at delta with so many errors seen; 3.73 with none at 0.0608."""
    need = -math.log(delta)
    low, high = errors + 1.0, 2.0 * errors + 16.0
    if log_e_exposure(errors, low) >= need:
        return low
    while log_e_exposure(errors, high) < need:
        high *= 2
    return float(brentq(lambda tau: float(log_e_exposure(errors, tau)) - need, low, high))


REFUTED = 0.5
"""Below this probability of so many errors at a rate of alpha, a threshold is not audited."""


@dataclass(frozen=True, eq=False)
class BettingCertificates(Walk):
    """Certificates of one score version under changing audit plans; a value, like `Certificates`.

    Delivered mode only. Arrays run along the grid, strict to loose. A threshold looser than the
    plan's floor is not under audit and neither gains nor loses. A later score version may count
    the audits of every plan whose floor is -inf, and its own from its first plan on.
    """

    thresholds: Floats
    accepted: Floats
    """Share of the items at or above each threshold, from unlabelled scores."""
    levels: Floats
    alpha: float
    delta: float
    exposure: Floats
    errors: Ints
    peak: Floats
    audits: int = 0

    @classmethod
    def start(
        cls,
        thresholds: ArrayLike,
        *,
        accepted: ArrayLike,
        alpha: float,
        delta: float,
        reviewer_error: float = 0.0,
    ) -> Self:
        """No trials yet, on a grid from `threshold_grid` with its `accepted_share`.

        `delta` is this score version's share. Raises ValueError for a grid that is not strictly
        decreasing or a probability outside (0, 1).
        """
        grid = np.array(thresholds, float)
        if grid.ndim != 1 or np.any(np.diff(grid) >= 0):
            raise ValueError("thresholds must fall strictly, from strict to loose")
        if not (0 < alpha < 1 and 0 < delta < 1):
            raise ValueError("alpha and delta are probabilities between 0 and 1")
        shares = np.array(np.broadcast_to(np.asarray(accepted, float), grid.shape))
        return cls(
            thresholds=grid,
            accepted=shares,
            levels=observed_alpha(alpha, shares, reviewer_error),
            alpha=alpha,
            delta=delta,
            exposure=np.zeros(grid.size),
            errors=np.zeros(grid.size, np.int64),
            peak=np.zeros(grid.size),
        )

    def add(self, plan: AuditPlan, *, received: int, drawn: int, wrong: ArrayLike) -> Self:
        """These certificates after a stretch of items received under one plan.

        The items come in rank order and all drawn among them are closed: `received` counts all,
        `drawn` the audits, `wrong` holds the scores of the audits that erred. Wealth is read at the
        end of the stretch, so a long one may certify later than its items one by one, never
        wrongly. Raises ValueError for counts that do not fit.
        """
        bad = np.sort(np.asarray(wrong, float))
        if not bad.size <= drawn <= received:
            raise ValueError(f"{bad.size} errors among {drawn} audits of {received} items")
        covered = self.thresholds >= plan.floor
        new = np.where(covered, bad.size - np.searchsorted(bad, self.thresholds), 0)
        # a level of 0 or less (a reviewer error that eats alpha) gains no exposure, so never passes
        length = -np.log1p(-plan.probability * np.maximum(self.levels, 0))
        exposure = self.exposure + np.where(covered, length * (received - new), 0)
        errors = self.errors + new
        peak = np.maximum(self.peak, log_e_exposure(errors, exposure))
        return replace(
            self, exposure=exposure, errors=errors, peak=peak, audits=self.audits + drawn
        )

    def next_plan(self, *, serving: bool = False, refuted: float = REFUTED) -> AuditPlan:
        """Where to look next: everything until something is certified, then where the doubt is.

        The floor is the loosest threshold not refuted: at a rate of alpha as many errors as were
        seen have a probability of at least `refuted`. It is never above the threshold in force,
        which must stay under audit. The expected number of audits is `audit_rate` of the items.
        `serving` says that another score version is in force, so that this one, a candidate, does
        not send everything to people again.
        """
        held = int(self.certified.sum())
        if not (held or serving) or not self.thresholds.size:
            return EVERYTHING
        as_many = np.where(self.errors > 0, pdtrc(self.errors - 1.0, self.exposure), 1.0)
        index = max(held - 1, int(np.flatnonzero(as_many >= refuted).max(initial=0)))
        rate = audit_rate(self.audits, certified=True)
        return AuditPlan(
            float(self.thresholds[index]), min(1.0, rate / float(self.accepted[index]))
        )

    def missing(self) -> Missing | None:
        """What the strictest threshold still needs at a full audit; None once it is certified."""
        if not self.thresholds.size or self.certified[0]:
            return None
        more = None
        if self.levels[0] > 0:
            left = exposure_needed(int(self.errors[0]), self.delta) - float(self.exposure[0])
            more = math.ceil(left / -math.log1p(-float(self.levels[0])))
        return Missing(1 - self.alpha, self.audits, int(self.errors[0]), more)
