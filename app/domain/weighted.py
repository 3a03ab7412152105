"""Agreement of the model with people over a whole population, from weighted verdicts.

What `agreement` says of reviewed items, this says of all items: the confusion matrix and the bins
of confidence with Hájek weights, every figure with its interval. How lanes carry weight, and how
the intervals come about, is told in `lanes`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.domain.agreement import BIN_COUNT, bin_words
from app.domain.intervals import (
    COEFFICIENT,
    LEVEL,
    Estimate,
    Method,
    Population,
    normal_bounds,
    undefined,
)
from app.domain.kappa import Weighting, kappa_influence, kappa_weights
from app.domain.lanes import lane_ratio

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WeightedLabel:
    """How model and people agree on one label, over the whole population.

    Attributes:
        label: The label.
        precision: Of the items the model gives it, the share that people give it too.
        recall: Of the items people give it, the share that the model gives it too.
        f1: Harmonic mean of the two.
    """

    label: str
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True, slots=True)
class WeightedAgreement:
    """Model against people over a whole population, from weighted verdicts.

    Attributes:
        labels: The labels, in the order of the matrix.
        shares: `shares[predicted][actual]`, the estimated confusion matrix; sums to 1, or is all 0
            when nothing was judged.
        accuracy: Share on which both agree.
        kappa: Cohen's kappa.
        by_label: One entry a label.
    """

    labels: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    accuracy: Estimate
    kappa: Estimate
    by_label: tuple[WeightedLabel, ...]


def weighted_agreement(
    confusions: ArrayLike,
    *,
    sizes: Sequence[int],
    labels: Sequence[str],
    what: str = "all items received",
    level: float = LEVEL,
) -> WeightedAgreement:
    """All agreement figures for the population that the lanes make up.

    Args:
        confusions: Counts of the verdicts that count, shape [lane, predicted, actual]: the audits,
            or everything where a lane is drained.
        sizes: N_s, items in each lane.
        labels: The label set.
        what: The population in words.
        level: Two-sided coverage.

    Raises:
        ValueError: Shapes do not fit, or a lane has more verdicts than items.
    """
    tables = np.asarray(confusions, float)
    size = np.asarray(sizes, float)
    judged = tables.sum(axis=(1, 2))
    if tables.shape != (len(sizes), len(labels), len(labels)):
        raise ValueError("one square table over the labels for each lane")
    if (tables < 0).any() or (judged > size).any():
        raise ValueError("a lane cannot have more verdicts than items")
    population = Population(what, int(size.sum()))
    counted = judged > 0
    weights = np.divide(size, judged, out=np.zeros_like(size), where=counted)
    mass = np.tensordot(weights, tables, axes=1)
    shares = mass / max(float(mass.sum()), 1e-300)

    def ratio(hits: Floats, domain: Floats, words: str | None = None) -> Estimate:
        return lane_ratio(
            hits=hits,
            domain=domain,
            judged=judged,
            sizes=size,
            population=population.part(words) if words else population,
            level=level,
        )

    by_label = []
    for i, label in enumerate(labels):
        hits, given, actual = tables[:, i, i], tables[:, i].sum(axis=1), tables[:, :, i].sum(axis=1)
        both = f"labelled {label} by the model or by people"
        by_label.append(
            WeightedLabel(
                label=label,
                precision=ratio(hits, given, f"labelled {label} by the model"),
                recall=ratio(hits, actual, f"labelled {label} by people"),
                f1=_f1_of_union(ratio(hits, given + actual - hits, both)),
            )
        )
    accuracy = ratio(np.trace(tables, axis1=1, axis2=2), judged)
    return WeightedAgreement(
        labels=tuple(labels),
        shares=tuple(tuple(float(cell) for cell in row) for row in shares),
        accuracy=accuracy,
        kappa=_kappa(tables, size, shares, accuracy=accuracy),
        by_label=tuple(by_label),
    )


def weighted_bins(
    correct: ArrayLike,
    n: ArrayLike,
    *,
    sizes: Sequence[int],
    what: str = "all items received",
    level: float = LEVEL,
) -> tuple[Estimate, ...]:
    """Agreement in each confidence bin over the whole population.

    Args:
        correct: Counted verdicts that agree, shape [lane, BIN_COUNT], by `confidence_bin`.
        n: Counted verdicts, same shape.
        sizes: N_s, items in each lane.
        what: The population in words.
        level: Two-sided coverage.

    Raises:
        ValueError: Shapes do not fit, or the counts do not.
    """
    right, counted, size = np.asarray(correct), np.asarray(n), np.asarray(sizes)
    judged = counted.sum(axis=-1)
    if not right.shape == counted.shape == (len(size), BIN_COUNT):
        raise ValueError(f"one count for each lane and each of the {BIN_COUNT} bins")
    if (right < 0).any() or (right > counted).any() or (judged > size).any():
        raise ValueError("the counts of the lanes do not fit together")
    population = Population(what, int(size.sum()))
    return tuple(
        lane_ratio(
            hits=right[:, index],
            domain=counted[:, index],
            judged=judged,
            sizes=size,
            population=population.part(bin_words(index)),
            level=level,
        )
        for index in range(BIN_COUNT)
    )


def _f1_of_union(union: Estimate) -> Estimate:
    """F1 = 2J/(1 + J) of an estimate of J, its ends carried along (see `intervals.f1_bounds`)."""

    def carried(jaccard: float) -> float:
        return 2 * jaccard / (1 + jaccard)

    return Estimate(
        value=None if union.value is None else carried(union.value),
        low=carried(union.low),
        high=carried(union.high),
        level=union.level,
        n=union.n,
        method=union.method,
        population=union.population,
        n_effective=union.n_effective,
    )


def _kappa(tables: Floats, sizes: Floats, shares: Floats, *, accuracy: Estimate) -> Estimate:
    """Cohen's kappa by linearisation over the lanes.

    The interval is the wider, on each side, of value ± z·SE and of the accuracy's interval carried
    over at the margins as estimated: lanes without an error have no variance of their own.
    """
    level, population = accuracy.level, accuracy.population
    result = kappa_influence(shares, kappa_weights(len(shares), Weighting.NONE))
    if accuracy.value is None or result is None:
        return undefined(population, n=accuracy.n, bounds=COEFFICIENT, level=level)
    value, influence = result
    variance = 0.0
    for table, size in zip(tables, sizes, strict=True):
        n = float(table.sum())
        if 1 < n < size:
            mean = float((table * influence).sum()) / n
            within = float((table * (influence - mean) ** 2).sum()) / (n - 1)
            variance += (size / sizes.sum()) ** 2 * (1 - n / size) * within / n
    low, high = normal_bounds(value, math.sqrt(variance), bounds=COEFFICIENT, level=level)
    chance = float(shares.sum(axis=1) @ shares.sum(axis=0))

    def carried(agreement: float) -> float:
        return (agreement - chance) / (1 - chance)

    return Estimate(
        value,
        max(COEFFICIENT[0], min(low, carried(accuracy.low))),
        min(COEFFICIENT[1], max(high, carried(accuracy.high))),
        level,
        accuracy.n,
        Method.NORMAL,
        population,
        n_effective=accuracy.n_effective,
    )
