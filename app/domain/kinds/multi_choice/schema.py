"""The schema of `multi_choice`: asked for as a JSON object with a yes or no for every label."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from app.domain import decisions
from app.domain.answers import decode_answer
from app.domain.json_places import find_places
from app.domain.kinds.base import (
    Comparison,
    Decided,
    LabelSchema,
    Part,
    Score,
    ValueFaultError,
)
from app.domain.kinds.closed import described, labels_definition_schema, listed, parse_labels
from app.domain.kinds.decided import part_of
from app.domain.labels import LabelSet
from app.domain.leaves import LeafScore, Spelling, closed_leaf
from app.domain.literals import BOOLEAN
from app.domain.tokens import Token
from app.domain.unknown import Unknown, UnknownReason, Unusable


@dataclass(frozen=True)
class MultiChoiceSchema(LabelSchema):
    """None, some or all labels of a set; a value is the names that apply, in the set's order."""

    KIND: ClassVar[str] = "multi_choice"
    METRICS: ClassVar[tuple[str, ...]] = ("jaccard", "exact")
    PART_MEASURES: ClassVar[tuple[str, ...]] = ("precision", "recall", "f1")

    labels: LabelSet

    @classmethod
    def parse(cls, definition: Mapping[str, Any]) -> Self:
        return cls(parse_labels(definition))

    def definition(self) -> dict[str, Any]:
        return {"labels": self.labels.to_dicts()}

    @classmethod
    def definition_schema(cls) -> dict[str, Any]:
        return labels_definition_schema(cls.KIND, "Any number of a set of labels, also none.")

    @property
    def part_names(self) -> tuple[str, ...]:
        return self.labels.names

    @property
    def task(self) -> str:
        return (
            "Say of every label whether it applies to the item that stands between <item> and "
            "</item>. Several may apply, or none; decide each by itself."
        )

    @property
    def described(self) -> str:
        return described(self.labels)

    @property
    def form(self) -> str:
        return (
            "Answer with JSON only: one object with every label as a field, spelled and ordered "
            'exactly as above, true where it applies and false where not: {"<label>": true or '
            "false, …}"
        )

    @property
    def repair(self) -> str:
        return (
            "That was not a usable answer. Answer with JSON only: one object with every label as "
            "a field, spelled exactly as given, each of them true or false, and nothing else."
        )

    def answer_schema(self) -> dict[str, Any]:
        """The schema of the answer, in the subset that strict structured output takes."""
        return {
            "type": "object",
            "properties": {name: {"type": "boolean"} for name in self.labels.names},
            "required": list(self.labels.names),
            "additionalProperties": False,
        }

    def answer(self, value: Any) -> str:
        return json.dumps({name: name in value for name in self.labels.names}, ensure_ascii=False)

    def read(self, answer: str, *, text: str) -> list[str] | Unusable:  # noqa: ARG002 - of all kinds
        """The labels that the answer says apply, in the set's order."""
        said = decode_answer(answer)
        if not isinstance(said, dict) or not all(type(each) is bool for each in said.values()):
            return Unusable(
                UnknownReason.WRONG_SHAPE, "The answer is not an object of true and false alone."
            )
        if said.keys() - set(self.labels.names):
            return Unusable(
                UnknownReason.LABEL_OUTSIDE_SCHEMA,
                "The answer has a field that is none of the schema's labels.",
            )
        if missing := len(self.labels) - len(said):
            return Unusable(
                UnknownReason.WRONG_SHAPE, f"The answer says nothing of {missing} of the labels."
            )
        return [name for name in self.labels.names if said[name]]

    def accept(self, value: Any, *, text: str | None) -> list[str]:  # noqa: ARG002 - of all kinds
        """The labels in the set's order; theirs is no matter."""
        if not isinstance(value, list):
            raise ValueFaultError("", "must be a list of labels, an empty one where none applies")
        known, seen = frozenset(self.labels.names), set[str]()
        for position, name in enumerate(value):
            if not isinstance(name, str) or name not in known:
                raise ValueFaultError(
                    f"/{position}", f"is none of the project's labels: {listed(self.labels.names)}"
                )
            if name in seen:
                raise ValueFaultError(f"/{position}", "is in the list already")
            seen.add(name)
        return [name for name in self.labels.names if name in seen]

    def score(
        self,
        tokens: Sequence[Token],
        *,
        content: str,
        begin: int,
        value: Any,
        text: str,  # noqa: ARG002 - of all kinds
    ) -> Score | Unknown:
        """A part for each label: how sure the model is of the true or false that it said."""
        spelling = Spelling(tokens, content.encode())
        places = find_places(spelling.data, begin=begin)
        chosen = frozenset(value)
        leaves: list[LeafScore] = []
        parts: list[Part] = []
        for name in self.labels.names:
            applies = name in chosen
            leaf = closed_leaf(spelling, places[name,], among=BOOLEAN, value=applies)
            if isinstance(leaf, Unknown):
                return leaf
            leaves.append(leaf)
            parts.append(Part(name, applies, leaf.confidence, leaf.logit))
        return Score.of_parts(parts, p_raw=spelling.p_raw(leaves))

    def parts_of(self, value: Any) -> dict[str, bool]:
        return {name: name in value for name in self.labels.names}

    def decision_questions(self) -> tuple[decisions.Question, ...] | None:
        if len(self.labels) > decisions.MAX_QUESTIONS:
            return None
        return tuple(
            decisions.Judge(
                label.name,
                f"The label {json.dumps(label.name, ensure_ascii=False)} applies to the item."
                + (f" It means: {label.description}" if label.description else ""),
            )
            for label in self.labels
        )

    def decide(self, answers: Sequence[decisions.Answer]) -> Decided | Unusable:
        parts = [part_of(answer) for answer in answers if isinstance(answer, decisions.Judged)]
        held = [part.name for part in parts if part.value]
        return Decided(held, Score.of_parts(parts))

    def compare(self, predicted: Any, actual: Any) -> Comparison:
        """Equal is the same set; the Jaccard index of two empty ones is 1."""
        model, person = frozenset(predicted), frozenset(actual)
        either = model | person
        return Comparison(
            equal=model == person,
            metrics={
                "jaccard": len(model & person) / len(either) if either else 1.0,
                "exact": float(model == person),
            },
            tallies={
                (position, _tally(model=name in model, person=name in person)): 1
                for position, name in enumerate(self.labels.names)
            },
        )


def _tally(*, model: bool, person: bool) -> str:
    if model:
        return "tp" if person else "fp"
    return "fn" if person else "tn"
