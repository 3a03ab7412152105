"""Estimates that say whom they speak for, and the intervals around them.

No figure leaves Secondlook as a bare number: an `Estimate` carries its interval, how that was made,
how many observations stand behind it, and its `Population`. Levels are two-sided coverages, 0.95 by
default. All functions are pure.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95
"""Two-sided coverage of every interval unless told otherwise."""

PROPORTION = (0.0, 1.0)
"""Range of a share; the interval of one that nothing was observed of."""

COEFFICIENT = (-1.0, 1.0)
"""Range of a chance-corrected coefficient (kappa, alpha, AC1)."""


class Method(StrEnum):
    """How an interval was made."""

    WILSON = "wilson"
    CLOPPER_PEARSON = "clopper_pearson"
    WILSON_UNION = "wilson_union"  # F1: Wilson on TP among TP + FP + FN, see `f1`
    STRATIFIED = "stratified"  # Jeffreys in each lane, put together, see `lanes`
    INVERTED_WILSON = "inverted_wilson"  # where Wilson's bounds of a curve cross a target
    NORMAL = "normal"  # value ± z·SE, cut to the range
    STUDENT = "student"  # value ± t·SE with n - 1 degrees of freedom, cut to the range
    LOGIT = "logit"  # ± t·SE on the log-odds by the delta method
    BIN_ERRORS = "bin_errors"  # ± what chance alone can put between bins, see `reliability`
    NONE = "none"  # there is no interval to be had, only the range


@dataclass(frozen=True, slots=True)
class Population:
    """Whom a figure speaks for.

    Attributes:
        what: The population in words that finish "this holds for …".
        of: Its size in items; None where the data do not tell.
    """

    what: str
    of: int | None = None

    def part(self, what: str, *, of: int | None = None) -> "Population":
        """The part of this population that the words `what` single out."""
        return Population(what=f"{self.what}, {what}", of=of)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval and its population.

    Attributes:
        value: The point estimate; None when the data cannot give one (no observation, or a
            coefficient whose chance agreement is 1).
        low: Lower end of the interval; the bottom of the range when `value` is None.
        high: Upper end; the top of the range when `value` is None.
        level: Two-sided coverage the interval aims at, in (0, 1).
        n: Observations behind the figure, unweighted.
        method: How the interval was made.
        population: Whom the figure speaks for.
        n_effective: Kish's effective sample size (Σw)²/Σw² where weights are unequal, else None.
    """

    value: float | None
    low: float
    high: float
    level: float
    n: int
    method: Method
    population: Population
    n_effective: float | None = None

    def __post_init__(self) -> None:
        value = self.low if self.value is None else self.value
        slack = 1e-9
        if not (self.low - slack <= value <= self.high + slack):
            raise ValueError(f"estimate {self.value} outside its interval {self.low}..{self.high}")


@lru_cache(maxsize=16)
def z_value(level: float = LEVEL) -> float:
    """Standard normal quantile that leaves (1 - level)/2 in each tail.

    Raises:
        ValueError: `level` is not inside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError("level must lie inside (0, 1)")
    return float(special.ndtri(0.5 + level / 2))


def student_value(freedom: float, level: float = LEVEL) -> float:
    """Quantile of Student's t that leaves (1 - level)/2 in each tail."""
    return float(special.stdtrit(freedom, 0.5 + level / 2))


def wilson_bounds(share: float, n: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share observed over `n` (possibly effective) trials.

    Args:
        share: Observed share in [0, 1].
        n: Trials, at least 0; need not be whole. With 0 the interval is (0, 1).
        level: Two-sided coverage.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001 for its coverage at small n.
    """
    if not (0 <= share <= 1 and n >= 0):
        raise ValueError("a share lies in [0, 1] and its trials are not negative")
    if n == 0:
        return PROPORTION
    # not `wilson_curve` of one: a report on 77 labels asks 231 times, 15 ms more by numpy
    z2 = z_value(level) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * n)) / n) / (1 + z2 / n)
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def wilson_curve(
    shares: NDArray[np.float64], n: NDArray[np.float64], *, level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`wilson_bounds` of many shares at once, unchecked; infinite `n` means nothing is unseen."""
    z2 = z_value(level) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (shares + z2 / (2 * n)) / (1 + z2 / n)
        half = np.sqrt(z2 * (shares * (1 - shares) + z2 / (4 * n)) / n) / (1 + z2 / n)
    # at the ends rounding may leave a bound a hair inside the observed share
    low = np.where(n > 0, np.minimum(np.maximum(0.0, centre - half), shares), 0.0)
    high = np.where(n > 0, np.maximum(np.minimum(1.0, centre + half), shares), 1.0)
    return low, high


def jeffreys_curve(
    shares: NDArray[np.float64], n: NDArray[np.float64], *, level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Equal-tailed Jeffreys intervals of many shares, unchecked; `n` may be infinite or fractional.

    Closed at a share of 0 or 1. Source: Brown, Cai and DasGupta 2001. Its tails err alike at small
    shares, where Wilson's lower end is too high, and that is what a sum of shares needs.
    """
    tail = (1 - level) / 2
    finite = np.isfinite(n)
    trials = np.where(finite, n, 1.0)
    hits = shares * trials
    low = np.asarray(special.betaincinv(hits + 0.5, trials - hits + 0.5, tail), float)
    high = np.asarray(special.betaincinv(hits + 0.5, trials - hits + 0.5, 1 - tail), float)
    low = np.where(shares > 0, np.minimum(low, shares), 0.0)
    high = np.where(shares < 1, np.maximum(high, shares), 1.0)
    return np.where(finite, low, shares), np.where(finite, high, shares)


def clopper_pearson_bounds(successes: int, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """The exact binomial interval: never covers less than `level`, usually more.

    Source: Clopper and Pearson 1934, by quantiles of the beta distribution. With `n` = 0 it is
    (0, 1).
    """
    _check_counts(successes, n)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, n - successes + 1, tail))
    high = (
        1.0 if successes == n else float(special.betaincinv(successes + 1, n - successes, 1 - tail))
    )
    return low, high


def undefined(
    population: Population,
    *,
    n: int = 0,
    bounds: tuple[float, float] = PROPORTION,
    level: float = LEVEL,
) -> Estimate:
    """The estimate of which nothing is known: no value, and the whole range as its interval."""
    return Estimate(None, *bounds, level=level, n=n, method=Method.NONE, population=population)


def wilson(successes: int, n: int, *, population: Population, level: float = LEVEL) -> Estimate:
    """A share with Wilson's interval; `undefined` with `n` = 0."""
    _check_counts(successes, n)
    if n == 0:
        return undefined(population, level=level)
    low, high = wilson_bounds(successes / n, n, level=level)
    return Estimate(successes / n, low, high, level, n, Method.WILSON, population)


def clopper_pearson(
    successes: int, n: int, *, population: Population, level: float = LEVEL
) -> Estimate:
    """A share with the exact binomial interval; `undefined` with `n` = 0."""
    low, high = clopper_pearson_bounds(successes, n, level=level)
    if n == 0:
        return undefined(population, level=level)
    return Estimate(successes / n, low, high, level, n, Method.CLOPPER_PEARSON, population)


def f1_bounds(union_share: float, n: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Interval of F1 = 2J/(1 + J) from the share J = TP/(TP + FP + FN), over `n` such items.

    Given the items that model or people put under the label (the union), TP is binomial with share
    J, and F1 rises with J. So Wilson's interval of J, carried over by that map, is one of F1. The
    delta method, the usual choice, gives a width of zero at F1 = 0 and F1 = 1 and leaves [0, 1]
    beside them.
    """
    low, high = wilson_bounds(union_share, n, level=level)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def f1(both: int, union: int, *, population: Population, level: float = LEVEL) -> Estimate:
    """F1 = 2·TP/(2·TP + FP + FN) with the interval of `f1_bounds`.

    Args:
        both: TP.
        union: TP + FP + FN; with 0 the estimate is `undefined`.
        population: Whom the figure speaks for.
        level: Two-sided coverage.
    """
    _check_counts(both, union)
    if union == 0:
        return undefined(population, level=level)
    low, high = f1_bounds(both / union, union, level=level)
    value = 2 * both / (both + union)
    return Estimate(
        value, min(low, value), max(high, value), level, union, Method.WILSON_UNION, population
    )


def normal_bounds(
    value: float,
    standard_error: float,
    *,
    bounds: tuple[float, float] = PROPORTION,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Value ± z·SE, cut to `bounds` (which the value itself may not leave)."""
    half = z_value(level) * standard_error
    return min(max(bounds[0], value - half), value), max(min(bounds[1], value + half), value)


def logit_bounds(
    share: float, standard_error: float, *, level: float = LEVEL, freedom: float = math.inf
) -> tuple[float, float]:
    """Interval of a share, symmetric on its log-odds; SE(logit p) = SE(p)/(p(1 - p)).

    It never leaves (0, 1). At a share of exactly 0 or 1 the log-odds have no value, so the whole
    range is given unless the standard error is 0, which asks for no interval at all. With
    `freedom` degrees of freedom the quantile is Student's instead of the normal one.
    """
    if standard_error == 0:
        return share, share
    if not 0 < share < 1:
        return PROPORTION
    quantile = student_value(freedom, level) if freedom < math.inf else z_value(level)
    half = quantile * standard_error / (share * (1 - share))
    centre = special.logit(share)
    return float(special.expit(centre - half)), float(special.expit(centre + half))


def _check_counts(successes: int, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError("successes must lie between 0 and n")
