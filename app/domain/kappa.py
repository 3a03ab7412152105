"""Cohen's kappa: agreement of two raters beyond chance, from a table of counts or of shares."""

import math
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.domain.intervals import (
    COEFFICIENT,
    LEVEL,
    Estimate,
    Method,
    Population,
    normal_bounds,
    undefined,
    wilson_bounds,
)

_NO_ERROR = 1e-9  # below it a standard error is rounding


class Weighting(StrEnum):
    """How much a disagreement counts in Cohen's kappa, by the distance d of the labels of k."""

    NONE = "none"  # every disagreement in full
    LINEAR = "linear"  # agreement weight 1 - d/(k - 1)
    QUADRATIC = "quadratic"  # agreement weight 1 - (d/(k - 1))²


def kappa_weights(k: int, weighting: Weighting) -> npt.NDArray[np.float64]:
    """Agreement weights [k, k] in [0, 1], 1 on the diagonal."""
    if weighting is Weighting.NONE or k == 1:
        return np.eye(k)
    distance = np.abs(np.subtract.outer(np.arange(k), np.arange(k))) / (k - 1)
    return np.asarray(1 - (distance if weighting is Weighting.LINEAR else distance**2))


def kappa_influence(
    shares: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> tuple[float, npt.NDArray[np.float64]] | None:
    """Cohen's kappa of a table of shares, and its influence on each cell.

    The influence has mean 0 over the table, and its variance over n is the asymptotic variance of
    Fleiss, Cohen and Everitt 1969; as a linearisation it also serves weighted samples.

    Args:
        shares: [k, k], summing to 1.
        weights: Agreement weights [k, k].

    Returns:
        The coefficient and the influence [k, k]; None when chance agreement is 1, where kappa has
        no value.
    """
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    observed = float((weights * shares).sum())
    chance = float(rows @ weights @ columns)
    if 1 - chance < 1e-12:
        return None
    # what a unit in cell (i, j) adds to chance agreement through both margins
    margins = np.add.outer(weights @ columns, rows @ weights)
    gradient = (weights * (1 - chance) - margins * (1 - observed)) / (1 - chance) ** 2
    return (observed - chance) / (1 - chance), gradient - float((gradient * shares).sum())


def cohen_kappa(
    table: npt.ArrayLike,
    *,
    population: Population,
    weighting: Weighting = Weighting.NONE,
    level: float = LEVEL,
) -> Estimate:
    """Cohen's kappa of two raters, with its asymptotic interval.

    kappa = (p_o - p_e)/(1 - p_e); the standard error is that of Fleiss, Cohen and Everitt 1969 for
    kappa other than 0, the interval value ± z·SE cut to [-1, 1]. Where all agree, or all disagree
    in one way (a single item always does), that error is 0, which would claim certainty; the ends
    are then kappa at Wilson's bounds of the agreement, the margins as observed, and the lower one
    is -1 unless all agree.

    Args:
        table: Whole counts [k, k]: first rater by second.
        population: What the counted items are.
        weighting: `LINEAR` or `QUADRATIC` for ordered labels.
        level: Two-sided coverage.

    Returns:
        The estimate; without a value, interval (-1, 1), when there are no items or when both raters
        used one and the same label throughout.
    """
    array = np.asarray(table)
    counts = count_table(array, array.shape[0] if array.ndim else 0)
    n = int(counts.sum())
    shares = counts / max(n, 1)
    weights = kappa_weights(len(counts), weighting)
    result = kappa_influence(shares, weights) if n else None
    if result is None:
        return undefined(population, n=n, bounds=COEFFICIENT, level=level)
    value, influence = result
    error = math.sqrt(max(0.0, float((shares * influence**2).sum())) / n)
    low, high = normal_bounds(value, error, bounds=COEFFICIENT, level=level)
    if error < _NO_ERROR:
        chance = float(shares.sum(axis=1) @ weights @ shares.sum(axis=0))
        agreed = wilson_bounds(float(np.clip((weights * shares).sum(), 0, 1)), n, level=level)
        perfect = int(np.trace(counts)) == n
        low = max(-1.0, (agreed[0] - chance) / (1 - chance)) if perfect else -1.0
        high = min(1.0, (agreed[1] - chance) / (1 - chance))
    return Estimate(value, low, high, level, n, Method.NORMAL, population)


def count_table(table: npt.ArrayLike, k: int) -> npt.NDArray[np.int64]:
    """The table as whole counts [k, k].

    Raises:
        ValueError: It has another shape, or holds anything but whole numbers of at least 0.
    """
    array = np.asarray(table)
    if array.shape != (k, k) or k == 0:
        raise ValueError("the table must be square, one row and one column a label")
    if not np.isfinite(array).all() or (array < 0).any() or (array % 1 != 0).any():
        raise ValueError("the table must hold whole counts")
    return array.astype(np.int64)
