"""The counters that a verdict moves: what agreement is later read from, at any size in no time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from app.domain.agreement import confidence_bin
from app.domain.compared import tally
from app.domain.kinds.base import LabelSchema
from app.domain.states import Transition, state_deltas

PREFIX = "agreement."
_NONE = "-"


@dataclass(frozen=True, slots=True)
class AgreementCell:
    """One cell of the agreement counters.

    Attributes:
        schema_version: version of the label schema both spoke in.
        bin: index of the confidence bin, as `confidence_bin` gives it.
        predicted: index of the model's label in the schema; None where it gave none.
        actual: index of the reviewer's label.
    """

    schema_version: int
    bin: int
    predicted: int | None
    actual: int

    def name(self) -> str:
        """The counter's name."""
        predicted = _NONE if self.predicted is None else self.predicted
        return f"{PREFIX}{self.schema_version}.{self.bin}.{predicted}.{self.actual}"

    @classmethod
    @functools.lru_cache(maxsize=50_000)
    def parse(cls, name: str) -> AgreementCell:
        """The inverse of `name`; remembered, since a report reads the same ones again and again."""
        version, bin_index, predicted, actual = name.removeprefix(PREFIX).split(".")
        return cls(
            int(version),
            int(bin_index),
            None if predicted == _NONE else int(predicted),
            int(actual),
        )


def compared_prefix(schema_version: int) -> str:
    """How the counters of values begin that are compared by one version of a schema."""
    return f"compared.{schema_version}."


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """What one person's verdict that completes an item comes to.

    Attributes:
        equal: whether model and person say the same; None where the model gave no value of the
            schema.
        deltas: what it adds to the project's counters.
        tally: the part of it that no confusion matrix tells, stored with the review so that it
            can be counted again; None for a kind that has one.
    """

    equal: bool | None
    deltas: dict[str, int]
    tally: dict[str, int] | None


def verdict_counts(
    schema: LabelSchema,
    *,
    version: int,
    confidence: float | None,
    predicted: Any | None,
    actual: Any,
) -> VerdictCounts:
    """What a verdict comes to.

    Comparing large values may take seconds: masks, long texts.

    Args:
        schema: in which both speak.
        version: the schema's.
        confidence: of the model's value; None where it is unknown.
        predicted: the model's value; None where it gave none of this schema.
        actual: the person's value.
    """
    moved = state_deltas(Transition.COMPLETE, 1)
    if schema.CONFUSION:
        positions = schema.part_names.index
        cell = AgreementCell(
            version,
            confidence_bin(confidence),
            None if predicted is None else positions(predicted),
            positions(actual),
        )
        equal = None if predicted is None else predicted == actual
        return VerdictCounts(equal, {cell.name(): 1, **moved}, None)
    compared = None if predicted is None else schema.compare(predicted, actual)
    counts = tally(compared, confidence=confidence)
    prefix = compared_prefix(version)
    named = {f"{prefix}{name}": count for name, count in counts.items()}
    equal = None if compared is None else compared.equal
    return VerdictCounts(equal, {**named, **moved}, named)
