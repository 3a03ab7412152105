"""Where in the item the words stand that a model quotes from it.

Models quote well and count badly, and they count in a text from which the item's delimiters were
taken out. So the quote is what is believed; the offsets only say which of several is meant.
Offsets count Unicode code points, from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from app.domain.unknown import UnknownReason, Unusable

MAX_ENTITIES: Final = 1_000
MAX_QUOTED: Final = 1_000_000
"""Characters of all entities together: a few offsets may quote a large text a thousand times."""


class Quote(NamedTuple):
    """An entity as a model says it: its words, its label, and where it begins and ends."""

    text: str
    label: str
    start: int
    end: int


def locate(quotes: Sequence[Quote], *, text: str) -> list[int] | Unusable:
    """Where each quote begins; it ends behind its own length, whatever was said of its end.

    One that stands where it is said to begin is there. Of the others, one that the text has but
    once is there; and those that quote the same words are taken in the order of their offsets,
    where they are as many as the places of these words that are left.

    Unusable: words that the text does not have, or has in more places than are quoted.
    """
    starts = [
        quote.start if quote.start >= 0 and text.startswith(quote.text, quote.start) else None
        for quote in quotes
    ]
    taken = {(quote.text, start) for quote, start in zip(quotes, starts, strict=True)}
    astray: dict[str, list[int]] = {}
    for index, start in enumerate(starts):
        if start is None:
            astray.setdefault(quotes[index].text, []).append(index)
    for words, indices in astray.items():
        places = _places(words, text)
        if not places:
            return Unusable(
                UnknownReason.QUOTE_NOT_FOUND, "A quote of the answer does not stand in the item."
            )
        if len(places) == 1:
            places *= len(indices)
        else:
            places = [place for place in places if (words, place) not in taken]
        if len(places) != len(indices):
            return Unusable(
                UnknownReason.QUOTE_AMBIGUOUS,
                "A quote of the answer stands in the item several times, and not where it says.",
            )
        indices.sort(key=lambda index: quotes[index].start)
        for index, place in zip(indices, places, strict=True):
            starts[index] = place
    return [start for start in starts if start is not None]


def _places(words: str, text: str) -> list[int]:
    """Where the words begin, overlapping ones too; not all, where more than can be meant."""
    places: list[int] = []
    place = text.find(words)
    while place >= 0 and len(places) <= 2 * MAX_ENTITIES:
        places.append(place)
        place = text.find(words, place + 1)
    return places
