"""How often do the intervals cover the truth, when reviews come from the doubtful items?

Simulates projects: items of a model whose error falls with its confidence (settings A and B of the
guarantee's simulations), two policy versions with thresholds of their own, audits by a coin, and
people who take the lowest confidence first and leave a backlog. Then it asks each estimator for its
interval and counts how often the truth lies inside, beside the naive accuracy over all reviews.

    python benchmarks/coverage.py --runs 2000
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.domain.intervals import Estimate, Population, wilson
from app.domain.lanes import Lane, lanes_accuracy, overall_accuracy
from app.domain.weighted import weighted_agreement

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

SETTINGS = {"A": (3.55, 2.1), "B": (4.95, 2.3)}
LABELS = ("a", "b", "c")
ACCEPTED_ABOVE = (0.6, 0.4)  # of the confidence's rank, by policy version
AUDIT_RATES = (0.1, 0.05)


@dataclass(frozen=True, eq=False)
class Project:
    """One simulated project; all arrays run over its items."""

    predicted: Ints
    actual: Ints
    accepted: Bools
    version: Ints
    audited: Bools
    reviewed: Bools

    @property
    def wrong(self) -> Bools:
        """Items whose label by the model is not the true one."""
        return np.asarray(self.predicted != self.actual)

    def lane(self, version: int, *, accepted: bool) -> Bools:
        """The items that one policy version sent one way."""
        return np.asarray((self.version == version) & (self.accepted == accepted))


def simulate(
    rng: np.random.Generator, *, setting: str = "A", items: int = 10_000, backlog: float = 0.2
) -> Project:
    """Draw one project, of which the most confident `backlog` of the reviews still waits."""
    base, slope = SETTINGS[setting]
    rank = rng.random(items)
    doubt = base + slope * special.ndtri(np.clip(rank, 1e-12, 1 - 1e-12))
    wrong = rng.random(items) < 0.002 + 0.998 * special.expit(-doubt)
    actual = rng.choice(3, items, p=[0.6, 0.3, 0.1])
    version = np.arange(items) * 2 // items
    threshold = np.array(ACCEPTED_ABOVE)[version]
    accepted = rank >= threshold
    return Project(
        predicted=np.where(wrong, (actual + rng.integers(1, 3, items)) % 3, actual),
        actual=actual,
        accepted=accepted,
        version=version,
        audited=rng.random(items) < np.array(AUDIT_RATES)[version],
        reviewed=~accepted & (rank < threshold * (1 - backlog)),
    )


def lanes_of(project: Project, *, accepted: bool) -> list[Lane]:
    """The project's lanes as the service would count them."""
    lanes = []
    for version in (0, 1):
        inside = project.lane(version, accepted=accepted)
        audited = inside & project.audited
        reviewed = inside & project.reviewed & ~project.audited
        lanes.append(
            Lane(
                f"policy {version + 1}, {'accepted' if accepted else 'review'}",
                int(inside.sum()),
                audited=int(audited.sum()),
                audit_errors=int((audited & project.wrong).sum()),
                reviewed=int(reviewed.sum()),
                review_errors=int((reviewed & project.wrong).sum()),
            )
        )
    return lanes


def overall(project: Project) -> tuple[Estimate, float]:
    """Accuracy of accepted and reviewed items: the estimate and the truth."""
    estimate = overall_accuracy(lanes_of(project, accepted=True), lanes_of(project, accepted=False))
    decided = project.accepted | project.reviewed | project.audited
    return estimate.accuracy, float(1 - project.wrong[decided].mean())


def received(project: Project) -> tuple[Estimate, float]:
    """Accuracy of all items, waiting ones included: the estimate and the truth."""
    lanes = lanes_of(project, accepted=True) + lanes_of(project, accepted=False)
    return lanes_accuracy(lanes), float(1 - project.wrong.mean())


def kappa(project: Project) -> tuple[Estimate, float]:
    """Cohen's kappa over all items: the estimate and the truth."""
    size, tables = [], []
    for accepted in (True, False):
        for version in (0, 1):
            inside = project.lane(version, accepted=accepted)
            seen = inside & (project.audited | project.reviewed)
            counted = seen if seen.sum() == inside.sum() else inside & project.audited
            size.append(int(inside.sum()))
            tables.append(_table(project, counted))
    whole = _table(project, np.ones_like(project.accepted)) / len(project.accepted)
    chance = float(whole.sum(axis=0) @ whole.sum(axis=1))
    truth = (float(np.trace(whole)) - chance) / (1 - chance)
    return weighted_agreement(tables, sizes=size, labels=LABELS).kappa, truth


def naive(project: Project) -> tuple[Estimate, float]:
    """What a plain average over everything people looked at says of the decided items."""
    seen = project.reviewed | project.audited
    right = int((seen & ~project.wrong).sum())
    estimate = wilson(right, int(seen.sum()), population=Population("all reviews"))
    return estimate, overall(project)[1]


def _table(project: Project, inside: Bools) -> Ints:
    flat = project.predicted[inside] * 3 + project.actual[inside]
    return np.bincount(flat, minlength=9).reshape(3, 3)


ESTIMATORS: dict[str, Callable[[Project], tuple[Estimate, float]]] = {
    "overall accuracy, weighted": overall,
    "accuracy of all received, weighted": received,
    "Cohen's kappa, weighted": kappa,
    "overall accuracy, naive": naive,
}


@dataclass(frozen=True)
class Coverage:
    """How one estimator fared."""

    setting: str
    estimator: str
    runs: int
    covered: float
    """Share of runs whose interval holds the truth."""
    bias: float
    """Mean of estimate minus truth."""
    width: float
    """Mean width of the interval."""


def coverage(
    *, runs: int, setting: str = "A", items: int = 10_000, backlog: float = 0.2, seed: int = 0
) -> list[Coverage]:
    """Simulate `runs` projects and count, one row an estimator."""
    rng = np.random.default_rng(seed)
    tally = {name: np.zeros(3) for name in ESTIMATORS}
    for _ in range(runs):
        project = simulate(rng, setting=setting, items=items, backlog=backlog)
        for name, estimator in ESTIMATORS.items():
            estimate, truth = estimator(project)
            value = np.nan if estimate.value is None else estimate.value
            inside = estimate.low <= truth <= estimate.high
            tally[name] += (inside, value - truth, estimate.high - estimate.low)
    return [
        Coverage(setting, name, runs, *(float(each) / runs for each in sums))
        for name, sums in tally.items()
    ]


def main(arguments: list[str]) -> None:
    """Print the table, or a JSON list with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--setting", choices=sorted(SETTINGS), action="append")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--backlog", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    rows = [
        row
        for setting in asked.setting or sorted(SETTINGS)
        for row in coverage(
            runs=asked.runs,
            setting=setting,
            items=asked.items,
            backlog=asked.backlog,
            seed=asked.seed,
        )
    ]
    if asked.json:
        print(json.dumps([vars(row) for row in rows], indent=1))
        return
    print(f"{'setting':8}{'estimator':36}{'covered':>8}{'bias':>10}{'width':>8}")
    for row in rows:
        print(
            f"{row.setting:8}{row.estimator:36}{row.covered:8.1%}{row.bias:+10.4f}{row.width:8.4f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
