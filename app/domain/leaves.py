"""The confidence of one value of a JSON answer, from the tokens that spell it.

A closed value is one of a few: its confidence is its share of all that was seen, by the walk of
`app.domain.walk`. An open one (a text, a number, a list) has too many rivals to share out: its
confidence is the joint probability of its tokens. Logs are natural.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from app.domain.confidence import ChoiceScore, label_prefixes, score_walk
from app.domain.labels import LabelSet
from app.domain.prefixes import WHITE_SPACE
from app.domain.tokens import ROUNDING
from app.domain.unknown import Unknown, UnknownReason
from app.domain.walk import EXCESS, Prefixes, Walk, behind_layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.domain.json_places import Place
    from app.domain.literals import Literals
    from app.domain.tokens import Token

_DIGITS: Final = b"-0123456789"
_NUMBER: Final = b"0123456789.eE+-"


@dataclass(frozen=True)
class Spelling:
    """What a model wrote, with its tokens and where each of them stands.

    Attributes:
        tokens: they spell `data`.
        data: the whole content, in UTF-8.
        begins, ends: of each token, in bytes.
    """

    tokens: Sequence[Token]
    data: bytes
    begins: list[int] = field(init=False, repr=False)
    ends: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ends = list(accumulate(len(token.data) for token in self.tokens))
        object.__setattr__(self, "ends", ends)
        object.__setattr__(self, "begins", [0, *ends[:-1]])

    def over(self, start: int, end: int) -> range:
        """The positions of the tokens that have a byte of [start, end), or stand empty in it."""
        first = min(bisect_left(self.begins, start), bisect_right(self.ends, start))
        return range(first, max(first, bisect_left(self.begins, end)))

    def p_raw(self, leaves: Iterable[LeafScore]) -> float:
        """Probability of the very tokens of these values, each token once; in [0, 1]."""
        positions = {position for leaf in leaves for position in leaf.tokens}
        return math.exp(math.fsum(min(self.tokens[each].logprob, 0.0) for each in positions))


class LeafScore(NamedTuple):
    """The confidence of one value.

    Attributes:
        confidence: probability in [0, 1].
        logit: its log-odds, finite and distinct where the confidence is 1.0: rank by this.
        log_p_raw: the sum of the logprobs of its tokens.
        tokens: the positions of these tokens.
    """

    confidence: float
    logit: float
    log_p_raw: float
    tokens: range


def closed_leaf(
    spelling: Spelling, place: Place, *, among: LabelSet | Literals, value: str | bool | None
) -> LeafScore | Unknown:
    """The confidence of a value that is one of a few: its share, as `closed_choice` has it."""
    choice = closed_choice(spelling, place, among=among, value=value)
    if isinstance(choice, Unknown):
        return choice
    if isinstance(among, LabelSet):
        place = place.inside()
    tokens = spelling.over(place.start, place.end)
    return LeafScore(choice.confidence, choice.logit, choice.log_p_raw, tokens)


def closed_choice(
    spelling: Spelling, place: Place, *, among: LabelSet | Literals, value: str | bool | None
) -> ChoiceScore | Unknown:
    """The distribution over the few values of which one was chosen, as `score_choice` has it.

    Unknown: no alternatives where the values part, clamped, not a distribution.

    Args:
        spelling: the answer.
        place: where the value stands in it.
        among: what it is one of. Of strings alone a `LabelSet`: the opening quote is then layout,
            and says nothing. With `Literals` the value is told from its first byte on.
        value: which it is, as the set spells it.
    """
    prefixes: Prefixes
    if isinstance(among, LabelSet):
        place = place.inside()
        prefixes, own = label_prefixes(among), among.index(str(value))
    else:
        prefixes, own = among, among.index(value)
    walk = Walk(prefixes, [0.0] * len(among.names), gap=place.gap, layout=place.layout)
    tokens = spelling.over(place.start, place.end)
    unknown = walk.along(
        spelling.tokens[tokens.start : tokens.stop],
        data=spelling.data,
        start=place.start,
        position=spelling.begins[tokens.start],
    )
    return unknown or score_walk(walk, names=among.names, own=own)


def open_leaf(spelling: Spelling, place: Place) -> LeafScore | Unknown:
    """The confidence of a value of an open set: the joint probability of its tokens.

    A token that straddles a border of the value counts whole; an alternative to the first that
    differs only in the layout before the value says the same as the token. A number ends by what
    follows it, so the chance that it would have gone on is taken off. 1 - p is summed over the
    positions as W·(1 - p_i), W the probability of having come this far.

    Unknown: no logprob below 0 and no alternative listed at any of the positions; a sampled token
    outside what the server lists; a position whose probabilities sum to more than 1.

    Args:
        spelling: the answer.
        place: where the value stands in it. A string whose opening quote says nothing (it could
            be no null) goes by `place.inside()`.
    """
    log_p = doubt = 0.0
    told = False
    tokens = spelling.over(place.start, place.end)
    positions = [_position(spelling, place, index) for index in tokens]
    if spelling.data[place.start] in _DIGITS and not place.quoted:
        positions.append(_end_of_number(spelling, place, tokens.stop))
    for position in positions:
        if isinstance(position, Unknown):
            return position
        told = told or position.told
        doubt += math.exp(log_p) * position.missing
        log_p += position.log_p
    if not told:
        return Unknown(UnknownReason.NO_ALTERNATIVES, "No alternatives are listed in the value.")
    doubt = max(doubt, sys.float_info.min)
    log_p_raw = math.fsum(min(spelling.tokens[index].logprob, 0.0) for index in tokens)
    return LeafScore(math.exp(log_p), log_p - math.log(doubt), log_p_raw, tokens)


class _Position(NamedTuple):
    log_p: float  # of the token, or of any that says the same of the value
    missing: float  # 1 less that probability, not by subtraction where it saturates
    told: bool  # whether the server says how likely anything else was


def _position(spelling: Spelling, place: Place, index: int) -> _Position | Unknown:
    token = spelling.tokens[index]
    logprob = min(token.logprob, 0.0)  # above 0 by rounding
    chosen = math.exp(logprob)
    if chosen == 0.0:
        return _clamped()
    others = token.others()
    begin = spelling.begins[index]
    own = _said(token.data, spelling, place, begin) if begin <= place.start else None
    alike = rival = 0.0
    for other in others:
        mass = math.exp(other.logprob)
        if own is not None and _said(other.data, spelling, place, begin) == own:
            alike += mass
        else:
            rival += mass
    total = chosen + alike + rival
    if total > 1.0 + EXCESS:
        return _no_distribution()
    # rounding above 1 is taken back, as the walk does
    scale = max(total, 1.0)
    missing = -math.expm1(logprob) - alike
    if scale > 1.0 or (rival and missing <= ROUNDING):
        # what the logprob says is rounding; the alternatives say it exactly
        missing = rival / scale
    exact = scale == 1.0 and not alike
    log_p = logprob if exact else math.log((chosen + alike) / scale)
    told = logprob < 0.0 or not all(other.clamped for other in others)
    return _Position(log_p, max(missing, 0.0), told)


def _said(data: bytes, spelling: Spelling, place: Place, begin: int) -> bytes | None:
    """What a token that begins at or before the value says of it; None if it comes to no value."""
    if begin < place.start:
        rest = behind_layout(
            data, data=spelling.data, begin=begin, gap=place.gap, layout=place.layout
        )
        if isinstance(rest, int):
            return None
        data = rest
    return (data if place.quoted else data.lstrip(WHITE_SPACE)) or None


def _end_of_number(spelling: Spelling, place: Place, index: int) -> _Position | Unknown:
    """That a number ends where it does, rather than going on; `index` is of the token behind."""
    if spelling.ends[index - 1] > place.end:  # its last token has told the end
        return _Position(0.0, 0.0, told=False)
    while not spelling.tokens[index].data:
        index += 1
    token = spelling.tokens[index]
    others = token.others()
    ended, more = math.exp(min(token.logprob, 0.0)), 0.0
    for other in others:
        mass = math.exp(other.logprob)
        if other.data and other.data[0] in _NUMBER:
            more += mass
        else:
            ended += mass
    if more + ended > 1.0 + EXCESS:
        return _no_distribution()
    told = not all(other.clamped for other in others)
    if not more:
        return _Position(0.0, 0.0, told=told)
    if not ended:
        return _clamped()
    log_p = math.log(ended) - math.log(more + ended)
    return _Position(min(log_p, 0.0), more / (more + ended), told=told)


def _clamped() -> Unknown:
    return Unknown(
        UnknownReason.CLAMPED_LOGPROB, "A sampled token is outside what the server lists."
    )


def _no_distribution() -> Unknown:
    return Unknown(
        UnknownReason.NOT_A_DISTRIBUTION, "A position's probabilities sum to more than 1."
    )
