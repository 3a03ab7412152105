import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from app.domain.audits import Audit, Verdict, counted_audits
from app.domain.guarantee import (
    AlreadyLookedError,
    Certificates,
    Mode,
    OneLook,
    accepted_error_bound,
    accepted_share,
    audits_needed,
    clopper_pearson_upper,
    delivered_so_far_bound,
    log_e_value,
    observed_alpha,
    spent_delta,
    threshold_grid,
    withdrawn,
)

GRID = np.array([0.9, 0.8, 0.5, 0.2])
DELTA_1 = spent_delta(0.1, 1)


def start(alpha: float = 0.05, **terms: object) -> Certificates:
    return Certificates.start(GRID, alpha=alpha, delta=DELTA_1, **terms)  # type: ignore[arg-type]


class TestSpentDelta:
    def test_first_version_spends_six_over_pi_squared(self) -> None:
        assert spent_delta(0.1, 1) == pytest.approx(0.0608, abs=5e-5)

    def test_all_versions_together_spend_delta(self) -> None:
        assert sum(spent_delta(0.1, v) for v in range(1, 20_000)) == pytest.approx(0.1, abs=1e-5)

    @pytest.mark.parametrize(("delta", "version"), [(0.1, 0), (0.0, 1), (1.0, 1), (0.1, -1)])
    def test_refuses_what_is_no_share(self, delta: float, version: int) -> None:
        with pytest.raises(ValueError, match=r"version|delta"):
            spent_delta(delta, version)


class TestLogEValue:
    @pytest.mark.parametrize(
        ("k", "n", "alpha"),
        [
            (0, 355, 0.01),
            (3, 1_000, 0.01),
            (10, 1_000, 0.01),  # at the level itself: wealth below 1
            (500, 100_000, 0.01),  # far below it: the log of a huge number
            (980, 100_000, 0.01),
            (0, 40, 0.2),
        ],
    )
    def test_is_the_mixture_it_claims_to_be(self, k: int, n: int, alpha: float) -> None:
        def bet(p: float) -> float:
            return (
                (k - 0.5) * math.log(p)
                + (n - k - 0.5) * math.log1p(-p)
                - k * math.log(alpha)
                - (n - k) * math.log1p(-alpha)
            )

        top = bet(min(max(k - 0.5, 0.01) / n, alpha))
        # substituting p = x^2 takes the singularity of Jeffreys' prior away
        mass, _ = integrate.quad(
            lambda x: 2 * x * math.exp(bet(x * x) - top) if x else 0.0,
            0,
            math.sqrt(alpha),
            points=[math.sqrt(k / n)] if k else None,
            limit=500,
        )
        prior = 2 * math.asin(math.sqrt(alpha))
        assert log_e_value(k, n, alpha) == pytest.approx(math.log(mass / prior) + top, abs=1e-6)

    def test_more_errors_than_alpha_allows_certify_nothing_at_any_size(self) -> None:
        n = np.array([10, 1_000, 10**6, 10**9])
        assert np.all(log_e_value(0.01 * n + 1, n, 0.01) == -np.inf)

    def test_nothing_is_clamped_where_a_probability_would_underflow(self) -> None:
        n = 10**7
        values = log_e_value([n * 0.0099, n * 0.005, 0], n, 0.01)
        assert np.all(np.isfinite(values))
        assert np.all(np.diff(values) > 0)

    def test_levels_that_bound_nothing(self) -> None:
        assert log_e_value(0, 10**6, [0.0, -0.1, 1.0]).tolist() == [-np.inf, -np.inf, np.inf]

    @given(n=st.integers(1, 400), alpha=st.floats(0.005, 0.4), excess=st.floats(0, 0.3))
    def test_expects_at_most_one_wherever_the_rate_is_too_high(
        self, n: int, alpha: float, excess: float
    ) -> None:
        k = np.arange(n + 1)
        chance = stats.binom.pmf(k, n, min(alpha + excess, 1.0))
        assert float(chance @ np.exp(log_e_value(k, n, alpha))) <= 1 + 1e-9


class TestAuditsNeeded:
    @pytest.mark.parametrize(("alpha", "audits"), [(0.05, 70), (0.02, 177), (0.01, 355)])
    def test_published_figures(self, alpha: float, audits: int) -> None:
        assert audits_needed(alpha, DELTA_1) == audits

    @given(alpha=st.floats(0.005, 0.3), errors=st.integers(0, 40))
    def test_is_the_smallest_number(self, alpha: float, errors: int) -> None:
        n = audits_needed(alpha, DELTA_1, errors)
        need = -math.log(DELTA_1)
        assert log_e_value(errors, n, alpha) >= need > log_e_value(errors, n - 1, alpha)


class TestThresholdGrid:
    def test_quantiles_strict_to_loose(self) -> None:
        grid = threshold_grid(np.arange(1_000.0), 10)
        assert grid.tolist() == [900.0, 800, 700, 600, 500, 400, 300, 200, 100, 0]
        assert accepted_share(np.arange(1_000.0), grid).tolist() == pytest.approx(
            np.arange(1, 11) / 10
        )

    def test_ties_stand_together(self) -> None:
        grid = threshold_grid([0.5] * 60 + [0.9] * 40, 10)
        assert grid.tolist() == [0.9, 0.5]
        assert accepted_share([0.5] * 60 + [0.9] * 40, grid).tolist() == [0.4, 1.0]

    def test_precision_near_certainty_is_kept(self) -> None:
        scores = 1 - np.arange(1, 101) * 1e-9
        assert threshold_grid(scores, 100).size == 100

    def test_unknown_scores_count_and_never_become_a_threshold(self) -> None:
        scores = [-math.inf] * 50 + [0.9] * 50
        assert threshold_grid(scores, 10).tolist() == [0.9]
        assert accepted_share(scores, [0.9]).tolist() == [0.5]

    def test_nothing_known(self) -> None:
        assert threshold_grid([]).size == 0
        assert threshold_grid([-math.inf] * 3).size == 0
        assert Certificates.start([], alpha=0.1, delta=0.1).add(1.0, wrong=False).threshold is None

    def test_nan_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown"):
            threshold_grid([0.5, math.nan])


class TestCertificates:
    def test_seventy_audits_without_an_error_certify_95_percent(self) -> None:
        state = start()
        for count in range(1, 71):
            assert state.threshold is None, count
            state = state.add(0.1, wrong=False)
        assert state.threshold == 0.2

    def test_the_walk_stops_at_the_first_failure(self) -> None:
        state = start().add_all([0.95] * 3 + [0.1] * 67, [True] * 3 + [False] * 67)
        assert state.threshold is None
        state = start().add_all([0.6] * 3 + [0.1] * 90, [True] * 3 + [False] * 90)
        assert state.threshold == 0.8

    def test_a_certificate_persists(self) -> None:
        state = start().add_all([0.1] * 70, [False] * 70)
        state = state.add_all([0.95] * 30, [True] * 30)
        assert state.threshold == 0.2

    def test_an_unknown_confidence_is_a_trial_and_no_error_of_any_threshold(self) -> None:
        state = start().add_all([-math.inf] * 70, [True] * 70)
        assert state.threshold == 0.2
        assert state.errors.tolist() == [0, 0, 0, 0]

    @given(
        pairs=st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.7, 0.85, 0.95]), st.booleans())),
        cut=st.integers(0, 60),
        mode=st.sampled_from(Mode),
    )
    def test_many_at_once_are_the_same_as_one_by_one(
        self, pairs: list[tuple[float, bool]], cut: int, mode: Mode
    ) -> None:
        one = start(0.3, mode=mode)
        for score, wrong in pairs:
            one = one.add(score, wrong)
        many = start(0.3, mode=mode)
        for part in (pairs[:cut], pairs[cut:]):
            many = many.add_all([s for s, _ in part], [w for _, w in part])
        assert one.n.tolist() == many.n.tolist()
        assert one.errors.tolist() == many.errors.tolist()
        assert one.peak.tolist() == pytest.approx(many.peak.tolist())
        assert one.counted == many.counted == len(pairs)

    def test_accepted_only_counts_the_audits_above_the_threshold(self) -> None:
        state = start(mode=Mode.ACCEPTED_ONLY).add_all([0.95] * 60 + [0.6] * 20, [False] * 80)
        assert state.n.tolist() == [60, 60, 80, 80]
        assert state.threshold is None, "the strictest threshold has 60 trials of the 70 it needs"
        assert state.add_all([0.95] * 10, [False] * 10).threshold == 0.2

    @pytest.mark.parametrize(
        "grid", [[0.1, 0.2], [0.2, 0.2], [[0.2], [0.1]]], ids=["rising", "equal", "nested"]
    )
    def test_refuses_a_grid_it_cannot_walk(self, grid: list[float]) -> None:
        with pytest.raises(ValueError, match="strict to loose"):
            Certificates.start(grid, alpha=0.1, delta=0.1)


class TestRevision:
    def test_revising_an_audit_withdraws_what_fails(self) -> None:
        scores, wrong = np.full(70, 0.6), np.zeros(70, bool)
        before = start().add_all(scores, wrong)
        wrong[12] = True
        after = start().add_all(scores, wrong)
        assert before.threshold == 0.2
        assert after.threshold == 0.8, "the revised item lies below the two strict thresholds"
        assert withdrawn(before, after).tolist() == [0.5, 0.2]

    def test_nothing_is_withdrawn_when_nothing_fails(self) -> None:
        state = start().add_all([0.6] * 70, [False] * 70)
        assert withdrawn(state, state).size == 0


class TestReviewerError:
    def test_one_percent_leaves_nothing_to_certify_at_99(self) -> None:
        accepted = np.linspace(0.01, 0.95, 20)
        levels = observed_alpha(0.01, accepted, 0.01)
        assert np.all(levels < 0.01)
        state = Certificates.start(
            np.linspace(0.9, 0.1, 20),
            alpha=0.01,
            delta=DELTA_1,
            reviewer_error=0.01,
            accepted=accepted,
        ).add_all([0.0] * 300, [False] * 300)
        assert state.threshold is None
        missing = state.missing()
        assert missing is not None
        assert missing.more_audits is not None
        assert missing.more_audits > 10_000

    def test_a_level_of_zero_is_said_to_be_out_of_reach(self) -> None:
        state = start(0.01, reviewer_error=0.05, accepted=0.2)
        missing = state.missing()
        assert missing is not None
        assert missing.more_audits is None
        assert "no number of audits" in str(missing)

    def test_no_error_leaves_alpha_alone(self) -> None:
        assert observed_alpha(0.02, [0.1, 0.9], 0.0).tolist() == [0.02, 0.02]

    def test_not_offered_where_it_is_not_derived(self) -> None:
        with pytest.raises(ValueError, match="delivered mode"):
            start(mode=Mode.ACCEPTED_ONLY, reviewer_error=0.01)
        with pytest.raises(ValueError, match="reviewer error"):
            start(reviewer_error=1.0)


class TestMissing:
    def test_says_what_is_missing_in_numbers(self) -> None:
        missing = start(0.02).missing()
        assert str(missing) == "177 more audits with no error would certify 98%"

    def test_counts_what_is_there(self) -> None:
        missing = start(0.02).add_all([0.95] + [0.1] * 99, [True] + [False] * 99).missing()
        assert missing is not None
        assert missing.errors == 1
        assert missing.more_audits == audits_needed(0.02, DELTA_1, 1) - 100

    def test_nothing_once_certified(self) -> None:
        assert start().add_all([0.1] * 70, [False] * 70).missing() is None


class TestCountedAudits:
    @staticmethod
    def audit(rank: int, verdict: Verdict, opened_at: float = 0.0) -> Audit:
        return Audit(rank=rank, score=rank / 10, verdict=verdict, opened_at=opened_at)

    def test_stops_at_the_first_open_audit_in_rank_order(self) -> None:
        audits = [
            self.audit(3, Verdict.WRONG),
            self.audit(1, Verdict.RIGHT),
            self.audit(2, Verdict.OPEN),
        ]
        scores, wrong = counted_audits(audits, now=60.0)
        assert scores.tolist() == [0.1]
        assert wrong.tolist() == [False]

    def test_unresolved_and_overdue_audits_are_errors(self) -> None:
        week = 7 * 24 * 3600.0
        audits = [
            self.audit(1, Verdict.UNRESOLVED),
            self.audit(2, Verdict.OPEN, opened_at=0.0),
            self.audit(3, Verdict.OPEN, opened_at=10.0),
        ]
        assert counted_audits(audits, now=week + 1)[1].tolist() == [True, True]
        assert counted_audits(audits, now=week)[1].tolist() == [True]

    def test_an_unknown_score_is_never_accepted(self) -> None:
        audit = Audit(rank=1, score=None, verdict=Verdict.RIGHT, opened_at=0.0)
        assert counted_audits([audit], now=0.0)[0].tolist() == [-math.inf]


class TestBoundsForWords:
    def test_accepted_error(self) -> None:
        assert accepted_error_bound(0.01, 0.5) == 0.02
        assert accepted_error_bound(0.01, 0.001) == 1.0
        assert accepted_error_bound(0.01, 0.0) == 1.0

    @pytest.mark.parametrize(
        ("received", "left", "bound"),
        [
            (1_000, 1_000, 0.01),  # all have left: the promise itself
            (1_000, 800, 0.0125),  # a small backlog
            (1_000, 100, 0.02),  # a large one: no better than the accepted alone
            (1_000, 0, 0.0),
        ],
    )
    def test_delivered_so_far(self, received: int, left: int, bound: float) -> None:
        assert delivered_so_far_bound(0.01, 0.5, received=received, left=left) == bound


class TestOneLook:
    def test_is_tighter_than_the_e_process(self) -> None:
        scores, wrong = np.full(62, 0.95), np.zeros(62, bool)
        assert OneLook(GRID, 0.05, DELTA_1).certify(scores, wrong).threshold == 0.2
        assert start().add_all(scores, wrong).threshold is None

    def test_stops_at_the_first_failure(self) -> None:
        look = OneLook(GRID, 0.05, DELTA_1)
        assert look.certify([0.6] * 3 + [0.1] * 90, [True] * 3 + [False] * 90).threshold == 0.8

    def test_refuses_a_second_look(self) -> None:
        look = OneLook(GRID, 0.05, DELTA_1).certify([0.1] * 10, [False] * 10)
        assert look.looked
        assert look.threshold is None
        with pytest.raises(AlreadyLookedError):
            look.certify([0.1] * 1_000, [False] * 1_000)

    def test_limit_is_clopper_and_pearsons(self) -> None:
        for k, n in [(0, 50), (3, 200), (9, 10), (10, 10)]:
            exact = stats.binomtest(k, n, alternative="less").proportion_ci(0.9).high
            assert clopper_pearson_upper(k, n, 0.1) == pytest.approx(exact)
