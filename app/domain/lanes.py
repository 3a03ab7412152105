"""Lanes: figures about all items, from reviews that come mostly from the doubtful ones.

Reviews are taken lowest confidence first, so an accuracy over all reviews is 5 to 12 points too
low, and its interval never covers the truth. What saves the day is that items travel in lanes (one
policy version at one audit rate, accepted or sent to review) and that audits are drawn in each lane
by a coin that knows nothing of the items. In a lane of N_s items:

- when all of it has been judged, every verdict counts, and the lane holds no uncertainty;
- otherwise only its n_s audits count, each with weight N_s/n_s (Hájek): the other verdicts were
  not picked at random.

All intervals are analytic: Jeffreys' in each lane, with n_s·(N_s - 1)/(N_s - n_s) trials as the
lane is finite, put together by the squares of their distances (Zou and Donner 2008). So a lane in
which no audit has erred yet still adds its doubt, which a plain stratified standard error counts as
none. Over 2,000 simulated projects with two accepted lanes the truth was covered in 94 to 95%; with
Wilson's in each lane in 93 to 95% by wider intervals, its lower end being too high for rare errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from app.domain.intervals import (
    LEVEL,
    Estimate,
    Method,
    Population,
    jeffreys_curve,
    undefined,
    z_value,
)


@dataclass(frozen=True, slots=True)
class Lane:
    """Items that one policy version at one audit rate sent one way, and what is known of them.

    Attributes:
        name: What the lane is, for people ("policy 3, accepted").
        size: Items in it, N_s.
        audited: Those picked by the coin and judged.
        audit_errors: Those among them on which the model was wrong.
        reviewed: Further items judged that no coin picked.
        review_errors: Those among them on which the model was wrong.
    """

    name: str
    size: int
    audited: int = 0
    audit_errors: int = 0
    reviewed: int = 0
    review_errors: int = 0

    def __post_init__(self) -> None:
        if not (
            0 <= self.audit_errors <= self.audited
            and 0 <= self.review_errors <= self.reviewed
            and self.audited + self.reviewed <= self.size
        ):
            raise ValueError(f"the counts of the lane {self.name!r} do not fit together")

    @property
    def drained(self) -> bool:
        """Whether every item in it has been judged."""
        return self.audited + self.reviewed == self.size

    @property
    def judged(self) -> int:
        """n_s: the verdicts that stand for the lane."""
        return self.audited + (self.reviewed if self.drained else 0)

    @property
    def errors(self) -> int:
        """Errors among `judged`."""
        return self.audit_errors + (self.review_errors if self.drained else 0)

    @property
    def weight(self) -> float:
        """Items that each counted verdict stands for; infinite where none counts but items are."""
        if self.judged:
            return self.size / self.judged
        return math.inf if self.size else 0.0


@dataclass(frozen=True, slots=True)
class OverallAccuracy:
    """Accuracy of the model over the items that are decided.

    Attributes:
        accuracy: Of accepted and reviewed items together.
        waiting: Items still waiting for people: in no figure.
    """

    accuracy: Estimate
    waiting: int


def overall_accuracy(
    accepted: Sequence[Lane], review: Sequence[Lane], *, level: float = LEVEL
) -> OverallAccuracy:
    """1 - (errors among reviewed + Σ N_s·r_s)/N over accepted and reviewed items.

    In the lanes sent to review, the decided items are those judged and all their verdicts count; in
    the accepted lanes the error rate r_s comes from the audits.
    """
    decided = [
        Lane(
            lane.name,
            lane.audited + lane.reviewed,
            audited=lane.audited + lane.reviewed,
            audit_errors=lane.audit_errors + lane.review_errors,
        )
        for lane in review
    ]
    waiting = sum(lane.size for lane in review) - sum(lane.size for lane in decided)
    return OverallAccuracy(
        accuracy=lanes_accuracy(
            [*accepted, *decided], what="items accepted or reviewed", level=level
        ),
        waiting=waiting,
    )


def lanes_accuracy(
    lanes: Sequence[Lane], *, what: str = "all items received", level: float = LEVEL
) -> Estimate:
    """Accuracy of the model over all items of these lanes, waiting ones included.

    A lane of which nothing counts adds its whole share to the interval, and then there is no value.
    """
    population = Population(what, sum(lane.size for lane in lanes))
    return lane_ratio(
        hits=[lane.judged - lane.errors for lane in lanes],
        domain=[lane.judged for lane in lanes],
        judged=[lane.judged for lane in lanes],
        sizes=[lane.size for lane in lanes],
        population=population,
        level=level,
    )


def lane_ratio(
    *,
    hits: ArrayLike,
    domain: ArrayLike,
    judged: ArrayLike,
    sizes: ArrayLike,
    population: Population,
    level: float,
) -> Estimate:
    """Σ W_s·hits_s/n_s over Σ W_s·domain_s/n_s, W_s = N_s/N, with its interval.

    The linearised variance of the ratio p falls into two parts. Within a lane: (π_s)²·p_s(1 - p_s)
    over the domain's n_s, π_s the lane's estimated share of the domain; here Jeffreys' distances
    replace it, on each side its own. Between lanes: (W_s/D)²·(1 - f_s)·d_s(1 - d_s)/n_s·(p_s - p)²,
    since the domain's share d_s of a lane is itself estimated; 0 when the domain is everything.

    Args:
        hits: Counted verdicts in the domain that agree, shape [lane].
        domain: Counted verdicts in the domain, shape [lane].
        judged: n_s, all counted verdicts, shape [lane].
        sizes: N_s, shape [lane].
        population: Whom the ratio speaks for.
        level: Two-sided coverage.
    """
    hit, dom = np.asarray(hits, float), np.asarray(domain, float)
    n, size = np.asarray(judged, float), np.asarray(sizes, float)
    total = float(size.sum())
    counted = n > 0
    unseen = float(size[~counted].sum()) / total if total else 0.0
    hit, dom, n, size = hit[counted], dom[counted], n[counted], size[counted]
    share = size / max(total, 1.0) * dom / n  # of the population: in this lane and in the domain
    mass = float(share.sum())
    observations = int(dom.sum())
    if mass == 0:
        return undefined(population, n=observations, level=level)
    lane_mass, lane_domain = share / mass, dom / n
    rate = np.divide(hit, dom, out=np.zeros_like(hit), where=dom > 0)
    value = min(float(lane_mass @ rate), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        unseen_factor = np.where(n < size, (size - n) / np.maximum(size - 1, 1), 0.0)
        low, high = jeffreys_curve(rate, dom / unseen_factor, level=level)
    between = (size / total / mass) ** 2 * unseen_factor * lane_domain * (1 - lane_domain) / n
    spread = z_value(level) ** 2 * float(between @ (rate - value) ** 2)
    down = math.sqrt(float(lane_mass**2 @ (rate - low) ** 2) + spread)
    up = math.sqrt(float(lane_mass**2 @ (high - rate) ** 2) + spread)
    bounds = max(0.0, value - down), min(1.0, value + up)
    if unseen:
        # what nobody looked at may be all right or all wrong
        known = mass / (mass + unseen)
        bounds = bounds[0] * known, bounds[1] * known + 1 - known
        return Estimate(None, *bounds, level, observations, Method.STRATIFIED, population)
    squares = float((size / n) ** 2 @ dom)
    effective = float(size / n @ dom) ** 2 / squares
    return Estimate(
        value,
        *bounds,
        level,
        observations,
        Method.STRATIFIED,
        population,
        n_effective=None if math.isclose(effective, observations) else effective,
    )
