"""One item's turn with the model: a call, perhaps one repair, and what came of it as a value."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain import prompting
from app.domain.backoff import FailureClass
from app.domain.content import TemplateError, text_of
from app.domain.kinds.base import LabelSchema
from app.domain.prompting import Prompt
from app.domain.unknown import UnknownReason
from app.domain.usage import Usage
from app.labeling.answer import Reading, UnreadableResponseError, read_completion
from app.labeling.client import CallError, ModelClient, within
from app.labeling.observed import attempt_answered, attempt_failed, observed_call

_NOTHING = Usage()


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
class Question:
    """What is the same for every item of a labeler."""

    model: str
    system: str
    schema: LabelSchema
    parameters: Mapping[str, Any]
    template: str | None = None

    def request(self, prompt: Prompt) -> dict[str, Any]:
        """The chat-completions body: structured output by schema, with log probabilities.

        A schema rather than a tool call: tool calls carry no log probabilities.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": _messages(prompt),
            "logprobs": True,
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "label",
                    "strict": True,
                    "schema": self.schema.answer_schema(),
                },
            },
        }
        body.update(self.parameters)
        return body


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    user: Any = prompt.user
    if prompt.images:
        images = [{"type": "image_url", "image_url": {"url": url}} for url in prompt.images]
        user = [{"type": "text", "text": prompt.user}, *images]
    messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": user}]
    if prompt.repair is not None:
        answer, words = prompt.repair
        messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": words})
    return messages


@dataclass(frozen=True, slots=True)
class Answered:
    """The model answered; usable or not, the answer is kept."""

    job: Job
    reading: Reading
    repaired: bool
    seconds: float
    usage: Usage = _NOTHING


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer was had."""

    job: Job
    failure: FailureClass
    reason: UnknownReason
    detail: str
    retry_after: float | None
    usage: Usage = _NOTHING


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
    try:
        prompt = _prompt(question, job)
        text = text_of(job.content, template=question.template)
        _require_awake(rest_seconds())
        reading = await _read(client, question, prompt, text, deadline_seconds)
        if not reading.repairable:
            return Answered(job, reading, False, time.monotonic() - began)
        again = prompting.build_repair(prompt, reading.answer or "", schema=question.schema)
        left = deadline_seconds - (time.monotonic() - began)
        try:
            _require_awake(rest_seconds())
            second = await _read(client, question, again, text, left)
        except CallError as error:
            if error.failure is FailureClass.RATE_LIMITED:
                # the endpoint must rest; the item comes back and has its repair then
                raise
            # the first answer says more about the item than the failed repair
            return Answered(job, reading, True, time.monotonic() - began)
    except CallError as error:
        return Failed(job, error.failure, error.reason, error.detail, error.retry_after)
    return Answered(job, second, True, time.monotonic() - began)


def _prompt(question: Question, job: Job) -> Prompt:
    try:
        return prompting.build_prompt(question.system, job.content, template=question.template)
    except TemplateError as error:
        raise CallError(
            FailureClass.REJECTED, str(error), reason=UnknownReason.ITEM_UNFIT
        ) from error


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
    prompt: Prompt,
    text: str,
    seconds: float,
) -> Reading:
    with observed_call(question.model) as call:
        answer = await within(seconds, client.complete(question.request(prompt)))
        try:
            reading = read_completion(answer.body, schema=question.schema, text=text)
        except UnreadableResponseError as error:
            # An error page of a proxy or a body cut off is about the endpoint: it may pass.
            raise CallError(
                FailureClass.TRANSIENT,
                f"the model server's answer can't be read: {error}",
                reason=UnknownReason.UNREADABLE_RESPONSE,
            ) from error
        call.served = reading.served
        return reading
