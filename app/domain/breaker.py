"""A breaker for an endpoint: who fails again and again is left alone for a while.

Closed, calls go out and failures in a row are counted. Open, nobody calls until a moment. Then it
is half open: one call is a trial; it closes the breaker, or opens it for twice as long. Time and
chance are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and for how long.

    Attributes:
        failures: so many in a row open it.
        first: seconds for which it opens at first.
        factor: by how much longer each time that the trial fails.
        longest: seconds for which it opens at most.
    """

    failures: int = 10
    first: float = 5.0
    factor: float = 2.0
    longest: float = 300.0


@dataclass(frozen=True, slots=True)
class Closed:
    """Calls go out; so many of the last failed in a row."""

    failures: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """Nobody calls for `seconds`, jitter included.

    Attributes:
        seconds: from the failure that opened it.
        delay: the same without jitter: what the next one is reckoned from.
    """

    seconds: float
    delay: float


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """One call is a trial; it was open for `delay` seconds before."""

    delay: float


Breaker = Closed | Open | HalfOpen


def after_success(_breaker: Breaker) -> Closed:
    """Whatever it was: the endpoint answers. A late answer to an early call says so as well."""
    return Closed()


def after_failure(breaker: Breaker, *, rules: BreakerRules, jitter: float) -> Breaker:
    """What a breaker is after a failure that is the endpoint's, not an item's.

    Args:
        breaker: before it.
        rules: when it opens, and for how long.
        jitter: a uniform draw from [0, 1): an open breaker stays so for its delay and up to a
            tenth longer, so that those who watch several endpoints do not come at one moment.
    """
    match breaker:
        case Closed(failures) if failures + 1 < rules.failures:
            return Closed(failures + 1)
        case Closed():
            delay = rules.first
        case HalfOpen(before):
            delay = min(before * rules.factor, rules.longest)
        case Open():
            # a call that was under way already: it says nothing new
            return breaker
    return Open(delay * (1 + jitter / 10), delay)
