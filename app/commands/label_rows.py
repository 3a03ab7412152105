"""From the rows of a file to the items of a bulk call; what can't be one is named, not sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.commands.label_csv import CsvTable
from app.commands.label_jsonl import JsonlTable
from app.commands.label_lines import InputError, Lines, Record, Table
from app.items.schemas import ItemIn
from app.web.faults import field_errors

ADDED = ("label", "model_label", "confidence", "route", "reason", "decided_by", "error")
PREFIX = "secondlook_"
_ITEM = TypeAdapter(ItemIn)


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is sent.

    Attributes:
        record: the row as it stands in the file.
        key: its external id; empty where there is a fault.
        digest: of its content, as `content_digest` makes it; empty where there is a fault.
        body: the item as JSON for the bulk call.
        fault: why it can't be sent; None where it can.
    """

    record: Record
    key: str
    digest: str
    body: bytes
    fault: str | None

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return f"row {self.record.number:,} (line {self.record.line:,})"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first reading of the whole file tells.

    Attributes:
        rows: how many there are.
        faulty: how many of them can't be sent.
        first_fault: what is wrong with the first of these.
        taken: which of the names we may want to add the input uses itself.
    """

    rows: int
    faulty: int
    first_fault: str | None
    taken: frozenset[str]


def open_table(
    path: Path, *, name: str, encoding: str | None = None, delimiter: str | None = None
) -> Table:
    """The table in a file: JSONL by its suffix or its first character, else CSV.

    Args:
        path: where it is; read more than once.
        name: what messages call it, and what its suffix is taken from.
        encoding: None is UTF-8, or UTF-16 and UTF-32 where a byte order mark says so.
        delimiter: of CSV; None finds out.

    Raises:
        InputError: it names no columns, or is no such file.
        OSError: it can't be read.
    """
    lines = Lines(path, name, encoding)
    suffix = Path(name).suffix.lower()
    looks = suffix not in {".csv", ".tsv"} and lines.sample().lstrip()[:1] == "{"
    if looks or suffix in {".jsonl", ".ndjson", ".json"}:
        return JsonlTable(lines)
    return CsvTable(lines, delimiter or ("\t" if suffix == ".tsv" else None))


class Rows:
    """The rows of a table as items.

    Without an id column a row goes by the digest of its text: the same text is asked once, wherever
    it stands, and a file that has changed costs only the texts that are new in it.

    Raises:
        InputError: there is no such column, or none that is obviously the text.
    """

    def __init__(self, table: Table, *, text_column: str | None, id_column: str | None) -> None:
        self.table = table
        self.text_column = _text_column(table, text_column)
        self.id_column = id_column
        if id_column is not None:
            _require(table, id_column, "--id-column")

    def __iter__(self) -> Iterator[Row]:
        for record in self.table.records():
            yield self._row(record)

    def survey(self, *, prefix: str | None) -> Survey:
        """Reads all of it, so that what is wrong with it is known before anything is paid.

        Args:
            prefix: as `added_names` gets it.
        """
        ours = {each + name for each in _prefixes(prefix) for name in ADDED}
        taken = ours & set(self.table.columns)
        rows = faulty = 0
        first_fault = None
        for row in self:
            rows += 1
            if row.fault is not None:
                faulty += 1
                first_fault = first_fault or f"{row.place}: {row.fault}"
            taken |= ours & row.record.fields.keys()
        return Survey(rows, faulty, first_fault, frozenset(taken))

    def _row(self, record: Record) -> Row:
        if record.fault is not None:
            return _bad(record, record.fault)
        if self.text_column not in record.fields:
            return _bad(record, f"has no {self.text_column}")
        value = record.fields[self.text_column]
        if not value or (isinstance(value, str) and not value.strip()):
            return _bad(record, f"{self.text_column}: is empty")
        content = {"messages": value} if isinstance(value, list) else {"text": value}
        item: dict[str, Any] = {"external_id": self._id(record.fields), **content}
        others = {name: each for name, each in record.fields.items() if name != self.text_column}
        if others:
            item["metadata"] = others
        problems = _problems(item)
        if "metadata" in problems:
            # it is there for reviewers only: better labelled without than not at all
            del item["metadata"], problems["metadata"]
        if problems:
            names = {"external_id": self.id_column, "text": self.text_column}
            (field, detail), *_ = problems.items()
            return _bad(record, f"{names.get(field) or self.text_column}: {detail}")
        digest = content_digest(content)
        if self.id_column is None:
            item["external_id"] = f"sha256:{digest}"
        return Row(record, item["external_id"], digest, _compact(item), None)

    def _id(self, fields: Mapping[str, Any]) -> Any:
        """The id as it was given, usable or not; None, which any item may have, without a column.

        JSON has ids that are numbers too.
        """
        if self.id_column is None:
            return None
        value = fields.get(self.id_column)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return "" if value is None else value


def content_digest(content: Mapping[str, Any]) -> str:
    """128 bits of SHA-256 of an item's content in hex, the same however its keys are ordered."""
    document = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(document.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def added_names(taken: frozenset[str], *, prefix: str | None) -> dict[str, str]:
    """The name in the output of each of `ADDED`: its own, unless the input uses one of them.

    Args:
        taken: which names the input uses.
        prefix: put before each; None is none, or `secondlook_` where a plain name is taken.

    Raises:
        InputError: the names with the prefix are taken too.
    """
    for each in _prefixes(prefix):
        names = {name: each + name for name in ADDED}
        met = sorted(taken.intersection(names.values()))
        if not met:
            return names
    raise InputError(f"the input has a column {met[0]}: name the new ones otherwise with --prefix")


def _prefixes(prefix: str | None) -> tuple[str, ...]:
    return ("", PREFIX) if prefix is None else (prefix,)


def _text_column(table: Table, wanted: str | None) -> str:
    if wanted is not None:
        _require(table, wanted, "--text-column")
        return wanted
    named = [column for column in table.columns if column.strip().casefold() == "text"]
    if len(named) == 1:
        return named[0]
    if len(table.columns) == 1:
        return table.columns[0]
    raise InputError(f"which column is the text? Name it with --text-column; {_there(table)}")


def _require(table: Table, column: str, option: str) -> None:
    count = table.columns.count(column)
    if count == 1 or (table.kind == "JSONL" and table.columns):
        # objects of one file may differ; a row without it is named
        if count == 0 and not any(column in record.fields for record in table.records()):
            raise InputError(f"{option}: no object has a {column}; {_there(table)}")
        return
    fault = "is there more than once" if count else "is not there"
    raise InputError(f"{option}: the column {column} {fault}; {_there(table)}")


def _there(table: Table) -> str:
    if not table.columns:
        return "there is no usable row"
    return f"there are: {_listed(table.columns)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name or "(a column without a name)" for name in names)


def _bad(record: Record, fault: str) -> Row:
    return Row(record, "", "", b"", fault)


def _problems(item: Mapping[str, Any]) -> dict[str, str]:
    """What the service would find wrong with an item, by field."""
    try:
        _ITEM.validate_python(item)
    except ValidationError as error:
        problems: dict[str, str] = {}
        errors = error.errors(include_input=False, include_url=False)
        for each in field_errors(errors, body=item, where="body"):
            field, _, rest = each.pointer.removeprefix("/").partition("/")
            problems.setdefault(field, f"{rest} {each.detail}" if rest else each.detail)
        return problems
    return {}


def _compact(item: Mapping[str, Any]) -> bytes:
    return json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
