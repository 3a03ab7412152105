"""How an endpoint does, as a drain sees it: whether it rests, what its breaker makes of a turn."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

from app.domain.backoff import FailureClass
from app.domain.breaker import (
    Breaker,
    BreakerRules,
    Closed,
    HalfOpen,
    Open,
    after_failure,
    after_success,
)
from app.domain.rates import RateHeaders, read_rate_headers
from app.labeling.call import Failed, Outcome
from app.labeling.endpoint import CallError, ModelClient, RawAnswer
from app.labeling.plan import Broken, EndpointNews, Mended, Rest

# The item of a trial that failed comes back after so many rests of the endpoint: the next trials
# are of others, so that a long outage burns no item's attempts.
_RESTS_AFTER_TRIAL = 12
# a rest that is longer by less is not worth telling
_WORTH_TELLING = 0.1
_USED_UP = "the model server's answers say that its rate is used up"


class EndpointHealth:
    """Of one drain. The breakers of a process outlive its drains: they count across them."""

    def __init__(
        self,
        endpoint: str,
        *,
        breakers: MutableMapping[str, Breaker],
        broken_delay: float | None,
        rules: BreakerRules,
        rng: random.Random,
    ) -> None:
        """As it is stored, since other workers may have broken or mended it.

        Args:
            endpoint: whose.
            breakers: of the process, by endpoint.
            broken_delay: for how long it rested last, where it is broken.
            rules: of breakers.
            rng: of their jitter.
        """
        self._endpoint = endpoint
        self._breakers = breakers
        self._rules = rules
        self._rng = rng
        self._rests_until = 0.0
        if broken_delay is not None:
            self._breaker = HalfOpen(broken_delay)
        elif not isinstance(self._breaker, Closed):
            self._breaker = Closed()

    @property
    def rest_left(self) -> float:
        """Seconds for which nobody may call; 0 or less where it does not rest."""
        return self._rests_until - time.monotonic()

    @property
    def broken(self) -> bool:
        """Whether nobody calls but for a trial."""
        return not isinstance(self._breaker, Closed)

    @property
    def untried(self) -> bool:
        """Whether it is broken and waits for its trial."""
        return isinstance(self._breaker, HalfOpen)

    def rest(self, seconds: float) -> bool:
        """Lets it rest, as this drain is concerned; whether that is news."""
        until = time.monotonic() + seconds
        longer = until > max(self._rests_until, time.monotonic()) + _WORTH_TELLING
        self._rests_until = max(self._rests_until, until)
        return longer

    def judge(self, outcome: Outcome, *, trial: bool) -> tuple[Outcome, EndpointNews | None]:
        """What a turn says of the endpoint, and what it is for its item then.

        Of failures that are the endpoint's no item is to blame: once the breaker is open, they
        burn no attempt.
        """
        if isinstance(outcome, Failed) and outcome.failure is FailureClass.TRANSIENT:
            return self._failed(outcome, trial=trial)
        if not outcome.usage.calls:
            # nobody was asked
            return outcome, None
        broken = self.broken
        self._breaker = after_success(self._breaker)
        if not broken:
            return outcome, None
        self._rests_until = 0.0
        return outcome, Mended()

    def _failed(self, outcome: Failed, *, trial: bool) -> tuple[Outcome, EndpointNews | None]:
        before = self._breaker
        if isinstance(before, Open) or (isinstance(before, HalfOpen) and not trial):
            return self._deferred(outcome), None
        self._breaker = after_failure(before, rules=self._rules, jitter=self._rng.random())
        if not isinstance(self._breaker, Open):
            return outcome, None
        opened = self._breaker
        self.rest(opened.seconds)
        if trial:
            later = max(outcome.retry_after or 0.0, _RESTS_AFTER_TRIAL * opened.seconds)
            outcome = replace(outcome, retry_after=later)
        return outcome, Broken(opened, trial=trial, said=outcome.detail, reason=outcome.reason)

    def _deferred(self, outcome: Failed) -> Failed:
        later = max(outcome.retry_after or 0.0, self.rest_left, 0.0)
        return replace(outcome, failure=FailureClass.DEFERRED, retry_after=later)

    def heard(self, told: RateHeaders) -> EndpointNews | None:
        """What an answer said of its server's limits: where one is used up, it rests until then."""
        if told.rest <= 0 or not self.rest(told.rest):
            return None
        return Rest(told.rest, _USED_UP)

    @property
    def _breaker(self) -> Breaker:
        return self._breakers.get(self._endpoint, Closed())

    @_breaker.setter
    def _breaker(self, breaker: Breaker) -> None:
        if breaker == Closed():
            self._breakers.pop(self._endpoint, None)
        else:
            self._breakers[self._endpoint] = breaker


class HeardClient:
    """A client whose answers' rate headers are listened to."""

    def __init__(self, client: ModelClient, hear: Callable[[RateHeaders], None]) -> None:
        self._client = client
        self._hear = hear

    async def complete(self, path: str, body: Mapping[str, Any]) -> RawAnswer:
        try:
            answer = await self._client.complete(path, body)
        except CallError as error:
            self._listen(error.headers)
            raise
        self._listen(answer.headers)
        return answer

    def _listen(self, headers: Mapping[str, str]) -> None:
        told = read_rate_headers(headers)
        if told is not None:
            self._hear(told)
