"""Label sets, and the structured answer that names one label of a set."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final

from app.domain.unknown import UnknownReason

MIN_LABELS: Final = 2  # with one label there is nothing to choose and every confidence is 1
MAX_LABELS: Final = 500
MAX_NAME: Final = 200
MAX_DESCRIPTION: Final = 2_000

# Controls, lone surrogates, and the line and paragraph separators: none of them can be seen, and
# PostgreSQL takes neither NUL nor surrogates.
_FORBIDDEN: Final = {"Cc": "a control character", "Cs": "a lone surrogate"} | dict.fromkeys(
    ("Zl", "Zp"), "a line separator"
)


@dataclass(frozen=True, slots=True)
class LabelProblem:
    """What is wrong with one label; `pointer` is a JSON pointer (RFC 6901) into the list."""

    pointer: str
    detail: str


class LabelSetError(ValueError):
    """The labels form no set that a model can be asked to choose from; carries every problem."""

    def __init__(self, problems: Iterable[LabelProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.pointer or '/'}: {p.detail}" for p in self.problems))


@dataclass(frozen=True, slots=True)
class Label:
    """A name the model may answer with, 1 to 200 characters, and what it means, up to 2,000."""

    name: str
    description: str = ""


def fold(text: str) -> str:
    """Text with its case folded character by character, so that the length never changes.

    Full case folding makes two characters of one (ß to ss); then the nth character of a folded
    label would no longer be the nth of the label.
    """
    return text.lower() if text.isascii() else "".join(map(_fold_character, text))


def _fold_character(character: str) -> str:
    folded = character.casefold()
    if len(folded) == 1:
        return folded
    lowered = character.lower()
    return lowered if len(lowered) == 1 else character


@dataclass(frozen=True)
class LabelSet:
    """Two to 500 labels in the order given, no two of which a person could mistake for each other.

    Make one with `of` or `from_dicts`, which check it. Equal sets hash alike, and the hash is
    computed once: a set is the key under which what is derived from it is kept.
    """

    labels: tuple[Label, ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.labels))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, labels: Iterable[Label | str]) -> LabelSet:
        """The set of these labels; a plain string is a label without a description.

        Raises:
            LabelSetError: fewer than 2 or more than 500 labels; a name that is blank, too long,
                has white space around it, or holds a character that cannot be shown; two names
                that are the same but for case, white space, invisible characters or Unicode form.
        """
        entries = tuple(Label(entry) if isinstance(entry, str) else entry for entry in labels)
        problems = [*_count_problems(len(entries))]
        if len(entries) <= MAX_LABELS:  # a longer list is refused whole, not read
            for index, label in enumerate(entries):
                problems += _text_problems(f"/{index}", label)
            problems += _twin_problems(entries)
        if problems:
            raise LabelSetError(problems)
        return cls(entries)

    @classmethod
    def from_dicts(cls, rows: Iterable[Mapping[str, object]]) -> LabelSet:
        """The set of labels given as `{"name": …, "description": …}`, the description optional.

        Raises:
            LabelSetError: as `of`; also a row that is no such mapping.
        """
        labels, problems = [], []
        for index, row in enumerate(rows):
            name, description = row.get("name"), row.get("description", "")
            if unknown := set(row) - {"name", "description"}:
                problems.append(LabelProblem(f"/{index}", f"{len(unknown)} unknown fields"))
            if not isinstance(name, str):
                problems.append(LabelProblem(f"/{index}/name", "must be a string"))
            elif not isinstance(description, str):
                problems.append(LabelProblem(f"/{index}/description", "must be a string"))
            else:
                labels.append(Label(name, description))
        if problems:
            raise LabelSetError(problems)
        return cls.of(labels)

    def to_dicts(self) -> list[dict[str, str]]:
        """The form that `from_dicts` reads."""
        return [{"name": label.name, "description": label.description} for label in self.labels]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(label.name for label in self.labels)

    def index(self, name: str) -> int:
        """Position of the label of exactly this name.

        Raises:
            KeyError: no label has this name.
        """
        return self._positions[name]

    def parse(self, text: str) -> Label | None:
        """The label meant by this text: its name, in any case, with any spaces before it."""
        position = self._positions.get(text)
        if position is None:
            position = self._folded.get(fold(text.lstrip(" ")))
        return None if position is None else self.labels[position]

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    @cached_property
    def _folded(self) -> dict[str, int]:
        return {fold(name): position for position, name in enumerate(self.names)}


@dataclass(frozen=True, slots=True)
class Unusable:
    """An answer that names no label; `detail` quotes nothing of it."""

    reason: UnknownReason
    detail: str


class _Pairs:
    """A JSON object as the pairs it was written with; a JSON array can't be mistaken for it."""

    __match_args__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self.pairs = pairs


# Pairs, not a dict: of two fields of one name a dict would keep the last.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Pairs)


@dataclass(frozen=True, slots=True)
class SingleChoiceSchema:
    """The structured answer of `single_choice`: a JSON object whose one field names the label."""

    FIELD: ClassVar[str] = "label"

    labels: LabelSet

    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of the answer, in the subset that strict structured output takes."""
        return {
            "type": "object",
            "properties": {self.FIELD: {"type": "string", "enum": list(self.labels.names)}},
            "required": [self.FIELD],
            "additionalProperties": False,
        }

    def read_answer(self, content: str) -> str | Unusable:
        """The name of the label that the content answers with, as the set spells it.

        Nothing is repaired: prose or a code fence around the object is `not_json`.
        """
        answer = _decoded(content)
        match answer:
            case Unusable():
                return answer
            case _Pairs([(self.FIELD, str() as name)]):
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


def _decoded(content: str) -> object:
    text = content.strip(" \t\n\r")
    if not text:
        return Unusable(UnknownReason.EMPTY_ANSWER, "The answer is empty.")
    try:
        answer, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):  # nested as deep as the answer is long
        if text.startswith("{") and not text.endswith("}"):
            return Unusable(UnknownReason.TRUNCATED, "The answer stops within its JSON.")
        return Unusable(UnknownReason.NOT_JSON, "The answer is not JSON.")
    if end < len(text):
        return Unusable(UnknownReason.NOT_JSON, "The answer goes on after its JSON.")
    return answer


def _count_problems(count: int) -> Iterable[LabelProblem]:
    if count < MIN_LABELS:
        yield LabelProblem("", f"at least {MIN_LABELS} labels are needed, {count} given")
    if count > MAX_LABELS:
        yield LabelProblem("", f"at most {MAX_LABELS} labels are possible, {count} given")


def _text_problems(pointer: str, label: Label) -> Iterable[LabelProblem]:
    if not label.name.strip():
        yield LabelProblem(f"{pointer}/name", "must not be blank")
    elif label.name != label.name.strip():
        yield LabelProblem(f"{pointer}/name", "must not begin or end with white space")
    for key, text, limit in (
        ("name", label.name, MAX_NAME),
        ("description", label.description, MAX_DESCRIPTION),
    ):
        if len(text) > limit:
            yield LabelProblem(f"{pointer}/{key}", f"must have at most {limit} characters")
            continue
        # A description may have several lines; a name may not.
        shown = text.translate({9: None, 10: None, 13: None}) if key == "description" else text
        kinds = {_FORBIDDEN.get(unicodedata.category(character)) for character in shown}
        for kind in sorted(kind for kind in kinds if kind):
            yield LabelProblem(f"{pointer}/{key}", f"must not hold {kind}")


def _twin_problems(labels: Iterable[Label]) -> Iterable[LabelProblem]:
    first: dict[str, int] = {}
    for index, label in enumerate(labels):
        earlier = first.setdefault(_look(label.name), index)
        if earlier != index:
            yield LabelProblem(
                f"/{index}/name",
                f"is the same as /{earlier}/name but for case, white space or Unicode form",
            )


def _look(name: str) -> str:
    """What is left of a name without case, Unicode form, white space and invisible characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(
        character
        for character in folded
        if not character.isspace() and unicodedata.category(character) != "Cf"
    )
