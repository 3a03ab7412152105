"""JSONL, read one object at a time and written back with more fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from app.commands.label_lines import InputError, Lines, Record


class JsonlTable:
    """A JSON object a line. Its own text is kept as it is, and the new fields stand at its end."""

    kind = "JSONL"

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.bom, self.newline = lines.bom, lines.newline
        if lines.sample().lstrip()[:1] == "[":
            raise InputError(
                f"{lines.name} is one JSON array: write one object a line (jq -c '.[]')"
            )
        first = next((each for each in self.records() if each.fault is None), None)
        self.columns = () if first is None else tuple(first.fields)

    def records(self) -> Iterator[Record]:
        number = 0
        for line, text in enumerate(self._lines.read(), start=1):
            source = text.strip()
            if not source:
                continue
            number += 1
            fields, fault = _parsed(source)
            yield Record(number, line, source, (), fields, fault)

    def head(self, _names: Sequence[str]) -> str:
        return ""

    def line(self, record: Record, added: Mapping[str, Any]) -> str:
        ours = json.dumps(added, ensure_ascii=False)
        if record.source.startswith("{") and record.source.endswith("}") and record.fault is None:
            own = record.source[:-1].rstrip()
            ours = f"{own}{', ' if record.fields else ''}{ours[1:]}"
        return ours + self.newline


def _parsed(text: str) -> tuple[dict[str, Any], str | None]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        place = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        return {}, f"is not JSON{place}"
    if not isinstance(value, dict):
        return {}, "is no JSON object"
    return value, None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
