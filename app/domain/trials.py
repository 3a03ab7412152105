"""Methods of setting a threshold, run on simulated worlds and judged by the truth.

Every `RETUNE_EVERY` items the method updates its evidence and sets the policy anew, as the service
does. A run is *ever invalid* if at any re-tuning the policy in force accepts, of all items
received, more than alpha wrongly in truth. Runs are rows of arrays and advance together.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, pdtrc

from app.domain.betting import REFUTED, log_e_exposure
from app.domain.drift import FACTORS, REVOKE_AT, advance
from app.domain.guarantee import Bools, Floats, Ints, log_e_value, spent_delta
from app.domain.simulation import GRID, RETUNE_EVERY, Version, World

MOST_ERRORS = 600
"""A threshold with more errors is never newly certified in a simulation."""


class Method(Enum):
    """How the threshold is set."""

    SECONDLOOK = "secondlook"
    """Audits where the doubt is, exposure e-process (app/domain/betting.py)."""
    EPROCESS = "eprocess"
    """Uniform audits, beta-binomial e-process (app/domain/guarantee.py)."""
    EXACT = "exact"
    """Uniform audits, exact binomial bound looked at every time, which it does not allow."""
    NAIVE = "naive"
    """The observed error over all reviews, taken at its word."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What happened in each run."""

    ever_invalid: Bools
    share: Floats
    """True accepted share when the budget of audits was spent, or at the end if it never was."""
    share_extra: Floats
    """The same when so many audits had been of items accepted at the time, which no one would have
    reviewed otherwise; NaN if they never were."""
    final_share: Floats
    audits: Ints
    """Audits drawn in the whole run."""
    revoked: Bools
    """Whether the drift detector took a policy back."""
    invalid_time: Floats
    """Share of the re-tunings at which the policy was invalid."""


@lru_cache(maxsize=64)
def needed(method: Method, alpha: float, delta: float) -> Floats:
    """Evidence that certifies with 0, 1, ... errors: trials, or exposure for SECONDLOOK."""
    errors = np.arange(MOST_ERRORS, dtype=float)
    if method is Method.NAIVE:
        return np.append(errors / alpha, np.inf)

    def holds(amount: Floats) -> Bools:
        if method is Method.SECONDLOOK:
            return np.asarray(log_e_exposure(errors, amount) >= -np.log(delta), bool)
        if method is Method.EPROCESS:
            return np.asarray(log_e_value(errors, amount, alpha) >= -np.log(delta), bool)
        return np.asarray(bdtr(errors, amount.astype(np.int64), alpha) <= delta, bool)

    unit = 1 if method is Method.SECONDLOOK else 1 / alpha
    low, high = errors * unit, (3 * errors + 40) * unit
    whole = method is not Method.SECONDLOOK
    for _ in range(60):
        middle = (low + high) / 2
        middle = np.floor(middle) if whole else middle
        good = holds(middle)
        low, high = np.where(good, low, middle), np.where(good, middle, high)
    return np.append(np.ceil(high) if whole else high, np.inf)


class _Evidence:
    """One score version's counts in every run; the simulation's working memory, so mutable."""

    def __init__(self, version: Version, runs: int, number: int) -> None:
        self.version = version
        self.errors = np.zeros((runs, GRID), np.int64)
        self.amount = np.zeros((runs, GRID))
        self.passed = np.zeros((runs, GRID), bool)
        self.audits = np.zeros(runs, np.int64)
        self.number = np.full(runs, number)

    def held(self) -> Ints:
        """Thresholds certified in each run, counted from the strict end."""
        return np.asarray(np.logical_and.accumulate(self.passed, axis=1).sum(1), np.int64)

    def counts(self, where: Bools, items: slice) -> Ints:
        """Items of `where` accepted at each threshold."""
        rows, columns = np.nonzero(where)
        cells = self.version.cells[:, items][rows, columns]
        inside = cells < GRID
        flat = np.bincount(rows[inside] * GRID + cells[inside], minlength=where.shape[0] * GRID)
        return np.cumsum(flat.reshape(-1, GRID), axis=1)

    def check(self, method: Method, alpha: float, delta: float) -> None:
        """Compare the evidence with what this version's share of delta needs."""
        numbers = np.unique(self.number)
        table = np.array([needed(method, alpha, spent_delta(delta, int(v))) for v in numbers])
        row = np.searchsorted(numbers, self.number)[:, None]
        holds = (self.amount > 0) & (
            self.amount >= table[row, np.minimum(self.errors, MOST_ERRORS)]
        )
        lasting = method in {Method.SECONDLOOK, Method.EPROCESS}
        self.passed = self.passed | holds if lasting else holds

    def reset(self, rows: Bools, numbers: int) -> None:
        """Start a new window in some runs, which spends a new version's share of delta."""
        for array in (self.errors, self.amount, self.passed, self.audits):
            array[rows] = 0
        self.number[rows] += numbers


class _Project:
    """Every run of a world under one method."""

    def __init__(self, world: World, method: Method, *, alpha: float, delta: float) -> None:
        self.world, self.method, self.alpha, self.delta = world, method, alpha, delta
        self.runs, self.items = world.wrong.shape
        self.evidence: list[_Evidence] = []
        self.drawn = np.zeros(world.wrong.shape, bool)
        self.full = np.zeros(world.wrong.shape, bool)
        self.start = np.zeros(self.runs, np.int64)
        self.spent = np.zeros(self.runs, np.int64)
        self.active = np.full(self.runs, -1)
        self.held = np.zeros(self.runs, np.int64)
        self.drift = np.zeros((self.runs, len(FACTORS)))
        self.revoked = np.zeros(self.runs, bool)
        self.extra = np.zeros(self.runs, np.int64)

    def rates(self, audits: Ints, begin: int) -> Floats:
        """Audits as a share of items; the vector form of `audits.audit_rate`."""
        if self.world.audited_first is not None:
            return np.full(self.runs, float(begin < self.world.audited_first))
        later = np.select([audits < 1_000, audits < 3_000], [0.10, 0.05], 0.02)
        return np.where(self.active < 0, 1.0, later)

    def accepted(self, items: slice) -> Bools:
        """What the policy in force accepts."""
        out = np.zeros((self.runs, items.stop - items.start), bool)
        for index, each in enumerate(self.evidence):
            rows = np.flatnonzero(self.active == index)
            out[rows] = each.version.cells[rows, items] < self.held[rows, None]
        return out

    def step(self, items: slice) -> None:
        """Receive a stretch of items and re-tune."""
        world = self.world
        for version in world.versions[len(self.evidence) :]:
            if version.born <= items.start:
                self.adopt(version)
        accepted = self.accepted(items)
        trial, wrong = world.trial[:, items], world.wrong[:, items]
        if self.method is Method.SECONDLOOK:
            drawn = self.look(items)
        else:
            rate = self.rates(self.spent, items.start)[:, None]
            drawn = trial & (world.coin[:, items] < rate)
            seen = drawn
            if self.method is Method.NAIVE and world.audited_first is None:
                seen = drawn | ~accepted
            for each in self.evidence:
                each.errors += each.counts(seen & wrong, items)
                each.amount += seen.sum(1)[:, None]
        self.drawn[:, items] = drawn
        self.spent += drawn.sum(1)
        self.extra += (drawn & accepted).sum(1)
        for each in self.evidence:
            each.check(self.method, self.alpha, self.delta)
        self.detect(drawn & accepted, wrong, items.stop)
        self.choose()

    def look(self, items: slice) -> Bools:
        """Draw by every version's plan with the one coin, and count each by its own."""
        world = self.world
        trial, wrong = world.trial[:, items], world.wrong[:, items]
        coin = world.coin[:, items]
        everything = self.active < 0
        if world.audited_first is not None:
            everything = np.full(self.runs, items.start < world.audited_first)
        self.full[:, items] = everything[:, None]
        drawn = np.zeros_like(trial)
        for each in self.evidence:
            floor, probability = self.plan(each, everything, items.start)
            inside = each.version.cells[:, items] <= floor[:, None]
            own = trial & inside & (coin < probability[:, None])
            own[everything] = trial[everything]
            new = np.where(np.arange(GRID) <= floor[:, None], each.counts(own & wrong, items), 0)
            length = -np.log1p(-probability * self.alpha)[:, None]
            covered = np.arange(GRID) <= floor[:, None]
            each.amount += np.where(covered, length * (trial.sum(1)[:, None] - new), 0)
            each.errors += new
            each.audits += own.sum(1)
            drawn |= own
        return drawn

    def plan(self, each: _Evidence, everything: Bools, begin: int) -> tuple[Ints, Floats]:
        """Floor (an index on the grid) and probability; `BettingCertificates.next_plan`."""
        as_many = np.where(each.errors > 0, pdtrc(each.errors - 1.0, each.amount), 1.0)
        loosest = GRID - 1 - np.argmax((as_many >= REFUTED)[:, ::-1], axis=1)
        loosest = np.where((as_many >= REFUTED).any(1), loosest, 0)
        floor = np.where(everything, GRID - 1, np.maximum(loosest, each.held() - 1))
        share = np.broadcast_to(each.version.share, (self.runs, GRID))
        reach = share[np.arange(self.runs), floor]
        probability = np.minimum(1, self.rates(each.audits, begin) / np.maximum(reach, 1e-9))
        return floor, np.where(everything, 1.0, probability)

    def adopt(self, version: Version) -> None:
        """Begin a version: old audits that every item could have had are scored anew."""
        each = _Evidence(version, self.runs, len(self.evidence) + 1)
        past = slice(0, version.born)
        usable = self.drawn if self.method is not Method.SECONDLOOK else self.drawn & self.full
        seen = usable[:, past] & (np.arange(version.born) >= self.start[:, None])
        if version.born:
            each.errors += each.counts(seen & self.world.wrong[:, past], past)
            count = seen.sum(1)[:, None]
            each.audits += seen.sum(1)
            if self.method is Method.SECONDLOOK:
                each.amount += -np.log1p(-self.alpha) * (count - each.errors)
            else:
                each.amount += count
        self.evidence.append(each)

    def detect(self, watched: Bools, wrong: Bools, end: int) -> None:
        """Run the drift detector over the audits of accepted items; revoke where it says so."""
        if self.method in {Method.EXACT, Method.NAIVE} or self.world.audited_first is not None:
            return
        share = np.maximum(self.shares(), 1e-9)
        rate = np.minimum(self.alpha / share, 1.0)
        peak = np.zeros(self.runs)
        order = np.cumsum(watched, axis=1)
        for turn in range(1, int(order[:, -1].max(initial=0)) + 1):
            rows, columns = np.nonzero(watched & (order == turn))
            useful = rate[rows] < 1
            rows, columns = rows[useful], columns[useful]
            self.drift[rows] = advance(self.drift[rows], wrong[rows, columns], rate[rows])
            peak[rows] = np.maximum(peak[rows], self.drift[rows].mean(1))
        gone = peak >= REVOKE_AT
        if gone.any():
            self.revoked |= gone
            self.start[gone] = end
            for each in self.evidence:
                each.reset(gone, len(self.world.versions))
            self.spent[gone], self.drift[gone] = 0, 0.0

    def shares(self) -> Floats:
        """Accepted share of the policy in force in each run."""
        out = np.zeros(self.runs)
        for index, each in enumerate(self.evidence):
            rows = np.flatnonzero((self.active == index) & (self.held > 0))
            table = np.broadcast_to(each.version.share, (self.runs, GRID))
            out[rows] = table[rows, self.held[rows] - 1]
        return out

    def risks(self, tick: int) -> Floats:
        """True delivered error of the policy in force in each run."""
        out = np.zeros(self.runs)
        for index, each in enumerate(self.evidence):
            rows = np.flatnonzero((self.active == index) & (self.held > 0))
            table = each.version.risk[:, min(tick, each.version.risk.shape[1] - 1)]
            out[rows] = np.broadcast_to(table, (self.runs, GRID))[rows, self.held[rows] - 1]
        return out

    def choose(self) -> None:
        """The version with the largest certified share is in force; a tie keeps the present one."""
        best = np.zeros(self.runs)
        chosen, held = np.full(self.runs, -1), np.zeros(self.runs, np.int64)
        for index, each in enumerate(self.evidence):
            count = each.held()
            table = np.broadcast_to(each.version.share, (self.runs, GRID))
            share = np.where(count > 0, table[np.arange(self.runs), count - 1], 0.0)
            better = (share > best) | ((share == best) & (share > 0) & (self.active == index))
            chosen, held = np.where(better, index, chosen), np.where(better, count, held)
            best = np.where(better, share, best)
        self.active, self.held = chosen, held


def run(
    world: World, method: Method, *, alpha: float, delta: float, budget: int = 1_000
) -> Outcome:
    """Run a method on a world; `budget` is the number of audits at which the share is read."""
    project = _Project(world, method, alpha=alpha, delta=delta)
    runs, items = world.wrong.shape
    drawn = np.zeros(runs, np.int64)
    share, extra = np.full(runs, np.nan), np.full(runs, np.nan)
    bad = np.zeros(runs)
    stops = [*range(RETUNE_EVERY, items, RETUNE_EVERY), items]
    if world.audited_first is not None:
        stops = sorted({each for each in stops if each < world.audited_first})
        stops.append(world.audited_first)
    begin = 0
    for tick, stop in enumerate(stops):
        project.step(slice(begin, stop))
        drawn += project.drawn[:, begin:stop].sum(1)
        bad += project.risks(tick) > alpha * (1 + 1e-9)
        spent = np.isnan(share) & (drawn >= budget) & (world.audited_first is None)
        share[spent] = project.shares()[spent]
        spent = np.isnan(extra) & (project.extra >= budget)
        extra[spent] = project.shares()[spent]
        begin = stop
    final = project.shares()
    return Outcome(
        ever_invalid=bad > 0,
        share=np.where(np.isnan(share), final, share),
        share_extra=extra,
        final_share=final,
        audits=drawn,
        revoked=project.revoked,
        invalid_time=bad / len(stops),
    )
