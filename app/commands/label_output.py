"""Writing the rows with their answers, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from app.commands.label_answers import Answer, Answers
from app.commands.label_lines import Table
from app.commands.label_options import part_of
from app.commands.label_rows import Row
from app.domain.agreement import confidence_bin

_SHOWN_FAULTS = 5


class ChangedError(RuntimeError):
    """The input is not what it was when its rows were sent."""


@dataclass(slots=True)
class Tally:
    """What was written, counted by rows.

    Attributes:
        rows: all of them.
        accepted: decided by the model.
        by_people: decided by a person.
        waiting: for a person.
        faulty: that could not be used.
        unknown: without a confidence, by reason.
        bins: with one, by the index of its confidence bin.
        first_faults: the first few faulty rows, in words.
    """

    rows: int = 0
    accepted: int = 0
    by_people: int = 0
    waiting: int = 0
    faulty: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    bins: Counter[int] = field(default_factory=Counter)
    first_faults: list[str] = field(default_factory=list)

    def count(self, row: Row, answer: Answer) -> None:
        """Adds a row."""
        self.rows += 1
        if answer.route is None:
            self.faulty += 1
            if len(self.first_faults) < _SHOWN_FAULTS:
                self.first_faults.append(f"{row.place}: {answer.error}")
            return
        self.accepted += answer.decided_by == "model"
        self.by_people += answer.decided_by == "person"
        self.waiting += answer.decided_by is None
        if answer.confidence is None:
            self.unknown[str(answer.reason)] += 1
        else:
            self.bins[confidence_bin(answer.confidence)] += 1


def write(
    table: Table,
    rows: Iterable[Row],
    answers: Answers,
    *,
    names: Mapping[str, str],
    out: Path | None,
) -> Tally:
    """Writes every row of the input in its order, with the added columns.

    Faulty rows stand in it without a label, and once more, as they are in the input, in a file of
    their own.

    Args:
        table: of the input.
        rows: all of its rows.
        answers: what became of them.
        names: of the added columns.
        out: None is standard output, without a file of faults.

    Raises:
        ChangedError: the service knows nothing of a row.
        OSError: the disk is full, or the like.
    """
    tally = Tally()
    with _whole(out, bom=table.bom) as sink, _faults(out) as faults:
        sink.write(table.head(list(names.values())))
        for row in rows:
            answer = answers.of(row)
            if answer is None:
                raise ChangedError
            tally.count(row, answer)
            sink.write(table.line(row.record, answer.columns(names)))
            if answer.route is None:
                faults.write(_fault_line(row, answer))
    return tally


def faults_of(out: Path) -> Path:
    """`items.labeled.errors.jsonl` beside `items.labeled.csv`."""
    return out.with_name(f"{out.stem}.errors.jsonl")


@contextmanager
def _whole(out: Path | None, *, bom: bool) -> Iterator[TextIO]:
    encoding = "utf-8-sig" if bom else "utf-8"
    if out is None:
        sink = io.TextIOWrapper(sys.stdout.buffer, encoding=encoding, newline="")
        try:
            yield sink
        finally:
            # standard output stays open for others
            sink.detach()
    elif out.exists() and not out.is_file():
        # a pipe or a device can't be replaced
        with out.open("w", encoding=encoding, newline="") as sink:
            yield sink
    else:
        # the file that a link names, not the link
        out = out.resolve()
        part = part_of(out)
        try:
            with part.open("w", encoding=encoding, newline="") as sink:
                yield sink
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _faults(out: Path | None) -> Iterator[TextIO]:
    """Faulty rows; the file is there only if there are any."""
    if out is None or (out.exists() and not out.is_file()):
        with Path(os.devnull).open("w", encoding="utf-8") as sink:
            yield sink
        return
    path = faults_of(out)
    part = part_of(path)
    try:
        with part.open("w", encoding="utf-8") as sink:
            yield sink
        if part.stat().st_size:
            part.replace(path)
        else:
            path.unlink(missing_ok=True)
    finally:
        part.unlink(missing_ok=True)


def _fault_line(row: Row, answer: Answer) -> str:
    record = row.record
    place = {"row": record.number, "line": record.line, "error": answer.error}
    return json.dumps({**place, "input": record.source}, ensure_ascii=False) + "\n"
