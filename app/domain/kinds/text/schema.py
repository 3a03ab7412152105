"""The schema of `text`: asked for as it is, without JSON around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from app.domain.answers import find_text
from app.domain.kinds.base import (
    Comparison,
    LabelSchema,
    SchemaError,
    Score,
    ValueFaultError,
    refuse_unknown,
)
from app.domain.kinds.text.score import score_tokens
from app.domain.kinds.text.similarity import chrf, edit_similarity, normal
from app.domain.labels import MAX_DESCRIPTION, LabelProblem
from app.domain.storable import unstorable
from app.domain.tokens import Token
from app.domain.unknown import Unknown, UnknownReason, Unusable

USUAL_MAX_CHARACTERS: Final = 10_000
GREATEST_MAX_CHARACTERS: Final = 20_000
"""Two texts of that length are compared within half a second."""


@dataclass(frozen=True)
class TextSchema(LabelSchema):
    """A text of the model's own words, without white space around it.

    Attributes:
        max_characters: how long it may be, in Unicode code points; 1 to 20,000.
        description: what is wanted, for the model and for people; may be empty.
    """

    KIND: ClassVar[str] = "text"
    STRINGS: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("edit_similarity", "chrf", "exact")

    max_characters: int = USUAL_MAX_CHARACTERS
    description: str = ""

    @classmethod
    def parse(cls, definition: Mapping[str, Any]) -> Self:
        problems = refuse_unknown(definition, ["max_characters", "description"])
        characters = definition.get("max_characters", USUAL_MAX_CHARACTERS)
        description = definition.get("description", "")
        if type(characters) is not int or not 1 <= characters <= GREATEST_MAX_CHARACTERS:
            detail = f"must be a whole number from 1 to {GREATEST_MAX_CHARACTERS}"
            problems.append(LabelProblem("/max_characters", detail))
        problems += [LabelProblem("/description", fault) for fault in _described_wrong(description)]
        if problems:
            raise SchemaError(problems)
        return cls(max_characters=characters, description=description)

    def definition(self) -> dict[str, Any]:
        return {"max_characters": self.max_characters, "description": self.description}

    @classmethod
    def definition_schema(cls) -> dict[str, Any]:
        return {
            "type": "object",
            "title": cls.KIND,
            "description": "Free text: a summary, a translation, an answer.",
            "properties": {
                "kind": {"const": cls.KIND, "type": "string"},
                "max_characters": {
                    "type": "integer",
                    "description": "how long it may be, in Unicode code points",
                    "minimum": 1,
                    "maximum": GREATEST_MAX_CHARACTERS,
                    "default": USUAL_MAX_CHARACTERS,
                },
                "description": {
                    "type": "string",
                    "description": "what is wanted, for the model and for people",
                    "maxLength": MAX_DESCRIPTION,
                    "default": "",
                },
            },
            "required": ["kind"],
            "additionalProperties": False,
        }

    @property
    def task(self) -> str:
        return (
            "Write the text that is asked for below, about the item that stands between <item> "
            "and </item>."
        )

    @property
    def described(self) -> str:
        return f"What is asked for:\n{self.description}" if self.description.strip() else ""

    @property
    def form(self) -> str:
        return (
            f"Answer with that text alone, in at most {self.max_characters} characters: nothing "
            "before or after it, no quotation marks and no code fence around it."
        )

    @property
    def repair(self) -> str:
        return f"That was not a usable answer. {self.form}"

    def answer_schema(self) -> dict[str, Any] | None:
        """None: the answer is the text."""
        return None

    def answer(self, value: Any) -> str:
        return str(value)

    def read(self, answer: str, *, text: str) -> str | Unusable:  # noqa: ARG002 - of all kinds
        """What the answer says after any thinking, as it stands but for white space around it."""
        found = find_text(answer)
        if isinstance(found, Unusable):
            return found
        if len(found.text) > self.max_characters:
            return Unusable(
                UnknownReason.TOO_LONG,
                f"The answer has more than {self.max_characters} characters.",
            )
        if fault := unstorable(found.text):
            return Unusable(UnknownReason.WRONG_SHAPE, f"The answer {fault}.")
        return found.text

    def accept(self, value: Any, *, text: str | None) -> str:  # noqa: ARG002 - of all kinds
        if not isinstance(value, str):
            raise ValueFaultError("", "must be a string")
        stripped = value.strip()
        if not stripped:
            raise ValueFaultError("", "must not be blank")
        if len(stripped) > self.max_characters:
            raise ValueFaultError("", f"must have at most {self.max_characters} characters")
        if fault := unstorable(stripped):
            raise ValueFaultError("", fault)
        return stripped

    def score(
        self,
        tokens: Sequence[Token],
        *,
        content: str,
        begin: int,  # noqa: ARG002 - the text's own place is had from the content
        value: Any,  # noqa: ARG002 - as it stands there
        text: str,  # noqa: ARG002 - of all kinds
    ) -> Score | Unknown:
        """The geometric mean of its tokens' probabilities: a score to rank by, see `score_tokens`.

        Tokens of thinking, and white space around the text, count nowhere.
        """
        found = find_text(content)
        if isinstance(found, Unusable):
            return Unknown(found.reason, found.detail)
        end = found.begin + len(found.text.encode("utf-8", "surrogatepass"))
        return score_tokens(tokens, begin=found.begin, end=end)

    def compare(self, predicted: Any, actual: Any) -> Comparison:
        """Equal is the same text but for Unicode form (NFC) and white space."""
        predicted, actual = normal(predicted), normal(actual)
        same = predicted == actual
        return Comparison(
            equal=same,
            metrics={
                "edit_similarity": edit_similarity(predicted, actual),
                "chrf": chrf(predicted, actual),
                "exact": float(same),
            },
        )


def _described_wrong(description: object) -> Iterable[str]:
    if not isinstance(description, str):
        yield "must be a string"
    elif len(description) > MAX_DESCRIPTION:
        yield f"must have at most {MAX_DESCRIPTION} characters"
    elif fault := unstorable(description):
        yield fault
