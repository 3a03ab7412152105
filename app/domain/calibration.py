"""Calibration, for display: what share of labels at this score is right.

Calibration is monotone, so it moves no certified share, and no guarantee depends on it. It is
fitted on weighted audits and reviews of one population.

Sources: Platt 1999; Kull, Silva Filho and Flach 2017 (beta calibration); Zadrozny and Elkan 2002
(isotonic); Kish 1965 (effective sample). Scores are log-odds.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit

from app.domain.guarantee import Floats

PLATT_FROM = 100.0
"""Effective sample below which nothing is calibrated."""
BETA_FROM = 1_000.0


class Method(Enum):
    """How a calibration was fitted."""

    PLATT = "platt"
    BETA = "beta"


def effective_sample(weights: ArrayLike) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2; 0 without weight."""
    w = np.asarray(weights, float)
    squares = float((w**2).sum())
    return float(w.sum()) ** 2 / squares if squares > 0 else 0.0


@dataclass(frozen=True)
class Calibration:
    """P(right) = expit(a ln p - b ln(1 - p) + c), p the confidence; a = b is Platt's."""

    method: Method
    a: float
    b: float
    c: float
    effective: float
    """Effective sample it was fitted on."""

    def probability(self, logits: ArrayLike) -> Floats:
        """Calibrated probabilities; NaN where the confidence is unknown (a score of -inf)."""
        s = np.asarray(logits, float)
        low, high = _features(s)
        return np.where(s > -np.inf, expit(self.a * low + self.b * high + self.c), np.nan)


def calibrate(logits: ArrayLike, right: ArrayLike, *, weights: ArrayLike) -> Calibration | None:
    """Platt's calibration, from an effective sample of 1,000 the beta one; None below 100.

    `right` says whether each label was right, `weights` are inverse propensities. Unknown scores
    are left out. Slopes are held at 0 or above, so the result never reverses the order of scores.
    """
    s, y, w = (np.asarray(each, float) for each in (logits, right, weights))
    known = s > -np.inf
    s, y, w = s[known], y[known], w[known]
    effective = effective_sample(w)
    if effective < PLATT_FROM:
        return None
    method = Method.BETA if effective >= BETA_FROM else Method.PLATT
    low, high = _features(s)
    columns = [low, high] if method is Method.BETA else [low + high]
    design = np.column_stack([*columns, np.ones_like(s)])
    # Platt's targets: one pseudo-observation of each outcome keeps separable data finite
    mean = float(w @ y) / float(w.sum())
    up, down = effective * mean, effective * (1 - mean)
    target = np.where(y > 0, (up + 1) / (up + 2), 1 / (down + 2))
    scale = w / w.sum()

    def loss(slopes: Floats) -> tuple[float, Floats]:
        z = design @ slopes
        value = float(scale @ (np.logaddexp(0, z) - target * z))
        return value, np.asarray(design.T @ (scale * (expit(z) - target)), float)

    width = design.shape[1]
    found = minimize(
        loss,
        np.append(np.ones(width - 1), 0.0),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (width - 1) + [(None, None)],
    )
    *slopes, c = (float(each) for each in found.x)
    return Calibration(method, slopes[0], slopes[-1], c, effective)


def isotonic(logits: ArrayLike, right: ArrayLike, *, weights: ArrayLike) -> tuple[Floats, Floats]:
    """Scores in rising order and the isotonic estimate of P(right) at each, for pictures only.

    Its ties would destroy the ranking, so nothing may be routed by it. Equal scores share a value;
    unknown scores are left out.
    """
    s, y, w = (np.asarray(each, float) for each in (logits, right, weights))
    known = s > -np.inf
    values, place = np.unique(s[known], return_inverse=True)
    total = np.bincount(place, weights=w[known], minlength=values.size)
    mean = np.bincount(place, weights=(w * y)[known], minlength=values.size) / total
    if values.size == 0:
        return values, mean
    return values, np.asarray(isotonic_regression(mean, weights=total).x, float)


def _features(logits: Floats) -> tuple[Floats, Floats]:
    """Logarithms ln p and -ln(1 - p) from log-odds, exact where p rounds to 1."""
    clipped = np.clip(logits, -700, 700)
    return -np.logaddexp(0, -clipped), np.logaddexp(0, clipped)
