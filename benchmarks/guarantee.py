"""Does the promise hold, and how much does it let through? The public harness of docs/guarantee.md.

    python benchmarks/guarantee.py --runs 2000
    python benchmarks/guarantee.py --setting A --target 0.98 --json
    python benchmarks/guarantee.py --setting answers.jsonl --runs 500

A synthetic setting runs 20,000 items, re-tuned every 200, with a scorer retrained twice and
promoted when its certified share is larger. A log (lines with `confidence`, `prediction`,
`label`) is shuffled anew in each run; its first half is audited and the truth is the error over
all of it.

`ever_invalid`: share of runs in which at any re-tuning the policy's true delivered error exceeds
1 - target. `certified_share`: mean share of all items accepted once `--audits` audits were counted
(logs: when the half is used up). `oracle_share`: that of the best threshold of the first score.
`share_at_extra_audits`: once as many audits were of items that the policy accepted, which nobody
would have reviewed otherwise (null unless every run got there). `final_share`: at the end.
`invalid_time`: share of the re-tunings at which the policy was invalid. `caught`: runs in which
the drift detector took a policy back.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.domain.simulation import (
    ITEMS,
    RETRAINED_AT,
    SETTINGS,
    Log,
    World,
    log_world,
    synthetic_world,
)
from app.domain.trials import Method, Outcome, run

CHUNK = 100


def read_log(path: Path) -> Log:
    """A log's scores (null is unknown) and errors; confidences keep their full precision."""
    scores, wrong = [], []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            confidence = row["confidence"]
            scores.append(-math.inf if confidence is None else float(confidence))
            wrong.append(row["prediction"] != row["label"])
    return Log(path.stem, np.array(scores), np.array(wrong, bool))


def worlds(
    setting: str, *, runs: int, seed: int, items: int, retrained_at: Sequence[int]
) -> Iterator[World]:
    """The runs of a setting in chunks that fit in memory, each from a seed of its own."""
    log = None if setting in SETTINGS else read_log(Path(setting))
    for chunk in range(0, runs, CHUNK):
        rng = np.random.default_rng([seed, chunk])
        size = min(CHUNK, runs - chunk)
        if log is None:
            yield synthetic_world(
                SETTINGS[setting], runs=size, rng=rng, items=items, retrained_at=retrained_at
            )
        else:
            yield log_world(log, runs=size, rng=rng)


def measure(
    setting: str,
    *,
    targets: list[float],
    delta: float,
    runs: int,
    methods: list[Method],
    seed: int = 0,
    items: int = ITEMS,
    audits: int = 1_000,
    retrained_at: Sequence[int] = RETRAINED_AT,
) -> list[dict[str, Any]]:
    """One row for each target and method; every method sees the same worlds."""
    cases = [(target, method) for target in targets for method in methods]
    outcomes: dict[tuple[float, Method], list[Outcome]] = {case: [] for case in cases}
    oracles: dict[float, float] = {}
    for world in worlds(setting, runs=runs, seed=seed, items=items, retrained_at=retrained_at):
        for target, method in cases:
            alpha = round(1 - target, 12)
            oracles[target] = world.oracle(alpha)
            outcomes[target, method].append(
                run(world, method, alpha=alpha, delta=delta, budget=audits)
            )
    rows = []
    for (target, method), parts in outcomes.items():
        extra = np.concatenate([part.share_extra for part in parts])
        reached = not np.isnan(extra).any()
        rows.append(
            {
                "setting": setting if setting in SETTINGS else Path(setting).stem,
                "target": target,
                "delta": delta,
                "runs": runs,
                "method": method.value,
                "ever_invalid": _mean([part.ever_invalid for part in parts]),
                "certified_share": _mean([part.share for part in parts]),
                "oracle_share": round(oracles[target], 4),
                "final_share": _mean([part.final_share for part in parts]),
                "share_at_extra_audits": round(float(extra.mean()), 4) if reached else None,
                "audits_in_all": _mean([part.audits for part in parts]),
                "caught": _mean([part.revoked for part in parts]),
                "invalid_time": _mean([part.invalid_time for part in parts]),
            }
        )
    return rows


def _mean(parts: list[Any]) -> float:
    return round(float(np.concatenate(parts).mean()), 4)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    heads = ("certified", "of oracle", "oracle", "at end", "caught")
    lines = [f"{'setting':34} target method         ever invalid     {' '.join(heads)}"]
    for row in rows:
        p, oracle = row["ever_invalid"], row["oracle_share"]
        error = math.sqrt(max(p * (1 - p), 1e-9) / row["runs"])
        of_oracle = f"{row['certified_share'] / oracle:9.2f}" if oracle else f"{'-':>9}"
        lines.append(
            f"{row['setting']:34} {row['target']:6.3g} {row['method']:10} {p:8.4f} +- {error:.4f} "
            f"{row['certified_share']:9.3f} {of_oracle} {oracle:6.3f} {row['final_share']:6.3f} "
            f"{row['caught']:6.3f}"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--setting", action="append", help="A, B, C, D or a log; default A to D")
    parser.add_argument("--target", type=float, action="append", help="default 0.99")
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--method", action="append", choices=[each.value for each in Method])
    parser.add_argument("--audits", type=int, default=1_000)
    parser.add_argument("--items", type=int, default=ITEMS, help="of a synthetic run")
    parser.add_argument("--one-scorer", action="store_true", help="never retrain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for setting in options.setting or sorted(SETTINGS):
        if setting not in SETTINGS and not Path(setting).is_file():
            parser.error(f"no setting and no file: {setting}")
        rows += measure(
            setting,
            targets=options.target or [0.99],
            delta=options.delta,
            runs=options.runs,
            methods=[Method(each) for each in options.method] if options.method else list(Method),
            seed=options.seed,
            items=options.items,
            audits=options.audits,
            retrained_at=() if options.one_scorer else RETRAINED_AT,
        )
    print(json.dumps(rows, indent=2) if options.json else table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
