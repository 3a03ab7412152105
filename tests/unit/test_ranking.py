import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

from app.domain.guarantee import Mode
from app.domain.intervals import Estimate, Method, Population
from app.domain.ranking import Ranking, auroc, rank
from app.domain.selective import area_under_risk_coverage, oracle, risk_coverage

some_examples = settings(max_examples=50, deadline=None)

LOG = Population("items of the log")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def of(scores: Any, correct: Any, weights: Any = None) -> Ranking:
    return rank(scores, correct, population=LOG, weights=weights)


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


@st.composite
def judged(draw: st.DrawFn) -> tuple[list[float], list[bool], list[int]]:
    """Tied scores, verdicts of both kinds, whole weights."""
    n = draw(st.integers(2, 40))
    scores = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9, 0.99]), min_size=n, max_size=n))
    correct = [True, False, *draw(st.lists(st.booleans(), min_size=n - 2, max_size=n - 2))]
    return scores, correct, draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))


def simulated(rng: np.random.Generator, n: int) -> tuple[Floats, Bools]:
    """Setting A of the guarantee's simulations."""
    u = rng.random(n)
    doubt = 3.55 + 2.1 * stats.norm.ppf(np.clip(u, 1e-12, 1 - 1e-12))
    wrong = rng.random(n) < 0.002 + 0.998 / (1 + np.exp(doubt))
    return u, ~wrong


class TestAuroc:
    @some_examples
    @given(judged())
    def test_equals_scikit_learn_with_ties_and_weights(
        self, case: tuple[list[float], list[bool], list[int]]
    ) -> None:
        scores, correct, weights = case
        ours = auroc(of(scores, correct, weights))
        theirs = metrics.roc_auc_score(correct, scores, sample_weight=weights)
        assert value(ours) == pytest.approx(theirs, abs=1e-12)

    @some_examples
    @given(judged())
    def test_whole_weights_are_repetitions(
        self, case: tuple[list[float], list[bool], list[int]]
    ) -> None:
        scores, correct, weights = case
        repeated = of(np.repeat(scores, weights), np.repeat(correct, weights))
        weighted = of(scores, correct, weights)
        assert value(auroc(weighted)) == pytest.approx(value(auroc(repeated)))
        ours, theirs = area_under_risk_coverage(weighted), area_under_risk_coverage(repeated)
        assert value(ours.aurc) == pytest.approx(value(theirs.aurc))
        assert value(ours.excess) == pytest.approx(value(theirs.excess))

    def test_the_interval_covers_the_truth(self) -> None:
        rng = np.random.default_rng(11)
        truth = value(auroc(of(*simulated(rng, 400_000))))
        intervals = [auroc(of(*simulated(rng, 500))) for _ in range(200)]
        assert sum(each.low <= truth <= each.high for each in intervals) >= 0.92 * 200

    def test_the_weighted_interval_covers_the_truth_where_doubt_is_reviewed_more(self) -> None:
        rng = np.random.default_rng(12)
        truth = value(auroc(of(*simulated(rng, 400_000))))
        covered = 0
        for _ in range(200):
            scores, correct = simulated(rng, 12_000)
            chance = np.where(scores < 0.5, 0.4, 0.1)
            seen = rng.random(len(scores)) < chance
            estimate = auroc(of(scores[seen], correct[seen], 1 / chance[seen]))
            assert estimate.n_effective is not None
            assert estimate.n_effective < estimate.n
            covered += estimate.low <= truth <= estimate.high
        assert covered >= 0.92 * 200

    def test_full_separation_of_few_items_is_not_certain(self) -> None:
        estimate = auroc(of([0.9, 0.8, 0.2, 0.1], [True, True, False, False]))
        assert value(estimate) == 1.0
        assert 0.2 < estimate.low < 0.6

    @pytest.mark.parametrize("correct", [[True, True], [False, False]])
    def test_without_both_kinds_there_is_no_value(self, correct: list[bool]) -> None:
        estimate = auroc(of([0.9, 0.1], correct))
        assert (estimate.value, estimate.low, estimate.high) == (None, 0.0, 1.0)

    def test_unknown_confidence_ranks_last(self) -> None:
        assert value(auroc(of([-math.inf, 0.0, 0.5], [False, True, True]))) == 1.0


class TestRank:
    @pytest.mark.parametrize(
        ("scores", "correct", "weights", "message"),
        [
            ([0.5], [True, False], None, "one length"),
            ([math.nan], [True], None, "NaN"),
            ([0.5], [True], [0.0], "weights"),  # a weight of 0 is no observation
            ([0.5], [True], [math.inf], "weights"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, scores: list[float], correct: list[bool], weights: list[float] | None, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            of(scores, correct, weights)


class TestRiskCoverage:
    def test_counts_at_each_distinct_threshold(self) -> None:
        curve = risk_coverage(of([0.9, 0.9, 0.5, -math.inf], [True, False, True, False]))
        assert curve.thresholds.tolist() == [0.9, 0.5, -math.inf]
        assert curve.coverage.tolist() == [0.5, 0.75, 1.0]
        assert curve.risk == pytest.approx([1 / 2, 1 / 3, 1 / 2])
        assert (curve.low <= curve.risk).all()
        assert (curve.risk <= curve.high).all()

    def test_nothing_judged_gives_an_empty_curve(self) -> None:
        assert risk_coverage(of([], [])).coverage.size == 0


class TestAreaUnderRiskCoverage:
    def test_is_the_mean_risk_over_all_prefixes(self) -> None:
        scores, correct = simulated(np.random.default_rng(3), 20_000)
        wrong = ~correct[np.argsort(-scores)]
        prefixes = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
        assert value(area_under_risk_coverage(of(scores, correct)).aurc) == pytest.approx(
            prefixes.mean(), abs=1e-4
        )

    def test_one_tie_is_a_ranking_at_random(self) -> None:
        area = area_under_risk_coverage(of([0.5] * 10, [True] * 7 + [False] * 3))
        assert value(area.aurc) == pytest.approx(0.3)

    def test_a_perfect_ranking_has_no_excess(self) -> None:
        area = area_under_risk_coverage(of(np.arange(1000), np.arange(1000) >= 200))
        assert value(area.excess) == pytest.approx(0.0, abs=1e-3)
        assert value(area.aurc) == pytest.approx(0.2 + 0.8 * math.log(0.8), abs=1e-3)

    @pytest.mark.parametrize(("right", "aurc"), [(True, 0.0), (False, 1.0)])
    def test_verdicts_of_one_kind_leave_nothing_to_rank(self, right: bool, aurc: float) -> None:  # noqa: FBT001 - a column of the table above
        area = area_under_risk_coverage(of([0.1, 0.2, 0.3], [right] * 3))
        assert value(area.aurc) == aurc
        assert area.aurc.high - area.aurc.low > 0.3
        assert value(area.excess) == 0.0

    def test_nothing_judged_gives_no_value(self) -> None:
        assert area_under_risk_coverage(of([], [])).aurc.value is None

    def test_both_intervals_cover_the_truth(self) -> None:
        rng = np.random.default_rng(13)
        truth = area_under_risk_coverage(of(*simulated(rng, 400_000)))
        aurc = excess = 0
        for _ in range(200):
            area = area_under_risk_coverage(of(*simulated(rng, 1000)))
            aurc += area.aurc.low <= value(truth.aurc) <= area.aurc.high
            excess += area.excess.low <= value(truth.excess) <= area.excess.high
        assert min(aurc, excess) >= 0.92 * 200


class TestOracle:
    SCORES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
    CORRECT = (True, True, True, False, True, True, False, True, False, False)

    def test_delivered_counts_errors_among_all_items(self) -> None:
        best = oracle(of(self.SCORES, self.CORRECT), target=0.9)
        assert (value(best.share), best.threshold, best.error) == (0.6, 0.4, 0.1)
        assert best.share.method is Method.INVERTED_WILSON

    def test_accepted_only_counts_errors_among_the_accepted(self) -> None:
        best = oracle(of(self.SCORES, self.CORRECT), target=0.9, mode=Mode.ACCEPTED_ONLY)
        assert (value(best.share), best.threshold, best.error) == (0.3, 0.7, 0.0)

    def test_a_tie_is_accepted_whole_or_not_at_all(self) -> None:
        best = oracle(of([0.9] * 10, [True] * 8 + [False] * 2), target=0.9)
        assert (value(best.share), best.threshold, best.error) == (0.0, None, 0.0)

    def test_unknown_confidence_is_never_accepted(self) -> None:
        best = oracle(of([0.9, -math.inf], [True, True]), target=0.9)
        assert (value(best.share), best.threshold) == (0.5, 0.9)

    def test_without_items_there_is_no_value(self) -> None:
        assert oracle(of([], []), target=0.9).share.value is None

    @pytest.mark.parametrize("target", [0.0, 1.0, math.nan])
    def test_a_target_outside_its_range_is_refused(self, target: float) -> None:
        with pytest.raises(ValueError, match="target"):
            oracle(of([0.9], [True]), target=target)

    @some_examples
    @given(judged(), st.sampled_from([0.5, 0.8, 0.9]))
    def test_the_error_keeps_the_target_and_the_share_lies_in_its_interval(
        self, case: tuple[list[float], list[bool], list[int]], target: float
    ) -> None:
        best = oracle(of(*case), target=target)
        assert best.error <= 1 - target + 1e-9
        assert best.share.low <= value(best.share) <= best.share.high


def logs() -> Iterator[Any]:
    manifest = SHARED / "MANIFEST.json"
    if not manifest.exists():
        yield pytest.param(
            {}, marks=pytest.mark.skip(reason="the shared prediction logs are absent")
        )
        return
    for entry in json.loads(manifest.read_text()):
        if entry["kind"] == "predictions":
            yield pytest.param(entry, id=Path(entry["file"]).stem)


@pytest.mark.parametrize("entry", list(logs()))
def test_the_figures_of_real_logs_are_reproduced(entry: dict[str, Any]) -> None:
    path = SHARED / Path(entry["file"]).relative_to("shared")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ranking = of(
        [row["confidence"] for row in rows], [row["prediction"] == row["label"] for row in rows]
    )
    measured = entry["measured"]
    assert ranking.size == measured["n"]
    assert value(auroc(ranking)) == pytest.approx(measured["auroc"], abs=1e-3)
    # the manifest's oracle promises accuracy among what is accepted
    best = oracle(ranking, target=0.99, mode=Mode.ACCEPTED_ONLY)
    assert value(best.share) == pytest.approx(measured["oracle_share99"], abs=1e-4)
