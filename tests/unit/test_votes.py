"""Several answers as one value: how sure their share makes of it, and what counts against it."""

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
    ("values", "asked", "value", "first", "votes"),
    [
        (["a", "a", "b", "a", "a"], 5, "a", 0, 4),
        (["b", "a", "a"], 3, "a", 1, 2),
        # of equals the first
        (["b", "a", "a", "b"], 4, "b", 0, 2),
        # what can't be used counts against it, and what never came
        (["a", None, None], 3, "a", 0, 1),
        (["a", "a"], 5, "a", 0, 2),
        (["a"] * 5, 5, "a", 0, 5),
    ],
)
def test_the_most_frequent_value_has_its_share(
    values: list[str | None], asked: int, value: str, first: int, votes: int
) -> None:
    counted = count_votes(values, asked=asked, schema=SINGLE)
    assert counted is not None
    assert (counted.value, counted.first) == (value, first)
    assert counted.score.confidence == pytest.approx((votes + 0.5) / (asked + 1))
    assert counted.score.logit == pytest.approx(math.log((votes + 0.5) / (asked - votes + 0.5)))


def test_no_usable_answer_is_no_value() -> None:
    assert count_votes([None, None], asked=5, schema=SINGLE) is None
    assert count_votes([], asked=5, schema=SINGLE) is None


def test_parts_have_their_own_shares() -> None:
    counted = count_votes([["a"], ["a", "b"], ["a"], None], asked=4, schema=MULTI)
    assert counted is not None
    assert counted.value == ["a"]
    assert {part.name: (part.value, part.confidence) for part in counted.score.parts} == {
        "a": (True, 3.5 / 5),
        "b": (False, 2.5 / 5),
        "c": (False, 3.5 / 5),
    }
    assert counted.score.confidence == 2.5 / 5


def test_of_values_as_frequent_that_goes_first_whose_parts_most_agree_with() -> None:
    counted = count_votes([[], ["a"], ["a", "b"], ["a", "c"]], asked=4, schema=MULTI)
    assert counted is not None
    assert (counted.value, counted.first) == (["a"], 1)


def test_unanimity_is_not_certainty() -> None:
    sure = [count_votes(["a"] * n, asked=n, schema=SINGLE) for n in (2, 5, 25)]
    confidences = [each.score.confidence for each in sure if each is not None]
    assert confidences == sorted(confidences)
    assert max(confidences) < 1


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
    assert 0 < score.confidence < 1
    assert score.confidence == pytest.approx(1 / (1 + math.exp(-score.logit)))
    assert math.isfinite(score.logit)
    assert math.fsum(mass for _, mass in score.alternatives) <= 1 + 1e-9
    assert sum(count for _, count in counted.counts) == asked
    assert score.entropy is not None
    assert -1e-9 <= score.entropy <= math.log(4) + 1e-9
