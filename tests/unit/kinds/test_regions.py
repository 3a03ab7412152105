from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.kinds import parse_schema
from app.domain.kinds.base import SchemaError, ValueFaultError
from app.domain.kinds.regions import RegionsSchema, score_of_regions
from app.domain.kinds.regions.overlap import ious
from app.domain.kinds.regions.shapes import shape_of
from app.domain.kinds.regions.values import merged
from app.domain.labels import LabelSet
from app.domain.unknown import Unknown, Unusable

SCHEMA = RegionsSchema(LabelSet.of(["car", "tree"]))
BOX = {"label": "car", "box": [10, 20, 30, 40]}
HEIGHT, WIDTH = 6, 7
Pixels = npt.NDArray[np.bool_]


def car(*box: float, **others: Any) -> dict[str, Any]:
    return {"label": "car", "box": list(box), **others}


def tree(*box: float) -> dict[str, Any]:
    return {"label": "tree", "box": list(box)}


def mask(*rows: str, **others: Any) -> dict[str, Any]:
    """A car of the pixels marked #."""
    return of_pixels(np.array([[pixel == "#" for pixel in row] for row in rows]), **others)


def of_pixels(pixels: Pixels, **others: Any) -> dict[str, Any]:
    counts = [0]
    for pixel in pixels.flatten(order="F"):
        if pixel == (len(counts) % 2 == 1):
            counts.append(0)
        counts[-1] += 1
    size = list(pixels.shape)
    return {"label": "car", "mask": {"size": size, "counts": counts}, **others}


def iou(one: dict[str, Any], other: dict[str, Any]) -> float:
    return float(ious([shape_of(one)], [shape_of(other)])[0, 0])


class TestDefinition:
    def test_is_read_back(self) -> None:
        schema = parse_schema({"kind": "regions", "labels": ["car"]})  # one label is enough
        again = parse_schema({"kind": "regions", **schema.definition()})
        assert again == schema
        assert hash(again) == hash(schema)
        assert schema.part_names == ("car",)

    @pytest.mark.parametrize(
        ("definition", "pointer"),
        [
            ({}, "/labels"),
            ({"labels": "car"}, "/labels"),
            ({"labels": []}, "/labels"),
            ({"labels": ["car", "Car"]}, "/labels/1"),
            ({"labels": ["car"], "iou": 0.5}, "/iou"),
        ],
    )
    def test_that_is_none_says_where(self, definition: dict[str, Any], pointer: str) -> None:
        with pytest.raises(SchemaError) as refused:
            RegionsSchema.parse(definition)
        assert [problem.pointer for problem in refused.value.problems] == [pointer]

    def test_no_model_is_asked(self) -> None:
        assert not SCHEMA.ASKED
        assert SCHEMA.answer_schema() is None
        assert isinstance(SCHEMA.read(SCHEMA.answer([BOX]), text=""), Unusable)
        assert isinstance(SCHEMA.score([], content="", begin=0, value=[], text=""), Unknown)


class TestAccepting:
    def test_keeps_the_order_and_the_scores(self) -> None:
        value = [car(1, 2, 3.5, 4, score=1), mask(".#", "##"), car(-1.0, -0.0, 2, 2)]
        accepted = SCHEMA.accept(value, text=None)
        assert accepted == [
            {"label": "car", "box": [1, 2, 3.5, 4], "score": 1.0},
            {"label": "car", "mask": {"size": [2, 2], "counts": [1, 3]}},
            {"label": "car", "box": [-1, 0, 2, 2]},
        ]
        assert SCHEMA.encode(accepted[2:]) == '[{"box":[-1,0,2,2],"label":"car"}]'
        assert SCHEMA.accept(accepted, text=None) == accepted
        assert SCHEMA.decode(SCHEMA.encode(accepted)) == accepted

    @pytest.mark.parametrize(
        ("counts", "kept"),
        [
            ([0, 4], [0, 4]),
            ([0, 0, 0, 4, 0], [0, 4]),
            ([1, 2, 0, 1], [1, 3]),
            ([0, 1, 1, 0, 2], [0, 1, 3]),
            ([2, 0, 0, 2], [2, 2]),
        ],
    )
    def test_a_mask_has_one_spelling(self, counts: list[int], kept: list[int]) -> None:
        given_mask = {"label": "car", "mask": {"size": [2, 2], "counts": counts}}
        assert SCHEMA.accept([given_mask], text=None)[0]["mask"]["counts"] == kept
        assert merged(kept) == kept

    @pytest.mark.parametrize(
        ("region", "pointer"),
        [
            ("car", ""),
            ({"box": [0, 0, 1, 1]}, "/label"),
            ({"label": "bus", "box": [0, 0, 1, 1]}, "/label"),
            ({"label": 1, "box": [0, 0, 1, 1]}, "/label"),
            ({"label": "car"}, ""),
            ({**BOX, **mask("#")}, ""),  # a box and a mask
            ({**BOX, "id": 7}, "/id"),
            ({**BOX, "score": 1.5}, "/score"),
            ({**BOX, "score": True}, "/score"),
            ({**BOX, "score": math.nan}, "/score"),
            ({**BOX, "score": None}, "/score"),
            (car(0, 0, 1), "/box"),
            ({"label": "car", "box": {"x": 0}}, "/box"),
            ({"label": "car", "box": [0, "0", 1, 1]}, "/box/1"),
            (car(True, 0, 1, 1), "/box/0"),
            (car(math.inf, 0, 1, 1), "/box/0"),
            (car(0, math.nan, 1, 1), "/box/1"),
            (car(0, 0, 10**400, 1), "/box/2"),
            (car(0, 0, 0, 1), "/box/2"),
            (car(0, 0, 1, -1), "/box/3"),
            (car(0, 0, 1e-300, 1), "/box/2"),
            (car(0, 1e9, 1, 1e-9), "/box/3"),  # it would end where it begins
            ({"label": "car", "mask": "eNo"}, "/mask"),
            ({"label": "car", "mask": {"size": [1, 1]}}, "/mask/counts"),
            ({"label": "car", "mask": {"counts": [0, 1]}}, "/mask/size"),
            ({"label": "car", "mask": {"size": [1, 1], "counts": [0, 1], "x": 1}}, "/mask/x"),
            ({"label": "car", "mask": {"size": [1], "counts": [0, 1]}}, "/mask/size"),
            ({"label": "car", "mask": {"size": [1, 4097], "counts": [0, 4097]}}, "/mask/size"),
            ({"label": "car", "mask": {"size": [True, 1], "counts": [0, 1]}}, "/mask/size"),
            ({"label": "car", "mask": {"size": [1, 1], "counts": "01"}}, "/mask/counts"),
            ({"label": "car", "mask": {"size": [1, 2], "counts": [0, 1]}}, "/mask/counts"),
            ({"label": "car", "mask": {"size": [1, 2], "counts": [0, 1, 2]}}, "/mask/counts"),
            ({"label": "car", "mask": {"size": [1, 2], "counts": [3, -1]}}, "/mask/counts/0"),
            ({"label": "car", "mask": {"size": [1, 2], "counts": [1, -1]}}, "/mask/counts/1"),
            ({"label": "car", "mask": {"size": [1, 2], "counts": [0, 2.0]}}, "/mask/counts/1"),
            ({"label": "car", "mask": {"size": [1, 2], "counts": [2]}}, "/mask/counts"),  # no pixel
        ],
    )
    def test_refuses_with_the_place(self, region: object, pointer: str) -> None:
        with pytest.raises(ValueFaultError) as refused:
            SCHEMA.accept([BOX, region], text=None)
        assert refused.value.pointer == f"/1{pointer}"

    @pytest.mark.parametrize(
        ("value", "pointer"),
        [
            (None, ""),
            ({"regions": []}, ""),
            ([BOX] * 1_001, ""),
            ([mask("#."), BOX, mask("#..")], "/2/mask/size"),
            ([mask("#." * 2_048)] * 25, "/24/mask/counts"),  # 4,097 runs each
        ],
    )
    def test_refuses_what_no_image_has(self, value: object, pointer: str) -> None:
        with pytest.raises(ValueFaultError) as refused:
            SCHEMA.accept(value, text=None)
        assert refused.value.pointer == pointer

    def test_limits_are_within(self) -> None:
        assert len(SCHEMA.accept([BOX] * 1_000, text=None)) == 1_000
        assert SCHEMA.accept([], text=None) == []


# an integer's bits: drawing each pixel by itself takes ten times as long
PIXELS = st.integers(1, 2 ** (HEIGHT * WIDTH) - 1).map(
    lambda bits: np.array([bits >> at & 1 == 1 for at in range(HEIGHT * WIDTH)])
)
HALVES = st.integers(-4, 18).map(lambda number: number / 2)
SIDES = st.integers(1, 20).map(lambda number: number / 2)
BOXES = st.tuples(HALVES, HALVES, SIDES, SIDES).map(lambda box: car(*box))
MASKS = PIXELS.map(lambda pixels: of_pixels(pixels.reshape(HEIGHT, WIDTH)))
SHAPES = st.one_of(BOXES, MASKS)


def drawn(region: dict[str, Any]) -> Pixels:
    """The region on a grid of half pixels, from -8 to 32 in both directions."""
    canvas = np.zeros((80, 80), dtype=np.bool_)
    if "box" in region:
        x, y, width, height = (round(2 * number) for number in region["box"])
        canvas[16 + y : 16 + y + height, 16 + x : 16 + x + width] = True
        return canvas
    height, width = region["mask"]["size"]
    flat = np.repeat(
        [index % 2 == 1 for index in range(len(region["mask"]["counts"]))],
        region["mask"]["counts"],
    )
    pixels = flat.reshape((height, width), order="F").repeat(2, axis=0).repeat(2, axis=1)
    canvas[16 : 16 + 2 * height, 16 : 16 + 2 * width] = pixels
    return canvas


class TestIoU:
    @pytest.mark.parametrize(
        ("one", "other", "value"),
        [
            (car(0, 0, 2, 2), car(0, 0, 2, 2), 1.0),
            (car(0, 0, 2, 2), car(1, 1, 2, 2), 1 / 7),
            (car(0, 0, 2, 2), car(2, 0, 2, 2), 0.0),  # they touch
            (car(0, 0, 4, 4), car(1, 1, 2, 2), 4 / 16),
            (car(0.1, 0.2, 0.3, 0.4), car(0.1, 0.2, 0.3, 0.4), 1.0),
            (car(1e9, -1e9, 1, 1e9), car(1e9, -1e9, 1, 1e9), 1.0),
            (car(0, 0, 1e-9, 1e-9), car(0, 0, 1e9, 1e9), 1e-36),
            (mask("##", ".."), mask("#.", "#."), 1 / 3),
            (mask("##", ".."), mask("..", "##"), 0.0),
            (mask("##", "##"), mask("##.", "##.", "..."), 0.0),  # of another image
            (mask("##", ".#"), car(0, 0, 2, 2), 3 / 4),
            (mask("##", ".#"), car(0.5, 0, 2, 1), 1.5 / 3.5),
        ],
    )
    def test_by_hand(self, one: dict[str, Any], other: dict[str, Any], value: float) -> None:
        assert iou(one, other) == pytest.approx(value, rel=1e-12)
        assert iou(other, one) == iou(one, other)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(SHAPES, min_size=1, max_size=4), st.lists(SHAPES, min_size=1, max_size=4))
    def test_is_that_of_the_pixels(
        self, one: list[dict[str, Any]], other: list[dict[str, Any]]
    ) -> None:
        counted = np.array(
            [
                [
                    np.count_nonzero(drawn(mine) & drawn(theirs))
                    / np.count_nonzero(drawn(mine) | drawn(theirs))
                    for theirs in other
                ]
                for mine in one
            ]
        )
        found = ious(list(map(shape_of, one)), list(map(shape_of, other)))
        assert found == pytest.approx(counted, rel=1e-12)
        back = ious(list(map(shape_of, other)), list(map(shape_of, one)))
        assert (found == back.T).all()

    @given(
        st.tuples(
            *[st.floats(-1e9, 1e9)] * 2,
            *[st.floats(1e-3, 1e9)] * 2,
        ),
        st.tuples(*[st.floats(-1e9, 1e9)] * 2, *[st.floats(1e-3, 1e9)] * 2),
    )
    def test_of_any_boxes_is_in_its_bounds(
        self, one: Sequence[float], other: Sequence[float]
    ) -> None:
        assert 0.0 <= iou(car(*one), car(*other)) <= 1.0
        assert iou(car(*one), car(*one)) == 1.0

    def test_a_mask_of_the_largest_size_is_not_unpacked(self) -> None:
        half = {"size": [4096, 4096], "counts": [4096 * 2048, 4096 * 2048]}
        most = {"size": [4096, 4096], "counts": [4096 * 1024 + 7, 4096 * 3072 - 7]}
        one, other = ({"label": "car", "mask": each} for each in (half, most))
        assert iou(one, other) == (4096 * 2048) / (4096 * 3072 - 7)
        assert iou(one, car(2048, 0, 2048, 4096)) == 1.0


class TestComparison:
    def test_scores_and_order_do_not_count(self) -> None:
        one = [car(0, 0, 2, 2, score=0.9), tree(5, 5, 1, 1)]
        other = [tree(5, 5, 1, 1), car(0, 0, 2, 2, score=0.1)]
        comparison = SCHEMA.compare(one, other)
        assert comparison.equal
        assert comparison.metrics == {"mean_iou": 1.0, "f1_at_50": 1.0, "exact": 1.0}
        assert comparison.tallies == {(0, "tp"): 1, (1, "tp"): 1}

    def test_nothing_found_in_nothing_is_right(self) -> None:
        comparison = SCHEMA.compare([], [])
        assert comparison.equal
        assert set(comparison.metrics.values()) == {1.0}
        assert comparison.tallies == {}

    def test_another_label_is_another_region(self) -> None:
        comparison = SCHEMA.compare([car(0, 0, 2, 2)], [tree(0, 0, 2, 2)])
        assert not comparison.equal
        assert set(comparison.metrics.values()) == {0.0}
        assert comparison.tallies == {(0, "fp"): 1, (1, "fn"): 1}

    def test_one_too_many(self) -> None:
        comparison = SCHEMA.compare([car(0, 0, 2, 2), car(9, 9, 1, 1)], [car(0, 0, 2, 3)])
        assert not comparison.equal
        assert comparison.metrics == {
            "mean_iou": pytest.approx((4 / 6 + 0) / 2),
            "f1_at_50": pytest.approx(2 / 3),
            "exact": 0.0,
        }
        assert comparison.tallies == {(0, "tp"): 1, (0, "fp"): 1}

    @pytest.mark.parametrize(("height", "equal"), [(4, True), (3.99, False)])
    def test_half_is_enough(self, height: float, equal: bool) -> None:  # noqa: FBT001 - a table's
        comparison = SCHEMA.compare([car(0, 0, 1, 8)], [car(0, 0, 1, height)])
        assert comparison.equal == equal
        assert comparison.metrics["f1_at_50"] == float(equal)
        assert comparison.metrics["mean_iou"] == pytest.approx(height / 8)

    def test_as_many_as_can_be_find_their_partner(self) -> None:
        # .95 + .26 would be the greater sum, yet leave a pair below the half
        predicted = [car(0, 0, 10, 10), car(0, 0, 10, 5.1)]
        actual = [car(0, 0, 10, 9.5), car(0, 0, 10, 19.5)]
        assert [[round(float(each), 2) for each in row] for row in _ious(predicted, actual)] == [
            [0.95, 0.51],
            [0.54, 0.26],
        ]
        assert SCHEMA.equal(predicted, actual)

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_keeps_its_laws(self, data: st.DataObject) -> None:
        labelled = st.tuples(SHAPES, st.sampled_from(SCHEMA.labels.names)).map(
            lambda pair: {**pair[0], "label": pair[1]}
        )
        one, other = (data.draw(st.lists(labelled, max_size=4)) for _ in range(2))
        there, back = SCHEMA.compare(one, other), SCHEMA.compare(other, one)
        assert tuple(there.metrics) == RegionsSchema.METRICS
        assert all(0.0 <= value <= 1.0 for value in there.metrics.values())
        assert there.metrics == pytest.approx(back.metrics)
        assert there.equal == back.equal
        swapped = {"tp": "tp", "fp": "fn", "fn": "fp"}
        assert {(part, swapped[kind]): n for (part, kind), n in there.tallies.items()} == (
            back.tallies
        )
        assert SCHEMA.equal(one, data.draw(st.permutations(one)))
        assert there.equal == (_most_found(one, other) == max(len(one), len(other)))
        accepted = SCHEMA.accept(json.loads(json.dumps(one)), text=None)
        assert SCHEMA.compare(accepted, one).metrics["mean_iou"] == pytest.approx(1.0)


def _ious(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
    return ious(list(map(shape_of, one)), list(map(shape_of, other)))


def _most_found(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> int:
    """The most pairs of one label with an IoU of a half, by trying all."""
    if len(one) > len(other):
        one, other = other, one
    same: list[list[bool]] = [
        [mine["label"] == theirs["label"] and iou(mine, theirs) >= 0.5 for theirs in other]
        for mine in one
    ]
    return max(
        sum(same[row][column] for row, column in enumerate(order))
        for order in itertools.permutations(range(len(other)), len(one))
    )


class TestScore:
    def test_is_the_least_of_the_regions(self) -> None:
        value = SCHEMA.accept([car(0, 0, 1, 1, score=0.9), mask("#", score=0.25)], text=None)
        score = score_of_regions(value)
        assert score is not None
        assert score.confidence == 0.25
        assert score.logit == pytest.approx(math.log(1 / 3))
        assert [part.name for part in score.parts] == ["0:car", "1:car"]
        assert {part.name: part.value for part in score.parts} == SCHEMA.parts_of(value)

    @pytest.mark.parametrize(
        "value", [[], [BOX], [{**BOX, "score": 0.5}, BOX]], ids=["none", "unscored", "half"]
    )
    def test_is_not_made_up(self, value: list[dict[str, Any]]) -> None:
        assert score_of_regions(value) is None

    @given(st.floats(0.0, 1.0))
    def test_of_any_score_ranks(self, given_score: float) -> None:
        score = score_of_regions([{**BOX, "score": given_score}])
        assert score is not None
        assert score.confidence == given_score
        assert math.isfinite(score.logit)
        less = score_of_regions([{**BOX, "score": given_score / 2}])
        assert less is not None
        assert less.logit < score.logit or given_score < 1e-300


def test_the_documented_definition_is_one() -> None:
    described = RegionsSchema.definition_schema()
    assert set(described["properties"]) == {"kind", *SCHEMA.definition()}
