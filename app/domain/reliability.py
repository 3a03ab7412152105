"""Calibration: does a confidence of 0.9 mean right nine times in ten?

For display only: calibration is monotone, so it moves no certified share, and no promise depends on
it. Items of unknown confidence have no place in a reliability diagram and are counted apart.
`weights` are Hájek weights as in `ranking`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from app.domain.intervals import (
    LEVEL,
    Estimate,
    Method,
    Population,
    undefined,
    wilson_bounds,
    z_value,
)

Floats = NDArray[np.float64]

BINS = 15
"""Bins of equal mass in a reliability diagram and in the ECE."""


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of a reliability diagram.

    Attributes:
        low: Smallest confidence in it.
        high: Largest confidence in it.
        mean_confidence: Weighted mean confidence.
        share: The bin's share of the weight.
        accuracy: Share of right labels, with Wilson's interval.
    """

    low: float
    high: float
    mean_confidence: float
    share: float
    accuracy: Estimate


@dataclass(frozen=True)
class Reliability:
    """Calibration of the confidences of judged items.

    Attributes:
        bins: Reliability diagram, least confident first; fewer than asked for where ties are large.
        ece: Expected calibration error, Σ share · |accuracy - mean confidence| over the bins.
        brier: Mean of (confidence - right)²; it rewards ranking as well as calibration.
        unknown: Items without a confidence; they are in no figure.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: Estimate
    brier: Estimate
    unknown: int


def reliability(
    confidences: ArrayLike,
    correct: ArrayLike,
    *,
    population: Population,
    weights: ArrayLike | None = None,
    bins: int = BINS,
    level: float = LEVEL,
) -> Reliability:
    """Reliability diagram over bins of equal mass, ECE and Brier score.

    Equal confidences share a bin (the one their middle falls into), so the figures do not depend
    on the order of the rows.

    The ECE of a perfectly calibrated model is above 0 by chance alone, so an interval centred on
    resampling it would miss. Ours holds by the triangle inequality: |ECE - true ECE of these bins|
    <= D = Σ share·|accuracy - true accuracy|; the half-width is the `level` quantile of D, a sum of
    half-normal terms, by a gamma distribution with its mean and variance. So a calibrated model has
    an interval that reaches 0 in about `level` of all cases.

    Args:
        confidences: Shape [n], in [0, 1]; NaN is unknown.
        correct: Shape [n], boolean.
        population: Whom the (weighted) items stand for.
        weights: Shape [n], positive; None weighs all alike.
        bins: Number of bins, at least 1.
        level: Two-sided coverage.

    Raises:
        ValueError: Shapes differ, a confidence lies outside [0, 1], or a weight is not positive.
    """
    c, right = np.asarray(confidences, float), np.asarray(correct, bool)
    w = np.ones_like(c) if weights is None else np.asarray(weights, float)
    if not c.shape == right.shape == w.shape or c.ndim != 1:
        raise ValueError("confidences, correct and weights must be of one length")
    known = ~np.isnan(c)
    unknown = int((~known).sum())
    c, right, w = c[known], right[known], w[known]
    if not ((c >= 0) & (c <= 1)).all() or not (np.isfinite(w) & (w > 0)).all():
        raise ValueError("confidences lie in [0, 1] and weights are positive and finite")
    part = population.part("confidence known") if unknown else population
    if not c.size:
        nothing = undefined(part, level=level)
        return Reliability((), nothing, nothing, unknown)
    index = _equal_mass_bins(c, w, bins)
    diagram = tuple(
        _bin(c[index == b], right[index == b], w[index == b], part=part, total=w.sum(), level=level)
        for b in np.unique(index)
    )
    return Reliability(
        bins=diagram,
        ece=_expected_calibration_error(diagram, n=c.size, population=part, level=level),
        brier=_brier(c, right, w, population=part, level=level),
        unknown=unknown,
    )


def _equal_mass_bins(confidences: Floats, weights: Floats, bins: int) -> NDArray[np.int64]:
    """Bin of each item: the place of the middle of its tie in the cumulated weight."""
    _, group = np.unique(confidences, return_inverse=True)
    mass = np.bincount(group, weights=weights)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.asarray(np.minimum((middle * bins).astype(np.int64), bins - 1)[group])


def _bin(
    c: Floats,
    right: NDArray[np.bool_],
    w: Floats,
    *,
    part: Population,
    total: float,
    level: float,
) -> ReliabilityBin:
    mass = float(w.sum())
    effective = mass**2 / float((w**2).sum())
    value = min(float(w @ right) / mass, 1.0)
    low, high = wilson_bounds(value, effective, level=level)
    words = f"confidence in [{c.min():.6g}, {c.max():.6g}]"
    return ReliabilityBin(
        low=float(c.min()),
        high=float(c.max()),
        mean_confidence=float(w @ c) / mass,
        share=mass / total,
        accuracy=Estimate(
            value,
            low,
            high,
            level,
            c.size,
            Method.WILSON,
            part.part(words),
            n_effective=None if math.isclose(effective, c.size) else effective,
        ),
    )


def _expected_calibration_error(
    bins: tuple[ReliabilityBin, ...], *, n: int, population: Population, level: float
) -> Estimate:
    share = np.array([b.share for b in bins])
    accuracy = np.array([b.accuracy.value for b in bins], float)
    value = float(share @ np.abs(accuracy - [b.mean_confidence for b in bins]))
    # Wilson's half-width over z: a standard error that is not 0 where a bin is all right
    width = np.array([b.accuracy.high - b.accuracy.low for b in bins])
    spread = share * width / (2 * z_value(level))
    mean = float(spread.sum()) * math.sqrt(2 / math.pi)
    variance = float((spread**2).sum()) * (1 - 2 / math.pi)
    half = float(special.gammaincinv(mean**2 / variance, level)) * variance / mean
    return Estimate(
        value,
        max(0.0, value - half),
        min(1.0, value + half),
        level,
        n,
        Method.BIN_ERRORS,
        population,
    )


def _brier(
    c: Floats,
    right: NDArray[np.bool_],
    w: Floats,
    *,
    population: Population,
    level: float,
) -> Estimate:
    """Weighted mean of the squared distances; its variance by linearisation of the ratio."""
    loss = (c - right) ** 2
    total = float(w.sum())
    value = float(w @ loss) / total
    effective = total**2 / float((w**2).sum())
    deviation = w * (loss - value)
    variance = float(deviation @ deviation) / total**2
    error = math.sqrt(variance * effective / max(effective - 1, 1))
    # one more loss of 1 among them: no certainty from a run of losses that are all 0
    slack = 1 / (effective + 1)
    half = z_value(level) * error
    return Estimate(
        value,
        max(0.0, value - half),
        min(1.0, value + max(half, slack)),
        level,
        c.size,
        Method.NORMAL,
        population,
        n_effective=None if math.isclose(effective, c.size) else effective,
    )
