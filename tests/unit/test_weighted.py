import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.agreement import BIN_COUNT, by_confidence_bin, model_agreement
from app.domain.intervals import Estimate, Method, Population, jeffreys_curve
from app.domain.lanes import Lane, lanes_accuracy, overall_accuracy
from app.domain.weighted import weighted_agreement, weighted_bins
from benchmarks.coverage import coverage

some_examples = settings(max_examples=50, deadline=None)


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


class TestLane:
    def test_in_a_waiting_lane_only_audits_carry_weight(self) -> None:
        lane = Lane("review", 100, audited=10, audit_errors=2, reviewed=50, review_errors=40)
        assert (lane.judged, lane.errors, lane.weight) == (10, 2, 10.0)

    def test_in_a_drained_lane_every_verdict_does(self) -> None:
        lane = Lane("review", 60, audited=10, audit_errors=2, reviewed=50, review_errors=40)
        assert (lane.judged, lane.errors, lane.weight) == (60, 42, 1.0)

    @pytest.mark.parametrize(
        "counts",
        [
            {"audited": 11},  # more verdicts than items
            {"audited": 1, "audit_errors": 2},
            {"reviewed": 1, "review_errors": 2},
            {"audited": 1, "audit_errors": -1},
        ],
    )
    def test_counts_that_do_not_fit_are_refused(self, counts: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="do not fit"):
            Lane("accepted", 10, **counts)


class TestOverallAccuracy:
    def test_weighs_audits_of_the_accepted_against_all_reviews(self) -> None:
        result = overall_accuracy(
            [Lane("accepted", 8000, audited=200, audit_errors=2)],
            [Lane("review", 2000, audited=40, audit_errors=10, reviewed=960, review_errors=240)],
        )
        # 8,000 at 1% and 1,000 reviewed with 250 errors; 1,000 still wait
        assert value(result.accuracy) == pytest.approx(1 - (80 + 250) / 9000)
        assert result.waiting == 1000
        assert result.accuracy.population == Population("items accepted or reviewed", 9000)
        assert result.accuracy.n_effective is not None
        assert result.accuracy.n_effective < result.accuracy.n == 1200

    def test_with_one_sampled_lane_is_its_own_interval_scaled(self) -> None:
        result = overall_accuracy(
            [Lane("accepted", 8000, audited=200, audit_errors=2)],
            [Lane("review", 2000, reviewed=2000, review_errors=500)],
        ).accuracy
        trials = 200 * 7999 / 7800  # the lane is finite
        low, high = jeffreys_curve(np.array([0.01]), np.array([trials]))
        assert result.low == pytest.approx(1 - (8000 * high[0] + 500) / 10_000)
        assert result.high == pytest.approx(1 - (8000 * low[0] + 500) / 10_000)

    def test_when_everything_was_judged_nothing_is_uncertain(self) -> None:
        result = overall_accuracy([], [Lane("review", 10, reviewed=10, review_errors=3)]).accuracy
        assert (value(result), result.low, result.high) == pytest.approx((0.7, 0.7, 0.7))

    def test_without_an_audit_of_the_accepted_there_is_no_value(self) -> None:
        result = overall_accuracy(
            [Lane("accepted", 900)], [Lane("review", 100, reviewed=100, review_errors=50)]
        ).accuracy
        assert result.value is None
        assert (result.low, result.high) == pytest.approx((0.05, 0.95))

    def test_an_audited_lane_without_an_error_still_adds_doubt(self) -> None:
        result = overall_accuracy([Lane("accepted", 1000, audited=20)], []).accuracy
        assert value(result) == 1.0
        assert 0.8 < result.low < 0.92

    def test_an_empty_project_has_no_value(self) -> None:
        result = overall_accuracy([], [])
        assert (result.accuracy.value, result.waiting) == (None, 0)

    def test_the_weighted_interval_covers_the_truth_and_the_naive_one_never(self) -> None:
        rows = {row.estimator: row for row in coverage(runs=250, setting="B", items=6000, seed=7)}
        assert rows["overall accuracy, weighted"].covered >= 0.93
        assert rows["accuracy of all received, weighted"].covered >= 0.93
        assert rows["Cohen's kappa, weighted"].covered >= 0.93
        assert abs(rows["overall accuracy, weighted"].bias) < 0.001
        assert rows["overall accuracy, naive"].covered == 0
        assert rows["overall accuracy, naive"].bias < -0.04


class TestAllReceived:
    def test_counts_the_waiting_items_by_the_audits_of_their_lane(self) -> None:
        estimate = lanes_accuracy(
            [
                Lane("accepted", 600, audited=60, audit_errors=0),
                Lane("review", 400, audited=40, audit_errors=10, reviewed=100, review_errors=90),
            ]
        )
        assert value(estimate) == pytest.approx(0.6 * 1 + 0.4 * 0.75)
        assert estimate.population == Population("all items received", 1000)
        assert estimate.method is Method.STRATIFIED


tables = st.lists(
    st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=3, max_size=3),
    min_size=1,
    max_size=3,
)


class TestWeightedAgreement:
    @some_examples
    @given(tables)
    def test_of_drained_lanes_is_the_plain_agreement_without_doubt(
        self, lanes: list[list[list[int]]]
    ) -> None:
        sizes = [int(np.sum(table)) for table in lanes]
        ours = weighted_agreement(lanes, sizes=sizes, labels="abc")
        plain = model_agreement(np.sum(lanes, axis=0), labels="abc", population=Population("all"))
        both = [(ours.accuracy, plain.accuracy), (ours.kappa, plain.kappa)]
        for weighted, counted in zip(ours.by_label, plain.by_label, strict=True):
            both += [
                (weighted.precision, counted.precision),
                (weighted.recall, counted.recall),
                (weighted.f1, counted.f1),
            ]
        for weighted_figure, figure in both:
            if figure.value is None:
                assert weighted_figure.value is None
            else:
                assert weighted_figure.value == pytest.approx(figure.value)
                assert weighted_figure.high - weighted_figure.low == pytest.approx(0, abs=1e-9)

    @some_examples
    @given(tables)
    def test_each_interval_holds_its_value(self, lanes: list[list[list[int]]]) -> None:
        sizes = [10 * int(np.sum(table)) + 1 for table in lanes]
        result = weighted_agreement(lanes, sizes=sizes, labels="abc")
        figures = [result.accuracy, result.kappa]
        figures += [f for each in result.by_label for f in (each.precision, each.recall, each.f1)]
        for figure in figures:
            assert -1 <= figure.low <= figure.high <= 1
            if figure.value is not None:
                assert figure.low - 1e-9 <= figure.value <= figure.high + 1e-9

    def test_shares_are_those_of_the_population(self) -> None:
        result = weighted_agreement(
            [[[9, 1], [0, 0]], [[0, 0], [5, 5]]], sizes=[900, 100], labels="ab"
        )
        assert np.array(result.shares) == pytest.approx(np.array([[0.81, 0.09], [0.05, 0.05]]))
        assert value(result.accuracy) == pytest.approx(0.86)
        assert value(result.by_label[0].recall) == pytest.approx(0.81 / 0.86)
        assert value(result.by_label[1].precision) == pytest.approx(0.5)

    def test_a_lane_nobody_looked_at_leaves_no_value(self) -> None:
        result = weighted_agreement([[[9]], [[0]]], sizes=[10, 10], labels="a")
        assert (result.accuracy.value, result.kappa.value) == (None, None)
        assert result.accuracy.low < 0.5 < result.accuracy.high

    @pytest.mark.parametrize(
        ("confusions", "sizes", "message"),
        [
            ([[[1, 0], [0, 1]]], [5, 5], "one square table"),
            ([[[1, 0], [0, 1]]], [1], "more verdicts"),
            ([[[1, 0], [-1, 1]]], [5], "more verdicts"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, confusions: list[list[list[int]]], sizes: list[int], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            weighted_agreement(confusions, sizes=sizes, labels="ab")


class TestWeightedBins:
    def test_weigh_each_lane_by_its_size(self) -> None:
        correct, n = np.zeros((2, BIN_COUNT), int), np.zeros((2, BIN_COUNT), int)
        n[0, 7], correct[0, 7], n[1, 7], correct[1, 7] = 10, 10, 10, 5
        bins = weighted_bins(correct, n, sizes=[900, 100])
        assert value(bins[7]) == pytest.approx(0.9 * 1 + 0.1 * 0.5)
        assert bins[0].value is None
        assert bins[7].population.what == "all items received, confidence in [0.999, 1]"

    def test_of_one_drained_lane_are_the_plain_bins(self) -> None:
        correct, n = [1, 2, 0, 3, 0, 0, 4, 5, 1], [2, 2, 0, 4, 0, 1, 4, 6, 2]
        weighted = weighted_bins([correct], [n], sizes=[sum(n)])
        plain = by_confidence_bin(correct, n, population=Population("all"))
        assert [each.value for each in weighted] == pytest.approx(
            [each.agreement.value for each in plain]
        )

    @pytest.mark.parametrize(
        ("correct", "n", "sizes", "message"),
        [
            ([[1]], [[1]], [1], "one count for each"),
            ([[2] + [0] * 8], [[1] + [0] * 8], [9], "fit together"),
            ([[1] + [0] * 8], [[3] + [0] * 8], [2], "fit together"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, correct: list[list[int]], n: list[list[int]], sizes: list[int], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            weighted_bins(correct, n, sizes=sizes)
