"""CSV, read one row at a time and written back with more columns.

A row that can't be read is a record with a fault, and the next one follows. Cells are written as
they were read, also those that a spreadsheet takes for formulas: they are the sender's own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.commands.label_lines import MOST_CHARACTERS, InputError, Lines, Record

_DELIMITERS = (",", ";", "\t", "|")


class CsvTable:
    """Comma-separated values with a header; another delimiter is found out or given."""

    kind = "CSV"

    def __init__(self, lines: Lines, delimiter: str | None) -> None:
        csv.field_size_limit(MOST_CHARACTERS)
        self._lines = lines
        self.bom, self.newline = lines.bom, lines.newline
        self._delimiter = delimiter or _find_delimiter(lines.sample())
        header = next(self._read(), None)
        if header is None:
            raise InputError(f"{lines.name} is empty: the first line must name the columns")
        if header.fault is not None:
            raise InputError(f"{lines.name} line {header.line}: {header.fault}")
        self.columns = header.cells

    def records(self) -> Iterator[Record]:
        rows = self._read()
        next(rows, None)
        width = len(self.columns)
        for number, row in enumerate(rows, start=1):
            fault = row.fault
            if fault is None and len(row.cells) != width:
                fault = (
                    f"has {len(row.cells)} cells, the header has {width} (a cell that holds "
                    f"{_shown(self._delimiter)} must stand in quotes)"
                )
            fields = dict(zip(self.columns, row.cells, strict=False))
            yield Record(number, row.line, row.source, row.cells, fields, fault)

    def head(self, names: Sequence[str]) -> str:
        return self._written([*self.columns, *names])

    def line(self, record: Record, added: Mapping[str, Any]) -> str:
        width = len(self.columns)
        cells = [*record.cells[:width], *[""] * (width - len(record.cells))]
        return self._written([*cells, *added.values()])

    def _written(self, cells: Sequence[Any]) -> str:
        # Ends of lines of both kinds are quoted only where the writer would end its own so.
        text = io.StringIO()
        csv.writer(text, delimiter=self._delimiter, lineterminator="\r\n").writerow(cells)
        return text.getvalue()[:-2] + self.newline

    def _read(self) -> Iterator[Record]:
        """The rows, the header too, that are not blank; not numbered yet."""
        taken: list[str] = []

        def lines() -> Iterator[str]:
            for line in self._lines.read():
                taken.append(line)
                yield line

        reader = csv.reader(lines(), delimiter=self._delimiter, strict=True)
        while True:
            taken.clear()
            begin = reader.line_num + 1
            fault = None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "field limit" in str(error) or "unexpected end" in str(error):
                    raise InputError(
                        f"{self._lines.name} line {begin}: a quote opens there that never ends"
                    ) from error
                fault = f"is not CSV: {error}"
                cells = next(csv.reader(taken, delimiter=self._delimiter), [])
            if cells or fault:
                source = "".join(taken).rstrip("\r\n")
                yield Record(0, begin, source, tuple(cells), {}, fault)


def _find_delimiter(sample: str) -> str:
    """The delimiter under which most rows are as wide as the header, the widest of equal ones."""
    found, best = ",", (0.0, 1)
    for delimiter in _DELIMITERS:
        try:
            rows = [row for row in csv.reader(io.StringIO(sample), delimiter=delimiter) if row]
        except csv.Error:
            continue
        if not rows or len(rows[0]) < 2:
            continue
        fitting = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        if (fitting, len(rows[0])) > best:
            found, best = delimiter, (fitting, len(rows[0]))
    return found


def _shown(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else f"`{delimiter}`"
