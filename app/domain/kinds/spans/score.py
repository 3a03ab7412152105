"""How sure a model is of each entity it lists, and that these are all."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from app.domain.confidence import score_walk
from app.domain.json_places import Path, Place
from app.domain.labels import LabelSet
from app.domain.leaves import LeafScore, Spelling, closed_leaf, open_leaf
from app.domain.prefixes import NONE, SEVERAL, WHITE_SPACE, Reading
from app.domain.unknown import Unknown
from app.domain.walk import Walk

LIST: Final = "entities"
FIELDS: Final = ("text", "label", "start", "end")


class _Continuation:
    """Whether a list of objects ends or goes on, to be told from the first bytes of its layout.

    Read from behind the `[`, or from behind the last value of an object in it.

    Attributes:
        outcomes: how the layout begins where the list ends and where it goes on; then what says
            neither, and is shared out only to be left out.
    """

    names: Final = ("ends", "goes on")

    def __init__(self, *, ends: str, goes_on: str, neither: str = "") -> None:
        self.outcomes = (ends, goes_on, *neither)

    def read_on(self, reading: Reading, data: bytes) -> Reading | None:
        text = reading.text + data.translate(None, WHITE_SPACE).decode("latin-1")
        for outcome in self.outcomes:
            if text.startswith(outcome):
                return Reading(outcome, b"", closed=True)
            if outcome.startswith(text):
                return Reading(text, b"", closed=False)
        return None

    def leaves(self, reading: Reading) -> int:
        return self.outcomes.index(reading.text) if reading.closed else SEVERAL

    def leaves_after(self, reading: Reading, data: bytes) -> int:
        after = self.read_on(reading, data)
        return NONE if after is None else self.leaves(after)


_FIRST: Final = _Continuation(ends="]", goes_on="{")
# A digit is more of the offset before; the model's doubt of a number is none about the list.
_NEXT: Final = _Continuation(ends="}]", goes_on="},", neither="0123456789")


class EntityScores:
    """The leaves of an answer's entities, by their index in it."""

    def __init__(
        self, spelling: Spelling, places: Mapping[Path, Place], *, labels: LabelSet
    ) -> None:
        """Take an answer that `read` took, with the place of each of its values."""
        self._spelling = spelling
        self._places = places
        self._labels = labels
        self._used: list[LeafScore] = []

    def entity(self, index: int, *, label: str) -> tuple[float, float] | Unknown:
        """Probability and log-odds of one: it is there, it is these words, it is of this label.

        That it is there is that the list went on, or began at all. Where it begins and ends was
        checked against the text; what the model thought of the numbers is no matter.
        """
        place = self._places[LIST, index, "text"].inside()
        leaves = [self._continuation(index, goes_on=True), open_leaf(self._spelling, place)]
        if len(self._labels) > 1:  # else there is nothing to choose
            place = self._places[LIST, index, "label"]
            leaves.append(closed_leaf(self._spelling, place, among=self._labels, value=label))
        return self._joint(leaves)

    def end(self, count: int) -> tuple[float, float] | Unknown:
        """Probability and log-odds that the list ends after so many entities, all it has."""
        return self._joint([self._continuation(count, goes_on=False)])

    @property
    def p_raw(self) -> float:
        """Probability of the very tokens of all that was asked for until now."""
        return self._spelling.p_raw(self._used)

    def _joint(self, leaves: Sequence[LeafScore | Unknown]) -> tuple[float, float] | Unknown:
        log_p = doubt = 0.0
        for leaf in leaves:
            if isinstance(leaf, Unknown):
                return leaf
            self._used.append(leaf)
            # 1 - p of the product is summed, not subtracted: it ranks where p is 1.0
            doubt += math.exp(log_p + _log_expit(-leaf.logit))
            log_p += _log_expit(leaf.logit)
        return math.exp(log_p), log_p - math.log(max(doubt, sys.float_info.min))

    def _continuation(self, index: int, *, goes_on: bool) -> LeafScore | Unknown:
        """The decision whether there is an entity of this index."""
        listed = self._places[LIST,]
        layout: tuple[bytes, ...] = ()
        if index:
            # behind the last value of the entity before, whichever of its fields that is
            start = gap = max(self._places[LIST, index - 1, name].end for name in FIELDS)
            prefixes, told = _NEXT, self._places[LIST, index - 1].end
        else:
            start, gap, layout = listed.start + 1, listed.gap, (*listed.layout, b"[")
            prefixes, told = _FIRST, start
        sign = b"]" if not goes_on else b"," if index else b"{"
        tokens = self._spelling.over(start, self._spelling.data.index(sign, told) + 1)
        walk = Walk(prefixes, [0.0] * len(prefixes.outcomes), gap=gap, layout=layout)
        unknown = walk.along(
            self._spelling.tokens[tokens.start : tokens.stop],
            data=self._spelling.data,
            start=start,
            position=self._spelling.begins[tokens.start],
        )
        if unknown:
            return unknown
        del walk.by_label[len(prefixes.names) :]
        score = score_walk(walk, names=prefixes.names, own=int(goes_on))
        return LeafScore(score.confidence, score.logit, score.log_p_raw, tokens)


def _log_expit(logit: float) -> float:
    """Log of the probability of these log-odds; scipy.special has it, and is slow to import."""
    return min(logit, 0.0) - math.log1p(math.exp(-abs(logit)))
