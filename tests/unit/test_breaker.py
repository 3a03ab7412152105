from __future__ import annotations

import pytest

from app.domain.breaker import (
    Breaker,
    BreakerRules,
    Closed,
    HalfOpen,
    Open,
    after_failure,
    after_success,
)

RULES = BreakerRules(failures=3, first=5.0, factor=2.0, longest=300.0)
NEARLY_ONE = 0.999999


def failing(breaker: Breaker, *, jitter: float = 0.0) -> Breaker:
    return after_failure(breaker, rules=RULES, jitter=jitter)


class TestAClosedBreaker:
    def test_opens_after_so_many_failures_in_a_row(self) -> None:
        assert failing(Closed()) == Closed(1)
        assert failing(Closed(1)) == Closed(2)
        assert failing(Closed(2)) == Open(5.0, 5.0)

    def test_opens_at_once_where_one_is_enough(self) -> None:
        once = BreakerRules(failures=1)
        assert after_failure(Closed(), rules=once, jitter=0.0) == Open(5.0, 5.0)

    def test_forgets_failures_with_a_success(self) -> None:
        assert after_success(Closed(2)) == Closed()


class TestAnOpenBreaker:
    def test_learns_nothing_from_calls_that_were_under_way(self) -> None:
        assert failing(Open(5.2, 5.0)) == Open(5.2, 5.0)

    def test_is_closed_by_a_late_success(self) -> None:
        assert after_success(Open(5.2, 5.0)) == Closed()

    def test_stays_open_up_to_a_tenth_longer(self) -> None:
        opened = failing(Closed(2), jitter=NEARLY_ONE)
        assert isinstance(opened, Open)
        assert 5.4 < opened.seconds < 5.5
        assert opened.delay == 5.0


class TestAHalfOpenBreaker:
    @pytest.mark.parametrize(
        ("before", "after"),
        # doubled, until the longest
        [(5.0, 10.0), (10.0, 20.0), (160.0, 300.0), (300.0, 300.0)],
    )
    def test_opens_for_longer_when_its_trial_fails(self, before: float, after: float) -> None:
        assert failing(HalfOpen(before)) == Open(after, after)

    def test_closes_when_its_trial_succeeds(self) -> None:
        assert after_success(HalfOpen(160.0)) == Closed()
