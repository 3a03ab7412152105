import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from app.domain.agreement import (
    BIN_COUNT,
    CONFIDENCE_BINS,
    UNKNOWN_BIN,
    by_confidence_bin,
    confidence_bin,
    model_agreement,
)
from app.domain.intervals import Estimate, Population, z_value
from app.domain.kappa import Weighting, cohen_kappa

some_examples = settings(max_examples=50, deadline=None)

REVIEWED = Population("items reviewed")


def tables(most: int = 40) -> st.SearchStrategy[list[list[int]]]:
    return st.integers(2, 5).flatmap(
        lambda k: st.lists(
            st.lists(st.integers(0, most), min_size=k, max_size=k), min_size=k, max_size=k
        )
    )


def pairs_of(table: list[list[int]]) -> tuple[list[int], list[int]]:
    pairs = [
        (i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)
    ]
    return [i for i, _ in pairs], [j for _, j in pairs]


def standard_error(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / (2 * z_value(estimate.level))


class TestCohenKappa:
    @pytest.mark.parametrize(
        ("table", "weighting", "value", "error"),
        [
            # SAS, as quoted by statsmodels' test_inter_rater.py
            ([[0, 4, 1], [0, 8, 0], [0, 1, 5]], Weighting.NONE, 0.4842, 0.1380),
            ([[0, 4, 1], [0, 8, 0], [0, 1, 5]], Weighting.LINEAR, 0.4701, 0.1457),
            # irrCAC, cont3x3abstractors
            ([[13, 0, 0], [0, 20, 7], [0, 4, 56]], Weighting.NONE, 0.7964094, 0.05891072),
        ],
    )
    def test_published_figures(
        self, table: list[list[int]], weighting: Weighting, value: float, error: float
    ) -> None:
        estimate = cohen_kappa(table, population=REVIEWED, weighting=weighting)
        assert estimate.value == pytest.approx(value, abs=5e-5)
        assert standard_error(estimate) == pytest.approx(error, abs=5e-5)

    @some_examples
    @given(tables(), st.sampled_from(list(Weighting)))
    def test_equals_scikit_learn(self, table: list[list[int]], weighting: Weighting) -> None:
        first, second = pairs_of(table)
        estimate = cohen_kappa(table, population=REVIEWED, weighting=weighting)
        if len(set(first) | set(second)) < 2:
            assert estimate.value is None
            assert (estimate.low, estimate.high) == (-1.0, 1.0)
            return
        name = None if weighting is Weighting.NONE else weighting.value
        theirs = metrics.cohen_kappa_score(
            first, second, weights=name, labels=list(range(len(table)))
        )
        assert estimate.value == pytest.approx(theirs, abs=1e-9)
        assert -1 <= estimate.low <= theirs + 1e-9
        assert theirs - 1e-9 <= estimate.high <= 1

    def test_the_interval_covers_the_truth(self) -> None:
        rng = np.random.default_rng(5)
        shares = np.array([[0.5, 0.05, 0.02], [0.03, 0.2, 0.02], [0.02, 0.06, 0.1]])
        rows, columns = shares.sum(axis=1), shares.sum(axis=0)
        truth = (np.trace(shares) - rows @ columns) / (1 - rows @ columns)
        covered = 0
        for table in rng.multinomial(200, shares.ravel(), size=1000):
            estimate = cohen_kappa(table.reshape(3, 3), population=REVIEWED)
            covered += estimate.low <= truth <= estimate.high
        assert covered >= 930

    def test_full_agreement_over_few_items_is_not_certain(self) -> None:
        estimate = cohen_kappa([[10, 0], [0, 10]], population=REVIEWED)
        assert estimate.value == pytest.approx(1.0)
        assert 0.5 < estimate.low < 0.8

    @pytest.mark.parametrize(
        "table", [[[1, 2]], [[1, 2], [3, -1]], [[0.5, 0], [0, 1]], [[math.nan, 0], [0, 1]], []]
    )
    def test_what_is_no_table_of_counts_is_refused(self, table: list[list[float]]) -> None:
        with pytest.raises(ValueError, match="table must"):
            cohen_kappa(table, population=REVIEWED)


class TestModelAgreement:
    @some_examples
    @given(tables())
    def test_equals_scikit_learn(self, table: list[list[int]]) -> None:
        labels = [str(i) for i in range(len(table))]
        ours = model_agreement(table, labels=labels, population=REVIEWED)
        predicted, actual = pairs_of(table)
        if not predicted:
            assert ours.accuracy.value is None
            return
        precision, recall, score, support = metrics.precision_recall_fscore_support(
            actual, predicted, labels=list(range(len(table))), zero_division=np.nan
        )
        assert ours.accuracy.value == pytest.approx(metrics.accuracy_score(actual, predicted))
        for i, label in enumerate(ours.by_label):
            assert label.support == support[i]
            for estimate, value in (
                (label.precision, precision[i]),
                (label.recall, recall[i]),
                (label.f1, score[i]),
            ):
                if math.isnan(value):
                    assert (estimate.value, estimate.low, estimate.high) == (None, 0.0, 1.0)
                else:
                    assert estimate.value == pytest.approx(value)

    def test_rows_are_predictions(self) -> None:
        ours = model_agreement([[8, 2], [0, 0]], labels=["a", "b"], population=REVIEWED)
        a, b = ours.by_label
        assert (a.predicted, a.support, b.predicted, b.support) == (10, 8, 0, 2)
        assert (a.precision.value, a.recall.value) == (0.8, 1.0)
        assert b.precision.value is None
        assert b.recall.value == 0.0
        assert ours.confusion == ((8, 2), (0, 0))

    def test_what_the_model_did_not_answer_is_counted_apart(self) -> None:
        ours = model_agreement(
            [[3, 0], [0, 3]], labels=["a", "b"], population=REVIEWED, unanswered=4
        )
        assert (ours.n, ours.unanswered, ours.accuracy.n) == (6, 4, 6)

    def test_each_figure_names_its_population(self) -> None:
        whole = Population("items reviewed", 10)
        ours = model_agreement([[8, 2], [0, 0]], labels=["a", "b"], population=whole)
        assert ours.accuracy.population == whole
        part = ours.by_label[0].recall.population
        assert (part.what, part.of) == ("items reviewed, labelled a by people", 8)

    def test_the_size_of_a_part_is_unknown_when_only_a_sample_was_seen(self) -> None:
        whole = Population("all items received", 10_000)
        ours = model_agreement([[8, 2], [0, 0]], labels=["a", "b"], population=whole)
        assert ours.by_label[0].precision.population.of is None

    def test_a_matrix_of_another_size_is_refused(self) -> None:
        with pytest.raises(ValueError, match="square"):
            model_agreement([[1]], labels=["a", "b"], population=REVIEWED)

    def test_a_negative_number_unanswered_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unanswered"):
            model_agreement([[1]], labels=["a"], population=REVIEWED, unanswered=-1)


class TestConfidenceBins:
    @pytest.mark.parametrize(
        ("value", "index"),
        [
            (0.0, 0),
            (math.nextafter(0.5, 0), 0),
            (0.5, 1),  # an edge belongs to the bin above it
            (0.95, 5),
            (0.999, 7),
            (1.0, 7),  # the last bin is closed
            (None, UNKNOWN_BIN),
        ],
    )
    def test_edges(self, value: float | None, index: int) -> None:
        assert confidence_bin(value) == index

    @some_examples
    @given(st.floats(0, 1))
    def test_every_confidence_lies_between_the_edges_of_its_bin(self, value: float) -> None:
        index = confidence_bin(value)
        assert CONFIDENCE_BINS[index] <= value <= CONFIDENCE_BINS[index + 1]

    @pytest.mark.parametrize("value", [math.nan, -1e-9, 1.0000001, math.inf])
    def test_what_is_no_confidence_is_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="confidence"):
            confidence_bin(value)

    def test_counts_become_shares(self) -> None:
        correct, n, sums = [0] * BIN_COUNT, [0] * BIN_COUNT, [0.0] * BIN_COUNT
        correct[7], n[7], sums[7] = 9, 10, 9.995
        correct[UNKNOWN_BIN], n[UNKNOWN_BIN] = 1, 2
        bins = by_confidence_bin(
            correct, n, population=Population("items reviewed", 12), confidence_sum=sums
        )
        top, unknown, empty = bins[7], bins[UNKNOWN_BIN], bins[0]
        assert (top.low, top.high, top.agreement.value) == (0.999, 1.0, 0.9)
        assert top.mean_confidence == pytest.approx(0.9995)
        assert top.agreement.population.what == "items reviewed, confidence in [0.999, 1]"
        assert top.agreement.population.of == 10
        assert (unknown.low, unknown.high, unknown.mean_confidence) == (None, None, None)
        assert unknown.agreement.population.what == "items reviewed, confidence unknown"
        assert unknown.agreement.value == 0.5
        assert (empty.agreement.value, empty.mean_confidence) == (None, None)

    def test_one_count_a_bin(self) -> None:
        with pytest.raises(ValueError, match="bins"):
            by_confidence_bin([1], [1], population=REVIEWED)


class TestKappaOfTooLittle:
    """A standard error of 0 is no certainty."""

    @pytest.mark.parametrize(
        "table",
        [
            [[0, 1], [0, 0]],  # one item, two opinions
            [[1, 0], [0, 1]],  # two items, one opinion each
            [[0, 3], [3, 0]],  # all disagree, and evenly
        ],
    )
    def test_its_interval_is_not_a_point(self, table: list[list[int]]) -> None:
        estimate = cohen_kappa(table, population=Population("items"))
        assert estimate.value is not None
        assert estimate.high - estimate.low > 0.3
