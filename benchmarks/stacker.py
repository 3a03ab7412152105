"""What a stacker trained on 300 to 1,000 train reviews gains on real logs.

    python benchmarks/stacker.py log.jsonl ... [--train 500] [--splits 20] [--json]

A log's lines hold `confidence`, `prediction`, `label`, and as features `probs` (by label) or
`text`. Each split draws the train face at random; every figure is of the other items, so nothing
that trained the stacker is measured. `oracle_share`: the best threshold's accepted share at the
target. `certified_share`: what the e-process certifies on half of those items, audited, at the
first version's share of delta for the model's confidence and the second's for the stacker.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.domain.audits import EVERYTHING
from app.domain.betting import BettingCertificates
from app.domain.guarantee import Bools, Floats, accepted_share, spent_delta, threshold_grid
from app.domain.stacker import Evidence, Stacker, hashed_tfidf

DELTA = 0.1


def read(path: Path) -> tuple[Evidence, list[str], Bools]:
    """A log's evidence, the truth, and which predictions were right."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    confidence = np.array([math.nan if r["confidence"] is None else r["confidence"] for r in rows])
    margin, entropy = np.zeros(len(rows)), np.zeros(len(rows))
    for i, row in enumerate(rows):
        p = np.sort(np.array(list(row.get("probs", {}).values()), float))[::-1]
        if p.size:
            margin[i] = confidence[i] - (p[1] if p.size > 1 else 0)
            entropy[i] = -(p[p > 0] * np.log(p[p > 0])).sum()
    with np.errstate(divide="ignore"):
        logit = np.log(confidence) - np.log1p(-confidence)
    texts = [row.get("text", "") for row in rows]
    evidence = Evidence(
        labels=[row["prediction"] for row in rows],
        logit=np.where(np.isnan(logit), -np.inf, logit),
        margin=margin,
        entropy=entropy,
        votes=np.ones(len(rows)),
        vectors=hashed_tfidf(texts) if any(texts) else None,
    )
    truth = [row["label"] for row in rows]
    right = np.array([row["prediction"] == row["label"] for row in rows], bool)
    return evidence, truth, right


def auroc(scores: Floats, right: Bools) -> float:
    """P(a right label scores above a wrong one), ties one half."""
    place, count = np.unique(scores, return_inverse=True, return_counts=True)[1:]
    rank = np.cumsum(count) - (count - 1) / 2
    n = right.sum()
    return float((rank[place][right].sum() - n * (n + 1) / 2) / (n * (len(right) - n)))


def oracle(scores: Floats, wrong: Bools, alpha: float) -> float:
    """Accepted share of the loosest threshold whose delivered error is at most alpha."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    fine = last & (np.cumsum(wrong[order]) <= alpha * len(wrong))
    return float(np.flatnonzero(fine).max(initial=-1) + 1) / len(wrong)


def certified(scores: Floats, wrong: Bools, alpha: float, version: int) -> float:
    """Share accepted after auditing the first half."""
    half = len(wrong) // 2
    grid = threshold_grid(scores[half:])
    state = BettingCertificates.start(
        grid, accepted=1.0, alpha=alpha, delta=spent_delta(DELTA, version)
    )
    for begin in range(0, half, 50):
        stretch = slice(begin, min(begin + 50, half))
        size = stretch.stop - begin
        bad = scores[stretch][wrong[stretch]]
        state = state.add(EVERYTHING, received=size, drawn=size, wrong=bad)
    threshold = state.threshold
    return 0.0 if threshold is None else float(accepted_share(scores, threshold))


def gain(path: Path, *, train: int, splits: int, alpha: float, seed: int) -> dict[str, Any]:
    """Mean figures over splits, before and after."""
    evidence, truth, right = read(path)
    figures: dict[str, list[tuple[float, float]]] = {
        "auroc": [],
        "oracle_share": [],
        "certified_share": [],
    }
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(len(right))
        face, rest = order[:train], order[train:]
        stacker = Stacker.fit(evidence.take(face), [truth[i] for i in face.tolist()], right[face])
        old, new = evidence.logit[rest], stacker.score(evidence.take(rest))
        wrong = ~right[rest]
        figures["auroc"].append((auroc(old, ~wrong), auroc(new, ~wrong)))
        figures["oracle_share"].append((oracle(old, wrong, alpha), oracle(new, wrong, alpha)))
        figures["certified_share"].append(
            (certified(old, wrong, alpha, 1), certified(new, wrong, alpha, 2))
        )
    means = {key: np.mean(pairs, axis=0) for key, pairs in figures.items()}
    return {
        "setting": path.stem,
        "train": train,
        "splits": splits,
        "target": 1 - alpha,
        **{f"{key}_model": round(float(mean[0]), 4) for key, mean in means.items()},
        **{f"{key}_stacker": round(float(mean[1]), 4) for key, mean in means.items()},
    }


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rows = [
        gain(
            path,
            train=options.train,
            splits=options.splits,
            alpha=round(1 - options.target, 12),
            seed=options.seed,
        )
        for path in options.logs
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'log':34} {'AUROC':>13} {'oracle share':>13} {'certified':>13}")
    for row in rows:
        cells = [
            f"{row[f'{key}_model']:5.3f} > {row[f'{key}_stacker']:5.3f}"
            for key in ("auroc", "oracle_share", "certified_share")
        ]
        print(f"{row['setting']:34} {' '.join(cells)}")


if __name__ == "__main__":
    main(sys.argv[1:])
