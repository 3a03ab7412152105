"""One item's turn with the model: a call, perhaps one repair, and what came of it as a value."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain import prompting
from app.domain.backoff import FailureClass
from app.domain.labels import LabelSet, SingleChoiceSchema
from app.domain.unknown import UnknownReason
from app.labeling.answer import Reading, UnreadableResponseError, read_completion
from app.labeling.client import CallError, ModelClient, within
from app.labeling.observed import attempt_answered, attempt_failed, observed_call


@dataclass(frozen=True, slots=True)
class Job:
    """An item this process holds: its fencing token, the attempts burned so far, its content."""

    item_id: uuid.UUID
    token: uuid.UUID
    attempts: int
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What is the same for every item of a labeler."""

    model: str
    system: str
    labels: LabelSet
    parameters: Mapping[str, Any]

    def request(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """The chat-completions body: structured output by schema, with log probabilities.

        A schema rather than a tool call: tool calls carry no log probabilities.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "logprobs": True,
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "label",
                    "strict": True,
                    "schema": SingleChoiceSchema(self.labels).json_schema(),
                },
            },
        }
        body.update(self.parameters)
        return body


@dataclass(frozen=True, slots=True)
class Answered:
    """The model answered; usable or not, the answer is kept."""

    job: Job
    reading: Reading
    repaired: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer was had."""

    job: Job
    failure: FailureClass
    reason: UnknownReason
    detail: str
    retry_after: float | None


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

    Args:
        client: of the endpoint.
        question: what is asked.
        job: of which item.
        deadline_seconds: for both calls together, so that the lease can be set by it.
        rest_seconds: for how long the endpoint must rest, asked before each call; above 0 the
            item comes back later, with no attempt burned.
    """
    began = time.monotonic()
    messages = prompting.build_messages(question.system, job.content)
    try:
        _require_awake(rest_seconds())
        reading = await _read(client, question, messages, deadline_seconds)
        if not reading.repairable:
            return Answered(job, reading, False, time.monotonic() - began)
        again = prompting.build_repair(messages, reading.answer or "")
        left = deadline_seconds - (time.monotonic() - began)
        try:
            _require_awake(rest_seconds())
            second = await _read(client, question, again, left)
        except CallError as error:
            if error.failure is FailureClass.RATE_LIMITED:
                # the endpoint must rest; the item comes back and has its repair then
                raise
            # the first answer says more about the item than the failed repair
            return Answered(job, reading, True, time.monotonic() - began)
    except CallError as error:
        return Failed(job, error.failure, error.reason, error.detail, error.retry_after)
    return Answered(job, second, True, time.monotonic() - began)


def _require_awake(rest: float) -> None:
    if rest > 0:
        raise CallError(
            FailureClass.RATE_LIMITED,
            "the model server asked for patience",
            reason=UnknownReason.ATTEMPTS_EXHAUSTED,
            retry_after=rest,
        )


async def _read(
    client: ModelClient,
    question: Question,
    messages: list[dict[str, str]],
    seconds: float,
) -> Reading:
    with observed_call(question.model) as call:
        answer = await within(seconds, client.complete(question.request(messages)))
        try:
            reading = read_completion(answer.body, labels=question.labels)
        except UnreadableResponseError as error:
            # An error page of a proxy or a body cut off is about the endpoint: it may pass.
            raise CallError(
                FailureClass.TRANSIENT,
                f"the model server's answer can't be read: {error}",
                reason=UnknownReason.UNREADABLE_RESPONSE,
            ) from error
        call.served = reading.served
        return reading
