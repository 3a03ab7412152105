"""Which region of the one value is which of the other's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from app.domain.kinds.regions.overlap import ious
from app.domain.kinds.regions.shapes import shape_of

LEAST_IOU: Final = 0.5
"""From here on two regions are taken for the same (PASCAL VOC's and COCO's AP50)."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The regions of one label, matched one to one.

    Attributes:
        found: pairs of the same region, by their IoU.
        predicted, actual: how many the model and the person have.
        iou: sum of the pairs' IoU, of those that are not the same region too.
    """

    found: int
    predicted: int
    actual: int
    iou: float


def match(
    predicted: Sequence[Mapping[str, Any]], actual: Sequence[Mapping[str, Any]]
) -> dict[str, Matched]:
    """The regions of each label that either value has.

    They are matched so that as many pairs as can be have the least IoU, and with that the sum of
    all IoUs is the greatest: whether two values are equal depends on no order, and on no pair
    that overlaps so well that its neighbours lose their own.
    """
    labels = dict.fromkeys(region["label"] for region in (*predicted, *actual))
    return {
        label: _match(
            [region for region in predicted if region["label"] == label],
            [region for region in actual if region["label"] == label],
        )
        for label in labels
    }


def _match(predicted: Sequence[Mapping[str, Any]], actual: Sequence[Mapping[str, Any]]) -> Matched:
    overlaps = ious(list(map(shape_of, predicted)), list(map(shape_of, actual)))
    same = overlaps >= LEAST_IOU
    # one more pair outweighs whatever all of them could overlap
    rows, columns = linear_sum_assignment(overlaps + same * (min(same.shape) + 1.0), maximize=True)
    return Matched(
        found=int(np.count_nonzero(same[rows, columns])),
        predicted=len(predicted),
        actual=len(actual),
        iou=float(overlaps[rows, columns].sum()),
    )
