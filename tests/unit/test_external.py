from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.external import score_external
from app.domain.kinds import parse_schema
from app.domain.kinds.base import Score, ValueFaultError
from app.domain.unknown import Unknown, UnknownReason

LABELS = ["a", "b", "c"]
CHOICE = parse_schema({"kind": "single_choice", "labels": LABELS})
REGIONS = parse_schema({"kind": "regions", "labels": LABELS})
Probability = st.floats(0, 1)


def scored(
    confidence: float | None = None,
    probabilities: dict[str, float] | None = None,
    *,
    schema: Any = CHOICE,
    value: Any = "a",
) -> Score:
    score = score_external(schema, value, confidence=confidence, probabilities=probabilities)
    assert isinstance(score, Score)
    return score


@given(Probability, Probability)
def test_more_confidence_is_no_lower_rank(one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert scored(low).confidence == low
    assert -math.inf < scored(low).logit <= scored(high).logit < math.inf


@given(st.dictionaries(st.sampled_from(LABELS), Probability), Probability)
def test_probabilities_make_a_distribution_or_are_refused(
    others: dict[str, float], own: float
) -> None:
    probabilities = {**others, "a": own}
    total = math.fsum(probabilities.values())
    if total > 1.001:
        with pytest.raises(ValueFaultError):
            scored(None, probabilities)
        return
    score = scored(None, probabilities)
    assert 0 <= score.confidence <= 1
    assert math.isfinite(score.logit)
    masses = [each.mass for each in score.alternatives]
    assert len(masses) == len(LABELS)
    assert min(masses) >= 0
    assert math.fsum(masses) <= 1 + 1e-6
    assert score.confidence == pytest.approx(own / max(total, 1.0), abs=1e-9)


def test_saturated_probabilities_still_differ() -> None:
    ranks = [scored(None, {"a": 1.0, "b": doubt}).logit for doubt in (1e-20, 1e-18, 1e-5)]
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == 3


@pytest.mark.parametrize(
    ("confidence", "probabilities", "pointer"),
    [
        (0.5, {"a": 0.5}, "/confidence"),
        (None, {"a": 0.5, "x": 0.1}, "/probabilities"),
        (None, {"b": 0.5}, "/probabilities"),
        (None, {"a": -0.5}, "/probabilities"),
        (None, {"a": math.nan}, "/probabilities"),
        (None, {"a": 0.9, "b": 0.9}, "/probabilities"),
    ],
)
def test_what_is_none_is_refused(
    confidence: float | None, probabilities: dict[str, float], pointer: str
) -> None:
    with pytest.raises(ValueFaultError) as caught:
        scored(confidence, probabilities)
    assert caught.value.pointer == pointer


def test_a_value_may_carry_its_own() -> None:
    boxes = [{"label": "a", "box": [0, 0, 1, 1], "score": score} for score in (0.9, 0.4)]
    assert scored(schema=REGIONS, value=boxes).confidence == pytest.approx(0.4)
    # what is said outright goes before it
    assert scored(0.7, schema=REGIONS, value=boxes).confidence == 0.7
    with pytest.raises(ValueFaultError):
        scored(None, {"a": 1.0}, schema=REGIONS, value=boxes)


@pytest.mark.parametrize(
    ("schema", "value"), [(CHOICE, "a"), (REGIONS, []), (REGIONS, [{"label": "a", "box": [0] * 4}])]
)
def test_without_any_it_is_unknown(schema: Any, value: Any) -> None:
    score = score_external(schema, value, confidence=None, probabilities=None)
    assert isinstance(score, Unknown)
    assert score.reason is UnknownReason.NOT_GIVEN
