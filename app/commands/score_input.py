"""Saved answers in a file or on standard input: one JSON value, or one a line."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.commands.label_options import STDIN, UsageError

_LINES = {".jsonl", ".ndjson"}
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """One answer of the input.

    Attributes:
        line: where it stands in JSON Lines, from 1; None where it is all of the input.
        value: its decoded JSON; None where there is a fault.
        fault: why it is no JSON; None where it is.
    """

    line: int | None
    value: object
    fault: str | None = None


@contextmanager
def saved_answers(source: str) -> Iterator[Iterator[SavedAnswer]]:
    """The answers of a file, or of standard input, one by one: memory does not grow with lines.

    Raises:
        UsageError: there is nothing, or what is there is neither JSON nor JSON Lines.
        OSError: the file can't be read.
    """
    if source == STDIN:
        yield _answers(sys.stdin.buffer, "standard input", lines=False)
        return
    path = Path(source)
    with path.open("rb") as file:
        yield _answers(file, str(path), lines=path.suffix.lower() in _LINES)


def _answers(stream: IO[bytes], name: str, *, lines: bool) -> Iterator[SavedAnswer]:
    numbered = ((n, line) for n, line in enumerate(_without_mark(stream), 1) if line.strip())
    first = next(numbered, None)
    if first is None:
        raise UsageError(f"{name}: is empty")
    second = next(numbered, None)
    heads = [each for each in (first, second) if each is not None]
    parsed = [_answer(number, line) for number, line in heads]
    if lines or (parsed[0].fault is None and len(parsed) > 1):
        return itertools.chain(parsed, itertools.starmap(_answer, numbered))
    if parsed[0].fault is None:
        return iter([SavedAnswer(None, parsed[0].value)])
    return _whole_or_lines([*heads, *numbered], name)


def _whole_or_lines(numbered: list[tuple[int, bytes]], name: str) -> Iterator[SavedAnswer]:
    """Of an input whose first line is no JSON by itself: a value on many lines, or a bad line."""
    value, fault = _decoded(b"".join(line for _, line in numbered))
    if fault is None:
        return iter([SavedAnswer(None, value)])
    answers = [_answer(number, line) for number, line in numbered]
    if any(isinstance(each.value, dict) for each in answers):
        return iter(answers)
    if numbered[0][1].lstrip().startswith((b"data:", b"event:")):
        raise UsageError(f"{name}: is a stream of events: save an answer that is not streamed")
    raise UsageError(f"{name}: {fault}")


def _without_mark(stream: Iterable[bytes]) -> Iterator[bytes]:
    for number, line in enumerate(stream):
        yield line.removeprefix(_BOM) if number == 0 else line


def _answer(number: int, text: bytes) -> SavedAnswer:
    value, fault = _decoded(text)
    return SavedAnswer(number, value, fault)


def _decoded(text: bytes) -> tuple[object, str | None]:
    try:
        return json.loads(text.decode()), None
    except UnicodeDecodeError:
        return None, "is not UTF-8"
    except json.JSONDecodeError as error:
        return None, f"is not JSON: {error.msg[:1].lower()}{error.msg[1:]}"
    except (ValueError, RecursionError):  # a number of too many digits; nested too deep
        return None, "is JSON beyond what can be read"
