"""What may be accepted at which error: the risk-coverage curve, AURC, and the oracle's share.

An item is accepted at `score >= threshold`. Coverage c(t) is the accepted share; risk(t) is
P(wrong | accepted); the delivered error is P(accepted and wrong) = risk · coverage. The other
conventions are those of `ranking`.
"""

import math
from dataclasses import dataclass

import numpy as np

from app.domain.guarantee import Mode
from app.domain.intervals import (
    LEVEL,
    Estimate,
    Method,
    Population,
    undefined,
    wilson_bounds,
    wilson_curve,
)
from app.domain.ranking import Floats, Ranking, on_log_odds


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Risk-coverage curve with a pointwise band; arrays run from the strictest threshold on.

    Attributes:
        thresholds: Distinct scores; the last may be -inf (accept even the unknown).
        coverage: Share accepted at each, in (0, 1].
        risk: Share of the accepted that is wrong.
        low: Lower end of Wilson's interval of the risk.
        high: Upper end.
        level: Coverage of the band at each point, not of the whole curve at once.
        population: Whom it speaks for.
    """

    thresholds: Floats
    coverage: Floats
    risk: Floats
    low: Floats
    high: Floats
    level: float
    population: Population


def risk_coverage(ranking: Ranking, *, level: float = LEVEL) -> RiskCoverage:
    """The curve at every distinct score; empty without items.

    Source: El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017. The band is Wilson's at Kish's
    effective number of accepted items.
    """
    accepted = np.cumsum(ranking.weight)
    risk = np.clip(np.cumsum(ranking.wrong) / accepted, 0, 1)
    low, high = wilson_curve(risk, accepted**2 / np.cumsum(ranking.squared), level=level)
    return RiskCoverage(
        thresholds=ranking.thresholds,
        coverage=accepted / max(ranking.total, 1e-300),
        risk=risk,
        low=low,
        high=high,
        level=level,
        population=ranking.population,
    )


@dataclass(frozen=True)
class AreaUnderRiskCoverage:
    """AURC, and how much of it a perfect ranking of the same items would save.

    Attributes:
        aurc: Mean selective risk over all coverages; lower is better, the error rate is what a
            ranking at random gives.
        excess: AURC minus that of the perfect ranking; 0 is perfect.
    """

    aurc: Estimate
    excess: Estimate


def area_under_risk_coverage(ranking: Ranking, *, level: float = LEVEL) -> AreaUnderRiskCoverage:
    """AURC = ∫ risk(c) dc over coverage c in (0, 1], and excess AURC.

    AURC = E[wrong · (-ln c(score))] (Zhou et al. 2024): the mean over all prefixes of Geifman,
    Uziel and El-Yaniv 2019 to within 1/n, and without its dependence on the order of ties, as
    within a tie the integral is taken along evenly spread errors. The perfect ranking's is
    r + (1 - r)·ln(1 - r), r the error rate. Variances by the influence function, intervals by
    `on_log_odds`; where all or none are wrong AURC is r and has Wilson's interval.
    """
    if not ranking.size:
        nothing = undefined(ranking.population, level=level)
        return AreaUnderRiskCoverage(nothing, nothing)
    n_wrong = int(ranking.n_wrong.sum())
    rate = min(float(ranking.wrong.sum()) / ranking.total, 1.0)
    if n_wrong in (0, ranking.size):
        bounds = wilson_bounds(float(round(rate)), ranking.effective, level=level)
        flat = ranking.estimate(float(round(rate)), bounds, method=Method.WILSON, level=level)
        # nothing to rank: whatever the order, none is better
        return AreaUnderRiskCoverage(
            flat, ranking.estimate(0.0, (0.0, flat.high), method=Method.WILSON, level=level)
        )
    share, wrong = ranking.weight / ranking.total, ranking.wrong / ranking.total
    coverage = np.cumsum(share)
    before = np.maximum(coverage - share, 0.0)
    before[0] = 0.0
    # mean of -ln c over the group's own stretch of coverage
    price = 1 - (_x_log_x(coverage) - _x_log_x(before)) / share
    value = float(wrong @ price)
    # an item pushes all that rank no higher than it down: the second term of its influence
    pushes = wrong / (coverage - share / 2)
    pushed = np.cumsum(pushes[::-1])[::-1] - pushes / 2
    if_right = rate - value - pushed
    if_wrong = if_right + price
    aurc = on_log_odds(
        ranking,
        value,
        if_right=if_right / ranking.total,
        if_wrong=if_wrong / ranking.total,
        level=level,
    )
    slope = math.log(1 - rate)  # d excess/d r beyond AURC's own share of it
    excess = max(value - rate - (1 - rate) * slope, 0.0)
    if excess < 1e-9:
        perfect = ranking.estimate(0.0, (0.0, aurc.high), method=Method.LOGIT, level=level)
        return AreaUnderRiskCoverage(aurc, perfect)
    return AreaUnderRiskCoverage(
        aurc,
        on_log_odds(
            ranking,
            excess,
            if_right=(if_right - slope * rate) / ranking.total,
            if_wrong=(if_wrong + slope * (1 - rate)) / ranking.total,
            level=level,
        ),
    )


def _x_log_x(values: Floats) -> Floats:
    """x·ln x, continued by 0 at 0."""
    out = np.zeros_like(values)
    some = values > 0
    out[some] = values[some] * np.log(values[some])
    return out


@dataclass(frozen=True)
class Oracle:
    """What somebody who knew every verdict could accept at a target.

    Attributes:
        share: Accepted share; 0 when even the strictest threshold misses the target.
        threshold: The loosest score that keeps the target; None when there is none.
        error: P(accepted and wrong) at that threshold.
    """

    share: Estimate
    threshold: float | None
    error: float


def oracle(
    ranking: Ranking, *, target: float, mode: Mode = Mode.DELIVERED, level: float = LEVEL
) -> Oracle:
    """The largest share that may be accepted at the target accuracy, by the verdicts themselves.

    No method that learns from a sample can promise more; the certified share is measured against
    it. Unknown confidences are never accepted. The interval inverts Wilson's: from the largest
    share whose error is below 1 - target at the upper bound to the largest at the lower bound.

    Args:
        ranking: The judged items.
        target: Accuracy promised, in (0, 1).
        mode: Which of the two accuracies `target` is.
        level: Two-sided coverage.

    Raises:
        ValueError: `target` outside (0, 1).
    """
    if not 0 < target < 1:
        raise ValueError("a target accuracy lies inside (0, 1)")
    if not ranking.size:
        return Oracle(undefined(ranking.population, level=level), None, 0.0)
    known = ranking.thresholds > -math.inf
    accepted, wrong = np.cumsum(ranking.weight)[known], np.cumsum(ranking.wrong)[known]
    if mode is Mode.DELIVERED:
        rate = np.clip(wrong / ranking.total, 0, 1)
        effective = np.full_like(rate, ranking.effective)
    else:
        rate = np.clip(wrong / accepted, 0, 1)
        effective = accepted**2 / np.cumsum(ranking.squared)[known]
    low, high = wilson_curve(rate, effective, level=level)

    def loosest(errors: Floats) -> int:
        # the slack is for sums of weights such as 0.1 + 0.2
        return int(np.flatnonzero(errors <= (1 - target) + 1e-12).max(initial=-1))

    share = np.append(accepted / ranking.total, 0.0)  # index -1: nothing is accepted
    at = loosest(rate)
    return Oracle(
        share=ranking.estimate(
            float(share[at]),
            (float(share[loosest(high)]), float(share[loosest(low)])),
            method=Method.INVERTED_WILSON,
            level=level,
        ),
        threshold=float(ranking.thresholds[known][at]) if at >= 0 else None,
        error=float(wrong[at] / ranking.total) if at >= 0 else 0.0,
    )
