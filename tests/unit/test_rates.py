"""Buckets of requests and tokens, and what servers say of their own."""

from __future__ import annotations

import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.rates import (
    Cost,
    Flow,
    Granted,
    Levels,
    Limits,
    RateHeaders,
    Settlement,
    estimate_tokens,
    read_duration,
    read_rate_headers,
)

NOTHING = Settlement()
LIMITS = st.builds(
    Limits,
    requests=st.none() | st.integers(1, 5000),
    tokens=st.none() | st.integers(1, 1_000_000),
)
COSTS = st.lists(st.builds(Cost, st.integers(1, 5), st.integers(0, 20_000)), max_size=30)


def take(
    levels: Levels,
    limits: Limits,
    count: int = 1,
    *,
    at: float = 0.0,
    tokens: int = 0,
    settled: Settlement = NOTHING,
) -> tuple[Levels, Granted]:
    return levels.take([Cost(1, tokens)] * count, limits=limits, settled=settled, now=at)


class TestWhatIsTaken:
    @given(
        limit=st.integers(1, 3000),
        gaps=st.lists(st.floats(0, 20), min_size=1, max_size=40),
    )
    def test_is_in_no_minute_more_requests_than_the_limit(
        self, limit: int, gaps: list[float]
    ) -> None:
        limits, now, moments = Limits(requests=limit), 0.0, []
        levels = Levels.full(limits, now=now)
        for gap in gaps:
            now += gap
            levels, granted = take(levels, limits, 100, at=now)
            moments += [now] * granted.count
        # they are in order: counting them one by one outlasted hypothesis' patience
        for first, begin in enumerate(moments):
            assert bisect_left(moments, begin + 59.999) - first <= limit

    @given(
        limit=st.integers(100, 100_000), gaps=st.lists(st.floats(0, 20), min_size=1, max_size=40)
    )
    def test_is_in_no_minute_more_tokens_than_the_limit(
        self, limit: int, gaps: list[float]
    ) -> None:
        limits, now, taken = Limits(tokens=limit), 0.0, []
        levels = Levels.full(limits, now=now)
        for gap in gaps:
            now += gap
            levels, granted = take(levels, limits, 100, at=now, tokens=limit // 50)
            taken += [(now, limit // 50)] * granted.count
        for begin, _ in taken:
            within = sum(tokens for at, tokens in taken if begin <= at < begin + 59.999)
            assert within <= limit

    @given(limits=LIMITS, costs=COSTS, later=st.floats(0, 100))
    def test_comes_back_when_it_says(self, limits: Limits, costs: list[Cost], later: float) -> None:
        levels = Levels.full(limits, now=0.0)
        levels, granted = levels.take(costs, limits=limits, settled=NOTHING, now=later)
        rest = costs[granted.count :]
        assert (granted.wait > 0) == bool(rest)
        if rest:
            early = later + granted.wait * 0.99
            _, none = levels.take(rest, limits=limits, settled=NOTHING, now=early)
            assert none.count == 0
            then = later + granted.wait * 1.0001 + 1e-6
            _, some = levels.take(rest, limits=limits, settled=NOTHING, now=then)
            assert some.count >= 1

    def test_that_needs_more_than_there_ever_is_needs_all_and_leaves_a_debt(self) -> None:
        limits = Limits(tokens=6000)
        _, granted = take(Levels.full(limits, now=0.0), limits, 2, tokens=5000)
        assert (granted.count, granted.tokens) == (1, -4400)
        assert granted.wait == pytest.approx(5000 / 90)

    def test_may_have_one_limit_only(self) -> None:
        _, granted = take(Levels.full(Limits(requests=60), now=0.0), Limits(requests=60), 9)
        assert (granted.count, granted.tokens) == (6, None)
        assert granted.requests == 0


class TestWhatIsSettled:
    def test_lowers_or_raises_the_level_and_never_beyond_the_size(self) -> None:
        limits = Limits(tokens=6000)
        full = Levels.full(limits, now=0.0)
        _, owing = take(full, limits, 0, settled=Settlement(tokens=700))
        assert owing.tokens == -100
        _, more = take(full, limits, 0, settled=Settlement(tokens=-700))
        assert more.tokens == 600

    def test_what_the_server_says_is_left_lowers_and_never_raises(self) -> None:
        limits = Limits(requests=600)
        full = Levels.full(limits, now=0.0)
        for left, level in [(7, 7), (10_000, 60), (0, 0)]:
            _, granted = take(full, limits, 0, settled=Settlement(requests_left=left))
            assert granted.requests == level

    def test_of_several_answers_the_least_that_is_left_counts(self) -> None:
        one, other = Settlement(1, 20, 5, None), Settlement(2, -5, 3, 9)
        assert one + other == Settlement(3, 15, 3, 9)


class TestALimit:
    @pytest.mark.parametrize(
        ("stored", "limits"),
        [
            (None, None),
            ({}, None),
            ({"requests_per_minute": 5}, Limits(5, None)),
            ({"tokens_per_minute": 9}, Limits(None, 9)),
        ],
    )
    def test_is_as_the_labeler_has_it(
        self, stored: dict[str, int] | None, limits: Limits | None
    ) -> None:
        assert Limits.from_json(stored) == limits

    @given(limit=st.integers(1, 10_000), count=st.integers(1, 50))
    def test_shared_is_together_no_more_unless_all_need_one(self, limit: int, count: int) -> None:
        share = Limits(requests=limit).shared_by(count).requests
        assert share is not None
        assert share * count <= max(limit, count)

    @given(limit=st.integers(1, 10_000_000))
    def test_of_requests_lets_at_least_one_through_each_minute(self, limit: int) -> None:
        flow = Flow.of_requests(limit)
        assert flow is not None
        assert flow.size >= 1
        assert flow.rate * 60 >= 1 - 1e-9


class TestRateHeaders:
    @pytest.mark.parametrize(
        ("headers", "told"),
        [
            ({}, None),
            ({"x-ratelimit-limit-requests": "500"}, None),
            ({"x-ratelimit-remaining-requests": "many"}, None),
            ({"x-ratelimit-remaining-requests": "\u0664"}, None),
            ({"x-ratelimit-remaining-requests": "59"}, RateHeaders(59, None, 0.0)),
            # what is left needs no rest, whatever its window
            (
                {"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "6m0s"},
                RateHeaders(None, 1, 0.0),
            ),
            (
                {
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": "1s",
                    "x-ratelimit-remaining-tokens": "0",
                    "x-ratelimit-reset-tokens": "6m0.5s",
                },
                RateHeaders(0, 0, 360.5),
            ),
            # used up, and not said for how long
            ({"x-ratelimit-remaining-requests": "0"}, RateHeaders(0, None, 0.0)),
        ],
    )
    def test_are_read(self, headers: dict[str, str], told: RateHeaders | None) -> None:
        assert read_rate_headers(headers) == told

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("20ms", 0.02),
            ("1s", 1.0),
            ("6m0s", 360.0),
            ("1h2m3.5s", 3723.5),
            ("12", 12.0),
            ("0.25", 0.25),
            ("9000h", 86_400.0),
            (None, None),
            ("", None),
            ("soon", None),
            ("-1s", None),
            ("1e9", None),
            ("1s later", None),
        ],
    )
    def test_durations_are_read(self, text: str | None, seconds: float | None) -> None:
        assert read_duration(text) == seconds


class TestAnEstimate:
    def test_is_of_the_prompt_its_images_and_the_answer(self) -> None:
        tokens = estimate_tokens(prompt_bytes=1001, images=2, answer_tokens=64)
        assert tokens == math.ceil(1001 / 4) + 2000 + 64
