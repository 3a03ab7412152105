"""What a batch of outcomes comes to, decided before anything is written."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.domain.backoff import (
    Backoff,
    GiveUp,
    PauseEndpoint,
    TryAgain,
    decide_after_failure,
)
from app.domain.breaker import Open
from app.domain.unknown import UnknownReason
from app.domain.usage import Usage
from app.labeling.call import Answered, Failed, Job, Outcome


@dataclass(frozen=True, slots=True)
class Rest:
    """An endpoint that asked for so many seconds of patience; `said` in which words."""

    seconds: float
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """An endpoint whose breaker opened.

    Attributes:
        opened: for how long.
        trial: whether it was the trial that failed.
        said: how the last call failed, for people.
        reason: the same as a word of the code.
    """

    opened: Open
    trial: bool
    said: str
    reason: UnknownReason


@dataclass(frozen=True, slots=True)
class Mended:
    """A broken endpoint that answers again."""


EndpointNews = Rest | Broken | Mended


@dataclass(frozen=True, slots=True)
class Returned:
    """An item that goes back to the queue.

    Attributes:
        job: which.
        attempts: burned by then.
        delay: seconds until it is due.
        error: what it met, None where nothing.
        usage: what its turn used all the same.
    """

    job: Job
    attempts: int
    delay: float
    error: str | None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Settled:
    """An item that leaves labelling: with an answer, or given up on."""

    outcome: Outcome
    attempts: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch of outcomes comes to, decided before anything is written.

    Attributes:
        settled, returned: items.
        pause_seconds: for which the endpoint must rest; None where it need not.
        news: of the endpoint, besides.
        pause_said: how it asked for the pause; None where nobody heard it.
    """

    settled: list[Settled]
    returned: list[Returned]
    pause_seconds: float | None
    news: tuple[EndpointNews, ...] = ()
    pause_said: str | None = None


def plan(told: Sequence[Outcome | EndpointNews], *, backoff: Backoff, rng: random.Random) -> Plan:
    """Decides for each outcome: settle, return, and whether the endpoint must rest."""
    settled: list[Settled] = []
    returned: list[Returned] = []
    news: list[EndpointNews] = []
    pause: float | None = None
    said: str | None = None
    for outcome in told:
        if not isinstance(outcome, Answered | Failed):
            news.append(outcome)
            continue
        job = outcome.job
        if isinstance(outcome, Answered):
            settled.append(Settled(outcome, job.attempts + 1))
            continue
        decision = decide_after_failure(
            outcome.failure,
            attempts=job.attempts,
            retry_after=outcome.retry_after,
            jitter=rng.random(),
            backoff=backoff,
        )
        match decision:
            case TryAgain(delay, attempts):
                returned.append(Returned(job, attempts, delay, outcome.detail, outcome.usage))
            case PauseEndpoint(delay):
                burned = job.attempts
                returned.append(Returned(job, burned, delay, outcome.detail, outcome.usage))
                pause = max(delay, pause or 0.0)
                if outcome.usage.calls:
                    # else nobody was asked: it rests already
                    said = outcome.detail
            case GiveUp(attempts):
                settled.append(Settled(outcome, attempts))
    return Plan(settled, returned, pause, tuple(news), said)
