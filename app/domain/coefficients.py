"""Coefficients of agreement among any number of raters.

All read one table: how many ratings gave item i the category k. So any number of raters an item
will do, and ratings may be missing; items rated by one person alone count only where the definition
lets them (in the category shares of Fleiss' kappa and AC1, as Gwet defines them; nowhere in alpha).

Intervals are analytic. The coefficient's influence function over items gives the standard error
(Gwet 2008 and 2014; for alpha the same linearisation of its ratio, which the jackknife confirms),
and the interval is value ± t·SE with one degree of freedom less than there are items, cut to the
range. Items are taken as drawn from many, raters as given.
"""

import math
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.domain.intervals import (
    COEFFICIENT,
    LEVEL,
    PROPORTION,
    Estimate,
    Method,
    Population,
    student_value,
    undefined,
    wilson_bounds,
)

Floats = NDArray[np.float64]


class Metric(StrEnum):
    """How far two categories lie apart in Krippendorff's alpha."""

    NOMINAL = "nominal"  # 1 unless equal
    ORDINAL = "ordinal"  # ranks between them, by how often each is used, squared
    INTERVAL = "interval"  # difference of the values, squared


def percent_agreement(
    counts: ArrayLike, *, population: Population, level: float = LEVEL
) -> Estimate:
    """Share of pairs of ratings that agree, averaged over items with two ratings or more.

    Args:
        counts: Ratings of each item in each category, shape [item, category].
        population: Whom the figure speaks for.
        level: Two-sided coverage.
    """
    table = np.asarray(counts, float)
    agreement, paired = _item_agreement(table)
    if not paired.any():
        return undefined(population, level=level)
    observed = agreement[paired]
    return _estimate(
        float(observed.mean()),
        observed - observed.mean(),
        chance=0.0,
        n=len(observed),
        population=population,
        bounds=PROPORTION,
        level=level,
    )


def fleiss_kappa(counts: ArrayLike, *, population: Population, level: float = LEVEL) -> Estimate:
    """Fleiss' kappa, in Gwet's form for missing ratings; the same as Fleiss 1971 without them.

    Args:
        counts: Ratings of each item in each category, shape [item, category].
        population: Whom the figure speaks for.
        level: Two-sided coverage.
    """
    shares = _category_shares(np.asarray(counts, float))
    return _chance_corrected(
        counts,
        chance=float(shares @ shares),
        slope=2 * shares,
        population=population,
        level=level,
    )


def gwet_ac1(counts: ArrayLike, *, population: Population, level: float = LEVEL) -> Estimate:
    """Gwet's AC1 (2008): chance agreement Σ p_k(1 - p_k)/(q - 1) over q categories.

    Args:
        counts: Ratings of each item in each category, shape [item, category]; every column counts
            as a category that could have been given, used or not.
        population: Whom the figure speaks for.
        level: Two-sided coverage.
    """
    shares = _category_shares(np.asarray(counts, float))
    free = max(len(shares) - 1, 1)
    return _chance_corrected(
        counts,
        chance=float(shares @ (1 - shares)) / free,
        slope=(1 - 2 * shares) / free,
        population=population,
        level=level,
    )


def _chance_corrected(
    counts: ArrayLike,
    *,
    chance: float,
    slope: Floats,
    population: Population,
    level: float,
) -> Estimate:
    """(p_o - p_e)/(1 - p_e) with p_e a function of the category shares whose gradient is `slope`.

    Source of the variance: Gwet 2014, Handbook of Inter-Rater Reliability, with every rated item in
    p_e and those rated twice or more in p_o.
    """
    table = np.asarray(counts, float)
    agreement, paired = _item_agreement(table)
    if not paired.any() or 1 - chance < 1e-12:
        return undefined(population, n=int(paired.sum()), bounds=COEFFICIENT, level=level)
    ratings = table.sum(axis=1)
    rated = ratings > 0
    observed = float(agreement[paired].mean())
    value = (observed - chance) / (1 - chance)
    n = int(rated.sum())
    own_share = table[rated] / ratings[rated][:, None]
    from_observed = np.where(paired, agreement - observed, 0.0)[rated] * (n / paired.sum())
    from_chance = (own_share - _category_shares(table)) @ slope
    influence = (from_observed - (1 - value) * from_chance) / (1 - chance)
    return _estimate(
        value,
        influence,
        chance=chance,
        n=int(paired.sum()),
        population=population,
        bounds=COEFFICIENT,
        level=level,
    )


def krippendorff_alpha(
    counts: ArrayLike,
    *,
    population: Population,
    metric: Metric = Metric.NOMINAL,
    values: ArrayLike | None = None,
    level: float = LEVEL,
) -> Estimate:
    """Krippendorff's alpha = 1 - observed disagreement / disagreement expected by chance.

    Args:
        counts: Ratings of each item in each category, shape [item, category], categories in order;
            items with fewer than two ratings count nowhere.
        population: Whom the figure speaks for.
        metric: How far two categories lie apart.
        values: Each category's number, needed by `INTERVAL` alone.
        level: Two-sided coverage.

    Returns:
        The estimate; without a value when no item has two ratings or all ratings are one category.

    Raises:
        ValueError: `INTERVAL` without values.

    Source: Krippendorff 2004/2011, computing by coincidences.
    """
    table = np.asarray(counts, float)
    ratings = table.sum(axis=1)
    table, ratings = table[ratings >= 2], ratings[ratings >= 2]
    used = table.sum(axis=0)
    if (used > 0).sum() < 2:
        return undefined(population, n=len(table), bounds=COEFFICIENT, level=level)
    n = float(used.sum())
    place = _places(used, metric, values)
    distance = 1 - np.eye(len(used)) if place is None else np.subtract.outer(place, place) ** 2
    # an item's disagreement: its pairs of unlike ratings, each by its distance
    unlike = ((table @ distance) * table).sum(axis=1) / (ratings - 1)
    observed, expected = float(unlike.sum()), float(used @ distance @ used)
    value = 1 - (n - 1) * observed / expected
    # what one more rating in each category does through the margins
    margin = -observed / expected + (n - 1) * observed / expected**2 * 2 * (distance @ used)
    if metric is Metric.ORDINAL and place is not None:
        # ... and, as ranks shift, through the distances themselves
        pull = table.T @ ((table @ place) / (ratings - 1)) - place * (
            table / (ratings - 1)[:, None]
        ).sum(axis=0)
        margin += (
            4
            * (n - 1)
            * _rank_shift(
                observed / expected**2 * used * (place * n - used @ place)
                - (place * used - pull) / expected
            )
        )
    influence = len(table) * (-(n - 1) / expected * unlike + table @ margin)
    shares = used / n
    return _estimate(
        value,
        influence - influence.mean(),
        chance=float(shares @ shares),
        n=len(table),
        population=population,
        bounds=COEFFICIENT,
        level=level,
    )


def _places(used: Floats, metric: Metric, values: ArrayLike | None) -> Floats | None:
    """Where each category stands on a line; None where there is no line.

    Ordinal distances, Krippendorff's squared count of ratings between two categories, are squared
    differences of mid-ranks.
    """
    if metric is Metric.NOMINAL:
        return None
    if metric is Metric.ORDINAL:
        return np.asarray(np.cumsum(used) - used / 2)
    if values is None:
        raise ValueError("alpha for intervals needs each category's number")
    return np.asarray(values, float)


def _rank_shift(by_place: Floats) -> Floats:
    """Carry a gradient by places over to category counts: one more rating lifts all above it."""
    above = np.cumsum(by_place[::-1])[::-1]
    return np.asarray(above - by_place / 2)


def _item_agreement(table: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Share of agreeing pairs of each item (0 where there is no pair), and which items have one."""
    ratings = table.sum(axis=1)
    pairs = ratings * (ratings - 1)
    agreeing = (table * (table - 1)).sum(axis=1)
    return agreeing / np.maximum(pairs, 1), ratings >= 2


def _category_shares(table: Floats) -> Floats:
    """Mean over rated items of each category's share of the item's ratings."""
    ratings = table.sum(axis=1)
    rated = table[ratings > 0] / ratings[ratings > 0][:, None]
    return np.asarray(rated.mean(axis=0)) if len(rated) else np.zeros(table.shape[1])


def _estimate(
    value: float,
    influence: Floats,
    *,
    chance: float,
    n: int,
    population: Population,
    bounds: tuple[float, float],
    level: float,
) -> Estimate:
    """Value ± t·SE.

    Where no item differs from another that error is 0; then it is Wilson's interval of the
    agreement over the `n` items, carried to the coefficient's scale by its chance agreement. With
    fewer than two items there is no interval but the range.
    """
    # lone ratings weigh in chance alone, which can drive a coefficient below -1
    bounds = min(bounds[0], value), bounds[1]
    if n < 2:
        return Estimate(value, *bounds, level, n, Method.NONE, population)
    items = len(influence)
    error = math.sqrt(float(influence @ influence) / (items * (items - 1)))
    if error > 1e-12:
        half = student_value(items - 1, level) * error
        low, high = value - half, value + half
    else:
        agreement = min(max(value * (1 - chance) + chance, 0.0), 1.0)
        low, high = (
            (end - chance) / (1 - chance) for end in wilson_bounds(agreement, n, level=level)
        )
    return Estimate(
        value,
        min(max(bounds[0], low), value),
        max(min(bounds[1], high), value),
        level,
        n,
        Method.STUDENT,
        population,
    )
