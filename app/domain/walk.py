"""The walk along the tokens of a value from a closed set, by the chain rule.

What is counted where, and why: docs/decisions/0004-confidence.md. Logs are natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from app.domain.prefixes import NONE, SEVERAL, START, WHITE_SPACE, value_offset
from app.domain.unknown import Unknown, UnknownReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.domain.prefixes import Reading
    from app.domain.tokens import Alternative, Token

EXCESS: Final = 0.01
"""How far above 1 the probabilities listed at a position may sum before they are none.

Single precision gives 1e-7, logprobs printed with two decimals up to 0.005.
"""

RESOLUTION: Final = 2.0**-24
"""From 1 to the next smaller number in single precision: what such a server cannot tell from 1."""


class Prefixes(Protocol):
    """What the beginning of a value leaves possible: `LabelPrefixes`, or another closed set."""

    def read_on(self, reading: Reading, data: bytes, /) -> Reading | None: ...

    def leaves(self, reading: Reading, /) -> int: ...

    def leaves_after(self, reading: Reading, data: bytes, /) -> int: ...


@dataclass(slots=True)
class Walk:
    """The state of one walk along the tokens of a value.

    Attributes:
        prefixes: of the closed set that the value is of.
        by_label: the mass seen to go to each of the set.
        gap: where the layout before the value begins.
        layout: the pieces of that layout; any white space may stand between them.
        ambiguous, off_label: the other masses.
        reached: probability of having come this far.
        log_p_raw: of the tokens walked, as the server says it.
        at: what has been read of the value.
        unlisted: at each position where labels part, the most that a token not listed can have.
        compared: whether a rival was listed where labels part.
    """

    prefixes: Prefixes
    by_label: list[float]
    gap: int
    layout: tuple[bytes, ...]
    ambiguous: float = 0.0
    off_label: float = 0.0
    reached: float = 1.0
    log_p_raw: float = 0.0
    at: Reading = START
    unlisted: list[float] = field(default_factory=list)
    compared: bool = False

    def along(
        self, tokens: Iterable[Token], *, data: bytes, start: int, position: int = 0
    ) -> Unknown | None:
        """Walk the value that begins at `start`; stops where it is closed.

        The first token begins at `position`, no later than the value or within its first token.
        """
        end = position
        for token in tokens:
            begin, end = end, end + len(token.data)
            if begin < start and end <= start:
                continue  # layout only
            # white space alone is read as if it were the value's own: nothing to be told from it
            in_layout = begin if data[begin:start].strip(WHITE_SPACE) else None
            if unknown := self._step(token, data=data, begin=in_layout):
                return unknown
            after = self.prefixes.read_on(self.at, data[max(begin, start) : end])
            if after is None or after.closed:
                break
            self.at = after
        if not self.compared:
            return Unknown(
                UnknownReason.NO_ALTERNATIVES, "No alternatives are listed where labels part."
            )
        if math.exp(self.log_p_raw) == 0.0 or self.reached == 0.0:
            return Unknown(
                UnknownReason.CLAMPED_LOGPROB, "A sampled token is outside what the server lists."
            )
        return None

    def _step(self, token: Token, *, data: bytes, begin: int | None) -> Unknown | None:
        """Share out one position; `begin` is that of a token that begins in the layout."""
        others = token.others()
        logprob = min(token.logprob, 0.0)  # above 0 by rounding
        chosen = math.exp(logprob)
        masses = [math.exp(other.logprob) for other in others]
        total = chosen + sum(masses)
        if total > 1.0 + EXCESS:
            return Unknown(
                UnknownReason.NOT_A_DISTRIBUTION, "A position's probabilities sum to more than 1."
            )
        # Rounding above 1 is taken back here, so that no sum of masses can exceed 1.
        weight = self.reached / max(total, 1.0)
        if self.prefixes.leaves(self.at) == SEVERAL:
            self._note_listed(token, others, weight)
        for other, mass in zip(others, masses, strict=True):
            left = (
                self.prefixes.leaves_after(self.at, other.data)
                if begin is None
                else self._left_by_straddling(other.data, data, begin)
            )
            if left >= 0:
                self.by_label[left] += weight * mass
            elif left == SEVERAL:
                self.ambiguous += weight * mass
            else:
                self.off_label += weight * mass
        self.reached = weight * chosen
        self.log_p_raw += logprob
        return None

    def _left_by_straddling(self, other: bytes, data: bytes, begin: int) -> int:
        rest = behind_layout(other, data=data, begin=begin, gap=self.gap, layout=self.layout)
        if isinstance(rest, int):
            return rest
        return self.prefixes.leaves_after(START, rest)

    def _note_listed(self, token: Token, others: Sequence[Alternative], weight: float) -> None:
        """Remember, where labels part, how likely a token can be that is not listed."""
        self.compared = self.compared or not all(other.clamped for other in others)
        listed = [each.logprob for each in token.alternatives if not each.clamped]
        self.unlisted.append(weight * math.exp(min([*listed, 0.0])))


def behind_layout(
    other: bytes, *, data: bytes, begin: int, gap: int, layout: Sequence[bytes]
) -> bytes | int:
    """What an alternative to a token that begins in the layout says of the value.

    Args:
        other: the alternative.
        data: what the model wrote.
        begin: where in it the token begins.
        gap: where the layout begins.
        layout: its pieces.

    Returns:
        The beginning of the value, empty if it has not come yet; or NONE where this is no such
        layout; or SEVERAL where it parts from the token before the layout begins, and so tells
        nothing of what stands behind it.
    """
    before = data[begin:gap]  # empty where the token begins in the layout, as nearly all do
    if not other.startswith(before):
        return SEVERAL
    other = data[gap:begin] + other[len(before) :]
    start = value_offset(other, layout=layout)
    return NONE if start is None else other[start:]
