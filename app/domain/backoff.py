"""What to do after a failed model call, as a value: try again, pause the endpoint, give up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FailureClass(StrEnum):
    """How a call failed, by what helps against it.

    RATE_LIMITED: the server asked for patience; no attempt is burned.
    TRANSIENT: server error, connection lost, deadline passed; another try may work.
    REJECTED: the server refused this request (400, 413, 422); the same request fails again.
    DEFERRED: the item's turn says nothing of the item: it was not asked about, or its endpoint
        failed for all; no attempt is burned.
    """

    RATE_LIMITED = "rate_limited"
    TRANSIENT = "transient"
    REJECTED = "rejected"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays: base, base·factor, base·factor², … capped, in seconds."""

    base: float = 2.0
    factor: float = 4.0
    cap: float = 300.0
    max_attempts: int = 6


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Due again after `delay` seconds, >= 0, with `attempts` burned so far."""

    delay: float
    attempts: int


@dataclass(frozen=True, slots=True)
class PauseEndpoint:
    """Nobody calls this endpoint for `delay` seconds; the item burns no attempt."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The item goes to people after `attempts` attempts."""

    attempts: int


def decide_after_failure(
    failure: FailureClass,
    *,
    attempts: int,
    retry_after: float | None,
    jitter: float,
    backoff: Backoff,
) -> TryAgain | PauseEndpoint | GiveUp:
    """What follows a failed call.

    Args:
        failure: how it failed.
        attempts: attempts burned before this call, >= 0.
        retry_after: seconds the server asked us to wait, or None.
        jitter: a uniform draw from [0, 1); the delay is spread over its upper half ("equal
            jitter"), so that items that failed together do not come back together.
        backoff: base, factor, cap and the number of attempts.
    """
    if failure is FailureClass.RATE_LIMITED:
        if retry_after is not None:
            # a little later than asked and never all at once; the cap keeps one absurd
            # header from stopping a project for a year
            return PauseEndpoint(min(max(retry_after, 0.0), 24 * 3600.0) + 0.05 + jitter * 0.25)
        return PauseEndpoint(backoff.base * (0.5 + jitter / 2))
    if failure is FailureClass.DEFERRED:
        return TryAgain((retry_after or 0.0) * (1 + jitter / 10), attempts)
    burned = attempts + 1
    if failure is FailureClass.REJECTED or burned >= backoff.max_attempts:
        return GiveUp(burned)
    delay = min(backoff.base * backoff.factor ** (burned - 1), backoff.cap)
    delay *= 0.5 + jitter / 2
    if retry_after is not None:
        delay = max(delay, min(retry_after, 24 * 3600.0))
    return TryAgain(delay, burned)
