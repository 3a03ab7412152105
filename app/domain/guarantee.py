"""Certificates: thresholds whose delivered error is at most alpha, at any time they are looked at.

The idea stands on a page in docs/guarantee.md. In short: audits are items picked by a coin that
knows nothing of them and reviewed blind. For a threshold t they give Bernoulli trials "accepted and
wrong" with rate R(t). An e-process is a bet against R(t) > alpha; its wealth exceeds 1/delta with
probability at most delta over all time (Ville), so the certificates may be re-tuned after every
review and, once won, stay.

Sources: Howard, Ramdas, McAuliffe and Sekhon 2021 (beta-binomial mixtures); Angelopoulos, Bates,
Candes, Jordan and Lei, Learn then Test (fixed sequence); Clopper and Pearson 1934 (one look).
Logarithms are natural. A score is a real number, larger is more certain, and an item is accepted at
`score >= threshold`; an unknown confidence is the score -inf and is never accepted.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, betaln

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Mode(Enum):
    """What alpha is a share of."""

    DELIVERED = "delivered"
    """Of all items received: P(accepted and wrong) <= alpha. Monotone in the threshold."""
    ACCEPTED_ONLY = "accepted_only"
    """Of the items accepted: P(wrong | accepted) <= alpha. Not monotone, and dear at 99%."""


class AlreadyLookedError(RuntimeError):
    """The exact binomial test was asked a second time; its error rate holds for one look."""


def spent_delta(delta: float, version: int) -> float:
    """The share of delta that score version 1, 2, ... may spend: delta * 6 / (pi^2 v^2).

    The shares of all versions sum to delta, so any number may be tried, promoted or not.
    Raises ValueError for a version below 1 or a delta outside (0, 1).
    """
    if version < 1:
        raise ValueError(f"score versions are numbered from 1, not {version}")
    if not 0 < delta < 1:
        raise ValueError(f"delta is a probability between 0 and 1, not {delta}")
    return delta * 6 / (math.pi * version) ** 2


def log_e_value(errors: ArrayLike, n: ArrayLike, alpha: ArrayLike) -> Floats:
    """Log wealth of the beta-binomial mixture against "the error rate exceeds alpha".

    Jeffreys' prior Beta(1/2, 1/2) truncated to rates below alpha, over the likelihood at alpha.
    The arguments broadcast: `errors` among `n` trials, 0 <= errors <= n. Where errors > alpha * n,
    or alpha is not positive, the answer is -inf: such trials never certify anything. Where they do
    not, the incomplete beta function is of the order of one half or more, so its logarithm cannot
    underflow at any n. An alpha of 1 or more gives +inf, as the claim is empty.
    """
    k, total, level = np.broadcast_arrays(
        np.asarray(errors, float), np.asarray(n, float), np.asarray(alpha, float)
    )
    out = np.full(k.shape, -np.inf)
    out[level >= 1] = np.inf
    bet = (level > 0) & (level < 1) & (k <= level * total)
    k, rest, level = k[bet], (total - k)[bet], level[bet]
    prior_mass = 2 / math.pi * np.arcsin(np.sqrt(level))  # I_alpha(1/2, 1/2) in closed form
    out[bet] = (
        betaln(k + 0.5, rest + 0.5)
        + np.log(betainc(k + 0.5, rest + 0.5, level))
        - math.log(math.pi)  # betaln(1/2, 1/2)
        - np.log(prior_mass)
        - k * np.log(level)
        - rest * np.log1p(-level)
    )
    return out


def audits_needed(alpha: float, delta: float, errors: int = 0) -> int:
    """Smallest number of audits that certify alpha at delta with so many errors among them.

    `delta` is what the score version may spend (`spent_delta`). With no error, 95 / 98 / 99% take
    70 / 177 / 355 audits at the first version's share of 0.1. Raises ValueError outside (0, 1).
    """
    if not (0 < alpha < 1 and 0 < delta < 1):
        raise ValueError("alpha and delta are probabilities between 0 and 1")
    need = -math.log(delta)
    low, high = errors, max(16, 2 * errors)
    while log_e_value(errors, high, alpha) < need:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if log_e_value(errors, middle, alpha) < need:
            low = middle
        else:
            high = middle
    return high


def threshold_grid(scores: ArrayLike, size: int = 100) -> Floats:
    """At most `size` candidate thresholds, strict to loose, at even quantiles of the scores.

    The scores must be of items that are not audited (or come before any audit), since a grid that
    has seen the verdicts voids the guarantee. Each threshold is an observed score, so ties are
    accepted or reviewed together; equal quantiles collapse. Scores of -inf count in the quantiles
    and never become a threshold; NaN is refused. No known score at all gives an empty grid.
    """
    values = np.sort(np.asarray(scores, float))
    if np.isnan(values).any():
        raise ValueError("an unknown confidence is -inf, not NaN")
    if values.size == 0:
        return values
    ranks = np.arange(size) * values.size // size
    grid = np.unique(values[ranks])[::-1]
    return grid[grid > -np.inf].copy()


def accepted_share(scores: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Share of the scores at or above each threshold; 0 where there are no scores."""
    values = np.sort(np.asarray(scores, float))
    below = np.searchsorted(values, np.asarray(thresholds, float), side="left")
    return np.asarray((values.size - below) / max(values.size, 1), float)


def observed_alpha(alpha: float, accepted: ArrayLike, reviewer_error: float) -> Floats:
    """The rate to certify on observed verdicts so that the true rate is at most alpha.

    Reviewers err at rate h on any item, which hides some wrong labels and accuses some right ones:
    certify R(t) <= (1 - h)(alpha - h(1 - c(t))), c(t) the accepted share. A level of 0 or less
    cannot be certified by any number of audits. h = 0 makes the promise "agreement with your
    reviewers". Raises ValueError for h outside [0, 1).
    """
    if not 0 <= reviewer_error < 1:
        raise ValueError(f"a reviewer error rate lies in [0, 1), not {reviewer_error}")
    h = reviewer_error
    return (1 - h) * (alpha - h * (1 - np.asarray(accepted, float)))


def accepted_error_bound(alpha: float, accepted: float) -> float:
    """Bound on the error rate within what is accepted: alpha / c, at most 1; 1 if nothing is."""
    return min(1.0, alpha / accepted) if accepted > 0 else 1.0


def delivered_so_far_bound(alpha: float, accepted: float, *, received: int, left: int) -> float:
    """Bound on the error rate of what has left so far, while the rest still waits.

    min(alpha / c, alpha * received / left): what leaves first is richer in accepted items. Only at
    a bound of alpha or less may one say "99% of what leaves here is right". 0 if nothing has left.
    """
    if left <= 0:
        return 0.0
    return min(accepted_error_bound(alpha, accepted), alpha * received / left)


@dataclass(frozen=True)
class Missing:
    """What stands between a project and its first certificate, in numbers."""

    target: float
    """The accuracy asked for, 1 - alpha."""
    counted: int
    """Audits counted so far."""
    errors: int
    """Errors among them at or above the strictest threshold."""
    more_audits: int | None
    """Further audits that certify the strictest threshold if none errs; None: no number does.
    In `ACCEPTED_ONLY` only audits at or above it count."""

    def __str__(self) -> str:
        """The sentence for people."""
        target = f"{100 * self.target:.4g}%"
        if self.more_audits is None:
            return f"no number of audits can certify {target} at this reviewer error rate"
        return f"{self.more_audits} more audits with no error would certify {target}"


class Walk:
    """Reading certificates off a grid: from strict to loose, stopping at the first failure.

    Stopping there is what makes one delta enough for the whole grid: an invalid threshold can be
    accepted only if the strictest invalid one was certified (fixed-sequence testing).
    """

    thresholds: Floats
    peak: Floats
    """Highest log e-value so far, from 0; a certificate, once won, persists."""
    delta: float

    @property
    def certified(self) -> Bools:
        """Which thresholds are certified, strict to loose."""
        return np.logical_and.accumulate(self.peak >= -math.log(self.delta))

    @property
    def threshold(self) -> float | None:
        """The loosest certified threshold; None while nothing is certified."""
        held = int(self.certified.sum())
        return float(self.thresholds[held - 1]) if held else None


@dataclass(frozen=True, eq=False)
class Certificates(Walk):
    """The certificates of one score version on a frozen grid; a value, `add` gives the next one.

    All arrays run along the grid, strict to loose. Adding costs the same at any number of audits:
    only counts and the highest wealth so far are kept, never the audits themselves. So a revised
    audit is not an update: recompute by `start(...).add_all(...)` over the stored pairs in rank
    order, and `withdrawn` names what no longer holds.
    """

    thresholds: Floats
    levels: Floats
    """The rate certified at each threshold: alpha, lowered for reviewer error."""
    alpha: float
    delta: float
    mode: Mode
    n: Ints
    """Trials: audits counted, in `ACCEPTED_ONLY` those at or above the threshold."""
    errors: Ints
    peak: Floats
    counted: int = 0

    @classmethod
    def start(
        cls,
        thresholds: ArrayLike,
        *,
        alpha: float,
        delta: float,
        mode: Mode = Mode.DELIVERED,
        reviewer_error: float = 0.0,
        accepted: ArrayLike = 1.0,
    ) -> "Certificates":
        """No audits yet, on a grid from `threshold_grid`.

        `delta` is this score version's share. `accepted` (share at each threshold) matters only
        with a reviewer error, which needs the default mode. Raises ValueError for a grid that is
        not strictly decreasing or a probability outside its range.
        """
        grid = np.array(thresholds, float)
        if grid.ndim != 1 or np.any(np.diff(grid) >= 0):
            raise ValueError("thresholds must fall strictly, from strict to loose")
        if not (0 < alpha < 1 and 0 < delta < 1):
            raise ValueError("alpha and delta are probabilities between 0 and 1")
        if mode is Mode.ACCEPTED_ONLY and reviewer_error:
            raise ValueError("a reviewer error rate can be allowed for in the delivered mode only")
        levels = np.broadcast_to(observed_alpha(alpha, accepted, reviewer_error), grid.shape)
        zeros = np.zeros(grid.size, np.int64)
        return cls(
            thresholds=grid,
            levels=np.array(levels),
            alpha=alpha,
            delta=delta,
            mode=mode,
            n=zeros,
            errors=zeros.copy(),
            peak=np.zeros(grid.size),
        )

    def add(self, score: float, wrong: bool) -> "Certificates":  # noqa: FBT001 - the pair is the datum
        """These certificates after one more audit in rank order; an unknown score is -inf."""
        reached = self.thresholds <= score
        n = self.n + (reached if self.mode is Mode.ACCEPTED_ONLY else 1)
        errors = self.errors + (reached & wrong)
        peak = np.maximum(self.peak, log_e_value(errors, n, self.levels))
        return replace(self, n=n, errors=errors, peak=peak, counted=self.counted + 1)

    def add_all(self, scores: ArrayLike, wrong: ArrayLike) -> "Certificates":
        """These certificates after many audits, in order; the same as adding them one by one.

        Between two errors above a threshold its wealth only grows, so the highest wealth stands
        just before an error or at the end, and nothing else is evaluated.
        """
        values, bad = np.asarray(scores, float), np.asarray(wrong, bool)
        n, errors, peak = self.n.copy(), self.errors.copy(), self.peak.copy()
        for j, threshold in enumerate(self.thresholds):
            reached = values >= threshold
            is_trial = reached if self.mode is Mode.ACCEPTED_ONLY else np.ones_like(reached)
            trials = self.n[j] + np.cumsum(is_trial)
            at_error = np.flatnonzero(reached & bad)
            # the state before the i-th new error: one trial and i errors fewer than after it
            before = log_e_value(
                self.errors[j] + np.arange(at_error.size), trials[at_error] - 1, self.levels[j]
            )
            n[j] += is_trial.sum()
            errors[j] += at_error.size
            moments = [before[trials[at_error] - 1 > self.n[j]]]
            if is_trial.any():
                moments.append(np.atleast_1d(log_e_value(errors[j], n[j], self.levels[j])))
            peak[j] = max(peak[j], *(m.max() for m in moments if m.size), -np.inf)
        return replace(self, n=n, errors=errors, peak=peak, counted=self.counted + values.size)

    def missing(self) -> Missing | None:
        """What the strictest threshold still needs; None once it is certified or without a grid."""
        if not self.thresholds.size or self.certified[0]:
            return None
        more = None
        if self.levels[0] > 0:
            needed = audits_needed(float(self.levels[0]), self.delta, int(self.errors[0]))
            more = needed - int(self.n[0])
        return Missing(1 - self.alpha, self.counted, int(self.errors[0]), more)


def withdrawn(before: Walk, after: Walk) -> Floats:
    """Thresholds certified before a recomputation and no longer after it, strict to loose."""
    lost = np.isin(before.thresholds, after.thresholds[after.certified], invert=True)
    return before.thresholds[before.certified & lost]


def clopper_pearson_upper(errors: ArrayLike, n: ArrayLike, delta: float) -> Floats:
    """Upper confidence limit at 1 - delta for a binomial rate; 1 where errors = n."""
    k, total = np.broadcast_arrays(np.asarray(errors, float), np.asarray(n, float))
    limit = np.ones(k.shape)
    some = k < total
    limit[some] = betaincinv(k[some] + 1, (total - k)[some], 1 - delta)
    return limit


@dataclass(frozen=True, eq=False)
class OneLook:
    """The exact binomial test: the tightest certificate there is, and it may be looked at once.

    Peeking every 200 items made it invalid in up to 20% of runs at a delta of 0.1
    (docs/guarantee.md), hence the refusal. A value: the caller keeps the one that `certify`
    returns, with the audits it belongs to.
    """

    thresholds: Floats
    alpha: float
    delta: float
    looked: bool = False
    threshold: float | None = None
    """The loosest certified threshold, once looked; None if there is none."""

    def certify(self, scores: ArrayLike, wrong: ArrayLike) -> "OneLook":
        """The look, in the delivered mode. Raises AlreadyLookedError the second time."""
        if self.looked:
            raise AlreadyLookedError("the exact test was already looked at; use the e-process")
        values, bad = np.asarray(scores, float), np.asarray(wrong, bool)
        grid = np.asarray(self.thresholds, float)
        errors = bad.sum() - np.searchsorted(np.sort(values[bad]), grid, side="left")
        passed = clopper_pearson_upper(errors, values.size, self.delta) <= self.alpha
        held = int(np.logical_and.accumulate(passed).sum())
        threshold = float(grid[held - 1]) if held else None
        return replace(self, looked=True, threshold=threshold)
