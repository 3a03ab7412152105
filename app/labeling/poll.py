"""Several answers of one item, asked for at once, as one value by its share of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from app.domain.backoff import FailureClass
from app.domain.confidence import ConfidenceSource
from app.domain.unknown import Unknown
from app.domain.votes import count_votes
from app.labeling.answer import Reading, Reply, Said, read_value, storable, without_label
from app.labeling.endpoint import CallError

if TYPE_CHECKING:
    from app.domain.prompting import Prompt
    from app.labeling.question import Question
    from app.labeling.turn import Turn

_MAY_WORK_AGAIN: Final = frozenset({FailureClass.TRANSIENT, FailureClass.RATE_LIMITED})
# how long after a 429 that does not say
_SHORT_REST: Final = 1.0


def _reply(asked: Question, body: bytes) -> Reply:
    return asked.reply(body)


class Poll:
    """The answers of one item's turn."""

    def __init__(self, turn: Turn, prompt: Prompt, text: str) -> None:
        self._turn = turn
        self._prompt = prompt
        self._text = text

    async def take(self) -> tuple[Reading, bool]:
        """What the answers come to, and whether it took a repair.

        Raises:
            CallError: not one came.
        """
        asked = self._turn.question.votes
        replies = await self._replies(asked)
        found = [self._said(reply) for reply in replies]
        reading = self._counted(replies, found, asked=asked)
        if not reading.repairable:
            return reading, False
        reply = await self._turn.repair(self._prompt, reading, _reply)
        if reply is not None:
            # one more vote, against all that could not be used
            found.append(self._said(reply))
            reading = self._counted([*replies, reply], found, asked=asked + 1)
        return reading, True

    def _said(self, reply: Reply) -> Said | Unknown:
        return read_value(reply, schema=self._turn.question.schema, text=self._text)

    def _counted(
        self, replies: Sequence[Reply], found: Sequence[Said | Unknown], *, asked: int
    ) -> Reading:
        schema, source = self._turn.question.schema, ConfidenceSource.SELF_CONSISTENCY
        values = [said.value if isinstance(said, Said) else None for said in found]
        counted = count_votes(values, asked=asked, schema=schema)
        if counted is None:
            readings = [
                without_label(said, reply, source)
                for said, reply in zip(found, replies, strict=True)
                if isinstance(said, Unknown)
            ]
            return next((each for each in readings if each.repairable), readings[0])
        reply = replies[counted.first]
        return Reading(
            label=schema.encode(counted.value),
            score=counted.score,
            unknown=None,
            answer=storable(reply.content),
            evidence=[list(count) for count in counted.counts],
            served=reply.served,
            source=source,
        )

    async def _replies(self, count: int) -> list[Reply]:
        """The answers that came, in the order of asking; those that failed are asked again once.

        A call that fails twice counts like an answer that can't be used: another turn would cost
        all the answers again.

        Raises:
            CallError: not one came.
        """
        replies: dict[int, Reply] = {}
        errors = await self._ask_for(range(count), replies)
        again = {draw: error for draw, error in errors.items() if error.failure in _MAY_WORK_AGAIN}
        if again and replies and await self._rested(again.values()):
            errors = await self._ask_for(again, replies)
        if not replies:
            limited = (
                each for each in errors.values() if each.failure is FailureClass.RATE_LIMITED
            )
            raise next(limited, None) or next(iter(errors.values()))
        return [reply for _, reply in sorted(replies.items())]

    async def _ask_for(
        self, draws: Iterable[int], replies: dict[int, Reply]
    ) -> dict[int, CallError]:
        """Asks for these draws at once, adds what came to `replies`; what failed, by draw."""
        errors: dict[int, CallError] = {}

        async def one(draw: int) -> None:
            try:
                replies[draw] = await self._turn.exchange(self._prompt, _reply, draw=draw)
            except CallError as error:
                errors[draw] = error

        async with asyncio.TaskGroup() as group:
            for draw in draws:
                group.create_task(one(draw))
        return errors

    async def _rested(self, errors: Iterable[CallError]) -> bool:
        """Waits as long as the server asks; False where that takes too long for this turn."""
        waits = [
            _SHORT_REST if error.retry_after is None else error.retry_after
            for error in errors
            if error.failure is FailureClass.RATE_LIMITED
        ]
        rest = max([self._turn.rest_left, *waits])
        if rest > self._turn.seconds_left / 2:
            return False
        if rest > 0:
            await asyncio.sleep(rest)
        return True
