import numpy as np
import pytest

from app.domain.drift import FACTORS, REVOKE_AT, WARN_AT, Detector, Drift, advance


def first_passage(*, rate: float, r0: float, level: float, audits: int) -> np.ndarray:
    """Audits until the mean statistic reaches a level, in 2,000 seeded runs; inf if never."""
    rng = np.random.default_rng(7)
    state = np.zeros((2_000, len(FACTORS)))
    passed = np.full(2_000, np.inf)
    for count in range(1, audits + 1):
        state = advance(state, rng.random(2_000) < rate, np.full(2_000, r0))
        passed = np.where(np.isinf(passed) & (state.mean(1) >= level), count, passed)
    return passed


class TestAdvance:
    @pytest.mark.parametrize("r0", [0.001, 0.02, 0.3, 0.9])
    def test_grows_by_one_an_audit_on_average_at_the_highest_allowed_rate(self, r0: float) -> None:
        state = np.array([0.0, 12.0, 500.0])
        mean = r0 * advance(state, True, r0) + (1 - r0) * advance(state, False, r0)
        assert mean.tolist() == pytest.approx((state + 1).tolist())

    def test_an_error_multiplies_by_the_factor(self) -> None:
        assert advance(np.zeros(3), True, 0.02).tolist() == pytest.approx(list(FACTORS))

    def test_a_rate_never_leaves_the_unit_interval(self) -> None:
        assert np.all(advance(np.ones(3), False, 0.9) > 0)


class TestDetection:
    def test_a_fivefold_rise_revokes_within_200_audits(self) -> None:
        passed = first_passage(rate=0.1, r0=0.02, level=REVOKE_AT, audits=200)
        assert np.isfinite(passed).mean() >= 0.95

    def test_a_threefold_rise_warns_within_210_audits(self) -> None:
        passed = first_passage(rate=0.06, r0=0.02, level=WARN_AT, audits=210)
        assert np.isfinite(passed).mean() >= 0.88

    def test_false_alarms_are_as_rare_as_the_level_says(self) -> None:
        passed = first_passage(rate=0.02, r0=0.02, level=REVOKE_AT, audits=500)
        assert np.isfinite(passed).mean() <= 500 / REVOKE_AT + 3 * (0.05 / 2_000) ** 0.5


class TestDetector:
    def test_says_nothing_warns_then_revokes(self) -> None:
        detector, seen = Detector(), []
        while detector.drift is not Drift.REVOKE:
            detector = detector.add(wrong=True, alpha=0.01, accepted=0.5)
            seen.append(detector.drift)
        assert list(dict.fromkeys(seen)) == [Drift.NONE, Drift.WARN, Drift.REVOKE]

    def test_right_labels_calm_it(self) -> None:
        alarmed = Detector((900.0, 900.0, 900.0))
        assert alarmed.add(wrong=False, alpha=0.01, accepted=0.1).value < alarmed.value

    def test_a_bound_that_bounds_nothing_changes_nothing(self) -> None:
        assert Detector().add(wrong=True, alpha=0.1, accepted=0.05) == Detector()
        assert Detector().add(wrong=True, alpha=0.1, accepted=0.0) == Detector()
