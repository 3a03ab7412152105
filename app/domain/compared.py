"""Agreement of the model with people on values that are no single choice, from counts.

A verdict adds to counters, as it does to the confusion matrix of a single choice: whether the two
values are equal, each metric of the kind in millionths, and what model and person said of each
part. So a report costs the same at a million reviews as at ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from app.domain.agreement import BIN_COUNT, BinAgreement, by_confidence_bin, confidence_bin
from app.domain.intervals import (
    LEVEL,
    Estimate,
    Method,
    Population,
    f1,
    undefined,
    wilson,
    wilson_bounds,
)
from app.domain.kinds.base import Comparison, LabelSchema

MICRO: Final = 1_000_000
_EQUAL, _DIFFER, _NONE = "equal", "differ", "none"


@dataclass(frozen=True, slots=True)
class PartAgreement:
    """How model and people agree on one part: a label, a field.

    Attributes:
        part: its name.
        tp, fp, fn, tn: both said it, the model alone, people alone, neither.
        measures: of "accuracy", "precision", "recall" and "f1" those the kind tells.
    """

    part: str
    tp: int
    fp: int
    fn: int
    tn: int
    measures: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class ValueAgreement:
    """Model against people over the items that both labelled.

    Attributes:
        n: items with a value from both; every estimate speaks of these.
        unanswered: items that people labelled and the model did not, or by an earlier schema with
            what is no value of this one; in no estimate.
        accuracy: share on which both say the same.
        metrics: means of the kind's metrics.
        parts: one entry a part, in the schema's order.
        bins: accuracy by confidence.
    """

    n: int
    unanswered: int
    accuracy: Estimate
    metrics: Mapping[str, Estimate]
    parts: tuple[PartAgreement, ...]
    bins: tuple[BinAgreement, ...]


def tally(compared: Comparison | None, *, confidence: float | None) -> dict[str, int]:
    """What a verdict adds to the counters, by their names.

    Args:
        compared: the model's value with the person's; None where it gave none of the schema.
        confidence: of the model's value; None where it is unknown.
    """
    index = confidence_bin(confidence)
    if compared is None:
        return {f"{index}.{_NONE}": 1}
    counts = {f"{index}.{_EQUAL if compared.equal else _DIFFER}": 1}
    for name, value in compared.metrics.items():
        counts[f"metric.{name}"] = round(value * MICRO)
    for (part, what), count in compared.tallies.items():
        counts[f"part.{part}.{what}"] = count
    return {name: count for name, count in counts.items() if count}


def value_agreement(
    schema: LabelSchema,
    counts: Mapping[str, int],
    *,
    what: str,
    level: float = LEVEL,
) -> ValueAgreement:
    """All agreement figures from the sums of what `tally` gave.

    A metric's mean has Wilson's interval with the mean in place of a share: no variable in [0, 1]
    varies more than a coin of the same mean, so it is rather too wide. Parts are counted as if
    each had been drawn by itself; several of one item are alike, so theirs are rather too narrow.

    Args:
        schema: whose counts these are.
        counts: by name.
        what: the population in words.
        level: two-sided coverage.
    """
    correct = [counts.get(f"{index}.{_EQUAL}", 0) for index in range(BIN_COUNT)]
    wrong = [counts.get(f"{index}.{_DIFFER}", 0) for index in range(BIN_COUNT)]
    sizes = [right + other for right, other in zip(correct, wrong, strict=True)]
    n = sum(sizes)
    population = Population(what, of=n)
    return ValueAgreement(
        n=n,
        unanswered=sum(counts.get(f"{index}.{_NONE}", 0) for index in range(BIN_COUNT)),
        accuracy=wilson(sum(correct), n, population=population, level=level),
        metrics={
            name: _mean(counts.get(f"metric.{name}", 0), n, population=population, level=level)
            for name in schema.METRICS
        },
        parts=tuple(
            _part(schema.PART_MEASURES, index, name, counts, population=population, level=level)
            for index, name in enumerate(schema.part_names)
        ),
        bins=by_confidence_bin(correct, sizes, population=population, level=level),
    )


def _mean(micros: int, n: int, *, population: Population, level: float) -> Estimate:
    if n == 0:
        return undefined(population, level=level)
    mean = min(max(micros / MICRO / n, 0.0), 1.0)
    return Estimate(mean, *wilson_bounds(mean, n, level=level), level, n, Method.WILSON, population)


def _part(
    measures: Iterable[str],
    index: int,
    name: str,
    counts: Mapping[str, int],
    *,
    population: Population,
    level: float,
) -> PartAgreement:
    tp, fp, fn, tn = (counts.get(f"part.{index}.{word}", 0) for word in ("tp", "fp", "fn", "tn"))

    def of(words: str) -> Population:
        return population.part(words)

    told = {
        "accuracy": lambda: wilson(
            tp + tn, tp + fp + fn + tn, population=of(f"what was said of {name}"), level=level
        ),
        "precision": lambda: wilson(
            tp, tp + fp, population=of(f"{name} as the model says it"), level=level
        ),
        "recall": lambda: wilson(
            tp, tp + fn, population=of(f"{name} as people say it"), level=level
        ),
        "f1": lambda: f1(tp, tp + fp + fn, population=of(f"{name} as either says it"), level=level),
    }
    return PartAgreement(
        part=name,
        tp=tp,
        fp=fp,
        fn=fn,
        tn=tn,
        measures={measure: told[measure]() for measure in measures},
    )
