"""One item's turn with the model, and what came of it as a value."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.domain.backoff import FailureClass
from app.domain.unknown import UnknownReason
from app.domain.usage import Usage
from app.labeling.answer import Reading
from app.labeling.endpoint import CallError, ModelClient
from app.labeling.observed import attempt_answered, attempt_failed
from app.labeling.question import Question
from app.labeling.turn import Turn


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
        return Failed(job, error.failure, error.reason, error.said, error.retry_after, turn.usage)
    return Answered(job, reading, repaired, time.monotonic() - began, turn.usage)
