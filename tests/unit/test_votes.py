"""Several answers as one value: its share, and what counts against it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.kinds import parse_schema
from app.domain.votes import count_votes

SINGLE = parse_schema({"kind": "single_choice", "labels": ["a", "b", "c"]})
MULTI = parse_schema({"kind": "multi_choice", "labels": ["a", "b", "c"]})


@pytest.mark.parametrize(
    ("values", "asked", "value", "first", "confidence"),
    [
        (["a", "a", "b", "a", "a"], 5, "a", 0, 0.8),
        (["b", "a", "a"], 3, "a", 1, 2 / 3),
        # of equals the first
        (["b", "a", "a", "b"], 4, "b", 0, 0.5),
        # what can't be used counts against it, and what never came
        (["a", None, None], 3, "a", 0, 1 / 3),
        (["a", "a"], 5, "a", 0, 0.4),
        (["a"] * 5, 5, "a", 0, 1.0),
    ],
)
def test_the_most_frequent_value_has_its_share(
    values: list[str | None], asked: int, value: str, first: int, confidence: float
) -> None:
    counted = count_votes(values, asked=asked, schema=SINGLE)
    assert counted is not None
    assert (counted.value, counted.first) == (value, first)
    assert counted.score.confidence == pytest.approx(confidence)
    votes = round(confidence * asked)
    assert counted.score.logit == pytest.approx(math.log((votes + 0.5) / (asked - votes + 0.5)))


def test_no_usable_answer_is_no_value() -> None:
    assert count_votes([None, None], asked=5, schema=SINGLE) is None
    assert count_votes([], asked=5, schema=SINGLE) is None


def test_parts_have_their_own_shares() -> None:
    counted = count_votes([["a"], ["a", "b"], ["a"], None], asked=4, schema=MULTI)
    assert counted is not None
    assert counted.value == ["a"]
    assert {part.name: (part.value, part.confidence) for part in counted.score.parts} == {
        "a": (True, 0.75),
        "b": (False, 0.5),
        "c": (False, 0.75),
    }
    assert counted.score.confidence == 0.5


def test_figures_say_how_many_said_what() -> None:
    counted = count_votes(["a", "b", "a", None], asked=5, schema=SINGLE)
    assert counted is not None
    assert counted.counts == (("a", 2), ("b", 1), (None, 2))
    assert counted.score.alternatives == (("a", 0.4), ("b", 0.2))
    assert counted.score.margin == pytest.approx(0.2)
    assert counted.score.figures == {"votes": 5, "agreeing": 2, "unusable": 2}


@given(
    values=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20),
    missing=st.integers(0, 5),
)
def test_shares_are_a_distribution_and_the_logit_is_finite(values: list[Any], missing: int) -> None:
    asked = len(values) + missing
    counted = count_votes(values, asked=asked, schema=SINGLE)
    tally = Counter(value for value in values if value is not None)
    if not tally:
        assert counted is None
        return
    assert counted is not None
    score = counted.score
    assert tally[counted.value] == max(tally.values())
    assert values[counted.first] == counted.value
    assert 0 < score.confidence <= 1
    assert math.isfinite(score.logit)
    assert math.fsum(mass for _, mass in score.alternatives) <= 1 + 1e-9
    assert sum(count for _, count in counted.counts) == asked
    assert score.entropy is not None
    assert -1e-9 <= score.entropy <= math.log(4) + 1e-9
