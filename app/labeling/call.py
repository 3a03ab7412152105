"""One item's turn with the model: one call or several, perhaps one repair, and what came of it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from app.domain import prompting
from app.domain.backoff import FailureClass
from app.domain.confidence import ConfidenceSource
from app.domain.content import TemplateError
from app.domain.prompting import Prompt
from app.domain.unknown import Unknown, UnknownReason
from app.domain.usage import Usage
from app.domain.votes import count_votes
from app.labeling.answer import (
    Reading,
    Reply,
    Said,
    Served,
    UnreadableResponseError,
    read_value,
    storable,
    without_label,
)
from app.labeling.endpoint import CallError, ModelClient, unreadable, within
from app.labeling.observed import attempt_answered, attempt_failed, observed_call
from app.labeling.question import Question

# so many ways are tried at most until a server refuses none
_MOST_WAYS: Final = 6
# what a server answers that does not know, or allow, a part of a request
_REFUSING: Final = frozenset({400, 403, 415, 422, 500, 501})
_MAY_WORK_AGAIN: Final = frozenset({FailureClass.TRANSIENT, FailureClass.RATE_LIMITED})
# how long after a 429 that does not say
_SHORT_REST: Final = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """An item this process holds.

    Attributes:
        item_id: which.
        token: of the claim, which fences what is written.
        attempts: burned so far.
        content: what is asked about.
        reserved: micros that its lease holds of the project's budget; 0 where there is none.
    """

    item_id: uuid.UUID
    token: uuid.UUID
    attempts: int
    content: dict[str, Any]
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """The model answered; usable or not, the answer is kept.

    Attributes:
        job: the item.
        reading: what the answer came to; of several answers what they came to together.
        repaired: whether it was asked a second time, with a word on what was wrong.
        seconds: that all of it took.
        usage: of all its calls, those included whose answers are not kept.
    """

    job: Job
    reading: Reading
    repaired: bool
    seconds: float
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer was had; `usage` is of the calls that failed."""

    job: Job
    failure: FailureClass
    reason: UnknownReason
    detail: str
    retry_after: float | None
    usage: Usage = field(default_factory=Usage)


Outcome = Answered | Failed


def observe_attempt(outcome: Outcome) -> None:
    """Counts how an item's turn ended."""
    if isinstance(outcome, Answered):
        attempt_answered(outcome.reading)
    else:
        attempt_failed(outcome.failure, outcome.reason)


async def ask(
    client: ModelClient,
    question: Question,
    job: Job,
    *,
    deadline_seconds: float,
    rest_seconds: Callable[[], float] = lambda: 0.0,
) -> Outcome:
    """Asks for one item's label, and once more where the answer can't be used.

    A request that the server refuses for a part of it that it does not know is sent again without
    that part; once such a request was answered, the question's owner learns of it.

    Args:
        client: of the endpoint.
        question: what is asked.
        job: of which item.
        deadline_seconds: for all calls together, so that the lease can be set by it.
        rest_seconds: for how long the endpoint must rest, asked before each call; above 0 the
            item comes back later, with no attempt burned.
    """
    began = time.monotonic()
    turn = Turn(client, question, ends=began + deadline_seconds, rest_seconds=rest_seconds)
    try:
        reading, repaired = await turn.take(job.content)
    except CallError as error:
        return Failed(job, error.failure, error.reason, error.detail, error.retry_after, turn.usage)
    return Answered(job, reading, repaired, time.monotonic() - began, turn.usage)


class _HasServed(Protocol):
    @property
    def served(self) -> Served: ...


_Read = TypeVar("_Read", bound=_HasServed)


class Turn:
    """The state of one item's turn.

    Attributes:
        question: as it is asked by now.
        usage: of the calls so far.
    """

    def __init__(
        self,
        client: ModelClient,
        question: Question,
        *,
        ends: float,
        rest_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Nothing is sent yet; `ends` is the deadline of all calls, by `time.monotonic()`."""
        self.question = question
        self.usage = Usage()
        self._given = question
        self._client = client
        self._ends = ends
        self._rest_seconds = rest_seconds

    async def take(self, content: dict[str, Any]) -> tuple[Reading, bool]:
        """What the model says of this item, and whether it took a repair.

        Raises:
            CallError: no answer was had.
        """
        try:
            prompt, text = self.question.prompt(content), self.question.text(content)
        except TemplateError as error:
            raise CallError(
                FailureClass.REJECTED, str(error), reason=UnknownReason.ITEM_UNFIT
            ) from error
        self._require_awake()
        if self.question.way.source is ConfidenceSource.SELF_CONSISTENCY:
            return await self._poll(prompt, text)
        reading = await self._exchange(prompt, lambda asked, body: asked.read(body, text=text))
        if not reading.repairable:
            return reading, False
        second = await self._repair(
            prompt, reading, lambda asked, body: asked.read(body, text=text)
        )
        return second or reading, True

    async def _repair(
        self, prompt: Prompt, reading: Reading, read: Callable[[Question, bytes], _Read]
    ) -> _Read | None:
        """The second try; None where it fails: the first answer says more about the item then."""
        again = prompting.build_repair(prompt, reading.answer or "", schema=self.question.asks)
        try:
            self._require_awake()
            return await self._exchange(again, read)
        except CallError as error:
            if error.failure in {FailureClass.TRANSIENT, FailureClass.REJECTED}:
                return None
            # the endpoint must rest; the item comes back and has its repair then
            raise

    def _require_awake(self) -> None:
        rest = self._rest_seconds()
        if rest > 0:
            raise CallError(
                FailureClass.RATE_LIMITED,
                "the model server asked for patience",
                reason=UnknownReason.ATTEMPTS_EXHAUSTED,
                retry_after=rest,
            )

    # one call

    async def _exchange(
        self, prompt: Prompt, read: Callable[[Question, bytes], _Read], *, draw: int = 0
    ) -> _Read:
        for _ in range(_MOST_WAYS):
            asked = self.question
            try:
                found = await self._call(asked, prompt, read, draw)
            except CallError as error:
                self.usage += error.usage
                other = self._another(asked, error)
                if other is None:
                    raise
                refused = error
                # of several calls under way the first to be refused finds the way for all
                self.question = other if self.question is asked else self.question
                continue
            self.usage += found.served.usage
            if asked is not self._given and self._given.learned is not None:
                await self._given.learned(asked.way)
            return found
        raise refused

    async def _call(
        self, asked: Question, prompt: Prompt, read: Callable[[Question, bytes], _Read], draw: int
    ) -> _Read:
        request = asked.request(prompt, draw=draw)
        left = self._ends - time.monotonic()
        with observed_call(asked.model) as call:
            answer = await within(left, self._client.complete(request.path, request.body))
            try:
                found = read(asked, answer.body)
            except UnreadableResponseError as error:
                raise unreadable(error) from error
            call.served = found.served
            return found

    def _another(self, asked: Question, error: CallError) -> Question | None:
        if error.status not in _REFUSING or not error.words:
            return None
        wanted = asked.parameters.get("top_logprobs")
        way = asked.way.after_refusal(error.words, wanted=wanted)
        return None if way is None else asked.by(way)

    # several answers

    async def _poll(self, prompt: Prompt, text: str) -> tuple[Reading, bool]:
        asked = self.question.votes
        replies = await self._replies(prompt, asked)
        found = [self._said(reply, text) for reply in replies]
        reading = self._counted(replies, found, asked=asked)
        if not reading.repairable:
            return reading, False
        reply = await self._repair(prompt, reading, lambda asked, body: asked.reply(body))
        if reply is not None:
            # one more vote, against all that could not be used
            found.append(self._said(reply, text))
            reading = self._counted([*replies, reply], found, asked=asked + 1)
        return reading, True

    def _said(self, reply: Reply, text: str) -> Said | Unknown:
        return read_value(reply, schema=self.question.schema, text=text)

    def _counted(
        self, replies: Sequence[Reply], found: Sequence[Said | Unknown], *, asked: int
    ) -> Reading:
        schema, source = self.question.schema, ConfidenceSource.SELF_CONSISTENCY
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

    async def _replies(self, prompt: Prompt, count: int) -> list[Reply]:
        """The answers that came, in the order of asking; those that failed are asked again once.

        A call that fails twice counts like an answer that can't be used: another turn would cost
        all the answers again.

        Raises:
            CallError: not one came.
        """
        replies: dict[int, Reply] = {}
        errors = await self._ask_for(prompt, range(count), replies)
        again = {draw: error for draw, error in errors.items() if error.failure in _MAY_WORK_AGAIN}
        if again and replies and await self._rested(again.values()):
            errors = await self._ask_for(prompt, again, replies)
        if not replies:
            limited = (
                each for each in errors.values() if each.failure is FailureClass.RATE_LIMITED
            )
            raise next(limited, None) or next(iter(errors.values()))
        return [reply for _, reply in sorted(replies.items())]

    async def _ask_for(
        self, prompt: Prompt, draws: Sequence[int] | dict[int, Any], replies: dict[int, Reply]
    ) -> dict[int, CallError]:
        """Asks for these draws at once, adds what came to `replies`; what failed, by draw."""

        def read(asked: Question, body: bytes) -> Reply:
            return asked.reply(body)

        errors: dict[int, CallError] = {}

        async def one(draw: int) -> None:
            try:
                replies[draw] = await self._exchange(prompt, read, draw=draw)
            except CallError as error:
                errors[draw] = error

        async with asyncio.TaskGroup() as group:
            for draw in draws:
                group.create_task(one(draw))
        return errors

    async def _rested(self, errors: Any) -> bool:
        """Waits as long as the server asks; False where that takes too long for this turn."""
        waits = [
            _SHORT_REST if error.retry_after is None else error.retry_after
            for error in errors
            if error.failure is FailureClass.RATE_LIMITED
        ]
        rest = max([self._rest_seconds(), *waits])
        if rest > (self._ends - time.monotonic()) / 2:
            return False
        if rest > 0:
            await asyncio.sleep(rest)
        return True
