"""Requests that arrive while others are being answered are answered together.

Nobody waits for company: whoever comes while nothing is under way goes at once, and what comes
meanwhile goes in the next turn. So a quiet service answers as before, and a busy one shares each
round trip, each statement and each commit among those who wait.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[K, Q, A]):
    """Answers questions of one kind; those of one key go together.

    Args:
        answer: answers questions of a key, in their order.
        at_most: how many go together.
        at_once: how many turns of a key may be under way.
        concerns_all: of an error, whether it would be the same for each of them alone; else each is
            asked again alone, so that nobody suffers for another.
    """

    def __init__(
        self,
        answer: Callable[[K, Sequence[Q]], Awaitable[Sequence[A]]],
        *,
        at_most: int,
        at_once: int,
        concerns_all: Callable[[Exception], bool],
    ) -> None:
        self._answer = answer
        self._at_most = at_most
        self._at_once = at_once
        self._concerns_all = concerns_all
        self._waiting: dict[K, deque[tuple[Q, asyncio.Future[A]]]] = {}
        self._turns: Counter[K] = Counter()
        self._running: set[asyncio.Task[None]] = set()

    async def ask(self, key: K, question: Q) -> A:
        """The answer to one question.

        Raises:
            Exception: whatever answering it raises.
        """
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append((question, answer))
        if self._turns[key] < self._at_once:
            self._turns[key] += 1
            # with nobody's request id or span: a turn is of several
            turn = asyncio.create_task(self._take_turns(key), context=contextvars.Context())
            self._running.add(turn)
            turn.add_done_callback(self._running.discard)
        return await answer

    async def _take_turns(self, key: K) -> None:
        waiting = self._waiting[key]
        try:
            while waiting:
                taken = [waiting.popleft() for _ in range(min(len(waiting), self._at_most))]
                # who hung up while waiting wants nothing any more
                await self._answer_all(key, [each for each in taken if not each[1].done()])
        finally:
            self._turns[key] -= 1
            if not self._turns[key]:
                del self._turns[key], self._waiting[key]

    async def _answer_all(self, key: K, asked: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        if not asked:
            return
        try:
            answers = await self._answer(key, [question for question, _ in asked])
        except Exception as error:  # noqa: BLE001  # it is the asker's
            await self._fail(key, asked, error)
            return
        for (_, future), answer in zip(asked, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _fail(
        self, key: K, asked: Sequence[tuple[Q, asyncio.Future[A]]], error: Exception
    ) -> None:
        if len(asked) > 1 and not self._concerns_all(error):
            for each in asked:
                await self._answer_all(key, [each])
            return
        for _, future in asked:
            if not future.done():
                future.set_exception(error)
