"""Label sets: what a model may choose from."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

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
    """Up to 500 labels in the order given, no two of which a person could mistake for each other.

    Make one with `of` or `from_rows`, which check it. Equal sets hash alike, and the hash is
    computed once: a set is the key under which what is derived from it is kept.
    """

    labels: tuple[Label, ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.labels))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, labels: Iterable[Label | str], *, least: int = MIN_LABELS) -> LabelSet:
        """The set of these labels; a plain string is a label without a description.

        Raises:
            LabelSetError: fewer than `least` or more than 500 labels; a name that is blank, too
                long, has white space around it, or holds a character that cannot be shown; two
                names that are the same but for case, white space, invisible characters or Unicode
                form.
        """
        entries = tuple(Label(entry) if isinstance(entry, str) else entry for entry in labels)
        problems = [*_count_problems(len(entries), least)]
        if len(entries) <= MAX_LABELS:  # a longer list is refused whole, not read
            problems += label_problems(entries)
        if problems:
            raise LabelSetError(problems)
        return cls(entries)

    @classmethod
    def from_rows(cls, rows: Sequence[object], *, least: int = MIN_LABELS) -> LabelSet:
        """The set of labels given as names or as `{"name": …, "description": …}`.

        Raises:
            LabelSetError: as `of`; also a row that is neither.
        """
        if len(rows) > MAX_LABELS:  # refused whole, not read
            raise LabelSetError(_count_problems(len(rows), least))
        labels: list[Label | str] = []
        problems = []
        for index, row in enumerate(rows):
            if isinstance(row, str):
                labels.append(row)
                continue
            if not isinstance(row, Mapping):
                problems.append(LabelProblem(f"/{index}", "must be an object or a name"))
                continue
            name, description = row.get("name"), row.get("description", "")
            problems += [
                LabelProblem(f"/{index}/{other}", "unknown field")
                for other in sorted(set(row) - {"name", "description"})
            ]
            if "name" not in row:
                problems.append(LabelProblem(f"/{index}/name", "required"))
            elif not isinstance(name, str):
                problems.append(LabelProblem(f"/{index}/name", "must be a string"))
            elif not isinstance(description, str):
                problems.append(LabelProblem(f"/{index}/description", "must be a string"))
            else:
                labels.append(Label(name, description))
        if problems:
            raise LabelSetError(problems)
        try:
            return cls.of(labels, least=least)
        except LabelSetError as error:
            # a label that was given as a string has no field `name`
            raise LabelSetError(
                LabelProblem(_pointer(problem.pointer, rows), problem.detail)
                for problem in error.problems
            ) from error

    def to_dicts(self) -> list[dict[str, str]]:
        """The form that `from_rows` reads."""
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


def label_problems(labels: Sequence[Label]) -> list[LabelProblem]:
    """What is wrong with names, descriptions, and names beside each other, however many."""
    problems: list[LabelProblem] = []
    for index, label in enumerate(labels):
        problems += _text_problems(f"/{index}", label)
    problems += _twin_problems(labels)
    return problems


def _pointer(pointer: str, rows: Sequence[object]) -> str:
    index, _, field = pointer.removeprefix("/").partition("/")
    return f"/{index}" if field and isinstance(rows[int(index)], str) else pointer


def _count_problems(count: int, least: int) -> Iterable[LabelProblem]:
    if count < least:
        needed = "1 label is" if least == 1 else f"{least} labels are"
        yield LabelProblem("", f"at least {needed} needed, {count} given")
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
