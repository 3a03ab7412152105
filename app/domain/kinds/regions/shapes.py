"""Boxes and masks as sets of points.

A mask is worked with as runs of pixels in COCO's order, down the columns, and never unpacked. A
pixel in column c and row r is the square from (c, r) to (c + 1, r + 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """An upright rectangle: left, top, right, bottom."""

    bounds: tuple[float, float, float, float]

    @classmethod
    def of(cls, box: Sequence[float]) -> Box:
        """The box of COCO's `[x, y, width, height]`."""
        x, y, width, height = map(float, box)
        return cls((x, y, x + width, y + height))

    @property
    def area(self) -> float:
        """Of its corners as they came out: a box overlaps itself wholly."""
        left, top, right, bottom = self.bounds
        return (right - left) * (bottom - top)


@dataclass(frozen=True, eq=False)
class Mask:
    """Pixels of a grid.

    Attributes:
        height, width: of the grid.
        edges: where its runs of pixels begin and end, in turn: positions in the grid, column by
            column, strictly rising; at least one run.
    """

    height: int
    width: int
    edges: Floats

    @classmethod
    def of(cls, mask: Mapping[str, Any]) -> Mask:
        """The mask of COCO's `{"size": [height, width], "counts": […]}`, as `merged` leaves it."""
        height, width = mask["size"]
        edges = list(accumulate(mask["counts"]))
        # the last run of zeros ends with the grid, which is no edge
        return cls(height, width, np.array(edges[: len(edges) // 2 * 2], dtype=np.float64))

    @cached_property
    def covered(self) -> Floats:
        """How many of its pixels come before each edge."""
        lengths = np.zeros(len(self.edges))
        lengths[1::2] = self.edges[1::2] - self.edges[::2]
        return np.cumsum(lengths)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def area(self) -> float:
        """Its pixels."""
        return float(self.covered[-1])

    @cached_property
    def rectangles(self) -> Floats:
        """It as upright rectangles that do not overlap: rows of left, top, right, bottom.

        A run within a column is one. Another is three: the end of its first column, the beginning
        of its last, and what whole columns are between.
        """
        first, top = np.divmod(self.edges[::2], self.height)
        last, bottom = np.divmod(self.edges[1::2], self.height)
        within = first == last
        ends = np.where(within, bottom, self.height)
        zeros, heights = np.zeros_like(first), np.full_like(first, self.height)
        parts = np.concatenate(
            [
                np.stack([first, top, first + 1, ends], axis=1),
                np.stack([first + 1, zeros, last, heights], axis=1),
                np.stack([last, zeros, last + ~within, bottom], axis=1),
            ]
        )
        return parts[(parts[:, 0] < parts[:, 2]) & (parts[:, 1] < parts[:, 3])]

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """The smallest box around it: left, top, right, bottom."""
        left, top = self.rectangles[:, :2].min(axis=0)
        right, bottom = self.rectangles[:, 2:].max(axis=0)
        return float(left), float(top), float(right), float(bottom)


Shape: TypeAlias = Box | Mask


def shape_of(region: Mapping[str, Any]) -> Shape:
    """The shape of a region as `RegionsSchema.accept` gives it."""
    return Box.of(region["box"]) if "box" in region else Mask.of(region["mask"])
