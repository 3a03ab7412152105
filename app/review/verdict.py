"""The counters that a verdict moves: what agreement is later read from, at any size in no time."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from app.domain.agreement import confidence_bin
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


def verdict_deltas(
    *, schema_version: int, confidence: float | None, predicted: int | None, actual: int
) -> dict[str, int]:
    """What one person's verdict that completes an item adds to the project's counters."""
    cell = AgreementCell(schema_version, confidence_bin(confidence), predicted, actual)
    return {cell.name(): 1, **state_deltas(Transition.COMPLETE, 1)}
