"""What every kind of label is to the rest of the service: one schema that asks, reads, scores.

A kind is a folder beside this file. Its schema says what may be said about an item, how a model is
asked for it, how its answer is read and scored, and how two values compare. Nothing outside the
folder knows one kind from another, but for the list in `app.domain.kinds`.

A value is JSON. What is stored, compared by the database and listed is its text: the value itself
where the kind's values are strings, else its JSON with sorted keys (`encode`, `decode`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from app.domain import decisions
from app.domain.confidence import LabelMass
from app.domain.labels import LabelProblem, LabelSetError
from app.domain.tokens import Token
from app.domain.unknown import Unknown, Unusable


class SchemaError(LabelSetError):
    """The definition is no schema of its kind; `problems` have JSON pointers into it."""


class ValueFaultError(ValueError):
    """A value that somebody gave is none of the schema's.

    Attributes:
        pointer: JSON pointer (RFC 6901) to the place within the value.
        detail: what is wrong there, for people.
    """

    def __init__(self, pointer: str, detail: str) -> None:
        self.pointer = pointer
        self.detail = detail
        super().__init__(f"{pointer or '/'}: {detail}")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a value that a person could correct by itself: a label, a field, an entity.

    Attributes:
        name: what it is about; unique within the value.
        value: what was said of it, JSON.
        confidence: probability in [0, 1].
        logit: its log-odds, finite; ranks where the confidence saturates.
    """

    name: str
    value: Any
    confidence: float
    logit: float


@dataclass(frozen=True, slots=True)
class Score:
    """The confidence of a value, with what it was made from.

    Attributes:
        confidence: probability of the value in [0, 1]; of a value with parts that of its least
            certain one; of a choice as `ChoiceScore` has it, off-label mass being doubt.
        logit: its log-odds, finite and distinct where the confidence is 1.0: rank by this.
        p_raw: probability of the very tokens that spell the value, where they are known.
        p_norm, margin, entropy, off_label, ambiguous, unseen: as `ChoiceScore` has them, of a
            choice among a closed set.
        alternatives: values with their probability mass, greatest first; of a closed set.
        parts: of a value that has some.
        figures: further figures of the kind or the source, by name.
    """

    confidence: float
    logit: float
    p_raw: float | None = None
    p_norm: float | None = None
    margin: float | None = None
    entropy: float | None = None
    off_label: float | None = None
    ambiguous: float | None = None
    unseen: float | None = None
    alternatives: tuple[LabelMass, ...] = ()
    parts: tuple[Part, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_parts(
        cls, parts: Sequence[Part], *, p_raw: float | None = None, **figures: float
    ) -> Self:
        """The score of a value of these parts, at least one: that of the least certain."""
        least = min(parts, key=lambda part: part.logit)
        return cls(
            confidence=least.confidence,
            logit=least.logit,
            p_raw=p_raw,
            parts=tuple(parts),
            figures=figures,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a model's value compares with a person's.

    Attributes:
        equal: whether they say the same; "wrong", wherever a guarantee speaks of it, is its
            opposite.
        metrics: the kind's metrics by name, each in [0, 1], 1 where they agree; exactly
            `LabelSchema.METRICS`.
        tallies: how the parts compare: (position of the part in `part_names`, "tp", "fp", "fn"
            or "tn") to a count. By "tp" both said it, by "fp" the model alone, by "fn" the person
            alone, by "tn" neither.
    """

    equal: bool
    metrics: Mapping[str, float]
    tallies: Mapping[tuple[int, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decided:
    """The value that the answers of a decisions endpoint give, and its confidence."""

    value: Any
    score: Score | Unknown


class LabelSchema(ABC):
    """What may be said about an item. Frozen and hashable; equal definitions are equal schemas."""

    KIND: ClassVar[str]
    ASKED: ClassVar[bool] = True
    """Whether a model can be asked; else labels come from outside."""
    NEEDS_TEXT: ClassVar[bool] = False
    """Whether values speak of places in the item's text, so that it must be at hand."""
    STRINGS: ClassVar[bool] = False
    """Whether a value is a string, stored as it is."""
    CONFUSION: ClassVar[bool] = False
    """Whether a value is one of `part_names`, so that a confusion matrix tells all."""
    METRICS: ClassVar[tuple[str, ...]] = ()
    """Names of the metrics of `compare`; the first is the kind's own."""
    PART_MEASURES: ClassVar[tuple[str, ...]] = ()
    """What is told of each part: of "accuracy", "precision", "recall", "f1"."""

    # what it is

    @classmethod
    @abstractmethod
    def parse(cls, definition: Mapping[str, Any]) -> Self:
        """The schema of a definition, without its field `kind`, as a client sends or we store it.

        Raises:
            SchemaError: it is none; every problem with its pointer into the definition.
        """

    @abstractmethod
    def definition(self) -> dict[str, Any]:
        """The form that is stored and shown, without `kind`; `parse` reads it back."""

    @classmethod
    @abstractmethod
    def definition_schema(cls) -> dict[str, Any]:
        """JSON schema of a definition with its `kind`, for the API's document."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """The parts that figures are kept of, in a fixed order; none by default."""
        return ()

    # ask

    @property
    @abstractmethod
    def task(self) -> str:
        """What is to be done with the item between <item> and </item>: a sentence or two."""

    @property
    @abstractmethod
    def described(self) -> str:
        """The labels or fields with their descriptions, as lines; may be empty."""

    @property
    @abstractmethod
    def form(self) -> str:
        """How to answer: the last lines of the prompt."""

    @property
    @abstractmethod
    def repair(self) -> str:
        """What is said after an answer that could not be used."""

    @abstractmethod
    def answer_schema(self) -> dict[str, Any] | None:
        """JSON schema of the structured answer, strict; None where the answer is free text."""

    @abstractmethod
    def answer(self, value: Any) -> str:
        """The answer that says this value: an example for the model."""

    # read

    @abstractmethod
    def read(self, answer: str, *, text: str) -> Any | Unusable:
        """The value that an answer gives.

        Args:
            answer: the answer's JSON and nothing around it (`app.domain.answers`), or the whole
                text where `answer_schema` is None.
            text: the item's text, as `app.domain.content.text_of` gives it.
        """

    @abstractmethod
    def accept(self, value: Any, *, text: str | None) -> Any:
        """The value as the schema spells it, of one that a person or a program gave.

        Args:
            value: JSON.
            text: the item's text; None where it is not at hand (never if NEEDS_TEXT).

        Raises:
            ValueFaultError: it is no value of this schema.
        """

    # score

    @abstractmethod
    def score(
        self, tokens: Sequence[Token], *, content: str, begin: int, value: Any, text: str
    ) -> Score | Unknown:
        """The confidence of the value that an answer gave, from its tokens.

        Args:
            tokens: of the whole content, spelling it exactly.
            content: what the model wrote.
            begin: where in `content.encode()` the answer begins: the `{` of its JSON, 0 of free
                text. What comes before (thinking, a code fence) is no part of the value.
            value: what `read` gave.
            text: the item's text.
        """

    def score_given(self, value: Any) -> Score | None:  # noqa: ARG002 - of those that carry one
        """The confidence that a value made elsewhere carries in itself; None by default."""
        return None

    def parts_of(self, value: Any) -> Mapping[str, Any]:  # noqa: ARG002 - of those that have parts
        """What a value says of each of its parts, by the name that `Part` has; none by default.

        Two values agree in a part where both have it and say the same of it.
        """
        return {}

    # decide

    def decision_questions(self) -> tuple[decisions.Question, ...] | None:
        """What a decisions endpoint is asked for a value; None where it can't be."""
        return None

    def decide(self, answers: Sequence[decisions.Answer]) -> Decided | Unusable:
        """The value that the answers to `decision_questions` give, one each and in their order."""
        raise NotImplementedError

    # compare

    @abstractmethod
    def compare(self, predicted: Any, actual: Any) -> Comparison:
        """How a model's value compares with a person's; both as `read` and `accept` give them."""

    def equal(self, one: Any, other: Any) -> bool:
        """Whether two values say the same."""
        return self.compare(one, other).equal

    # store

    def encode(self, value: Any) -> str:
        """The text by which a value is stored and listed; equal texts are the same value."""
        if self.STRINGS:
            return str(value)
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def decode(self, text: str) -> Any:
        """The value of a stored text."""
        return text if self.STRINGS else json.loads(text)


def problems_under(pointer: str, problems: Iterable[LabelProblem]) -> list[LabelProblem]:
    """The problems of a part of a definition, as problems of the whole."""
    return [LabelProblem(pointer + problem.pointer, problem.detail) for problem in problems]


def refuse_unknown(definition: Mapping[str, Any], known: Iterable[str]) -> list[LabelProblem]:
    """A problem for each field of a definition that its kind does not know."""
    return [
        LabelProblem(f"/{name}", "unknown field") for name in sorted(set(definition) - set(known))
    ]
