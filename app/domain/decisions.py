"""Questions that an endpoint answers with probabilities instead of tokens, and what it answers.

The form is that of OpenAI's Decisions API: a `choice` among options, or a `predicate` that is true
or not; each may be refused. It comes from somebody else's server, so anything may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.domain.confidence import EXCESS, LabelMass
from app.domain.labels import Label
from app.domain.unknown import Unknown, UnknownReason, Unusable

MAX_CHOICES: Final = 255
MAX_QUESTIONS: Final = 400

_REFUSED: Final = Unusable(UnknownReason.REFUSAL, "The model refused to answer.")


@dataclass(frozen=True, slots=True)
class Choose:
    """Asks which of the labels, 2 to 255, it is."""

    name: str
    instructions: str
    labels: tuple[Label, ...]

    def to_json(self) -> dict[str, Any]:
        choices = [
            {"value": label.name, "description": label.description}
            if label.description
            else {"value": label.name}
            for label in self.labels
        ]
        return {
            "type": "choice",
            "name": self.name,
            "instructions": self.instructions,
            "choices": choices,
        }


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks whether a statement is true."""

    name: str
    instructions: str

    def to_json(self) -> dict[str, Any]:
        return {"type": "predicate", "name": self.name, "instructions": self.instructions}


Question = Choose | Judge


@dataclass(frozen=True, slots=True)
class Chosen:
    """An answer to `Choose`.

    Attributes:
        name: of the question.
        value: what was chosen; may be none of the labels.
        masses: the probability of each option that is listed, summing to at most 1 but for
            rounding; or why there are none to go by.
    """

    name: str
    value: str
    masses: tuple[LabelMass, ...] | Unknown


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer to `Judge`: the probability, in [0, 1], that the statement is true."""

    name: str
    probability: float


Answer = Chosen | Judged


def read_answers(answers: object, questions: Sequence[Question]) -> tuple[Answer, ...] | Unusable:
    """The answers, one a question and in their order.

    A refusal of one question is one of the item: a value needs them all.

    Args:
        answers: the decoded `answers` of the endpoint's document.
        questions: that it was asked.
    """
    if not isinstance(answers, list) or len(answers) != len(questions):
        return Unusable(UnknownReason.WRONG_SHAPE, "There is not one answer for each question.")
    read: list[Answer] = []
    for answer, question in zip(answers, questions, strict=True):
        one = _read(answer, question)
        if isinstance(one, Unusable):
            return one
        read.append(one)
    return tuple(read)


def _read(answer: object, question: Question) -> Answer | Unusable:
    match question, answer:
        case _, {"type": "refusal"}:
            return _REFUSED
        case Choose(name=name), {"type": "choice", "choice": str() as value, **others}:
            return Chosen(name, value, _masses(others.get("probabilities")))
        case Judge(name=name), {"type": "predicate", "probability": probability}:
            number = _probability(probability)
            if number is None:
                return Unusable(
                    UnknownReason.WRONG_SHAPE, "A probability is not a number from 0 to 1."
                )
            return Judged(name, number)
    return Unusable(UnknownReason.WRONG_SHAPE, "An answer is not of its question's type.")


def _masses(listed: object) -> tuple[LabelMass, ...] | Unknown:
    if not isinstance(listed, list) or not listed:
        return Unknown(UnknownReason.NO_ALTERNATIVES, "The answer has no probabilities.")
    masses = []
    for entry in listed:
        option = entry if isinstance(entry, Mapping) else {}
        number = _probability(option.get("probability"))
        if number is None:
            return Unknown(
                UnknownReason.NOT_A_DISTRIBUTION, "A probability is not a number from 0 to 1."
            )
        value = option.get("value")
        # options are strings here; `true` is none of ours
        masses.append(LabelMass(value if isinstance(value, str) else "", number))
    total = math.fsum(mass for _, mass in masses)
    if total > 1.0 + EXCESS:
        return Unknown(UnknownReason.NOT_A_DISTRIBUTION, "The probabilities sum to more than 1.")
    if total <= 1.0:
        return tuple(masses)
    # rounding above 1 is taken back here, so that no sum of masses can exceed 1
    return tuple(LabelMass(value, mass / total) for value, mass in masses)


def _probability(value: object) -> float | None:
    """The number, if it is one from 0 to 1; above by no more than rounding it is 1."""
    if type(value) is not float and type(value) is not int:
        return None
    return min(float(value), 1.0) if 0 <= value <= 1.0 + EXCESS else None
