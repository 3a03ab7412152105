import numpy as np
import pytest
from numpy.typing import NDArray

from app.domain.calibration import Calibration, Method, calibrate, effective_sample, isotonic

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def overconfident(n: int, seed: int = 0) -> tuple[Floats, Bools]:
    """Log-odds twice as large as the truth, shifted by one."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(2, 3, n)
    return logits, rng.random(n) < 1 / (1 + np.exp(-(0.5 * logits - 1)))


class TestEffectiveSample:
    @pytest.mark.parametrize(
        ("weights", "size"),
        [([1.0] * 50, 50), ([3.0] * 50, 50), ([1.0, 0.0], 1), ([1.0, 3.0], 1.6), ([], 0)],
    )
    def test_is_kishs(self, weights: list[float], size: float) -> None:
        assert effective_sample(weights) == pytest.approx(size)


class TestCalibrate:
    def test_nothing_below_an_effective_sample_of_100(self) -> None:
        logits, right = overconfident(2_000)
        few = np.where(np.arange(2_000) < 99, 1.0, 1e-6)
        assert calibrate(logits[:99], right[:99], weights=np.ones(99)) is None
        assert calibrate(logits, right, weights=few) is None

    def test_unknown_scores_are_no_sample(self) -> None:
        logits, right = overconfident(150)
        logits[:60] = -np.inf
        assert calibrate(logits, right, weights=np.ones(150)) is None

    def test_platt_up_to_a_thousand(self) -> None:
        logits, right = overconfident(900)
        found = calibrate(logits, right, weights=np.ones(900))
        assert found is not None
        assert found.method is Method.PLATT
        assert found.a == found.b == pytest.approx(0.5, abs=0.08)
        assert found.c == pytest.approx(-1, abs=0.25)

    def test_beta_from_a_thousand(self) -> None:
        rng = np.random.default_rng(2)
        p = rng.beta(2, 1, 60_000)
        truth = 1 / (1 + np.exp(-(1.5 * np.log(p) - 0.4 * np.log1p(-p) + 0.2)))
        logits = np.log(p) - np.log1p(-p)
        found = calibrate(logits, rng.random(p.size) < truth, weights=np.ones(p.size))
        assert found is not None
        assert found.method is Method.BETA
        assert [found.a, found.b, found.c] == pytest.approx([1.5, 0.4, 0.2], abs=0.12)

    def test_weights_count_as_copies(self) -> None:
        logits, right = overconfident(400)
        twice = np.where(np.arange(400) < 200, 2.0, 1.0)
        weighted = calibrate(logits, right, weights=twice)
        copied = calibrate(
            np.append(logits, logits[:200]), np.append(right, right[:200]), weights=np.ones(600)
        )
        assert weighted is not None
        assert copied is not None
        assert weighted.a == pytest.approx(copied.a, rel=0.02)

    def test_never_reverses_the_order(self) -> None:
        logits, right = overconfident(3_000)
        found = calibrate(logits, ~right, weights=np.ones(3_000))
        assert found is not None
        assert np.all(np.diff(found.probability(np.sort(logits))) >= -1e-12)

    def test_all_right_is_not_certainty(self) -> None:
        found = calibrate(np.full(200, 5.0), np.ones(200, bool), weights=np.ones(200))
        assert found is not None
        assert 0.97 < found.probability([5.0])[0] < 1


class TestProbability:
    def test_saturation_keeps_its_order_and_the_unknown_stays_unknown(self) -> None:
        same = Calibration(Method.PLATT, 1.0, 1.0, 0.0, 500.0)
        out = same.probability([-np.inf, -800.0, 0.0, 16.0, 800.0])
        assert np.isnan(out[0])
        assert out[1:].tolist() == pytest.approx([0, 0.5, 1 / (1 + np.exp(-16.0)), 1])


class TestIsotonic:
    def test_pools_what_is_out_of_order(self) -> None:
        values, means = isotonic([1, 2, 3, 4], [False, True, False, True], weights=np.ones(4))
        assert values.tolist() == [1, 2, 3, 4]
        assert means.tolist() == [0, 0.5, 0.5, 1]

    def test_equal_scores_share_a_value_by_weight(self) -> None:
        values, means = isotonic([2, 2, 5], [True, False, True], weights=[3, 1, 1])
        assert values.tolist() == [2, 5]
        assert means.tolist() == [0.75, 1]

    def test_nothing_known(self) -> None:
        values, means = isotonic([-np.inf], [True], weights=[1])
        assert values.size == means.size == 0
