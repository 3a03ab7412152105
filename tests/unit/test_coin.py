from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from app.domain.coin import CoinProbabilities, Face, toss

BELOW_ONE = math.nextafter(1.0, 0.0)


class TestToss:
    @pytest.mark.parametrize(
        ("audit", "train", "uniform", "face"),
        [
            (0.1, 0.2, 0.0, Face.AUDIT),
            (0.1, 0.2, math.nextafter(0.1, 0), Face.AUDIT),
            (0.1, 0.2, 0.1, Face.TRAIN),
            (0.1, 0.2, math.nextafter(0.1 + 0.2, 0), Face.TRAIN),
            (0.1, 0.2, 0.1 + 0.2, Face.NONE),
            # a chance of 0 never happens, a chance of 1 always does
            (0.0, 0.0, 0.0, Face.NONE),
            (0.0, 1.0, 0.0, Face.TRAIN),
            (1.0, 0.0, BELOW_ONE, Face.AUDIT),
        ],
    )
    def test_face(self, audit: float, train: float, uniform: float, face: Face) -> None:
        assert toss(CoinProbabilities(audit, train), uniform=uniform) is face

    def test_shows_its_faces_as_often_as_it_says(self) -> None:
        coin = CoinProbabilities(audit=0.1, train=0.025)
        draws = np.random.default_rng(7).random(200_000)
        shown = Counter(toss(coin, uniform=draw) for draw in draws)
        # five standard errors of a share of 200,000 draws
        assert shown[Face.AUDIT] / len(draws) == pytest.approx(0.1, abs=0.0034)
        assert shown[Face.TRAIN] / len(draws) == pytest.approx(0.025, abs=0.0018)


class TestCoinProbabilities:
    @pytest.mark.parametrize(
        ("rate", "train"), [(0.0, 0.0), (0.1, 0.025), (0.8, 0.2), (0.9, 0.1), (1.0, 0.0)]
    )
    def test_train_has_a_quarter_of_the_audit_rate_or_what_is_left(
        self, rate: float, train: float
    ) -> None:
        coin = CoinProbabilities.from_audit_rate(rate)
        assert coin.audit == rate
        assert coin.train == pytest.approx(train)

    @pytest.mark.parametrize(
        ("audit", "train"), [(-0.1, 0.0), (0.0, -0.1), (1.1, 0.0), (0.6, 0.5), (math.nan, 0.0)]
    )
    def test_that_are_none_are_refused(self, audit: float, train: float) -> None:
        with pytest.raises(ValueError, match="coin probabilities"):
            CoinProbabilities(audit, train)
