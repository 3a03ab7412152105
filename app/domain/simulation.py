"""Simulated projects, many at once: the raw material of the public harness.

A world holds the items of many runs as arrays (run, item): which labels are wrong, the audit coin,
and for every score version the place of each item on that version's grid. It also knows the truth:
the delivered error and the accepted share of every threshold. app/domain/trials.py runs a method
on it and never looks at the truth. See docs/guarantee.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from app.domain.guarantee import Bools, Floats, threshold_grid
from app.domain.stacker import fit_logistic

GRID = 100
RETUNE_EVERY = 200
ITEMS = 20_000
TRAIN_SHARE = 0.025
RETRAINED_AT = (10_000, 15_000)
SECOND_FEATURE_SHIFT = 1.0
REFERENCE = 5_000

Cells = NDArray[np.int16]


@dataclass(frozen=True)
class Setting:
    """A synthetic population: u ~ U(0, 1), P(error) = f + (1 - f) expit(-(a + b ndtri(u)))."""

    name: str
    a: float
    b: float
    f: float = 0.002
    tied_above: float = 1.0
    """Scores of u above this are equal, with `tied_error`."""
    tied_error: float = 0.0
    trend: float = 0.0
    """How far `a` falls from the first item to the last."""

    def score(self, z: Floats) -> Floats:
        """The model's confidence as a logit-like score, from z = ndtri(u)."""
        return np.minimum(z, ndtri(self.tied_above))

    def error(self, z: Floats, progress: float | Floats = 0.0) -> Floats:
        """P(wrong | z) when this share of the items has come in."""
        plain = self.f + (1 - self.f) * expit(-(self.a - self.trend * progress + self.b * z))
        return np.where(z > ndtri(self.tied_above), self.tied_error, plain)


SETTINGS = {
    "A": Setting("A", 3.55, 2.1),
    "B": Setting("B", 4.95, 2.3),
    "C": Setting("C", 3.55, 2.1, tied_above=0.6, tied_error=0.006),
    "D": Setting("D", 3.55, 2.1, trend=3.0),
}


@dataclass(frozen=True, eq=False)
class Log:
    """A real log: a score and an error for each line, in any order."""

    name: str
    scores: Floats
    wrong: Bools


@dataclass(frozen=True, eq=False)
class Version:
    """A score version in every run: where its items lie, and the truth about its thresholds."""

    born: int
    """Items received when it was trained."""
    cells: Cells
    """(run, item): the strictest threshold, counted from 0, that accepts the item; at least the
    grid's size where none does."""
    share: Floats
    """(run or 1, threshold): the truly accepted share."""
    risk: Floats
    """(run or 1, tick or 1, threshold): the true delivered error."""


@dataclass(frozen=True, eq=False)
class World:
    """The items of many runs. `oracle(alpha)` is the share of the best threshold there is."""

    wrong: Bools
    coin: Floats
    trial: Bools
    """Items not of the train face: all that certificates may count."""
    versions: Sequence[Version]
    audited_first: int | None
    """A log: so many items are all audited, the rest not at all. None: the default schedule."""
    curve: tuple[Floats, Floats]
    """Share and delivered error of every threshold of the first version, at the first item."""

    def oracle(self, alpha: float) -> float:
        """Largest accepted share whose true delivered error is at most alpha."""
        share, risk = self.curve
        return float(np.max(share[risk <= alpha], initial=0.0))


def _truth(scores: Floats, weights: Floats, wrong: Floats) -> tuple[Floats, Floats, Floats]:
    """Distinct thresholds strict to loose, with the accepted share and the delivered error."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # ties are accepted together
    last &= ranked > -np.inf  # an unknown confidence is never accepted
    return ranked[last], np.cumsum(weights[order])[last], np.cumsum(wrong[order])[last]


def _at(thresholds: Floats, curve: tuple[Floats, Floats, Floats]) -> tuple[Floats, Floats]:
    """Share and delivered error at the given thresholds, 0 above the strictest score."""
    places = np.searchsorted(-curve[0], -thresholds, side="right")
    return np.append(0.0, curve[1])[places], np.append(0.0, curve[2])[places]


def _on_grid(thresholds: Floats, curve: tuple[Floats, Floats, Floats]) -> tuple[Floats, Floats]:
    """The same, padded to the grid's size: a missing threshold repeats the loosest one."""
    share, risk = _at(thresholds, curve)
    pad = (0, GRID - thresholds.size)
    return np.pad(share, pad, mode="edge"), np.pad(risk, pad, mode="edge")


def _cells(scores: Floats, thresholds: Floats) -> Cells:
    """Index of the strictest threshold at or below each score."""
    places = np.searchsorted(-thresholds, -scores, side="left")
    # a missing threshold of a short grid stands for the loosest one, so nothing may fall between
    return np.where(places < thresholds.size, places, GRID).astype(np.int16)


def _reference() -> tuple[Floats, Floats]:
    """Quasi-random points (z, noise of the second feature) of a reference population."""
    steps = np.arange(REFERENCE) + 0.5
    golden = (5**0.5 - 1) / 2
    return ndtri(steps / REFERENCE), ndtri(steps * golden % 1)


def synthetic_world(
    setting: Setting,
    *,
    runs: int,
    rng: np.random.Generator,
    items: int = ITEMS,
    retrained_at: Sequence[int] = RETRAINED_AT,
) -> World:
    """Runs of a setting, with a scorer retrained on the train face after so many items.

    A second feature, lower by `SECOND_FEATURE_SHIFT` deviations where the label is wrong, becomes
    useful once a stacker has seen verdicts. Under a trend nothing is retrained: the trend is the
    subject there.
    """
    z = rng.standard_normal((runs, items))
    wrong = rng.random((runs, items)) < setting.error(z, np.arange(items) / items)
    coin = rng.random((runs, items))
    trial = rng.random((runs, items)) >= TRAIN_SHARE
    score = setting.score(z)
    point, noise = _reference()
    base = setting.score(point)
    weight = np.full(REFERENCE, 1 / REFERENCE)
    grid = threshold_grid(base, GRID)
    ticks = range(0, items, RETUNE_EVERY) if setting.trend else range(1)
    curves = [_truth(base, weight, weight * setting.error(point, t / items)) for t in ticks]
    first = Version(
        born=0,
        cells=_cells(score, grid),
        share=_on_grid(grid, curves[0])[0][None],
        risk=np.array([[_on_grid(grid, curve)[1] for curve in curves]]),
    )
    versions = [first]
    if not setting.trend:
        second = rng.standard_normal((runs, items)) - SECOND_FEATURE_SHIFT * wrong
        hard = setting.error(point)
        population = (
            np.concatenate([base, base]),
            np.concatenate([noise - SECOND_FEATURE_SHIFT, noise]),
            np.concatenate([weight * hard, weight * (1 - hard)]),
            np.concatenate([weight * hard, np.zeros(REFERENCE)]),
        )
        versions += [
            _retrained(born, (score, second), wrong, trial, population)
            for born in retrained_at
            if born < items
        ]
    return World(wrong, coin, trial, versions, None, (curves[0][1], curves[0][2]))


def _retrained(
    born: int,
    features: tuple[Floats, Floats],
    wrong: Bools,
    trial: Bools,
    population: tuple[Floats, Floats, Floats, Floats],
) -> Version:
    """A stacker over (score, second feature), trained in each run on its train face so far."""
    score, second = features
    runs = len(score)
    cells = np.empty(score.shape, np.int16)
    share, risk = np.empty((runs, GRID)), np.empty((runs, 1, GRID))
    base, other, weight, bad = population
    for run in range(runs):
        seen = np.flatnonzero(~trial[run, :born])
        design = np.column_stack([score[run, seen], second[run, seen]])
        slopes = fit_logistic(design, ~wrong[run, seen], penalty=1.0)[1:]
        curve = _truth(base * slopes[0] + other * slopes[1], weight, bad)
        wanted = np.arange(1, GRID + 1) / GRID
        # unlabelled scores are plenty, so the grid's quantiles are the population's
        grid = np.unique(curve[0][np.minimum(np.searchsorted(curve[1], wanted), len(curve[0]) - 1)])
        grid = grid[::-1]
        cells[run] = _cells(score[run] * slopes[0] + second[run] * slopes[1], grid)
        share[run], risk[run, 0] = _on_grid(grid, curve)
    return Version(born, cells, share, risk)


def log_world(log: Log, *, runs: int, rng: np.random.Generator) -> World:
    """Shuffles of a log: its first half is audited, the truth is the error over the whole log."""
    n = log.scores.size
    order = rng.permuted(np.tile(np.arange(n), (runs, 1)), axis=1)
    half = n // 2
    curve = _truth(log.scores, np.full(n, 1 / n), log.wrong / n)
    cells = np.empty((runs, n), np.int16)
    share, risk = np.empty((runs, GRID)), np.empty((runs, 1, GRID))
    for run in range(runs):
        scores = log.scores[order[run]]
        grid = threshold_grid(scores[half:], GRID)
        cells[run] = _cells(scores, grid)
        share[run], risk[run, 0] = _on_grid(grid, curve)
    ones = np.ones((runs, n), bool)
    version = Version(0, cells, share, risk)
    return World(log.wrong[order], np.zeros((runs, n)), ones, [version], half, (curve[1], curve[2]))
