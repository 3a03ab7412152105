"""The confidence of regions, from the scores that their producer gave them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.domain.kinds.base import Part, Score

_LEAST: Final = sys.float_info.min
_NEXT_TO_ONE: Final = 2.0**-53
"""From 1 to the next smaller double: a score of 1 says no more than that."""


def score_of_regions(value: Sequence[Mapping[str, Any]]) -> Score | None:
    """The least of the regions' scores, with each region a part: "0:car" is the first, a car.

    None where a region has no score, or where there is no region: of an empty image nobody said
    how sure they were.
    """
    if not value or any("score" not in region for region in value):
        return None
    return Score.of_parts(
        [
            Part(name, region, region["score"], _logit(region["score"]))
            for name, region in regions_by_name(value).items()
        ]
    )


def regions_by_name(value: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Each region by its place in the value and its label."""
    return {f"{place}:{region['label']}": region for place, region in enumerate(value)}


def _logit(probability: float) -> float:
    """Its log-odds, finite at 0 and 1 too, where it is as far as a double can tell."""
    return math.log(max(probability, _LEAST)) - math.log(max(1.0 - probability, _NEXT_TO_ONE))
