"""How well a confidence ranks: judged items in order, and AUROC.

Conventions, here and in `selective`. `scores` are real numbers, larger is more certain; an unknown
confidence is -inf and ranks below every known one. `correct` says whether the model's label is
right. `weights` (default 1) are Hájek weights, the inverse of the chance that an item was judged,
up to a factor. Tied scores are never told apart: they are accepted together, and within a tie
errors count as spread evenly, so no figure depends on the order of the rows. All intervals are
analytic.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.domain.intervals import (
    LEVEL,
    Estimate,
    Method,
    Population,
    logit_bounds,
    undefined,
    wilson_bounds,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Judged items gathered into groups of equal score, strictest first.

    Attributes:
        thresholds: The distinct scores, falling; the last is -inf where confidences are unknown.
        n: Items of each group.
        weight: Sum of their weights.
        squared: Sum of their squared weights.
        n_wrong: Wrong items of each group.
        wrong: Sum of the weights of the wrong ones.
        wrong_squared: Sum of the squared weights of the wrong ones.
        population: Whom the items stand for.
    """

    thresholds: Floats
    n: Ints
    weight: Floats
    squared: Floats
    n_wrong: Ints
    wrong: Floats
    wrong_squared: Floats
    population: Population

    @property
    def size(self) -> int:
        """Items in all."""
        return int(self.n.sum())

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self.weight.sum())

    @property
    def effective(self) -> float:
        """Kish's effective sample size; 0 without items."""
        squared = float(self.squared.sum())
        return self.total**2 / squared if squared else 0.0

    def estimate(
        self, value: float, bounds: tuple[float, float], *, method: Method, level: float
    ) -> Estimate:
        """An estimate over these items."""
        low, high = min(bounds[0], value), max(bounds[1], value)
        equal = math.isclose(self.effective, self.size)
        effective = None if equal else self.effective
        return Estimate(
            value, low, high, level, self.size, method, self.population, n_effective=effective
        )


def rank(
    scores: ArrayLike,
    correct: ArrayLike,
    *,
    population: Population,
    weights: ArrayLike | None = None,
) -> Ranking:
    """Sort the judged items once; every figure of this module is read off the result.

    Args:
        scores: Shape [n]; -inf is an unknown confidence.
        correct: Shape [n], boolean.
        population: Whom the (weighted) items stand for.
        weights: Shape [n], positive and finite; None weighs all items alike.

    Raises:
        ValueError: Shapes differ, a score is NaN, or a weight is not positive and finite.
    """
    s, right = np.asarray(scores, float), np.asarray(correct, bool)
    w = np.ones_like(s) if weights is None else np.asarray(weights, float)
    if not s.shape == right.shape == w.shape or s.ndim != 1:
        raise ValueError("scores, correct and weights must be of one length")
    if np.isnan(s).any():
        raise ValueError("an unknown confidence is -inf, not NaN")
    if not (np.isfinite(w) & (w > 0)).all():
        raise ValueError("weights must be positive and finite")
    negated, group = np.unique(-s, return_inverse=True)

    def per_group(values: Floats) -> Floats:
        return np.asarray(np.bincount(group, weights=values, minlength=len(negated)), float)

    return Ranking(
        thresholds=-negated,
        n=np.bincount(group, minlength=len(negated)),
        weight=per_group(w),
        squared=per_group(w**2),
        n_wrong=np.bincount(group[~right], minlength=len(negated)),
        wrong=per_group(w * ~right),
        wrong_squared=per_group(w**2 * ~right),
        population=population,
    )


def auroc(ranking: Ranking, *, level: float = LEVEL) -> Estimate:
    """Chance that a right item ranks above a wrong one, ties counting one half.

    The variance is that of DeLong, DeLong and Clarke-Pearson 1988, with weights; for the interval
    see `on_log_odds`. Where right and wrong are fully separated it is 0, and the open end is
    Wilson's bound for as many trials as there are items on the scarcer side. Without a right or
    without a wrong item there is no value.
    """
    n_wrong = int(ranking.n_wrong.sum())
    if min(n_wrong, ranking.size - n_wrong) == 0:
        return undefined(ranking.population, n=ranking.size, level=level)
    wrong, right = ranking.wrong, ranking.weight - ranking.wrong
    total_wrong, total_right = float(wrong.sum()), float(right.sum())
    # placement: the share of the other side that an item of this group beats (or yields to)
    beats = 1 - (np.cumsum(wrong) - wrong / 2) / total_wrong
    yields = (np.cumsum(right) - right / 2) / total_right
    value = float(right @ beats) / total_right
    if min(value, 1 - value) > 1e-9:
        return on_log_odds(
            ranking,
            value,
            if_right=(beats - value) / total_right,
            if_wrong=(yields - value) / total_wrong,
            level=level,
        )
    scarcer = min(
        total_wrong**2 / float(ranking.wrong_squared.sum()),
        total_right**2 / float((ranking.squared - ranking.wrong_squared).sum()),
    )
    value = float(round(value))
    bounds = wilson_bounds(value, scarcer, level=level)
    return ranking.estimate(value, bounds, method=Method.WILSON, level=level)


def on_log_odds(
    ranking: Ranking, value: float, *, if_right: Floats, if_wrong: Floats, level: float
) -> Estimate:
    """A figure in (0, 1) with an interval from each item's influence on it.

    SE² = Σ (w·influence)². The interval is symmetric on the log-odds, with a t quantile: when a few
    heavy items carry the variance it is itself uncertain, and its degrees of freedom are
    (Σ v)²/Σ v², v = (w·influence)². With half of the items at a quarter of the others' weight and
    1,000 judged, this covers 92% where z·SE on the plain scale covers 88%.

    Args:
        ranking: The judged items.
        value: The figure.
        if_right: Influence of a right item of each group, per unit of weight.
        if_wrong: That of a wrong one.
        level: Two-sided coverage.
    """
    right_squared = ranking.squared - ranking.wrong_squared
    variance = float(right_squared @ if_right**2 + ranking.wrong_squared @ if_wrong**2)
    fourth = float(
        right_squared**2 / np.maximum(ranking.n - ranking.n_wrong, 1) @ if_right**4
        + ranking.wrong_squared**2 / np.maximum(ranking.n_wrong, 1) @ if_wrong**4
    )
    freedom = max(variance**2 / fourth, 1.0) if fourth else math.inf
    bounds = logit_bounds(value, math.sqrt(variance), level=level, freedom=freedom)
    return ranking.estimate(value, bounds, method=Method.LOGIT, level=level)
