import json
import math
from pathlib import Path

import numpy as np
import pytest

from app.domain.audits import EVERYTHING
from app.domain.betting import BettingCertificates
from app.domain.guarantee import (
    Certificates,
    clopper_pearson_upper,
    spent_delta,
)
from app.domain.simulation import (
    GRID,
    RETUNE_EVERY,
    SETTINGS,
    Log,
    Setting,
    World,
    log_world,
    synthetic_world,
)
from app.domain.trials import Method, needed, run

RUNS = 100
ALPHA = 0.01
DELTA = 0.1
ALLOWED = DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / RUNS)


@pytest.fixture(scope="module", params=["A", "B", "C"])
def world(request: pytest.FixtureRequest) -> World:
    """A hundred runs that retrain once, at item 6,000, and go on long enough to promote."""
    setting = SETTINGS[request.param]
    rng = np.random.default_rng(20)
    return synthetic_world(setting, runs=RUNS, rng=rng, items=10_000, retrained_at=(6_000,))


class TestPromise:
    @pytest.mark.parametrize("method", [Method.SECONDLOOK, Method.EPROCESS])
    def test_is_kept_within_delta(self, world: World, method: Method) -> None:
        outcome = run(world, method, alpha=ALPHA, delta=DELTA)
        assert outcome.ever_invalid.mean() <= ALLOWED
        assert outcome.final_share.mean() > 0.25 * world.oracle(ALPHA), "it certifies something"

    def test_is_broken_by_taking_reviews_at_their_word(self, world: World) -> None:
        assert run(world, Method.NAIVE, alpha=ALPHA, delta=DELTA).ever_invalid.mean() > 0.9

    def test_is_kept_on_a_shuffled_log(self) -> None:
        rng = np.random.default_rng(3)
        scores = rng.normal(size=4_000)
        log = Log("made up", scores, rng.random(4_000) < 0.2 / (1 + np.exp(3 * scores)))
        shuffles = log_world(log, runs=RUNS, rng=rng)
        for method in (Method.SECONDLOOK, Method.EPROCESS):
            outcome = run(shuffles, method, alpha=0.02, delta=DELTA)
            assert outcome.ever_invalid.mean() <= ALLOWED
            assert np.all(outcome.audits == 2_000)


class TestShare:
    def test_looking_where_the_doubt_is_accepts_more_for_the_same_audits(self) -> None:
        rng = np.random.default_rng(5)
        same = synthetic_world(SETTINGS["A"], runs=RUNS, rng=rng, items=8_000, retrained_at=())
        share = {
            method: run(same, method, alpha=ALPHA, delta=DELTA, budget=1_000).share.mean()
            for method in (Method.SECONDLOOK, Method.EPROCESS)
        }
        assert share[Method.SECONDLOOK] > 1.05 * share[Method.EPROCESS]

    def test_the_oracle_is_the_published_one(self) -> None:
        rng = np.random.default_rng(0)
        tiny = synthetic_world(SETTINGS["A"], runs=1, rng=rng, items=10, retrained_at=())
        assert tiny.oracle(0.01) == pytest.approx(0.612, abs=0.001)
        assert tiny.oracle(1e-9) == 0


class TestTrend:
    def test_is_caught(self) -> None:
        steep = Setting("steep", 3.55, 2.1, trend=5.0)
        drifting = synthetic_world(steep, runs=40, rng=np.random.default_rng(2), items=12_000)
        outcome = run(drifting, Method.SECONDLOOK, alpha=ALPHA, delta=DELTA)
        assert outcome.revoked.mean() > 0.8

    def test_no_trend_is_left_in_peace(self, world: World) -> None:
        outcome = run(world, Method.SECONDLOOK, alpha=ALPHA, delta=DELTA)
        assert outcome.revoked.mean() <= 0.05


class TestRetraining:
    def test_a_better_scorer_is_promoted(self) -> None:
        rng = np.random.default_rng(8)
        with_it = synthetic_world(
            SETTINGS["A"], runs=40, rng=rng, items=14_000, retrained_at=(3_000,)
        )
        without = World(
            with_it.wrong, with_it.coin, with_it.trial, with_it.versions[:1], None, with_it.curve
        )
        shares = [
            run(each, Method.EPROCESS, alpha=ALPHA, delta=DELTA).final_share.mean()
            for each in (with_it, without)
        ]
        assert shares[0] > 1.04 * shares[1]


class TestHarnessIsTheProduct:
    """The arrays of the harness must do what the classes that serve do, step by step."""

    @staticmethod
    def stretches(world: World) -> list[slice]:
        items = world.wrong.shape[1]
        return [slice(i, i + RETUNE_EVERY) for i in range(0, items, RETUNE_EVERY)]

    def test_secondlook(self) -> None:
        rng = np.random.default_rng(11)
        one = synthetic_world(SETTINGS["B"], runs=1, rng=rng, items=12_000, retrained_at=())
        cells, share = one.versions[0].cells[0], one.versions[0].share[0]
        grid = -np.arange(GRID, dtype=float)  # a cell's score is minus its place on the grid
        state = BettingCertificates.start(
            grid, accepted=share, alpha=ALPHA, delta=spent_delta(DELTA, 1)
        )
        plans = set()
        for items in self.stretches(one):
            plan = state.next_plan()
            plans.add(plan)
            trial, scores = one.trial[0, items], -cells[items].astype(float)
            coins = one.coin[0, items]
            drawn = np.array(
                [
                    counts and plan.draws(score, coin)
                    for counts, score, coin in zip(trial, scores, coins, strict=True)
                ]
            )
            bad = scores[drawn & one.wrong[0, items]]
            state = state.add(plan, received=int(trial.sum()), drawn=int(drawn.sum()), wrong=bad)
        outcome = run(one, Method.SECONDLOOK, alpha=ALPHA, delta=DELTA)
        assert not outcome.revoked.any()
        assert len(plans) > 2
        assert EVERYTHING in plans
        assert outcome.audits.tolist() == [state.audits]
        assert outcome.final_share.tolist() == [share[int(state.certified.sum()) - 1]]

    def test_eprocess(self) -> None:
        rng = np.random.default_rng(12)
        scores = rng.normal(size=3_000)
        log = Log("made up", scores, rng.random(3_000) < 0.1 / (1 + np.exp(3 * scores)))
        shuffle = log_world(log, runs=1, rng=rng)
        cells, share = shuffle.versions[0].cells[0], shuffle.versions[0].share[0]
        state = Certificates.start(
            -np.arange(GRID, dtype=float), alpha=0.02, delta=spent_delta(DELTA, 1)
        )
        held = []
        for begin in range(0, 1_500, RETUNE_EVERY):
            items = slice(begin, min(begin + RETUNE_EVERY, 1_500))
            state = state.add_all(-cells[items].astype(float), shuffle.wrong[0, items])
            held.append(int(state.certified.sum()))
        outcome = run(shuffle, Method.EPROCESS, alpha=0.02, delta=DELTA)
        # the harness looks every 200 items, the class after each, so it may be ahead by a little
        assert 0 < outcome.final_share[0] <= share[held[-1] - 1] <= outcome.final_share[0] + 0.03

    def test_exact_is_clopper_and_pearsons_bound(self) -> None:
        table = needed(Method.EXACT, 0.02, 0.1)
        for errors in (0, 1, 7, 100):
            n = int(table[errors])
            assert clopper_pearson_upper(errors, n, 0.1) <= 0.02
            assert clopper_pearson_upper(errors, n - 1, 0.1) > 0.02


class TestCommand:
    def test_prints_one_row_for_each_setting_target_and_method(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        from benchmarks.guarantee import main  # noqa: PLC0415 - a script, imported where it is run

        log = tmp_path / "answers.jsonl"
        lines = [
            {"confidence": None if i % 50 == 0 else 1 - i / 900, "prediction": "a", "label": "a"}
            for i in range(600)
        ]
        log.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
        main(
            ["--runs", "3", "--setting", str(log), "--target", "0.9", "--target", "0.95", "--json"]
        )
        rows = json.loads(capsys.readouterr().out)
        assert {(row["target"], row["method"]) for row in rows} == {
            (target, method.value) for target in (0.9, 0.95) for method in Method
        }
        for row in rows:
            assert row["setting"] == "answers"
            assert row["ever_invalid"] == 0
            assert 0.9 < row["certified_share"] <= row["oracle_share"] == 0.98

    def test_names_a_setting_that_is_not_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        from benchmarks.guarantee import main  # noqa: PLC0415 - a script, imported where it is run

        with pytest.raises(SystemExit):
            main(["--setting", "E"])
        assert "no setting and no file: E" in capsys.readouterr().err
