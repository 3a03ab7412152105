"""What holds a run up, said in time and in words that help; and when to give up."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

_EXPLAIN_SECONDS = 3.0
_IDLE_SECONDS = 30.0
_HINTS = {
    "401": "is OPENAI_API_KEY right?",
    "403": "may this OPENAI_API_KEY use this model?",
    "404": "is the name of the model right, and the base URL, which mostly ends in /v1?",
    "400": "can the model give log probabilities and structured output?",
    "429": "is the quota used up?",
    "reached": "is the base URL right, and does the model server run?",
    "read": "is this the base URL? It mostly ends in /v1.",
}
_HELD = "Waiting for slow calls, or for rows that a killed run held: they are free in two minutes."
_IDLE = "Nothing was labelled for half a minute, and no call failed; does a worker run?"


class StoppedError(Exception):
    """Going on makes no sense for now; nothing is lost."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands.

    Attributes:
        labelled: items that were through labelling, in this run or earlier.
        of: items in all, as far as is known.
        held: items that a worker holds.
        accepted: what the model decided.
        for_people: what waits for people or was decided by them.
        rate: items a second, of late.
    """

    labelled: int
    of: int
    held: int
    accepted: int
    for_people: int
    rate: float


class View(Protocol):
    """Where a run is shown."""

    def show(self, standing: Standing) -> None: ...

    def tell(self, line: str) -> None: ...


class Trouble:
    """Says what holds the labelling up, and when to give up."""

    def __init__(
        self, errors: Callable[[], Awaitable[list[str]]], *, give_up_after: float, view: View
    ) -> None:
        self._errors = errors
        self._give_up_after = give_up_after
        self._view = view
        self._labelled = -1
        self._since = self._looked = time.monotonic()
        self._told: str | None = None

    async def look(self, standing: Standing) -> None:
        """To be called now and then.

        Raises:
            StoppedError: the model has failed for too long.
        """
        now = time.monotonic()
        if standing.labelled != self._labelled:
            self._labelled, self._since, self._looked = standing.labelled, now, now
            return
        if now - self._looked < _EXPLAIN_SECONDS:
            return
        self._looked = now
        stuck = now - self._since
        errors = Counter(await self._errors())
        if errors:
            (error, _), *_ = errors.most_common(1)
            if self._give_up_after and stuck >= self._give_up_after:
                raise StoppedError(f"no row was labelled for {stuck:.0f} s: {hinted(error)}")
            self._tell(f"{hinted(error)} Trying again, with growing pauses.")
        elif stuck > _IDLE_SECONDS:
            self._tell(_HELD if standing.held else _IDLE)

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._view.tell(line)


def hinted(error: str) -> str:
    """An error as a sentence, with what it mostly comes from."""
    error = error.rstrip(".")
    # what follows is the server's: it may hold any number and any word
    ours = error.partition(": ")[0]
    for mark, hint in _HINTS.items():
        if re.search(rf"\b{mark}\b", ours):
            return f"{error}; {hint}"
    return f"{error}."
