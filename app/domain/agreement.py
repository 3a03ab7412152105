"""Agreement of the model with people, from counts.

Everything here is computed from a confusion matrix of counts, so it is as quick at a million
reviews as at ten. The figures speak of the population given and of no other: reviews come mostly
from low confidence, so agreement over reviewed items says little about all items (`weighted` does
that).
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.domain.intervals import LEVEL, Estimate, Population, f1, wilson
from app.domain.kappa import cohen_kappa, count_table

CONFIDENCE_BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
"""Edges of the confidence bins: closed below, open above, the last one closed at 1."""

UNKNOWN_BIN = len(CONFIDENCE_BINS) - 1
"""Index of the bin of items whose confidence is unknown; it follows the known ones."""

BIN_COUNT = UNKNOWN_BIN + 1


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """How model and people agree on one label.

    Attributes:
        label: The label.
        support: Items that people gave it.
        predicted: Items that the model gave it.
        precision: Of those the model gave it, the share that people gave it too.
        recall: Of those people gave it, the share that the model gave it too.
        f1: Harmonic mean of the two.
    """

    label: str
    support: int
    predicted: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True, slots=True)
class ModelAgreement:
    """Model against people over the items that both labelled.

    Attributes:
        labels: The labels, in the order of the matrix.
        confusion: Counts as a tuple of rows: `confusion[predicted][actual]`.
        n: Items with a label from both; every estimate speaks of these.
        unanswered: Items that people labelled and the model did not (refusal, failure); they are
            in no estimate.
        accuracy: Share on which both agree.
        kappa: Cohen's kappa.
        by_label: One entry a label, in the order of `labels`.
    """

    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    n: int
    unanswered: int
    accuracy: Estimate
    kappa: Estimate
    by_label: tuple[LabelAgreement, ...]


@dataclass(frozen=True, slots=True)
class BinAgreement:
    """Agreement in one bin of confidence.

    Attributes:
        low: Lower edge, closed; None for the bin of unknown confidence.
        high: Upper edge, open but for the last bin's; None for the bin of unknown confidence.
        n: Items in the bin that both labelled.
        correct: Those on which model and people agree.
        agreement: Their share.
        mean_confidence: Mean confidence in the bin; None when empty, unknown or not given.
    """

    low: float | None
    high: float | None
    n: int
    correct: int
    agreement: Estimate
    mean_confidence: float | None


def confidence_bin(value: float | None) -> int:
    """Index of the bin a confidence falls into; `UNKNOWN_BIN` for None.

    Raises:
        ValueError: The value is NaN or outside [0, 1].
    """
    if value is None:
        return UNKNOWN_BIN
    if not 0 <= value <= 1:
        raise ValueError("a confidence lies in [0, 1]")
    return min(bisect.bisect_right(CONFIDENCE_BINS, value), UNKNOWN_BIN) - 1


def bin_words(index: int) -> str:
    """The bin of that index in words."""
    if index == UNKNOWN_BIN:
        return "confidence unknown"
    low, high = CONFIDENCE_BINS[index : index + 2]
    closing = "]" if index == UNKNOWN_BIN - 1 else ")"
    return f"confidence in [{low:g}, {high:g}{closing}"


def by_confidence_bin(
    correct: Sequence[int],
    n: Sequence[int],
    *,
    population: Population,
    confidence_sum: Sequence[float] | None = None,
    level: float = LEVEL,
) -> tuple[BinAgreement, ...]:
    """Agreement in each confidence bin, with Wilson's interval.

    Args:
        correct: `BIN_COUNT` counts of agreement, by `confidence_bin`.
        n: `BIN_COUNT` counts of items.
        population: What the items are.
        confidence_sum: `BIN_COUNT` sums of the items' confidences; the unknown bin's is ignored.
        level: Two-sided coverage.

    Raises:
        ValueError: Not `BIN_COUNT` of each, or more agreements than items in a bin.
    """
    sums = [0.0] * BIN_COUNT if confidence_sum is None else list(confidence_sum)
    if not len(correct) == len(n) == len(sums) == BIN_COUNT:
        raise ValueError(f"one count for each of the {BIN_COUNT} bins")
    complete = population.of == sum(n)
    bins = []
    for index in range(BIN_COUNT):
        known = index != UNKNOWN_BIN
        low, high = CONFIDENCE_BINS[index : index + 2] if known else (None, None)
        part = population.part(bin_words(index), of=n[index] if complete else None)
        has_mean = known and confidence_sum is not None and n[index] > 0
        bins.append(
            BinAgreement(
                low=low,
                high=high,
                n=n[index],
                correct=correct[index],
                agreement=wilson(correct[index], n[index], population=part, level=level),
                mean_confidence=sums[index] / n[index] if has_mean else None,
            )
        )
    return tuple(bins)


def model_agreement(
    confusion: npt.ArrayLike,
    *,
    labels: Sequence[str],
    population: Population,
    unanswered: int = 0,
    level: float = LEVEL,
) -> ModelAgreement:
    """All agreement figures of a model against people.

    Accuracy, precision and recall have Wilson's interval, F1 the one of `intervals.f1`, kappa the
    one of `cohen_kappa`. A label that the model never gave has no precision (value None, interval
    (0, 1)), one that people never gave has no recall.

    Args:
        confusion: Whole counts, shape [predicted, actual], in the order of `labels`.
        labels: The label set.
        population: What the counted items are; `of` equal to their number says that they are all
            of it.
        unanswered: Items that people labelled but the model did not: counted apart.
        level: Two-sided coverage.

    Raises:
        ValueError: The matrix is not square over the labels, or holds anything but counts.
    """
    table = count_table(confusion, len(labels))
    if unanswered < 0:
        raise ValueError("unanswered items cannot be negative")
    n = int(table.sum())
    agreed = int(np.trace(table))
    return ModelAgreement(
        labels=tuple(labels),
        confusion=tuple(tuple(int(cell) for cell in row) for row in table),
        n=n,
        unanswered=unanswered,
        accuracy=wilson(agreed, n, population=population, level=level),
        kappa=cohen_kappa(table, population=population, level=level),
        by_label=tuple(
            _label_agreement(table, index, label, population=population, level=level)
            for index, label in enumerate(labels)
        ),
    )


def _label_agreement(
    table: npt.NDArray[np.int64],
    index: int,
    label: str,
    *,
    population: Population,
    level: float,
) -> LabelAgreement:
    both = int(table[index, index])
    predicted, support = int(table[index].sum()), int(table[:, index].sum())
    union = predicted + support - both
    complete = population.of == int(table.sum())

    def part(what: str, size: int) -> Population:
        return population.part(what, of=size if complete else None)

    return LabelAgreement(
        label=label,
        support=support,
        predicted=predicted,
        precision=wilson(
            both,
            predicted,
            population=part(f"labelled {label} by the model", predicted),
            level=level,
        ),
        recall=wilson(
            both, support, population=part(f"labelled {label} by people", support), level=level
        ),
        f1=f1(
            both,
            union,
            population=part(f"labelled {label} by the model or by people", union),
            level=level,
        ),
    )
