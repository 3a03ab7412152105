"""What answers cost, and what they are going to cost."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.budget import Estimator, Prices, cost_micros
from app.domain.usage import Usage

MINI = Prices(Fraction("0.15"), Fraction("0.6"), "USD")
COUNTS = st.integers(0, 10_000_000)


class TestPrices:
    @pytest.mark.parametrize("stored", [None, {}])
    def test_may_be_none(self, stored: dict[str, float] | None) -> None:
        assert Prices.from_json(stored) is None

    def test_are_read_with_their_currency(self) -> None:
        stored = {"input_per_million": 0.15, "output_per_million": 0.6, "currency": "USD"}
        assert Prices.from_json(stored) == MINI

    def test_are_what_their_digits_say(self) -> None:
        prices = Prices.from_json({"input_per_million": 0.1, "output_per_million": 1e-7})
        assert prices is not None
        assert (prices.input, prices.output) == (Fraction(1, 10), Fraction(1, 10_000_000))
        # the float nearest to 1.1 is above it: ten tokens would cost 12
        exact = Prices.from_json({"input_per_million": 1.1, "output_per_million": 0})
        assert exact is not None
        assert exact.micros(input_tokens=10, output_tokens=0) == 11

    @given(one=COUNTS, other=COUNTS)
    def test_a_sum_of_costs_is_never_less_than_what_was_spent(self, one: int, other: int) -> None:
        def micros(tokens: int) -> int:
            return MINI.micros(input_tokens=tokens, output_tokens=tokens)

        assert 0 <= micros(one) + micros(other) - micros(one + other) <= 1


class TestTheCostOfATurn:
    @pytest.mark.parametrize(
        ("usage", "micros"),
        [
            (Usage(), 0),
            (Usage(calls=1, prompt_tokens=1000, completion_tokens=10), 156),
            # a repair, several votes: whatever was sent
            (Usage(calls=3, prompt_tokens=3000, completion_tokens=30), 468),
            # rounded up
            (Usage(calls=1, prompt_tokens=1, completion_tokens=0), 1),
            # what the server did not tell is reckoned
            (Usage(calls=2, prompt_tokens=1000, completion_tokens=10, untold=1), 156 + 200),
        ],
    )
    def test_is_of_all_its_calls(self, usage: Usage, micros: int) -> None:
        assert cost_micros(usage, MINI, untold_call=200) == micros


class TestAnEstimator:
    def test_believes_the_estimate_at_first(self) -> None:
        assert Estimator().correct(123) == 123

    def test_follows_what_was_used(self) -> None:
        estimator = Estimator().observe(estimated=100, used=150)
        assert estimator.correct(1000) == 1500

    @pytest.mark.parametrize(("used", "factor"), [(0, 0.25), (1_000_000, 20.0)])
    def test_is_not_spoilt_by_one_odd_answer(self, used: int, factor: float) -> None:
        assert Estimator().observe(estimated=100, used=used).factor == factor

    def test_forgets_in_time(self) -> None:
        estimator = Estimator()
        for used in [100] * 2000 + [300] * 2000:
            estimator = estimator.observe(estimated=100, used=used)
        assert estimator.factor == pytest.approx(3.0, rel=0.01)
