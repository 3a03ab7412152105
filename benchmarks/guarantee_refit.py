"""`guarantee_refit`: all certificates after one more audit, at 100,000 reviews."""

from __future__ import annotations

import time

import numpy as np

from app.domain.guarantee import Certificates, spent_delta, threshold_grid
from benchmarks.measure import Row, percentile

_REVIEWS = 100_000
_UPDATES = 300


def guarantee_refit() -> Row:
    """Milliseconds for one more audit, median and 99th percentile of 300."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=_REVIEWS)
    wrong = rng.random(_REVIEWS) < 0.02
    certificates = Certificates.start(
        threshold_grid(rng.normal(size=10_000)), alpha=0.01, delta=spent_delta(0.1, 1)
    ).add_all(scores, wrong)
    took = []
    for score, mistaken in zip(scores[:_UPDATES], wrong[:_UPDATES], strict=True):
        began = time.perf_counter()
        certificates = certificates.add(float(score), bool(mistaken))
        took.append((time.perf_counter() - began) * 1000)
    return Row(
        key="guarantee_refit",
        value=percentile(took, 0.5),
        unit="ms",
        limit=None,
        goal="at most 5 ms",
        figures={"p99 ms": percentile(took, 0.99)},
    )
