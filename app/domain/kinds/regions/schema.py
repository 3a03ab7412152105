"""The schema of `regions`: labels that come from elsewhere, with a place in the image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from app.domain.kinds.base import Comparison, LabelSchema, Score
from app.domain.kinds.closed import described, labels_definition_schema, parse_labels
from app.domain.kinds.regions.score import regions_by_name, score_of_regions
from app.domain.kinds.regions.values import accept_regions
from app.domain.labels import LabelSet
from app.domain.tokens import Token
from app.domain.unknown import Unknown, UnknownReason, Unusable


@dataclass(frozen=True)
class RegionsSchema(LabelSchema):
    """Boxes and masks of a closed set of labels.

    A value is a list of regions in the producer's order, each `{"label", "box": [x, y, width,
    height]}` or `{"label", "mask": {"size": [height, width], "counts": […]}}` with COCO's
    uncompressed run lengths, and of its producer's `score` from 0 to 1 if there is one. Boxes are
    in any unit, beside masks in pixels.
    """

    KIND: ClassVar[str] = "regions"
    ASKED: ClassVar[bool] = False
    METRICS: ClassVar[tuple[str, ...]] = ("mean_iou", "f1_at_50", "exact")
    PART_MEASURES: ClassVar[tuple[str, ...]] = ("precision", "recall", "f1")

    labels: LabelSet

    @classmethod
    def parse(cls, definition: Mapping[str, Any]) -> Self:
        return cls(parse_labels(definition, least=1))

    def definition(self) -> dict[str, Any]:
        return {"labels": self.labels.to_dicts()}

    @classmethod
    def definition_schema(cls) -> dict[str, Any]:
        return labels_definition_schema(
            cls.KIND, "Boxes and masks of a closed set of labels; predictions come from elsewhere."
        )

    @property
    def part_names(self) -> tuple[str, ...]:
        return self.labels.names

    @property
    def task(self) -> str:
        """Empty, as are `form` and `repair`: no model is asked."""
        return ""

    @property
    def described(self) -> str:
        return described(self.labels)

    @property
    def form(self) -> str:
        return ""

    @property
    def repair(self) -> str:
        return ""

    def answer_schema(self) -> dict[str, Any] | None:
        """None: no model is asked."""
        return None

    def answer(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def read(self, answer: str, *, text: str) -> Any | Unusable:  # noqa: ARG002 - of all kinds
        """Never a value: no model is asked."""
        return Unusable(UnknownReason.WRONG_SHAPE, "No model is asked for regions.")

    def accept(self, value: Any, *, text: str | None) -> list[dict[str, Any]]:  # noqa: ARG002 - of all kinds
        return accept_regions(value, names=self.labels.names)

    def score(
        self,
        tokens: Sequence[Token],  # noqa: ARG002 - of all kinds
        *,
        content: str,  # noqa: ARG002 - of all kinds
        begin: int,  # noqa: ARG002 - of all kinds
        value: Any,  # noqa: ARG002 - of all kinds
        text: str,  # noqa: ARG002 - of all kinds
    ) -> Score | Unknown:
        """Never a score: that of regions is their producer's, see `score_given`."""
        return Unknown(UnknownReason.NO_LOGPROBS, "No model is asked for regions.")

    def parts_of(self, value: Any) -> Mapping[str, Any]:
        return regions_by_name(value)

    def score_given(self, value: Any) -> Score | None:
        """The least score of the regions; None where one has none, or there are none."""
        return score_of_regions(value)

    def compare(self, predicted: Any, actual: Any) -> Comparison:
        """Equal is the same number of regions, each matched with one of its label at IoU .5.

        mean_iou is over the pairs, 0 for a region without a partner; f1_at_50 counts the pairs of
        IoU .5; both are 1 where neither value has a region. Scores do not count.
        """
        # it needs scipy.optimize, nine tenths of the time that importing all kinds would take
        from app.domain.kinds.regions.matching import match  # noqa: PLC0415

        matches = match(predicted, actual)
        tallies: dict[tuple[int, str], int] = {}
        for label, matched in matches.items():
            part = self.labels.index(label)
            tallies[part, "tp"] = matched.found
            tallies[part, "fp"] = matched.predicted - matched.found
            tallies[part, "fn"] = matched.actual - matched.found
        found = sum(matched.found for matched in matches.values())
        pairs = sum(max(matched.predicted, matched.actual) for matched in matches.values())
        iou = sum(matched.iou for matched in matches.values())
        regions = len(predicted) + len(actual)
        same = 2 * found == regions
        return Comparison(
            equal=same,
            metrics={
                "mean_iou": min(1.0, iou / pairs) if pairs else 1.0,
                "f1_at_50": 2 * found / regions if regions else 1.0,
                "exact": float(same),
            },
            tallies={key: count for key, count in tallies.items() if count},
        )
