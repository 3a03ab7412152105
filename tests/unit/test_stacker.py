import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.domain.stacker import (
    TRAIN_FROM,
    Evidence,
    LinearProbe,
    Stacker,
    fit_logistic,
    hashed_tfidf,
    promotes,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def tickets(n: int, seed: int = 0) -> tuple[list[str], list[str], list[str], Floats]:
    """Texts, truth, a model's labels (always "bug" for half of the invoices) and its confidence."""
    rng = np.random.default_rng(seed)
    words = {"bug": ["crash", "error", "broken"], "invoice": ["paid", "amount", "refund"]}
    truth = [str(each) for each in rng.choice(["bug", "invoice"], n)]
    texts = [" ".join([*rng.choice(words[each], 3), "please", "help"]) for each in truth]
    fooled = rng.random(n) < 0.5
    labels = ["bug" if miss else each for each, miss in zip(truth, fooled, strict=True)]
    return texts, truth, labels, rng.normal(2, 1, n)


def evidence(labels: list[str], logit: Floats, texts: list[str] | None = None) -> Evidence:
    n = len(labels)
    return Evidence(
        labels,
        logit,
        margin=np.tanh(logit / 2),
        entropy=np.exp(-np.abs(logit)),
        votes=np.ones(n),
        vectors=None if texts is None else hashed_tfidf(texts, size=256),
    )


class TestFitLogistic:
    def test_stands_at_the_minimum(self) -> None:
        rng = np.random.default_rng(1)
        x = rng.normal(size=(400, 3))
        y = rng.random(400) < 1 / (1 + np.exp(-(0.5 + x @ [1.0, -2.0, 0.0])))
        beta = fit_logistic(x, y, penalty=2.0)
        design = np.column_stack([np.ones(400), x])
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (p - y) + 2.0 * np.array([0, *beta[1:]])
        assert np.abs(gradient).max() < 1e-3

    def test_separable_data_stay_finite(self) -> None:
        x = np.array([[-1.0], [1.0]] * 50)
        beta = fit_logistic(x, x[:, 0] > 0, penalty=1.0)
        assert 0 < beta[1] < 20

    def test_one_outcome_only(self) -> None:
        beta = fit_logistic(np.ones((9, 2)), np.ones(9, bool), penalty=1.0)
        assert beta.tolist() == pytest.approx([math.log(19), 0, 0])


class TestHashedTfidf:
    def test_rows_have_unit_length_and_empty_texts_none(self) -> None:
        rows = hashed_tfidf(["Pay the invoice", "", "pay, PAY the bill"], size=64)
        lengths = np.sqrt(rows.multiply(rows).sum(axis=1))
        assert np.asarray(lengths).ravel().tolist() == pytest.approx([1, 0, 1])

    def test_is_the_same_in_every_process(self) -> None:
        assert hashed_tfidf(["pay"], size=1 << 13).indices.tolist() == [572]

    def test_case_is_folded_and_rare_words_weigh_more(self) -> None:
        rows = hashed_tfidf(["The cat", "the dog", "THE"], size=1 << 13).toarray()
        common = int(np.flatnonzero(rows[2])[0])
        assert 0 < rows[0, common] < rows[0].max()


class TestLinearProbe:
    def test_reads_the_label_off_the_text(self) -> None:
        texts, truth, _, _ = tickets(300)
        vectors = hashed_tfidf(texts, size=256)
        probe = LinearProbe.fit(vectors[:200], truth[:200])
        assert np.all(probe.probability(vectors[200:], truth[200:]) > 0.5)

    def test_takes_embeddings(self) -> None:
        rng = np.random.default_rng(0)
        truth = ["a", "b"] * 50
        vectors = rng.normal(size=(100, 8)) + 3 * np.array([[each == "a"] for each in truth])
        probe = LinearProbe.fit(vectors, truth)
        assert np.mean(probe.probability(vectors, truth) > 0.5) > 0.95

    def test_a_label_never_seen_has_probability_zero(self) -> None:
        probe = LinearProbe.fit(np.eye(4), ["a", "a", "b", "b"])
        assert probe.probability(np.eye(4), ["c"] * 4).tolist() == [0, 0, 0, 0]


class TestStacker:
    def test_a_second_opinion_ranks_better_on_items_it_never_saw(self) -> None:
        texts, truth, labels, logit = tickets(1_000)
        right = np.array(truth) == np.array(labels)
        known = evidence(labels, logit, texts)
        face, rest = np.arange(400), np.arange(400, 1_000)
        stacker = Stacker.fit(known.take(face), truth[:400], right[:400])
        before = auroc_of(logit[rest], right[rest])
        after = auroc_of(stacker.score(known.take(rest)), right[rest])
        assert before < 0.6
        assert after > 0.95

    def test_texts_that_say_nothing_do_no_harm(self) -> None:
        rng = np.random.default_rng(3)
        n = 1_400
        logit = rng.normal(1, 2, n)
        right = rng.random(n) < 1 / (1 + np.exp(-logit))
        truth = np.where(right, "a", "b").tolist()
        texts = [" ".join(rng.choice([f"w{i}" for i in range(400)], 8)) for _ in range(n)]
        known = evidence(["a"] * n, logit, texts)
        face, rest = np.arange(400), np.arange(400, n)
        stacker = Stacker.fit(known.take(face), truth[:400], right[:400])
        after = auroc_of(stacker.score(known.take(rest)), right[rest])
        assert after > auroc_of(logit[rest], right[rest]) - 0.03

    def test_an_unknown_confidence_stays_unknown(self) -> None:
        _, truth, labels, logit = tickets(400)
        known = evidence(labels, logit)
        right = np.array(truth) == np.array(labels)
        stacker = Stacker.fit(known, truth, right)
        logit[7] = -np.inf
        scores = stacker.score(evidence(labels, logit))
        assert scores[7] == -np.inf
        assert np.isfinite(np.delete(scores, 7)).all()

    def test_a_label_never_seen_gets_a_score(self) -> None:
        _, truth, labels, logit = tickets(400)
        right = np.array(truth) == np.array(labels)
        stacker = Stacker.fit(evidence(labels, logit), truth, right)
        assert np.isfinite(stacker.score(evidence(["new"] * 400, logit))).all()

    def test_is_not_trained_before_its_time(self) -> None:
        _, truth, labels, logit = tickets(TRAIN_FROM - 1)
        with pytest.raises(ValueError, match="300 train reviews, not 299"):
            Stacker.fit(evidence(labels, logit), truth, np.ones(TRAIN_FROM - 1, bool))

    def test_asks_for_the_vectors_it_learnt_from(self) -> None:
        texts, truth, labels, logit = tickets(300)
        right = np.array(truth) == np.array(labels)
        stacker = Stacker.fit(evidence(labels, logit, texts), truth, right)
        with pytest.raises(ValueError, match="vectors"):
            stacker.score(evidence(labels, logit))


class TestPromotes:
    def test_only_a_larger_certified_share_takes_over(self) -> None:
        assert promotes(current=0.4, candidate=0.5)
        assert not promotes(current=0.4, candidate=0.4)
        assert not promotes(current=0.4, candidate=0.0)


class TestRealLog:
    def test_gains_on_a_zero_shot_model(self) -> None:
        path = SHARED / "predictions" / "minilm_zeroshot_sms.jsonl"
        if not path.is_file():
            pytest.skip("the shared prediction logs are not beside this checkout")
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        p = np.array([row["confidence"] for row in rows])
        labels, truth = [r["prediction"] for r in rows], [r["label"] for r in rows]
        right = np.array(labels) == np.array(truth)
        logit = np.log(p) - np.log1p(-p)
        known = evidence(labels, logit, [row["text"] for row in rows])
        order = np.random.default_rng(0).permutation(len(rows))
        face, rest = order[:300], order[300:]
        stacker = Stacker.fit(known.take(face), [truth[i] for i in face.tolist()], right[face])
        before = auroc_of(logit[rest], right[rest])
        assert auroc_of(stacker.score(known.take(rest)), right[rest]) > before + 0.15


def auroc_of(scores: Floats, right: Bools) -> float:
    """By comparing every pair, independently of the product's own."""
    good, bad = scores[right], scores[~right]
    return float(np.mean((good[:, None] > bad) + 0.5 * (good[:, None] == bad)))
