"""Answers that may be a moment old, looked up once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Fresh(Generic[K, V]):
    """Keeps the answer to each question for a while; a failed look-up is not kept.

    Args:
        look_up: answers a question.
        seconds: how old an answer may be.
        max_kept: how many answers are kept; when there are more, all are dropped.
    """

    def __init__(
        self, look_up: Callable[[K], Awaitable[V]], *, seconds: float, max_kept: int
    ) -> None:
        self._look_up = look_up
        self._seconds = seconds
        self._max_kept = max_kept
        self._kept: dict[K, tuple[asyncio.Future[V], float]] = {}

    async def get(self, question: K, *, since: float = 0.0) -> V:
        """The answer, at most as old as allowed; whoever asks while it is looked up shares it.

        Args:
            question: what is looked up.
            since: no answer that was asked for before this moment of `time.monotonic` will do.

        Raises:
            Exception: whatever the look-up raises.
        """
        answer, asked = self._kept.get(question, (None, 0.0))
        now = time.monotonic()
        if answer is None or asked < max(since, now - self._seconds) or _failed(answer):
            if len(self._kept) >= self._max_kept:
                self._kept.clear()
            answer = asyncio.ensure_future(self._look_up(question))
            # looked at, so that one whose askers all hung up does not complain of its error
            answer.add_done_callback(_failed)
            self._kept[question] = (answer, now)
        # shielded: who hangs up must not cancel what others wait for
        return answer.result() if answer.done() else await asyncio.shield(answer)

    def forget(self, concerns: Callable[[K], bool]) -> None:
        """Drops answers that may have changed, those still being looked up included."""
        for question in [question for question in self._kept if concerns(question)]:
            del self._kept[question]


def _failed(answer: asyncio.Future[V]) -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)
