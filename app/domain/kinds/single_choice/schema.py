"""The schema of `single_choice`: asked for as a JSON object whose one field names the label."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from app.domain import decisions
from app.domain.answers import decode_answer
from app.domain.confidence import ChoiceScore, score_choice
from app.domain.kinds.base import Comparison, Decided, LabelSchema, Score, ValueFaultError
from app.domain.kinds.closed import described, labels_definition_schema, listed, parse_labels
from app.domain.kinds.decided import score_masses
from app.domain.labels import LabelSet
from app.domain.tokens import Token
from app.domain.unknown import Unknown, UnknownReason, Unusable


@dataclass(frozen=True)
class SingleChoiceSchema(LabelSchema):
    """One label of a set."""

    KIND: ClassVar[str] = "single_choice"
    STRINGS: ClassVar[bool] = True
    CONFUSION: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("exact",)
    FIELD: ClassVar[str] = "label"

    labels: LabelSet

    @classmethod
    def parse(cls, definition: Mapping[str, Any]) -> Self:
        return cls(parse_labels(definition))

    def definition(self) -> dict[str, Any]:
        return {"labels": self.labels.to_dicts()}

    @classmethod
    def definition_schema(cls) -> dict[str, Any]:
        return labels_definition_schema(cls.KIND, "Exactly one of a closed set of labels.")

    @property
    def part_names(self) -> tuple[str, ...]:
        return self.labels.names

    @property
    def task(self) -> str:
        return "Choose exactly one label for the item that stands between <item> and </item>."

    @property
    def described(self) -> str:
        return described(self.labels)

    @property
    def form(self) -> str:
        return 'Answer with JSON only: {"label": "<one of the labels, spelled exactly as above>"}'

    @property
    def repair(self) -> str:
        return (
            "That was not a usable answer. Answer with JSON only, one field, its value one of the "
            'labels spelled exactly as given: {"label": "…"}'
        )

    def answer_schema(self) -> dict[str, Any] | None:
        """The schema of the answer, in the subset that strict structured output takes."""
        return {
            "type": "object",
            "properties": {self.FIELD: {"type": "string", "enum": list(self.labels.names)}},
            "required": [self.FIELD],
            "additionalProperties": False,
        }

    def answer(self, value: Any) -> str:
        return json.dumps({self.FIELD: value}, ensure_ascii=False)

    def read(self, answer: str, *, text: str) -> str | Unusable:  # noqa: ARG002 - of all kinds
        """The name of the label that the answer gives, as the set spells it."""
        match decode_answer(answer):
            case {self.FIELD: str() as name, **others} if not others:
                if label := self.labels.parse(name):
                    return label.name
                return Unusable(
                    UnknownReason.LABEL_OUTSIDE_SCHEMA, "The answer is none of the schema's labels."
                )
            case _:
                return Unusable(
                    UnknownReason.WRONG_SHAPE,
                    f"The answer is not an object of the one string field {self.FIELD!r}.",
                )

    def accept(self, value: Any, *, text: str | None) -> str:  # noqa: ARG002 - of all kinds
        if not isinstance(value, str):
            raise ValueFaultError("", "must be a string")
        if value not in self.labels.names:
            raise ValueFaultError(
                "", f"is none of the project's labels: {listed(self.labels.names)}"
            )
        return value

    def score(
        self,
        tokens: Sequence[Token],
        *,
        content: str,
        begin: int,
        value: Any,
        text: str,  # noqa: ARG002 - of all kinds
    ) -> Score | Unknown:
        scored = score_choice(
            tokens,
            data=content.encode(),
            begin=begin,
            field=self.FIELD,
            labels=self.labels,
            chosen=value,
        )
        return scored if isinstance(scored, Unknown) else score_of_choice(scored)

    def decision_questions(self) -> tuple[decisions.Question, ...] | None:
        if not 2 <= len(self.labels) <= decisions.MAX_CHOICES:
            return None
        choose = "Choose exactly one label for the item."
        return (decisions.Choose(self.FIELD, choose, tuple(self.labels)),)

    def decide(self, answers: Sequence[decisions.Answer]) -> Decided | Unusable:
        match answers:
            case (decisions.Chosen(value=name, masses=masses),) if name in self.labels.names:
                if isinstance(masses, Unknown):
                    return Decided(name, masses)
                score = score_masses(masses, labels=self.labels.names, chosen=name)
                return Decided(name, score)
            case _:
                return Unusable(
                    UnknownReason.LABEL_OUTSIDE_SCHEMA, "The answer is none of the schema's labels."
                )

    def compare(self, predicted: Any, actual: Any) -> Comparison:
        same = predicted == actual
        return Comparison(equal=same, metrics={"exact": float(same)})


def score_of_choice(choice: ChoiceScore) -> Score:
    """The score of a label chosen from a closed set."""
    return Score(
        confidence=choice.confidence,
        logit=choice.logit,
        p_raw=choice.p_raw,
        p_norm=choice.p_norm,
        margin=choice.margin,
        entropy=choice.entropy,
        off_label=choice.off_label,
        ambiguous=choice.ambiguous,
        unseen=choice.unseen,
        alternatives=choice.alternatives,
    )
