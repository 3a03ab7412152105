"""Where each value of a JSON answer stands in what the model wrote.

Tokens are bytes, so a value's confidence needs the bytes that spell it: from its first to the one
behind its last, quotes and brackets included.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Names and indices from the answer's object down to a value; () is the object itself."""

_LEXEME: Final = re.compile(
    rb"""[ \t\n\r]*(?:
      (?P<string>"[^"\\]*(?:\\.[^"\\]*)*")
    | (?P<mark>[][{}:,])
    | (?P<bare>[^][{}:,"\s]+)
    )""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands, and the layout before it.

    Offsets are bytes of the whole content. The value is `content[start:end]`; of an object or a
    list the closing bracket is at `end - 1`.

    Attributes:
        path: which value it is.
        start: its first byte.
        end: behind its last byte.
        gap: where the layout before it begins: behind the value before it, or at the bracket
            that it is the first in. At most `start`.
        layout: the pieces of that layout, between which any white space may stand: of a member
            `{` or `,`, its name as written, and `:`; of a list's item `[` or `,`.
    """

    path: Path
    start: int
    end: int
    gap: int
    layout: tuple[bytes, ...]

    @property
    def quoted(self) -> bool:
        """Whether the opening quote is behind us: white space would be text."""
        return self.layout[-1:] == (b'"',)

    def inside(self) -> Place:
        """Of a string: from behind its opening quote, which is then one more piece of layout."""
        return Place(self.path, self.start + 1, self.end, self.gap, (*self.layout, b'"'))


@dataclass(slots=True)
class _Open:
    """An object or a list whose end has not come."""

    path: Path
    start: int
    gap: int
    layout: tuple[bytes, ...]
    is_list: bool
    last: int  # where what comes next has its gap
    pieces: list[bytes] = field(default_factory=list)  # of the layout since then
    name: str = ""
    count: int = 0


def find_places(data: bytes, *, begin: int) -> dict[Path, Place]:
    """The place of every value of an answer by its path, in the order of the text.

    A container stands before what it contains; the whole answer is at ().

    Args:
        data: what the model wrote.
        begin: where in it the answer's `{` stands. From there on it is a JSON object with no name
            twice in one object (`app.domain.answers` has seen to that), then whatever else.
    """
    # containers are put in when they open, so that they come first, and completed when they close
    found: dict[Path, Place] = {}
    stack: list[_Open] = []
    position = begin
    while match := _LEXEME.match(data, position):
        position = match.end()
        kind = str(match.lastgroup)
        start, text = match.start(kind), match.group(kind)
        inner = stack[-1] if stack else None
        if kind == "mark" and text in b":,":
            if inner:
                inner.pieces.append(text)
        elif kind == "mark" and text in b"]}":
            closed = stack.pop()
            found[closed.path] = _place(closed, position)
            if not stack:
                break
            _behind(stack[-1], position)
        elif inner and kind == "string" and not inner.is_list and inner.pieces[-1] != b":":
            inner.name = json.loads(text)
            inner.pieces.append(text)
        else:
            opened = _opened(inner, start=start, is_list=text == b"[", bracket=text)
            found[opened.path] = _place(opened, position)
            if kind == "mark":
                stack.append(opened)
            elif inner:
                _behind(inner, position)
    return found


def _opened(parent: _Open | None, *, start: int, is_list: bool, bracket: bytes) -> _Open:
    """A value that begins here, as if it were a container; scalars close at once."""
    if parent is None:
        return _Open((), start, start, (), is_list, last=start, pieces=[bracket])
    path = (*parent.path, parent.count if parent.is_list else parent.name)
    layout = tuple(parent.pieces)
    return _Open(path, start, parent.last, layout, is_list, last=start, pieces=[bracket])


def _place(value: _Open, end: int) -> Place:
    return Place(value.path, value.start, end, value.gap, value.layout)


def _behind(parent: _Open, end: int) -> None:
    parent.last, parent.count = end, parent.count + 1
    parent.pieces.clear()
