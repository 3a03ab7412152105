"""What a piece of a JSON answer leaves possible: one label, several, or none.

A token is bytes. It may begin before the value it is part of, end within a character or an escape,
or close the value and go on. So the bytes of a JSON string are read step by step into characters,
and the characters looked up among the labels. Sorted names in place of the nodes of a trie answer
the same question in a few lines: the names that begin with a text stand side by side.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from app.domain.labels import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE: Final = -1
SEVERAL: Final = -2

WHITE_SPACE: Final = b" \t\n\r"
"""What may stand between the pieces of JSON (RFC 8259 §2)."""

# As many whole characters of a JSON string (RFC 8259 §7) as there are. A surrogate escape counts
# as whole with its other half only.
_WHOLE: Final = re.compile(
    rb"""(?:
      [\x20\x21\x23-\x5b\x5d-\x7f]+
    | [\xc2-\xdf][\x80-\xbf] | [\xe0-\xef][\x80-\xbf]{2} | [\xf0-\xf4][\x80-\xbf]{3}
    | \\["\\/bfnrt]
    | \\u(?![dD][89abAB])[0-9a-fA-F]{4}
    | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
    )*""",
    re.VERBOSE,
)
# The beginning of such a character.
_BEGUN: Final = re.compile(
    rb"""
      [\xc2-\xdf] | [\xe0-\xef][\x80-\xbf]? | [\xf0-\xf4][\x80-\xbf]{0,2}
    | \\(?:u[0-9a-fA-F]{0,3})?
    | \\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?
    """,
    re.VERBOSE,
)


class Reading(NamedTuple):
    """How much of a JSON string has been read, from behind its opening quote.

    `text` is what it says, case folded, without the spaces before it; `pending` are the first
    bytes of a character that is not complete; `closed` is whether the closing quote has come.
    """

    text: str
    pending: bytes
    closed: bool


START: Final = Reading("", b"", closed=False)


def read_on(reading: Reading, data: bytes) -> Reading | None:
    """The reading after these bytes too; None if they are part of no JSON string.

    What follows the closing quote is not looked at.
    """
    if not reading.pending and data.isascii() and b"\\" not in data:
        end = data.find(b'"')
        added = fold((data if end < 0 else data[:end]).decode("ascii"))
        return Reading(_joined(reading.text, added), b"", end >= 0)
    data = reading.pending + data
    match = _WHOLE.match(data)
    whole = match.group() if match else b""
    rest = data[len(whole) :]
    closed = rest.startswith(b'"')
    if rest and not closed and not _BEGUN.fullmatch(rest):
        return None
    try:
        added = whole.decode()
    except UnicodeDecodeError:  # overlong forms and encoded surrogates
        return None
    if "\\" in added:
        added = json.loads(f'"{added}"')
    return Reading(_joined(reading.text, fold(added)), b"" if closed else rest, closed)


def _joined(text: str, added: str) -> str:
    return text + added if text else added.lstrip(" ")


def field_layout(field: str) -> tuple[bytes, ...]:
    """What stands before the value of an answer's only field, a string, to its opening quote.

    The field's name is taken as written, without escapes.
    """
    return b"{", f'"{field}"'.encode(), b":", b'"'


def value_offset(data: bytes, *, layout: Sequence[bytes]) -> int | None:
    """Where a value begins that stands behind these pieces with any white space between them.

    `data` begins where they do and may be cut anywhere; if it is cut before the value begins,
    this is its length. None if it does not begin with them.
    """
    position = 0
    for piece in layout:
        while data[position : position + 1] and data[position] in WHITE_SPACE:
            position += 1
        found = data[position : position + len(piece)]
        if not piece.startswith(found):
            return None
        position += len(found)
    return position


class LabelPrefixes:
    """Names to be recognised by their beginning, whatever their case."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take names no two of which are the same when folded, none beginning with a space."""
        order = sorted(range(len(names)), key=lambda position: fold(names[position]))
        self._order = order
        self._names = [names[position] for position in order]
        self._folded = [fold(name) for name in self._names]
        self._whole = dict(zip(self._folded, order, strict=True))

    def read_on(self, reading: Reading, data: bytes) -> Reading | None:
        """The reading after these bytes too; None if they are part of no value."""
        return read_on(reading, data)

    def leaves(self, reading: Reading) -> int:
        """The position of the only name that the reading can still become, SEVERAL, or NONE."""
        if reading.closed:
            return self._whole.get(reading.text, NONE)
        if reading.pending:
            return self._leaves_begun(reading.text, reading.pending)
        return self._leaves_text(reading.text)

    def leaves_after(self, reading: Reading, data: bytes) -> int:
        """What `leaves` says of the reading after these bytes; NONE where no string has them."""
        if reading.pending or not data.isascii() or b"\\" in data or b'"' in data:
            after = read_on(reading, data)
            return NONE if after is None else self.leaves(after)
        # Nearly all alternatives come this way: a third of the time of going through a Reading.
        return self._leaves_text(_joined(reading.text, data.decode("ascii").lower()))

    def _leaves_text(self, text: str) -> int:
        folded = self._folded
        first = bisect_left(folded, text)
        if first == len(folded) or not folded[first].startswith(text):
            return NONE
        if first + 1 < len(folded) and folded[first + 1].startswith(text):
            return SEVERAL
        return self._order[first]

    def _leaves_begun(self, text: str, pending: bytes) -> int:
        if not text and _may_begin(pending, " "):
            return SEVERAL  # a space before the label, and then any label
        left = NONE
        for index in range(bisect_left(self._folded, text), len(self._folded)):
            if not self._folded[index].startswith(text):
                break
            # As the name has it: µ and its folded form begin with different bytes. Empty, and so
            # begun by nothing, where the name ends.
            character = self._names[index][len(text) : len(text) + 1]
            if _may_begin(pending, character):
                if left != NONE:
                    return SEVERAL
                left = self._order[index]
        return left


def _may_begin(pending: bytes, character: str) -> bool:
    if pending.startswith(b"\\"):
        pending = pending.lower()  # the hexadecimal digits of an escape
    return any(spelling.startswith(pending) for spelling in _spellings(character))


@lru_cache(maxsize=4096)
def _spellings(character: str) -> tuple[bytes, ...]:
    """The ways in which a JSON string may hold the character, in any case; escapes in lower case.

    Without the short escapes: all that can be pending of one is the backslash of the long one.
    """
    spellings = []
    folded = fold(character)
    for variant in {character, folded, character.upper()}:
        if fold(variant) != folded:  # SS of ß
            continue
        units = variant.encode("utf-16-be").hex()
        escaped = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
        spellings += [variant.encode(), escaped.encode()]
    return tuple(spellings)
