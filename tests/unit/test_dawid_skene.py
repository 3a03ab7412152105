import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.domain.dawid_skene import DawidSkene, dawid_skene, vote_shares
from app.domain.raters import Ratings, encode

ANNOTATORS = Path(__file__).resolve().parents[3] / "shared" / "data" / "annotators"
needs_shared = pytest.mark.skipif(
    not ANNOTATORS.exists(), reason="the shared annotator files are absent"
)


def fit(ratings: Ratings, **options: float) -> DawidSkene:
    return dawid_skene(
        ratings.items,
        ratings.raters,
        ratings.categories,
        n_items=ratings.n_items,
        n_raters=ratings.n_raters,
        n_categories=len(ratings.values),
        smoothing=options.get("smoothing", 0.01),
        max_iterations=int(options.get("max_iterations", 1000)),
    )


def crowd(name: str) -> tuple[Ratings, NDArray[np.int64]]:
    with (ANNOTATORS / f"crowd_{name}_answers.csv").open() as file:
        rows = [(row["item"], row["worker"], row["answer"]) for row in csv.DictReader(file)]
    with (ANNOTATORS / f"crowd_{name}_truth.csv").open() as file:
        truth = {row["item"]: row["truth"] for row in csv.DictReader(file)}
    ratings = encode(rows)
    items = dict.fromkeys(item for item, _, _ in rows)
    return ratings, np.array([ratings.values.index(truth[item]) for item in items])


def majority_accuracy(ratings: Ratings, truth: NDArray[np.int64]) -> float:
    """Ties broken at random, on average."""
    votes = vote_shares(
        ratings.items, ratings.categories, n_items=ratings.n_items, n_categories=len(ratings.values)
    )
    best = votes == votes.max(axis=1, keepdims=True)
    return float((best[np.arange(len(truth)), truth] / best.sum(axis=1)).mean())


class TestCrowds:
    @needs_shared
    @pytest.mark.parametrize(
        ("name", "majority", "model"),
        [
            # Zheng et al. 2017 report the same order on the first and the third
            ("ducks", 0.7593, 0.898),
            ("dogs", 0.8222, 0.842),
            ("product", 0.8966, 0.939),
        ],
    )
    def test_beats_majority_vote(self, name: str, majority: float, model: float) -> None:
        ratings, truth = crowd(name)
        result = fit(ratings)
        assert result.converged
        assert majority_accuracy(ratings, truth) == pytest.approx(majority, abs=5e-4)
        assert (result.labels == truth).mean() >= model


def spammed(rng: np.random.Generator) -> tuple[Ratings, NDArray[np.int64]]:
    """Two careful raters, one who says the opposite, three who answer at random."""
    truth = rng.integers(0, 2, 400)
    skills = (0.95, 0.95, 0.05, 0.5, 0.5, 0.5)
    rows = [
        (str(item), str(rater), str(actual if rng.random() < skill else 1 - actual))
        for item, actual in enumerate(truth)
        for rater, skill in enumerate(skills)
    ]
    return encode(rows), truth


class TestModel:
    def test_reads_careful_and_contrary_raters_for_what_they_are(self) -> None:
        ratings, truth = spammed(np.random.default_rng(0))
        result = fit(ratings)
        assert (result.labels == truth).mean() > 0.97
        assert majority_accuracy(ratings, truth) < 0.9
        assert result.rater_accuracy == pytest.approx([0.95, 0.95, 0.05, 0.5, 0.5, 0.5], abs=0.1)

    def test_probabilities_sum_to_one(self) -> None:
        result = fit(spammed(np.random.default_rng(1))[0])
        assert result.posterior.sum(axis=1) == pytest.approx(np.ones(400))
        assert result.confusion.sum(axis=2) == pytest.approx(np.ones((6, 2)))
        assert result.shares.sum() == pytest.approx(1)

    def test_each_step_of_plain_em_raises_the_likelihood(self) -> None:
        ratings, _ = spammed(np.random.default_rng(2))
        likelihoods = [
            fit(ratings, smoothing=0, max_iterations=steps).log_likelihood for steps in range(1, 12)
        ]
        assert (np.diff(likelihoods) >= -1e-9).all()

    def test_stops_at_the_limit_and_says_so(self) -> None:
        result = fit(spammed(np.random.default_rng(3))[0], max_iterations=2)
        assert (result.iterations, result.converged) == (2, False)

    def test_an_item_without_ratings_gets_the_class_shares(self) -> None:
        result = dawid_skene(
            [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1], n_items=3, n_raters=2, n_categories=2
        )
        assert result.posterior[2] == pytest.approx(result.shares, abs=1e-5)
        assert result.labels[:2].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0, 1], [0], [0, 0]), "one length"),
        (([], [], []), "above 0"),
        (([2], [0], [0]), "range"),
        (([0], [-1], [0]), "range"),
        (([0], [0], [2]), "range"),
    ],
)
def test_what_does_not_fit_is_refused(columns: tuple[list[int], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dawid_skene(*columns, n_items=2, n_raters=1, n_categories=2)
