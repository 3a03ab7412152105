"""How sure a model is by how often it says the same: several answers, one value, its share.

Self-consistency (Wang et al., arXiv 2203.11171), whose vote share, smoothed, is the confidence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.domain.confidence import LabelMass
from app.domain.kinds.base import LabelSchema, Part, Score

DEFAULT_VOTES: Final = 5
DEFAULT_TEMPERATURE: Final = 0.7
"""Answers at temperature 0 would be one answer, several times."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What several answers came to.

    Attributes:
        value: the one that most of them give.
        first: the position of the first answer that gives it.
        score: its confidence.
        counts: of each value, by its text, how many answers give it, most frequent first; None
            counts those that give none.
    """

    value: Any
    first: int
    score: Score
    counts: tuple[tuple[str | None, int], ...]


def count_votes(values: Sequence[Any | None], *, asked: int, schema: LabelSchema) -> Counted | None:
    """The value that most answers give; of several the one that was given first.

    Its share is of all that were asked, so an answer that gives no value counts against it, and
    one that never came too. Five of five are not certainty: the confidence is the share with half
    an answer for and half against it (Jeffreys' prior, Haldane's correction of the log-odds), .917
    for five of five. So a threshold of .95 wants more votes than five, and the log-odds are finite.
    Of values that are as frequent the one goes first whose parts most answers agree with.

    Args:
        values: an answer's value each, None where it gives none, in the order of asking.
        asked: how many answers were asked for, at least as many.
        schema: of the values, by whose `encode` they are equal.

    Returns:
        None where no answer gives a value.
    """
    texts = [None if value is None else schema.encode(value) for value in values]
    counts = Counter(texts)
    usable = [(text, count) for text, count in counts.most_common() if text is not None]
    if not usable:
        return None
    most = usable[0][1]
    # `most_common` keeps the order in which equal counts were met, and `max` the first of equals
    chosen, votes = max(
        (each for each in usable if each[1] == most),
        key=lambda each: _backing(values, values[texts.index(each[0])], schema=schema),
    )
    first = texts.index(chosen)
    silent = asked - sum(count for _, count in usable)
    shares = [count / asked for _, count in usable]
    second = shares[1] if len(shares) > 1 else 0.0
    outcomes = [*shares, silent / asked] if silent else shares
    score = Score(
        confidence=_smoothed(votes, asked),
        logit=_logit(votes, asked),
        margin=shares[0] - second,
        entropy=math.fsum(-share * math.log(share) for share in outcomes),
        alternatives=tuple(LabelMass(text, count / asked) for text, count in usable),
        parts=_parts(values, values[first], asked=asked, schema=schema),
        figures={"votes": float(asked), "agreeing": float(votes), "unusable": float(silent)},
    )
    listed = (*usable, (None, silent)) if silent else tuple(usable)
    return Counted(values[first], first, score, listed)


def _parts(
    values: Sequence[Any | None], chosen: Any, *, asked: int, schema: LabelSchema
) -> tuple[Part, ...]:
    """Each part of the value with the smoothed share of the answers that say the same of it."""
    others = [schema.parts_of(value) for value in values if value is not None]
    parts = []
    for name, said in schema.parts_of(chosen).items():
        votes = sum(1 for other in others if name in other and other[name] == said)
        parts.append(Part(name, said, _smoothed(votes, asked), _logit(votes, asked)))
    return tuple(parts)


def _backing(values: Sequence[Any | None], chosen: Any, *, schema: LabelSchema) -> int:
    """How often answers say of a part what the chosen value says of it."""
    said = schema.parts_of(chosen)
    others = [schema.parts_of(value) for value in values if value is not None]
    return sum(
        name in other and other[name] == part for other in others for name, part in said.items()
    )


def _smoothed(votes: int, asked: int) -> float:
    return (votes + 0.5) / (asked + 1)


def _logit(votes: int, asked: int) -> float:
    return math.log((votes + 0.5) / (asked - votes + 0.5))
