"""The calls of one item's turn: one exchange, or several answers, and perhaps one repair."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from app.domain import prompting
from app.domain.backoff import FailureClass
from app.domain.confidence import ConfidenceSource
from app.domain.content import TemplateError
from app.domain.prompting import Prompt
from app.domain.unknown import UnknownReason
from app.domain.usage import Usage
from app.labeling.answer import Reading, Served, UnreadableResponseError
from app.labeling.endpoint import CallError, ModelClient, unreadable, within
from app.labeling.observed import observed_call
from app.labeling.poll import Poll
from app.labeling.question import Question

# so many ways are tried at most until a server refuses none
_MOST_WAYS: Final = 6
# what a server answers that does not know, or allow, a part of a request
_REFUSING: Final = frozenset({400, 403, 415, 422, 500, 501})


class Told(Protocol):
    """What an answer was read into: it knows what its server said of itself."""

    @property
    def served(self) -> Served: ...


_Read = TypeVar("_Read", bound=Told)


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

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self._ends - time.monotonic()

    @property
    def rest_left(self) -> float:
        """For how long the endpoint must rest; 0 or less where it need not."""
        return self._rest_seconds()

    async def take(self, content: dict[str, Any]) -> tuple[Reading, bool]:
        """What the model says of this item, and whether it took a repair.

        Raises:
            CallError: no answer was had.
        """
        try:
            prompt, text = self.question.prompt(content), self.question.text(content)
        except TemplateError as error:
            raise _unfit(str(error)) from error
        if self.question.schema.NEEDS_TEXT and not text.strip():
            raise _unfit("the item has no text to find places in")
        self._require_awake()
        if self.question.way.source is ConfidenceSource.SELF_CONSISTENCY:
            return await Poll(self, prompt, text).take()
        reading = await self.exchange(prompt, lambda asked, body: asked.read(body, text=text))
        if not reading.repairable:
            return reading, False
        second = await self.repair(prompt, reading, lambda asked, body: asked.read(body, text=text))
        return second or reading, True

    async def repair(
        self, prompt: Prompt, reading: Reading, read: Callable[[Question, bytes], _Read]
    ) -> _Read | None:
        """The second try; None where it fails: the first answer says more about the item then."""
        again = prompting.build_repair(prompt, reading.answer or "", schema=self.question.asks)
        try:
            self._require_awake()
            return await self.exchange(again, read)
        except CallError as error:
            if error.failure in {FailureClass.TRANSIENT, FailureClass.REJECTED}:
                return None
            # the endpoint must rest; the item comes back and has its repair then
            raise

    def _require_awake(self) -> None:
        rest = self.rest_left
        if rest > 0:
            raise CallError(
                FailureClass.RATE_LIMITED,
                "the model server asked for patience",
                reason=UnknownReason.ATTEMPTS_EXHAUSTED,
                retry_after=rest,
            )

    async def exchange(
        self, prompt: Prompt, read: Callable[[Question, bytes], _Read], *, draw: int = 0
    ) -> _Read:
        """Sends a prompt, by another way where the endpoint refuses one, and reads the answer.

        Args:
            prompt: of the item, or its repair.
            read: of the question as it was asked, and the body.
            draw: which of several answers this is.

        Raises:
            CallError: no answer was had.
        """
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
        with observed_call(asked.model) as call:
            answer = await within(
                self.seconds_left, self._client.complete(request.path, request.body)
            )
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


def _unfit(detail: str) -> CallError:
    return CallError(FailureClass.REJECTED, detail, reason=UnknownReason.ITEM_UNFIT)
