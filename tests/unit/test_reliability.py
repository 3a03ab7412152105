import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics

from app.domain.intervals import Estimate, Method, Population
from app.domain.reliability import reliability

some_examples = settings(max_examples=50, deadline=None)

LOG = Population("items of the log")


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


pairs = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80)


class TestBins:
    def test_are_of_equal_mass(self) -> None:
        confidences = np.random.default_rng(1).permutation(3000) / 3000
        result = reliability(confidences, confidences > 0.2, population=LOG)
        assert len(result.bins) == 15
        assert [each.accuracy.n for each in result.bins] == [200] * 15
        assert all(each.accuracy.method is Method.WILSON for each in result.bins)

    def test_are_of_equal_weight_where_items_are_weighted(self) -> None:
        confidences = np.arange(1000) / 1000
        weights = np.where(confidences < 0.5, 1.0, 9.0)
        result = reliability(
            confidences, confidences > 0.2, population=LOG, weights=weights, bins=10
        )
        assert [each.share for each in result.bins] == pytest.approx([0.1] * 10, abs=0.01)

    def test_equal_confidences_are_never_told_apart(self) -> None:
        result = reliability([0.9] * 97 + [0.1] * 3, [True] * 100, population=LOG)
        assert [(each.low, each.high, each.accuracy.n) for each in result.bins] == [
            (0.1, 0.1, 3),
            (0.9, 0.9, 97),
        ]

    @some_examples
    @given(pairs)
    def test_nothing_depends_on_the_order_of_the_rows(self, rows: list[tuple[float, bool]]) -> None:
        there = reliability(*zip(*rows, strict=True), population=LOG)
        back = reliability(*zip(*reversed(rows), strict=True), population=LOG)
        assert value(there.ece) == pytest.approx(value(back.ece))
        assert value(there.brier) == pytest.approx(value(back.brier))


class TestExpectedCalibrationError:
    def test_is_the_gap_of_one_bin(self) -> None:
        result = reliability([0.9] * 10, [True] * 6 + [False] * 4, population=LOG)
        assert value(result.ece) == pytest.approx(0.3)

    @pytest.mark.parametrize("slope", [1.0, 0.5])
    def test_its_interval_covers_the_truth(self, slope: float) -> None:
        rng = np.random.default_rng(4)
        covered = 0
        for _ in range(200):
            confidences = special.expit(rng.normal(1.5, 1.5, 2000))
            chance = special.expit(slope * special.logit(confidences))
            result = reliability(confidences, rng.random(2000) < chance, population=LOG)
            truth = 0.0
            for each in result.bins:
                inside = (confidences >= each.low) & (confidences <= each.high)
                truth += inside.mean() * abs(chance[inside].mean() - confidences[inside].mean())
            covered += result.ece.low <= truth <= result.ece.high
        assert covered >= 0.93 * 200

    @some_examples
    @given(pairs)
    def test_lies_inside_its_interval_and_its_range(self, rows: list[tuple[float, bool]]) -> None:
        ece = reliability(*zip(*rows, strict=True), population=LOG).ece
        assert 0 <= ece.low <= value(ece) <= ece.high <= 1


class TestBrier:
    @some_examples
    @given(pairs)
    def test_equals_scikit_learn(self, rows: list[tuple[float, bool]]) -> None:
        confidences, correct = zip(*rows, strict=True)
        brier = reliability(confidences, correct, population=LOG).brier
        theirs = metrics.brier_score_loss(correct, confidences, labels=[False, True])
        assert value(brier) == pytest.approx(theirs)
        assert 0 <= brier.low <= value(brier) <= brier.high <= 1

    def test_whole_weights_are_repetitions(self) -> None:
        rng = np.random.default_rng(2)
        confidences, weights = rng.random(50), rng.integers(1, 4, 50)
        correct = rng.random(50) < confidences
        weighted = reliability(confidences, correct, population=LOG, weights=weights)
        repeated = reliability(
            np.repeat(confidences, weights), np.repeat(correct, weights), population=LOG
        )
        assert value(weighted.brier) == pytest.approx(value(repeated.brier))
        assert weighted.brier.n_effective is not None

    def test_a_run_of_sure_right_answers_is_not_certain(self) -> None:
        brier = reliability([1.0] * 20, [True] * 20, population=LOG).brier
        assert value(brier) == 0.0
        assert brier.high > 0.01


class TestUnknownConfidence:
    def test_is_counted_apart_and_named(self) -> None:
        result = reliability([0.9, math.nan, 0.8], [True, False, True], population=LOG)
        assert (result.unknown, result.ece.n) == (1, 2)
        assert result.ece.population.what == "items of the log, confidence known"

    def test_alone_gives_no_value(self) -> None:
        result = reliability([math.nan], [True], population=LOG)
        assert (result.bins, result.ece.value, result.brier.value) == ((), None, None)


@pytest.mark.parametrize(
    ("confidences", "correct", "weights", "message"),
    [
        ([0.5], [True, False], None, "one length"),
        ([1.1], [True], None, "confidences lie"),
        ([-math.inf], [True], None, "confidences lie"),
        ([0.5], [True], [0.0], "weights"),
    ],
)
def test_what_does_not_fit_is_refused(
    confidences: list[float], correct: list[bool], weights: list[float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reliability(confidences, correct, population=LOG, weights=weights)
