"""A closed set of JSON values, to be recognised by their beginning.

`LabelPrefixes` knows names from behind their opening quote. Here the values are told apart from
their first byte on: true, false and null stand without quotes, a string may be null instead.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from app.domain.prefixes import NONE, SEVERAL, START, WHITE_SPACE, LabelPrefixes, Reading, read_on

if TYPE_CHECKING:
    from collections.abc import Sequence

_LETTERS: Final = re.compile(rb"[a-zA-Z]*")
_ENDS: Final = WHITE_SPACE + b",]}"
_QUOTE: Final = '"'
_LONGEST_KEPT: Final = 16
_MOST_KEPT: Final = 1_000
# What is read of a value that stands for all those not named: no string and no word begins so.
_OTHER: Final = Reading("\0", b"", closed=True)


class Literals:
    """Strings, true, false and null, and at most one outcome more: any other value of a type.

    Strings are recognised in any case and with spaces before, as labels are; so are the words
    (`True` says what `true` says, though it is no JSON). A word is whole without the byte behind
    it, since none of them begins another.

    Attributes:
        names: the outcomes by their JSON, strings first, in the order given; the others, if there
            can be some, last, as "...".
    """

    def __init__(
        self,
        words: Sequence[bool | None],
        *,
        strings: Sequence[str] = (),
        openings: bytes = b"",
    ) -> None:
        """Take at least two outcomes.

        Args:
            words: of true, false and null.
            strings: no two the same when folded, none beginning with a space.
            openings: the bytes that other values begin with; no quote where there are strings.
        """
        spelled = [json.dumps(word) for word in words]
        self.names = (
            *(json.dumps(each, ensure_ascii=False) for each in strings),
            *spelled,
            *(["..."] if openings else []),
        )
        self._strings = LabelPrefixes(strings)
        self._words = {word: len(strings) + index for index, word in enumerate(spelled)}
        self._openings = openings
        self._kept: dict[bytes, int] = {}

    def index(self, value: str | bool | None) -> int:  # noqa: FBT001 - a value, not a switch
        """Position of this value.

        Raises:
            ValueError: it is none of the set.
        """
        return self.names.index(json.dumps(value, ensure_ascii=False))

    def read_on(self, reading: Reading, data: bytes) -> Reading | None:
        """The reading after these bytes too, START in white space; None if they begin no value."""
        if not reading.text:
            data = data.lstrip(WHITE_SPACE)
            if not data:
                return START
            if data[0] in self._openings:
                return _OTHER
            if data[:1] == b'"':
                return _quoted(START, data[1:])
        elif reading.text[0] == _QUOTE:
            return _quoted(reading._replace(text=reading.text[1:]), data)
        letters = _LETTERS.match(data)
        word = reading.text + (letters.group().decode().lower() if letters else "")
        rest = data[letters.end() if letters else 0 :]
        whole = word in self._words
        if rest and not (whole and rest[0] in _ENDS):
            return None
        return Reading(word, b"", whole)

    def leaves(self, reading: Reading) -> int:
        """The position of the only outcome that the reading can become, SEVERAL, or NONE."""
        if not reading.text:
            return SEVERAL
        if reading == _OTHER:
            return len(self.names) - 1
        if reading.text[0] == _QUOTE:
            return self._strings.leaves(reading._replace(text=reading.text[1:]))
        left = [at for word, at in self._words.items() if word.startswith(reading.text)]
        return left[0] if len(left) == 1 else SEVERAL if left else NONE

    def leaves_after(self, reading: Reading, data: bytes) -> int:
        """What `leaves` says of the reading after these bytes; NONE where no value has them."""
        if reading != START or len(data) > _LONGEST_KEPT:
            after = self.read_on(reading, data)
            return NONE if after is None else self.leaves(after)
        # The same few alternatives stand at the beginning of every value.
        left = self._kept.get(data)
        if left is None:
            after = self.read_on(reading, data)
            left = NONE if after is None else self.leaves(after)
            if len(self._kept) < _MOST_KEPT:
                self._kept[data] = left
        return left


def _quoted(inner: Reading, data: bytes) -> Reading | None:
    after = read_on(inner, data)
    return after and after._replace(text=_QUOTE + after.text)


BOOLEAN: Final = Literals([True, False])
