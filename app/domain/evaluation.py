"""What a log of judged predictions says: how good, how well ranked, and how much may be automatic.

Two populations, never mixed. Accuracy, AUROC, AURC, ECE and Brier speak of the whole log. What may
be accepted is learned from audits, a random part of the log, and measured on the rest of it, as a
service would: there the certified share stands beside the oracle's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from app.domain.guarantee import Certificates, Missing, Mode, threshold_grid
from app.domain.intervals import LEVEL, Estimate, Population, wilson
from app.domain.ranking import auroc, rank
from app.domain.reliability import Reliability, reliability
from app.domain.selective import (
    AreaUnderRiskCoverage,
    Oracle,
    RiskCoverage,
    area_under_risk_coverage,
    oracle,
    risk_coverage,
)

WHOLE_LOG = "all items of the log"
MEASURED = "the items of the log that were not audited"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of one log at one target.

    Attributes:
        n: Items in the log.
        unknown: Items without a confidence; they rank last and are never accepted.
        target: Accuracy asked for.
        delta: Probability that the certified threshold breaks the target.
        accuracy: Share of right labels.
        auroc: Chance that a right label ranks above a wrong one.
        area: AURC and its excess over the perfect ranking.
        calibration: ECE, Brier and the reliability diagram.
        audits_used: Items drawn at random and used to certify.
        threshold: Confidence from which a label is accepted; None if nothing was certified.
        missing: What a first certificate still needs; None once there is one, and where no item
            has a confidence.
        certified_share: Share accepted at the threshold, of the items not audited.
        delivered_error: Share accepted and wrong, of the items not audited.
        oracle: The largest share anybody could accept, delivered error within 1 - target.
        oracle_accepted_only: The same for the accuracy among what is accepted.
        curve: Risk-coverage curve of the items not audited.
    """

    n: int
    unknown: int
    target: float
    delta: float
    accuracy: Estimate
    auroc: Estimate
    area: AreaUnderRiskCoverage
    calibration: Reliability
    audits_used: int
    threshold: float | None
    missing: Missing | None
    certified_share: Estimate
    delivered_error: Estimate
    oracle: Oracle
    oracle_accepted_only: Oracle
    curve: RiskCoverage


def evaluate(
    confidences: ArrayLike,
    correct: ArrayLike,
    *,
    rng: np.random.Generator,
    target: float = 0.99,
    delta: float = 0.1,
    audits: int | None = None,
    level: float = LEVEL,
) -> Evaluation:
    """Certify on randomly drawn audits, measure on the rest.

    The log has one score, so one score version exists and spends all of `delta`; a service that
    may retrain its score spends less on each version.

    Args:
        confidences: Shape [n], in [0, 1]; NaN is unknown.
        correct: Shape [n], boolean.
        rng: Draws the audits and their order.
        target: Accuracy asked for, delivered: of all items at most 1 - target are accepted and
            wrong. In (0, 1).
        delta: Probability that this is broken, in (0, 1).
        audits: Items to certify on, 1 ... n - 1; half of the log when None.
        level: Two-sided coverage of the intervals.

    Raises:
        ValueError: Fewer than two items, or an argument outside its range.
    """
    values, right = np.asarray(confidences, float), np.asarray(correct, bool)
    n = len(values)
    if n < 2:
        raise ValueError("at least two items are needed, one to audit and one to measure")
    if not (0 < target < 1 and 0 < delta < 1):
        raise ValueError(f"target {target} and delta {delta} must lie between 0 and 1")
    used = n // 2 if audits is None else audits
    if not 0 < used < n:
        raise ValueError(f"audits must leave items to measure: 1 to {n - 1}, not {used}")
    scores = np.where(np.isnan(values), -np.inf, values)
    order = rng.permutation(n)
    audited, rest = order[:used], order[used:]
    whole, measured = Population(WHOLE_LOG, n), Population(MEASURED, n - used)

    certificates = Certificates.start(
        threshold_grid(scores[rest]), alpha=1 - target, delta=delta
    ).add_all(scores[audited], ~right[audited])
    threshold = certificates.threshold
    accepted = scores[rest] >= (np.inf if threshold is None else threshold)
    accepted_wrong = int((accepted & ~right[rest]).sum())

    everything = rank(scores, right, population=whole)
    left = rank(scores[rest], right[rest], population=measured)
    return Evaluation(
        n=n,
        unknown=int(np.isnan(values).sum()),
        target=target,
        delta=delta,
        accuracy=wilson(int(right.sum()), n, population=whole, level=level),
        auroc=auroc(everything, level=level),
        area=area_under_risk_coverage(everything, level=level),
        calibration=reliability(values, right, population=whole, level=level),
        audits_used=used,
        threshold=threshold,
        missing=certificates.missing(),
        certified_share=wilson(int(accepted.sum()), n - used, population=measured, level=level),
        delivered_error=wilson(accepted_wrong, n - used, population=measured, level=level),
        oracle=oracle(left, target=target, level=level),
        oracle_accepted_only=oracle(left, target=target, mode=Mode.ACCEPTED_ONLY, level=level),
        curve=risk_coverage(left, level=level),
    )
