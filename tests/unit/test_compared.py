from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.agreement import confidence_bin
from app.domain.compared import MICRO, tally, value_agreement
from app.domain.kinds import parse_schema

SCHEMA = parse_schema({"kind": "multi_choice", "labels": ["a", "b", "c"]})
Sets = st.lists(st.sampled_from(["a", "b", "c"]), unique=True).map(sorted)


def tallied(
    predicted: list[str] | None, actual: list[str], confidence: float | None = 0.9
) -> dict[str, int]:
    compared = None if predicted is None else SCHEMA.compare(predicted, actual)
    return tally(compared, confidence=confidence)


def agreement(*tallies: dict[str, int]) -> Any:
    counts: Counter[str] = Counter()
    for each in tallies:
        counts.update(each)
    return value_agreement(SCHEMA, counts, what="these")


def test_a_tally_has_the_bin_the_metrics_and_the_parts() -> None:
    assert tallied(["a", "b"], ["a", "c"], 0.6) == {
        f"{confidence_bin(0.6)}.differ": 1,
        "metric.jaccard": round(MICRO / 3),
        "part.0.tp": 1,
        "part.1.fp": 1,
        "part.2.fn": 1,
    }


def test_without_a_value_of_the_model_it_has_nothing_else() -> None:
    assert tallied(None, ["a"], None) == {f"{confidence_bin(None)}.none": 1}


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    report = agreement(tallied(None, ["a"]))
    assert (report.n, report.unanswered) == (0, 1)
    for estimate in (report.accuracy, *report.metrics.values()):
        assert (estimate.value, estimate.low, estimate.high) == (None, 0.0, 1.0)
    for part in report.parts:
        assert {estimate.value for estimate in part.measures.values()} == {None}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(Sets, Sets, st.none() | st.floats(0, 1)),
        min_size=1,
        max_size=30,
    )
)
def test_figures_are_those_of_the_pairs(
    pairs: list[tuple[list[str], list[str], float | None]],
) -> None:
    report = agreement(*(tallied(*pair) for pair in pairs))
    same = [set(one) == set(other) for one, other, _ in pairs]
    jaccard = [
        len(set(one) & set(other)) / len(set(one) | set(other)) if one or other else 1.0
        for one, other, _ in pairs
    ]
    assert report.n == len(pairs)
    assert report.accuracy.value == pytest.approx(sum(same) / len(pairs))
    assert report.metrics["jaccard"].value == pytest.approx(sum(jaccard) / len(pairs), abs=1e-6)
    assert [each.n for each in report.bins] == [
        sum(confidence_bin(confidence) == index for *_, confidence in pairs)
        for index in range(len(report.bins))
    ]
    for estimate in (report.accuracy, *report.metrics.values()):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.population.of == len(pairs)
    for part in report.parts:
        said = [(part.part in one, part.part in other) for one, other, _ in pairs]
        assert (part.tp, part.fp) == (said.count((True, True)), said.count((True, False)))
        assert (part.fn, part.tn) == (said.count((False, True)), said.count((False, False)))
        f1 = part.measures["f1"].value
        if part.tp + part.fp + part.fn:
            assert f1 == pytest.approx(2 * part.tp / (2 * part.tp + part.fp + part.fn))
        else:
            assert f1 is None
