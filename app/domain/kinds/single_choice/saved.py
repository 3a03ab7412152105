"""The schema of a choice by which answers are read that others asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.answers import FoundAnswer, find_answer, find_text
from app.domain.bare import score_bare
from app.domain.kinds.base import Score
from app.domain.kinds.single_choice.schema import SingleChoiceSchema, score_of_choice
from app.domain.tokens import Token
from app.domain.unknown import Unknown, UnknownReason, Unusable


@dataclass(frozen=True, slots=True)
class _Found:
    """A label where it stands in a content: the JSON that names it, or itself."""

    answer: FoundAnswer
    name: str
    bare: bool


@dataclass(frozen=True)
class SavedChoiceSchema(SingleChoiceSchema):
    """One label of a set, whether the answer says it as ours do, in JSON, or bare.

    What was asked is not known here, so nothing is structured: answers are read as free text.
    """

    def answer_schema(self) -> None:
        return None

    def read(self, answer: str, *, text: str) -> str | Unusable:  # noqa: ARG002 - of all kinds
        """The label that a whole content gives."""
        found = self._find(answer)
        return found if isinstance(found, Unusable) else found.name

    def score(
        self, tokens: Sequence[Token], *, content: str, begin: int, value: Any, text: str
    ) -> Score | Unknown:
        found = self._find(content)
        if isinstance(found, Unusable):
            return Unknown(found.reason, found.detail)
        if not found.bare:
            begin = found.answer.begin
            return super().score(tokens, content=content, begin=begin, value=value, text=text)
        scored = score_bare(
            tokens, content=content, found=found.answer, labels=self.labels, chosen=value
        )
        return scored if isinstance(scored, Unknown) else score_of_choice(scored)

    def _find(self, content: str) -> _Found | Unusable:
        found = find_answer(content)
        if isinstance(found, FoundAnswer):
            name = super().read(found.text, text="")
            if isinstance(name, str):
                return _Found(found, name, bare=False)
            found = name
        text = find_text(content)
        if isinstance(text, FoundAnswer) and (label := self.labels.parse(text.text)):
            return _Found(text, label.name, bare=True)
        if found.reason is UnknownReason.NOT_JSON:
            return Unusable(
                UnknownReason.LABEL_OUTSIDE_SCHEMA,
                "The answer is none of the labels, and no JSON that names one.",
            )
        return found
