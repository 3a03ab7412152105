"""What a value of `regions` may be, and the one spelling that it is kept in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.domain.kinds.base import ValueFaultError
from app.domain.kinds.closed import listed

MAX_REGIONS: Final = 1_000
MAX_SIDE: Final = 4_096
MAX_RUNS: Final = 100_000
"""Of one mask, and of all masks of a value: two values are compared in two seconds at worst."""
LEAST_NUMBER: Final = 1e-9
GREATEST_NUMBER: Final = 1e9
"""What the sides of a box are between, so that no area over- or underflows."""


def accept_regions(value: Any, *, names: Sequence[str]) -> list[dict[str, Any]]:
    """The regions of a value, in their order.

    Whole numbers of a box are kept as such, scores as fractions, and runs without empty ones.

    Raises:
        ValueFaultError: it is no list of regions with these labels.
    """
    if not isinstance(value, list):
        raise ValueFaultError("", "must be a list of regions")
    if len(value) > MAX_REGIONS:
        raise ValueFaultError("", f"must have at most {MAX_REGIONS} regions")
    regions: list[dict[str, Any]] = []
    size: list[int] | None = None
    runs = 0
    for index, given in enumerate(value):
        region = _region(given, f"/{index}", names)
        regions.append(region)
        if "mask" not in region:
            continue
        if size not in (None, region["mask"]["size"]):
            raise ValueFaultError(
                f"/{index}/mask/size", f"must be {size} as that of the masks before it"
            )
        size = region["mask"]["size"]
        runs += len(region["mask"]["counts"])
        if runs > MAX_RUNS:
            raise ValueFaultError(
                f"/{index}/mask/counts", f"makes more than {MAX_RUNS} runs of all masks together"
            )
    return regions


def _region(region: Any, pointer: str, names: Sequence[str]) -> dict[str, Any]:
    _object(region, pointer, required=("label",), others=("box", "mask", "score"))
    label = region["label"]
    if not isinstance(label, str) or label not in names:
        raise ValueFaultError(
            f"{pointer}/label", f"is none of the project's labels: {listed(names)}"
        )
    if ("box" in region) == ("mask" in region):
        raise ValueFaultError(pointer, "must have a box or a mask, and not both")
    accepted: dict[str, Any] = {"label": label}
    if "box" in region:
        accepted["box"] = _box(region["box"], f"{pointer}/box")
    else:
        accepted["mask"] = _mask(region["mask"], f"{pointer}/mask")
    if "score" in region:
        score = region["score"]
        if type(score) not in (int, float) or not 0 <= score <= 1:
            raise ValueFaultError(f"{pointer}/score", "must be a number from 0 to 1")
        accepted["score"] = float(score)
    return accepted


def _box(box: Any, pointer: str) -> list[int | float]:
    if not isinstance(box, list) or len(box) != 4:
        raise ValueFaultError(pointer, "must be four numbers: x, y, width and height")
    for place, number in enumerate(box):
        if type(number) not in (int, float) or not abs(number) <= GREATEST_NUMBER:
            raise ValueFaultError(
                f"{pointer}/{place}", f"must be a number of at most {GREATEST_NUMBER:.0e}"
            )
    for place in (2, 3):
        # far from 0 a narrow box can end where it begins
        begin, length = float(box[place - 2]), float(box[place])
        if length < LEAST_NUMBER or begin + length - begin < LEAST_NUMBER / 2:
            raise ValueFaultError(
                f"{pointer}/{place}", f"must be a number of at least {LEAST_NUMBER:.0e}"
            )
    return [int(number) if number == math.floor(number) else number for number in box]


def _mask(mask: Any, pointer: str) -> dict[str, Any]:
    _object(mask, pointer, required=("size", "counts"))
    size, counts = mask["size"], mask["counts"]
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in size)
    ):
        raise ValueFaultError(
            f"{pointer}/size", f"must be height and width, whole numbers from 1 to {MAX_SIDE}"
        )
    if not isinstance(counts, list):
        raise ValueFaultError(f"{pointer}/counts", "must be a list of run lengths, uncompressed")
    if len(counts) > MAX_RUNS:
        raise ValueFaultError(f"{pointer}/counts", f"must have at most {MAX_RUNS} runs")
    pixels = size[0] * size[1]
    for place, count in enumerate(counts):
        if type(count) is not int or not 0 <= count <= pixels:
            raise ValueFaultError(
                f"{pointer}/counts/{place}", "must be a whole number of pixels of the mask"
            )
    if sum(counts) != pixels:
        raise ValueFaultError(
            f"{pointer}/counts", f"must add up to height times width, {pixels} pixels"
        )
    runs = merged(counts)
    if len(runs) == 1:
        raise ValueFaultError(f"{pointer}/counts", "must have a run of ones that is not empty")
    return {"size": size, "counts": runs}


def _object(
    value: Any, pointer: str, *, required: Sequence[str], others: Sequence[str] = ()
) -> None:
    if not isinstance(value, Mapping):
        raise ValueFaultError(pointer, "must be an object")
    for name in required:
        if name not in value:
            raise ValueFaultError(f"{pointer}/{name}", "required")
    for name in sorted(set(value) - {*required, *others}):
        raise ValueFaultError(f"{pointer}/{name}", "unknown field")


def merged(counts: Sequence[int]) -> list[int]:
    """Run lengths that begin with zeros, without the empty runs that a producer may have put in.

    Only the first may be empty, where the mask begins with ones; a mask has one such spelling.
    """
    runs = [0]
    for position, count in enumerate(counts):
        if not count:
            continue
        if position % 2 == (len(runs) - 1) % 2:
            runs[-1] += count
        else:
            runs.append(count)
    return runs
