import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.domain.coefficients import (
    Metric,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    percent_agreement,
)
from app.domain.intervals import Estimate, Method, Population, student_value
from app.domain.raters import Ratings, encode, rater_agreement

some_examples = settings(max_examples=50, deadline=None)

RATED = Population("the items rated by two or more")
ANNOTATORS = Path(__file__).resolve().parents[3] / "shared" / "data" / "annotators"
needs_shared = pytest.mark.skipif(
    not ANNOTATORS.exists(), reason="the shared annotator files are absent"
)

# irrCAC, cac.raw4raters (Gwet's handbook): a column a rater, None is missing
RAW4 = [
    (1, 1, None, 1),
    (2, 2, 3, 2),
    (3, 3, 3, 3),
    (3, 3, 3, 3),
    (2, 2, 2, 2),
    (1, 2, 3, 4),
    (4, 4, 4, 4),
    (1, 1, 2, 1),
    (2, 2, 2, 2),
    (None, 5, 5, 5),
    (None, None, 1, 1),
    (None, None, 3, None),
]
# irrCAC, distrib.6raters (Fleiss 1971): a row an item, a column a diagnosis
FLEISS_1971 = [
    [0, 0, 0, 6, 0],
    [0, 3, 0, 0, 3],
    [0, 1, 4, 0, 1],
    [0, 0, 0, 0, 6],
    [0, 3, 0, 3, 0],
    [2, 0, 4, 0, 0],
    [0, 0, 4, 0, 2],
    [2, 0, 3, 1, 0],
    [2, 0, 0, 4, 0],
    [0, 0, 0, 0, 6],
    [1, 0, 0, 5, 0],
    [1, 1, 0, 4, 0],
    [0, 3, 3, 0, 0],
    [1, 0, 0, 5, 0],
    [0, 2, 0, 3, 1],
]
ABSTRACTORS = [[13, 0, 0], [0, 20, 7], [0, 4, 56]]  # irrCAC, cont3x3abstractors


def value(estimate: Estimate | None) -> float:
    assert estimate is not None
    assert estimate.value is not None
    return estimate.value


def standard_error(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / (2 * student_value(estimate.n - 1))


def raw4() -> Ratings:
    return encode(
        [
            (str(item), f"rater {rater}", str(rating))
            for item, row in enumerate(RAW4)
            for rater, rating in enumerate(row)
            if rating is not None
        ]
    )


def two_raters(table: list[list[int]]) -> Ratings:
    cells = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    return encode(
        [
            (str(item), rater, str(rating))
            for item, pair in enumerate(cells)
            for rater, rating in zip("ab", pair, strict=True)
        ]
    )


class TestPublishedFigures:
    def test_four_raters_with_missing_ratings(self) -> None:
        result = rater_agreement(raw4())
        assert value(result.percent) == pytest.approx(0.81818, abs=5e-6)
        assert value(result.fleiss_kappa) == pytest.approx(0.76117, abs=5e-6)
        assert value(result.alpha[Metric.NOMINAL]) == pytest.approx(0.74342, abs=5e-6)
        assert value(result.alpha[Metric.ORDINAL]) == pytest.approx(0.81539, abs=5e-6)
        assert value(result.alpha[Metric.INTERVAL]) == pytest.approx(0.84911, abs=5e-6)
        assert (result.items, result.lone_items, result.raters) == (11, 1, 4)
        assert result.cohen_kappa is None

    def test_six_raters_of_fleiss_1971(self) -> None:
        assert value(fleiss_kappa(FLEISS_1971, population=RATED)) == pytest.approx(0.4139265)
        assert value(gwet_ac1(FLEISS_1971, population=RATED)) == pytest.approx(0.4448007)
        alpha = krippendorff_alpha(FLEISS_1971, population=RATED)
        assert value(alpha) == pytest.approx(0.4204384)

    def test_two_abstractors(self) -> None:
        result = rater_agreement(two_raters(ABSTRACTORS))
        assert value(result.cohen_kappa) == pytest.approx(0.7964094, abs=5e-8)
        assert value(result.gwet_ac1) == pytest.approx(0.8493305, abs=5e-8)
        assert value(result.alpha[Metric.NOMINAL]) == pytest.approx(0.7972585, abs=5e-8)
        assert value(result.percent) == pytest.approx(0.89)
        # Scott's pi, which Fleiss' kappa is with two raters
        assert value(result.fleiss_kappa) == pytest.approx(0.7962397, abs=5e-8)

    @pytest.mark.parametrize(
        ("counts", "kappa"),
        [([[7, 1], [3, 5]], 0.161905), ([[6, 1, 0], [0, 7, 0]], 0.708333)],
    )
    def test_small_tables_of_statsmodels(self, counts: list[list[int]], kappa: float) -> None:
        assert value(fleiss_kappa(counts, population=RATED)) == pytest.approx(kappa, abs=5e-7)

    @needs_shared
    def test_anesthesia_where_one_rater_rated_thrice(self) -> None:
        with (ANNOTATORS / "dawidskene_anesthesia.csv").open() as file:
            rows = [(row["item"], row["rater"], row["rating"]) for row in csv.DictReader(file)]
        result = rater_agreement(encode(rows))
        assert value(result.alpha[Metric.NOMINAL]) == pytest.approx(0.5858, abs=5e-5)
        assert value(result.alpha[Metric.ORDINAL]) == pytest.approx(0.7987, abs=5e-5)
        assert value(result.fleiss_kappa) == pytest.approx(0.5844, abs=5e-5)

    @needs_shared
    @pytest.mark.parametrize(
        ("name", "alpha"), [("ducks", 0.1255), ("dogs", 0.5194), ("product", 0.1575)]
    )
    def test_crowds(self, name: str, alpha: float) -> None:
        with (ANNOTATORS / f"crowd_{name}_answers.csv").open() as file:
            rows = [(row["item"], row["worker"], row["answer"]) for row in csv.DictReader(file)]
        nominal = krippendorff_alpha(encode(rows).counts(), population=RATED)
        assert value(nominal) == pytest.approx(alpha, abs=5e-5)

    @needs_shared
    def test_caries(self) -> None:
        with (ANNOTATORS / "caries_grouped.csv").open() as file:
            rows = [[float(cell) for cell in row.values()] for row in csv.DictReader(file)]
        counts = np.repeat(
            [[row[:5].count(1.0), row[:5].count(2.0)] for row in rows],
            [int(row[5]) for row in rows],
            axis=0,
        )
        assert value(fleiss_kappa(counts, population=RATED)) == pytest.approx(0.277, abs=5e-4)


def some_counts(seed: int = 0, items: int = 300) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.array(
        [rng.multinomial(rng.integers(2, 6), share) for share in rng.dirichlet([0.4] * 4, items)]
    )


def coefficient(name: str, counts: NDArray[np.int64]) -> Estimate:
    if name in list(Metric):
        return krippendorff_alpha(
            counts, population=RATED, metric=Metric(name), values=[1, 2, 5, 9]
        )
    functions = {"percent": percent_agreement, "fleiss": fleiss_kappa, "ac1": gwet_ac1}
    return functions[name](counts, population=RATED)


class TestIntervals:
    @pytest.mark.parametrize("name", ["percent", "fleiss", "ac1", *Metric])
    def test_the_standard_error_is_that_of_the_jackknife(self, name: str) -> None:
        counts = some_counts()
        without = [value(coefficient(name, np.delete(counts, i, 0))) for i in range(len(counts))]
        n = len(counts)
        jackknife = np.sqrt((n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2))
        assert standard_error(coefficient(name, counts)) == pytest.approx(jackknife, rel=0.01)

    @pytest.mark.parametrize("name", ["fleiss", "ac1", *Metric])
    def test_it_covers_the_coefficient_of_many_items(self, name: str) -> None:
        everything = some_counts(1, 60_000)
        truth = value(coefficient(name, everything))
        samples = [coefficient(name, sample) for sample in everything.reshape(600, 100, 4)[:300]]
        assert sum(each.low <= truth <= each.high for each in samples) >= 0.92 * 300

    def test_full_agreement_on_few_items_is_not_certain(self) -> None:
        result = rater_agreement(two_raters([[5, 0], [0, 5]]))
        for figure in (
            result.percent,
            result.fleiss_kappa,
            result.gwet_ac1,
            *result.alpha.values(),
        ):
            assert value(figure) == pytest.approx(1.0)
            assert 0.3 < figure.low < 0.8

    def test_one_item_gives_a_value_and_the_whole_range(self) -> None:
        estimate = percent_agreement([[2, 1]], population=RATED)
        assert estimate.value == pytest.approx(1 / 3)
        assert (estimate.low, estimate.high) == (0.0, 1.0)
        assert estimate.method is Method.NONE


class TestParadox:
    def test_kappa_collapses_under_skew_and_ac1_does_not(self) -> None:
        result = rater_agreement(two_raters([[118, 5], [2, 0]]))
        assert value(result.percent) > 0.94
        assert value(result.cohen_kappa) < 0
        assert value(result.gwet_ac1) > 0.9


class TestWhatHasNoValue:
    def test_no_item_rated_twice(self) -> None:
        result = rater_agreement(encode([("1", "a", "x"), ("2", "b", "y")]))
        assert (result.items, result.lone_items) == (0, 2)
        assert result.percent.value is None
        assert (result.fleiss_kappa.value, result.fleiss_kappa.low) == (None, -1.0)
        assert result.alpha[Metric.NOMINAL].value is None
        assert value_or_none(result.cohen_kappa) is None

    def test_one_category_throughout(self) -> None:
        result = rater_agreement(encode([(i, r, "x") for i in "123" for r in "ab"]))
        assert value(result.percent) == 1.0
        assert result.fleiss_kappa.value is None
        assert result.alpha[Metric.NOMINAL].value is None

    def test_interval_alpha_needs_numbers(self) -> None:
        assert Metric.INTERVAL not in rater_agreement(two_text_raters()).alpha
        with pytest.raises(ValueError, match="number"):
            krippendorff_alpha([[1, 1], [2, 0]], population=RATED, metric=Metric.INTERVAL)


def value_or_none(estimate: Estimate | None) -> float | None:
    return estimate.value if estimate else None


def two_text_raters() -> Ratings:
    return encode([(i, r, x) for i, x in (("1", "no"), ("2", "yes")) for r in "ab"])


class TestEncode:
    def test_numbers_are_ordered_as_numbers(self) -> None:
        assert encode([("1", "a", "10"), ("1", "b", "9"), ("2", "a", "9.0")]).values == ("9", "10")

    def test_text_is_ordered_as_text(self) -> None:
        assert encode([("1", "a", "10"), ("1", "b", "9"), ("2", "a", "x")]).values == (
            "10",
            "9",
            "x",
        )

    @pytest.mark.parametrize("odd", ["nan", "inf"])
    def test_what_is_no_finite_number_is_text(self, odd: str) -> None:
        assert encode([("1", "a", "1"), ("1", "b", odd)]).values == ("1", odd)

    def test_a_rater_who_rates_twice_leaves_no_cohen_kappa(self) -> None:
        repeated = [("1", "a", "x"), ("1", "a", "x"), ("1", "b", "y"), ("2", "b", "x")]
        assert rater_agreement(encode(repeated)).cohen_kappa is None

    @some_examples
    @given(
        st.lists(
            st.tuples(st.sampled_from("123"), st.sampled_from("ab"), st.sampled_from("xyz")),
            min_size=1,
        )
    )
    def test_every_rating_is_counted_once(self, triples: list[tuple[str, str, str]]) -> None:
        ratings = encode(triples)
        assert ratings.counts().sum() == len(triples)
        again = [(ratings.values[category]) for category in ratings.categories]
        assert again == [rating for _, _, rating in triples]
