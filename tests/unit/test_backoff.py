from __future__ import annotations

import pytest

from app.domain.backoff import (
    Backoff,
    FailureClass,
    GiveUp,
    PauseEndpoint,
    TryAgain,
    decide_after_failure,
)

BACKOFF = Backoff(base=2.0, factor=4.0, cap=100.0, max_attempts=6)
DAY = 24 * 3600.0
NEARLY_ONE = 0.999999


def decide(
    failure: FailureClass,
    *,
    attempts: int = 0,
    retry_after: float | None = None,
    jitter: float = 0.0,
) -> TryAgain | PauseEndpoint | GiveUp:
    return decide_after_failure(
        failure, attempts=attempts, retry_after=retry_after, jitter=jitter, backoff=BACKOFF
    )


class TestATransientFailure:
    @pytest.mark.parametrize(
        ("attempts", "longest"),
        # fourfold each time, until the cap
        [(0, 2.0), (1, 8.0), (2, 32.0), (3, 100.0), (4, 100.0)],
    )
    def test_waits_between_half_and_all_of_a_growing_delay(
        self, attempts: int, longest: float
    ) -> None:
        soonest = decide(FailureClass.TRANSIENT, attempts=attempts, jitter=0.0)
        latest = decide(FailureClass.TRANSIENT, attempts=attempts, jitter=NEARLY_ONE)
        assert soonest == TryAgain(longest / 2, attempts + 1)
        assert isinstance(latest, TryAgain)
        assert latest.delay == pytest.approx(longest, rel=1e-5)

    def test_is_given_up_with_the_last_attempt(self) -> None:
        assert decide(FailureClass.TRANSIENT, attempts=5) == GiveUp(6)
        # fewer attempts were allowed meanwhile
        assert decide(FailureClass.TRANSIENT, attempts=9) == GiveUp(10)

    def test_waits_as_long_as_the_server_asks_where_that_is_longer(self) -> None:
        assert decide(FailureClass.TRANSIENT, retry_after=50.0) == TryAgain(50.0, 1)
        assert decide(FailureClass.TRANSIENT, retry_after=0.5) == TryAgain(1.0, 1)
        assert decide(FailureClass.TRANSIENT, retry_after=1e8) == TryAgain(DAY, 1)


class TestARefusedRequest:
    @pytest.mark.parametrize("attempts", [0, 3])
    def test_is_given_up_at_once(self, attempts: int) -> None:
        assert decide(FailureClass.REJECTED, attempts=attempts) == GiveUp(attempts + 1)


class TestARateLimit:
    @pytest.mark.parametrize("attempts", [0, 5, 50])
    def test_burns_no_attempt(self, attempts: int) -> None:
        decision = decide(FailureClass.RATE_LIMITED, attempts=attempts, retry_after=7.0)
        assert isinstance(decision, PauseEndpoint)

    @pytest.mark.parametrize("jitter", [0.0, 0.5, NEARLY_ONE])
    @pytest.mark.parametrize("asked", [0.0, 1.0, 3600.0])
    def test_pauses_never_shorter_than_asked_and_hardly_longer(
        self, asked: float, jitter: float
    ) -> None:
        decision = decide(FailureClass.RATE_LIMITED, retry_after=asked, jitter=jitter)
        assert isinstance(decision, PauseEndpoint)
        assert asked < decision.delay <= asked + 0.3

    def test_an_absurd_header_does_not_stop_a_project_for_a_year(self) -> None:
        decision = decide(FailureClass.RATE_LIMITED, retry_after=365 * DAY)
        assert isinstance(decision, PauseEndpoint)
        assert decision.delay < DAY + 1

    def test_without_a_header_pauses_for_about_the_base(self) -> None:
        soonest = decide(FailureClass.RATE_LIMITED, jitter=0.0)
        latest = decide(FailureClass.RATE_LIMITED, jitter=NEARLY_ONE)
        assert soonest == PauseEndpoint(1.0)
        assert isinstance(latest, PauseEndpoint)
        assert latest.delay == pytest.approx(2.0, rel=1e-5)
