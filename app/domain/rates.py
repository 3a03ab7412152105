"""How much may be asked of an endpoint now: requests and tokens a minute, as buckets.

A bucket holds a part of a minute's allowance and fills evenly. What is taken is an estimate; what
was really used is settled later, so a level may be below nothing, and then nobody takes until it
is paid back. What the server itself says is left lowers a level and never raises it. Time is an
argument: seconds of any one clock.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

# A minute's allowance is not spent at once: what the bucket holds comes on top of what flows in
# while it is emptied.
BURST: Final = 0.1
# About what English takes; other text takes more, and is settled.
BYTES_PER_TOKEN: Final = 4
# What an image is taken for until the server says: between a small and a large one.
TOKENS_PER_IMAGE: Final = 1_000
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?)(ms|h|m|s)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_REST: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be asked of an endpoint in a minute; None is no limit, else at least 1."""

    requests: int | None = None
    tokens: int | None = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Limits | None:
        """A labeler's limits; None where it has none."""
        requests, tokens = (
            (stored or {}).get(f"{name}_per_minute") for name in ("requests", "tokens")
        )
        return None if requests is None and tokens is None else cls(requests, tokens)

    def shared_by(self, count: int) -> Limits:
        """One of so many equal shares, count >= 1; at least a request and a token a minute."""
        requests, tokens = (
            None if each is None else max(1, each // count) for each in (self.requests, self.tokens)
        )
        return Limits(requests, tokens)


@dataclass(frozen=True, slots=True)
class Flow:
    """A bucket's size and how fast it fills, a second.

    In no minute does more flow out than the limit: size + 60·rate is the limit, or for requests,
    which are whole, less than one above it. What needs more than the size needs it full, and
    leaves a debt.
    """

    size: float
    rate: float

    @classmethod
    def of_requests(cls, limit: int | None) -> Flow | None:
        """Of so many requests a minute, >= 1."""
        if limit is None:
            return None
        size = max(1.0, float(math.floor(limit * BURST)))
        return cls(size, (limit + 1 - size) / 60)

    @classmethod
    def of_tokens(cls, limit: int | None) -> Flow | None:
        """Of so many tokens a minute, >= 1."""
        return None if limit is None else cls(limit * BURST, limit * (1 - BURST) / 60)


@dataclass(frozen=True, slots=True)
class Cost:
    """What an item's turn is going to take, >= 0 each: an estimate."""

    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is told with the next taking: what came of earlier ones.

    Attributes:
        requests, tokens: used beyond what was taken; below 0, taken and not used.
        requests_left, tokens_left: what the server said is left; None where it did not say.
    """

    requests: int = 0
    tokens: int = 0
    requests_left: int | None = None
    tokens_left: int | None = None

    def __add__(self, other: Settlement) -> Settlement:
        return Settlement(
            self.requests + other.requests,
            self.tokens + other.tokens,
            _least(self.requests_left, other.requests_left),
            _least(self.tokens_left, other.tokens_left),
        )


@dataclass(frozen=True, slots=True)
class Granted:
    """What a taking came to.

    Attributes:
        count: so many of the first were granted.
        wait: seconds until the first of the others could be; 0 where all were granted.
        requests, tokens: what is left, below 0 where more was used than taken; None: no limit.
    """

    count: int
    wait: float
    requests: float | None
    tokens: float | None


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of both buckets at a moment; a bucket without a limit is not looked at."""

    requests: float
    tokens: float
    at: float

    @classmethod
    def full(cls, limits: Limits, *, now: float) -> Levels:
        """As they are after a pause."""
        requests, tokens = Flow.of_requests(limits.requests), Flow.of_tokens(limits.tokens)
        return cls(requests.size if requests else 0.0, tokens.size if tokens else 0.0, now)

    def take(
        self,
        costs: Sequence[Cost],
        *,
        limits: Limits,
        settled: Settlement,
        now: float,
    ) -> tuple[Levels, Granted]:
        """Takes what each of the costs is, in order, until one must wait.

        Args:
            costs: of items' turns.
            limits: of the endpoint.
            settled: of earlier takings; counts before anything is taken.
            now: not before `at`; what is before it counts as `at`.
        """
        flow_r, flow_t = Flow.of_requests(limits.requests), Flow.of_tokens(limits.tokens)
        passed = max(0.0, now - self.at)
        requests = _filled(self.requests, flow_r, passed, settled.requests, settled.requests_left)
        tokens = _filled(self.tokens, flow_t, passed, settled.tokens, settled.tokens_left)
        count, wait = 0, 0.0
        for cost in costs:
            wait = max(_wait(requests, cost.requests, flow_r), _wait(tokens, cost.tokens, flow_t))
            if wait > 0:
                break
            count += 1
            requests, tokens = requests - cost.requests, tokens - cost.tokens
        left = replace(self, requests=requests, tokens=tokens, at=max(self.at, now))
        return left, Granted(
            count,
            wait,
            requests if flow_r else None,
            tokens if flow_t else None,
        )


def _filled(
    level: float, flow: Flow | None, passed: float, settled: int, left: int | None
) -> float:
    if flow is None:
        return 0.0
    level = min(flow.size, level + passed * flow.rate - settled)
    return level if left is None else min(level, float(left))


def _wait(level: float, cost: float, flow: Flow | None) -> float:
    if flow is None:
        return 0.0
    return max(0.0, (min(cost, flow.size) - level) / flow.rate)


def _least(one: int | None, other: int | None) -> int | None:
    known = [each for each in (one, other) if each is not None]
    return min(known, default=None)


def estimate_tokens(*, prompt_bytes: int, images: int, answer_tokens: int) -> int:
    """What a call is taken for before its server says what it used."""
    return math.ceil(prompt_bytes / BYTES_PER_TOKEN) + images * TOKENS_PER_IMAGE + answer_tokens


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """What an answer says is left of its server's limits; None where it does not.

    Attributes:
        requests_left, tokens_left: of the window that is open.
        rest: seconds until what is used up comes back; 0 where neither is.
    """

    requests_left: int | None
    tokens_left: int | None
    rest: float

    @property
    def settlement(self) -> Settlement:
        """The same, to be told with the next taking."""
        return Settlement(requests_left=self.requests_left, tokens_left=self.tokens_left)


def read_rate_headers(headers: Mapping[str, str]) -> RateHeaders | None:
    """The `x-ratelimit-*` of an answer; None where it has none that can be read.

    Args:
        headers: of the answer, their names in any case that the mapping ignores.
    """
    requests = _count(headers.get("x-ratelimit-remaining-requests"))
    tokens = _count(headers.get("x-ratelimit-remaining-tokens"))
    if requests is None and tokens is None:
        return None
    rest = 0.0
    if requests == 0:
        rest = read_duration(headers.get("x-ratelimit-reset-requests")) or 0.0
    if tokens == 0:
        rest = max(rest, read_duration(headers.get("x-ratelimit-reset-tokens")) or 0.0)
    return RateHeaders(requests, tokens, rest)


def read_duration(text: str | None) -> float | None:
    """Seconds of a duration as servers write it: `20ms`, `6m0s`, `1h2m`, or a number of seconds.

    None for anything else. At most a day, so that an absurd one stops nobody for a year.
    """
    text = (text or "").strip()
    parts = _DURATION.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    elif re.fullmatch(r"\d+(\.\d*)?", text):
        seconds = float(text)
    else:
        return None
    return min(seconds, _LONGEST_REST)


def _count(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
