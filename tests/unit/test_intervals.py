import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from app.domain.intervals import (
    COEFFICIENT,
    PROPORTION,
    Estimate,
    Method,
    Population,
    clopper_pearson,
    f1,
    logit_bounds,
    normal_bounds,
    wilson,
    wilson_bounds,
    wilson_curve,
    z_value,
)

some_examples = settings(max_examples=50, deadline=None)

EVERYONE = Population("all items received", 1000)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 5000))
    return draw(st.integers(0, n)), n


class TestWilson:
    @some_examples
    @given(counts(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
    def test_equals_scipy(self, case: tuple[int, int], level: float) -> None:
        successes, n = case
        theirs = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
        ours = wilson(successes, n, population=EVERYONE, level=level)
        assert ours.low == pytest.approx(theirs.low, abs=1e-12)
        assert ours.high == pytest.approx(theirs.high, abs=1e-12)
        assert ours.value == successes / n

    @some_examples
    @given(st.lists(counts(), min_size=1, max_size=20))
    def test_many_at_once_are_the_same_as_one_by_one(self, cases: list[tuple[int, int]]) -> None:
        n = np.array([float(n) for _, n in cases])
        shares = np.array([successes for successes, _ in cases]) / n
        low, high = wilson_curve(shares, n)
        ours = [wilson_bounds(share, trials) for share, trials in zip(shares, n, strict=True)]
        assert np.column_stack([low, high]) == pytest.approx(np.array(ours))

    def test_nothing_observed_says_nothing(self) -> None:
        empty = wilson(0, 0, population=EVERYONE)
        assert (empty.value, empty.low, empty.high, empty.n) == (None, 0.0, 1.0, 0)
        assert empty.method is Method.NONE
        assert empty.population == EVERYONE

    def test_a_fractional_sample_size_lies_between_its_neighbours(self) -> None:
        low, _ = wilson_bounds(0.5, 10.5)
        assert wilson_bounds(0.5, 10)[0] < low < wilson_bounds(0.5, 11)[0]

    @pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3), (0, -1)])
    def test_impossible_counts_are_refused(self, successes: int, n: int) -> None:
        with pytest.raises(ValueError, match="successes"):
            wilson(successes, n, population=EVERYONE)

    @pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
    def test_an_impossible_share_is_refused(self, share: float) -> None:
        with pytest.raises(ValueError, match="share"):
            wilson_bounds(share, 10)


class TestClopperPearson:
    @some_examples
    @given(counts(), st.sampled_from([0.8, 0.95, 0.99]))
    def test_equals_scipy(self, case: tuple[int, int], level: float) -> None:
        successes, n = case
        theirs = stats.binomtest(successes, n).proportion_ci(level, method="exact")
        ours = clopper_pearson(successes, n, population=EVERYONE, level=level)
        assert ours.low == pytest.approx(theirs.low, abs=1e-9)
        assert ours.high == pytest.approx(theirs.high, abs=1e-9)

    def test_nothing_observed_says_nothing(self) -> None:
        empty = clopper_pearson(0, 0, population=EVERYONE)
        assert (empty.value, empty.low, empty.high) == (None, 0.0, 1.0)


class TestF1:
    @some_examples
    @given(counts())
    def test_value_is_the_harmonic_mean_and_lies_inside(self, case: tuple[int, int]) -> None:
        both, union = case
        estimate = f1(both, union, population=EVERYONE)
        value = 2 * both / (both + union)
        assert estimate.value == pytest.approx(value)
        assert 0 <= estimate.low <= value <= estimate.high <= 1
        assert estimate.low < estimate.high

    def test_a_perfect_score_over_few_items_is_not_certain(self) -> None:
        estimate = f1(5, 5, population=EVERYONE)
        assert estimate.value == 1.0
        assert 0.6 < estimate.low < 0.8

    def test_a_label_nobody_used_has_no_score(self) -> None:
        assert f1(0, 0, population=EVERYONE).value is None


class TestOtherBounds:
    def test_normal_bounds_are_cut_to_the_range(self) -> None:
        assert normal_bounds(0.9, 0.1, bounds=COEFFICIENT)[1] == 1.0
        low, high = normal_bounds(0.5, 0.1)
        assert (low, high) == pytest.approx((0.5 - 0.19599640, 0.5 + 0.19599640))

    def test_logit_bounds_agree_with_the_delta_method_in_the_middle(self) -> None:
        low, high = logit_bounds(0.5, 0.001)
        assert (low, high) == pytest.approx(normal_bounds(0.5, 0.001), abs=1e-6)

    def test_logit_bounds_stay_inside_and_lean_away_from_the_end(self) -> None:
        low, high = logit_bounds(0.98, 0.02)
        assert 0 < low < 0.98 < high < 1
        assert 0.98 - low > high - 0.98

    def test_logit_bounds_at_an_end_give_the_range(self) -> None:
        assert logit_bounds(1.0, 0.01) == PROPORTION
        assert logit_bounds(1.0, 0.0) == (1.0, 1.0)

    @pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
    def test_a_level_outside_its_range_is_refused(self, level: float) -> None:
        with pytest.raises(ValueError, match="level"):
            z_value(level)


class TestEstimate:
    def test_a_value_outside_its_interval_is_refused(self) -> None:
        with pytest.raises(ValueError, match="outside its interval"):
            Estimate(0.5, 0.6, 0.7, 0.95, 10, Method.WILSON, EVERYONE)

    def test_a_part_of_a_population_names_both(self) -> None:
        part = EVERYONE.part("labelled spam by the model")
        assert part == Population("all items received, labelled spam by the model", None)
