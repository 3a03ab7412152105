"""The text of a file of rows, and what a table made of it offers, whatever its format."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MOST_CHARACTERS = 16 * 1024 * 1024
_SAMPLE = 64 * 1024
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class InputError(ValueError):
    """The file can't be labelled as it is; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the file.

    Attributes:
        number: its place among the rows, from 1.
        line: the line it begins in, from 1.
        source: how it stands in the file, without the end of its line.
        cells: its cells (CSV); none in JSONL.
        fields: its values by column.
        fault: why it can't be used; None where it can.
    """

    number: int
    line: int
    source: str
    cells: tuple[str, ...]
    fields: Mapping[str, Any]
    fault: str | None


class Table(Protocol):
    """A file of rows in one format.

    Attributes:
        kind: `CSV` or `JSONL`.
        columns: what it has; in JSONL, what its first object has.
        bom: whether the file begins with a byte order mark.
        newline: how its lines end.
    """

    kind: str
    columns: tuple[str, ...]
    bom: bool
    newline: str

    def records(self) -> Iterator[Record]:
        """The rows from the first, each time it is called.

        Raises:
            InputError: the rest of the file can't be read.
            OSError: nor the file itself.
        """

    def head(self, names: Sequence[str]) -> str:
        """What stands before the rows when these columns are added; with its end of line."""

    def line(self, record: Record, added: Mapping[str, Any]) -> str:
        """The row with more columns, None as nothing at all; with its end of line."""


class Lines:
    """The lines of a file, with all that is known of its text."""

    def __init__(self, path: Path, name: str, encoding: str | None) -> None:
        self.name = name
        self._path = path
        with path.open("rb") as file:
            start = file.read(4)
        marked = next((each for mark, each in _BOMS.items() if start.startswith(mark)), None)
        self.bom = marked is not None
        self._encoding = encoding or marked or "utf-8"
        try:
            codecs.lookup(self._encoding)
        except LookupError as error:
            raise InputError(f"no such encoding: {encoding}") from error
        first = next(self.read(), "")
        self.newline = "\r\n" if first.endswith("\r\n") else "\n"

    def sample(self) -> str:
        """The beginning of the file, cut after a line."""
        taken, size = [], 0
        for line in self.read():
            taken.append(line)
            size += len(line)
            if size > _SAMPLE:
                break
        return "".join(taken)

    def read(self) -> Iterator[str]:
        with self._path.open(encoding=self._encoding, newline="") as file:
            number = 0
            while True:
                try:
                    line = file.readline(MOST_CHARACTERS + 1)
                except UnicodeError as error:
                    raise self._undecodable(number) from error
                if not line:
                    return
                number += 1
                if len(line) > MOST_CHARACTERS:
                    raise InputError(
                        f"{self.name} line {number}: has more than {MOST_CHARACTERS:,} characters"
                    )
                yield line.removeprefix("\ufeff") if number == 1 else line

    def _undecodable(self, number: int) -> InputError:
        """The line where the text ends; the reader decodes ahead, so it is looked for again."""
        if self._encoding in {"utf-8", "utf-8-sig"}:
            with self._path.open("rb") as file:
                for each, line in enumerate(file, start=1):
                    try:
                        line.decode()
                    except UnicodeDecodeError:
                        number = each - 1
                        break
        hint = "; a file of an older Windows program may need --encoding cp1252"
        return InputError(
            f"{self.name} line {number + 1}: is not {self._encoding.removesuffix('-sig').upper()}"
            f"{hint if self._encoding.startswith('utf-8') else ''}"
        )
