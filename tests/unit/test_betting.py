import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from app.domain.audits import EVERYTHING, AuditPlan, audit_rate
from app.domain.betting import BettingCertificates, exposure_needed, log_e_exposure
from app.domain.guarantee import spent_delta

GRID = np.array([0.9, 0.8, 0.5, 0.2])
ACCEPTED = np.array([0.1, 0.2, 0.5, 0.8])
DELTA_1 = spent_delta(0.1, 1)


def start(alpha: float = 0.05, reviewer_error: float = 0.0) -> BettingCertificates:
    return BettingCertificates.start(
        GRID, accepted=ACCEPTED, alpha=alpha, delta=DELTA_1, reviewer_error=reviewer_error
    )


def certified(alpha: float = 0.05) -> BettingCertificates:
    return start(alpha).add(EVERYTHING, received=100, drawn=100, wrong=[])


class TestLogEExposure:
    @pytest.mark.parametrize(
        ("k", "tau"), [(0, 1.2), (0, 4.0), (3, 4.01), (10, 20.0), (1_000, 1_100.0), (500, 5_000.0)]
    )
    def test_is_the_mixture_it_claims_to_be(self, k: int, tau: float) -> None:
        def bet(x: float) -> float:
            return (k * math.log(x) if k else 0.0) + tau * (1 - x)

        top = bet(k / tau)
        mass, _ = integrate.quad(
            lambda x: 2 * (1 - x) * math.exp(bet(x) - top) if x or not k else 0.0,
            0,
            1,
            points=[k / tau],
            limit=500,
        )
        assert log_e_exposure(k, tau) == pytest.approx(math.log(mass) + top, abs=1e-6)

    @given(
        n=st.integers(1, 300),
        alpha=st.floats(0.005, 0.4),
        q=st.floats(0.02, 1),
        excess=st.floats(1, 2),
    )
    def test_expects_at_most_one_wherever_the_rate_is_too_high(
        self, n: int, alpha: float, q: float, excess: float
    ) -> None:
        k = np.arange(n + 1)
        chance = stats.binom.pmf(k, n, q * min(alpha * excess, 1.0))
        wealth = np.exp(log_e_exposure(k, -math.log1p(-q * alpha) * (n - k)))
        assert float(chance @ wealth) <= 1 + 1e-9

    def test_a_plan_that_chases_its_luck_gains_nothing(self) -> None:
        # exact expectation over two stages, the second's probability chosen by the first's errors
        alpha, n = 0.1, 60
        k = np.arange(n + 1)
        total = 0.0
        for first, chance in zip(k, stats.binom.pmf(k, n, 1.0 * alpha), strict=True):
            q = 1.0 if first > 5 else 0.05
            exposure = -math.log1p(-alpha) * (n - first) - math.log1p(-q * alpha) * (n - k)
            wealth = np.exp(log_e_exposure(first + k, exposure))
            total += chance * float(stats.binom.pmf(k, n, q * alpha) @ wealth)
        assert total <= 1

    @pytest.mark.parametrize("errors", [0, 1, 8, 300])
    def test_exposure_needed_is_where_the_wealth_gets_there(self, errors: int) -> None:
        tau = exposure_needed(errors, DELTA_1)
        assert log_e_exposure(errors, tau) == pytest.approx(-math.log(DELTA_1))

    def test_a_loose_delta_needs_no_search(self) -> None:
        assert exposure_needed(0, 0.9) == 1.0


class TestAuditRate:
    @pytest.mark.parametrize(
        ("audits", "certified", "rate"),
        [
            (0, False, 1.0),
            (5_000, False, 1.0),  # a revocation starts it anew
            (400, True, 0.10),
            (1_000, True, 0.05),
            (3_000, True, 0.02),
        ],
    )
    def test_schedule(self, *, audits: int, certified: bool, rate: float) -> None:
        assert audit_rate(audits, certified=certified) == rate


class TestAuditPlan:
    def test_draws_above_the_floor_by_the_coin(self) -> None:
        plan = AuditPlan(0.5, 0.25)
        assert plan.draws(0.5, 0.24)
        assert not plan.draws(0.5, 0.25)
        assert not plan.draws(0.49, 0.0)

    def test_everything_includes_unknown_confidence(self) -> None:
        assert EVERYTHING.draws(-math.inf, 0.999)


class TestNextPlan:
    def test_everything_until_something_is_certified(self) -> None:
        assert start().next_plan() == EVERYTHING

    def test_a_candidate_version_does_not_send_everything_to_people(self) -> None:
        assert start().next_plan(serving=True).probability == pytest.approx(0.1 / 0.8)

    def test_looks_below_the_threshold_in_force_while_there_is_doubt(self) -> None:
        state = certified()
        assert state.threshold == 0.2
        assert state.next_plan() == AuditPlan(0.2, 0.1 / 0.8)

    def test_leaves_alone_what_the_errors_have_refuted(self) -> None:
        state = start().add(EVERYTHING, received=200, drawn=200, wrong=[0.3] * 30)
        assert state.threshold == 0.5
        assert state.next_plan() == AuditPlan(0.5, 0.1 / 0.5)

    def test_keeps_looking_at_the_threshold_in_force_whatever_comes(self) -> None:
        state = certified().add(EVERYTHING, received=100, drawn=100, wrong=[0.95] * 40)
        assert state.next_plan().floor == 0.2

    def test_expects_as_many_audits_as_the_schedule_says(self) -> None:
        plan = certified().next_plan()
        assert plan.probability * 0.8 == pytest.approx(audit_rate(100, certified=True))


class TestAdd:
    def test_items_not_drawn_are_trials_without_an_error(self) -> None:
        state = start().add(AuditPlan(0.2, 0.1), received=1_000, drawn=80, wrong=[0.85])
        assert state.errors.tolist() == [0, 1, 1, 1]
        length = -math.log1p(-0.1 * 0.05)
        assert state.exposure.tolist() == pytest.approx([1_000 * length] + [999 * length] * 3)

    def test_thresholds_below_the_floor_neither_gain_nor_lose(self) -> None:
        state = start().add(AuditPlan(0.8, 0.5), received=100, drawn=10, wrong=[0.85, 0.82])
        assert state.errors.tolist() == [0, 2, 0, 0]
        assert state.exposure[2:].tolist() == [0, 0]

    @given(
        wrong=st.lists(st.sampled_from([0.1, 0.3, 0.7, 0.85, 0.95]), max_size=30),
        received=st.integers(30, 60),
    )
    def test_a_stretch_ends_where_its_items_end(self, wrong: list[float], received: int) -> None:
        plan = AuditPlan(0.3, 0.4)
        whole = start().add(plan, received=received, drawn=len(wrong), wrong=wrong)
        steps = start()
        for score in wrong:
            steps = steps.add(plan, received=1, drawn=1, wrong=[score])
        for _ in range(received - len(wrong)):
            steps = steps.add(plan, received=1, drawn=0, wrong=[])
        assert steps.errors.tolist() == whole.errors.tolist()
        assert steps.exposure.tolist() == pytest.approx(whole.exposure.tolist())
        assert steps.audits == whole.audits
        assert np.all(steps.peak >= whole.peak - 1e-9), "a stretch is never quicker"

    def test_a_certificate_persists(self) -> None:
        state = certified().add(EVERYTHING, received=100, drawn=100, wrong=[0.95] * 50)
        assert state.threshold == 0.2

    @pytest.mark.parametrize(
        ("received", "drawn", "wrong"), [(1, 2, []), (5, 0, [0.9])], ids=["drawn", "wrong"]
    )
    def test_refuses_counts_that_do_not_fit(
        self, received: int, drawn: int, wrong: list[float]
    ) -> None:
        with pytest.raises(ValueError, match="audits of"):
            start().add(EVERYTHING, received=received, drawn=drawn, wrong=wrong)

    def test_refuses_a_grid_it_cannot_walk(self) -> None:
        with pytest.raises(ValueError, match="strict to loose"):
            BettingCertificates.start([0.1, 0.2], accepted=0.5, alpha=0.1, delta=0.1)


class TestMissing:
    def test_is_what_a_full_audit_needs(self) -> None:
        missing = start(0.01).missing()
        assert missing is not None
        assert missing.more_audits is not None
        almost = start(0.01).add(EVERYTHING, received=370, drawn=370, wrong=[])
        assert almost.threshold is None
        more = almost.missing()
        assert more is not None
        assert more.more_audits == missing.more_audits - 370

    def test_a_reviewer_error_that_eats_the_level_is_out_of_reach(self) -> None:
        state = start(0.01, reviewer_error=0.02).add(
            EVERYTHING, received=9_000, drawn=9_000, wrong=[]
        )
        assert state.threshold is None
        missing = state.missing()
        assert missing is not None
        assert missing.more_audits is None
