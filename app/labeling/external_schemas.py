"""Labels made elsewhere, on the wire."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, SkipValidation, model_validator
from pydantic_core import PydanticCustomError

from app.domain.labels import MAX_LABELS, MAX_NAME
from app.items.schemas import RowError
from app.web.wire import Answer, JsonValue, Name, Storable, Wire, WireId, example

MAX_ROWS: Final = 1000
_ITEM = "itm_01k2m3n4p5q6r7s8t9v0w1x2y3"


class ExternalPredictionIn(Wire):
    """A label for an item, with its confidence or the probabilities of all labels."""

    model_config = example(external_id="image-17", label="cat", confidence=0.93)

    item_id: WireId | None = None
    external_id: Annotated[str, Field(min_length=1, max_length=200), Storable] | None = None
    label: JsonValue = Field(description="a value of the project's label schema")
    confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="none: unknown, and people decide, unless the value carries scores"
    )
    probabilities: (
        Annotated[
            dict[
                Annotated[str, Field(max_length=MAX_NAME), Storable],
                Annotated[float, Field(ge=0, le=1)],
            ],
            Field(min_length=1, max_length=MAX_LABELS),
        ]
        | None
    ) = Field(None, description="of single_choice: a softmax, say, in place of a confidence")

    @model_validator(mode="after")
    def _one_item(self) -> Self:
        if (self.item_id is None) == (self.external_id is None):
            raise PydanticCustomError("item", "must have either `item_id` or `external_id`")
        return self


class ExternalPredictionsIn(Wire):
    """Labels of one producer."""

    model_config = example(
        producer="segmenter 2.1",
        predictions=[{"external_id": "image-17", "label": "cat", "confidence": 0.93}],
    )

    producer: Name = Field(description="who made them: a model with its version")
    # documented as what they should be, taken as what they are
    predictions: Annotated[
        list[SkipValidation[ExternalPredictionIn]], Field(min_length=1, max_length=MAX_ROWS)
    ]


class TakenRowOut(Answer):
    """What became of one row."""

    index: int
    status: Literal["taken", "existing", "conflict", "invalid"]
    item_id: str | None
    error: RowError | None = None


class TakenOut(Answer):
    model_config = example(
        taken=1,
        existing=0,
        failed=1,
        results=[
            {"index": 0, "status": "taken", "item_id": _ITEM, "error": None},
            {
                "index": 1,
                "status": "conflict",
                "item_id": _ITEM,
                "error": {
                    "code": "already_labeled",
                    "detail": "the item is labelled already; it was left as it is",
                    "errors": [],
                },
            },
        ],
    )

    taken: int
    existing: int
    failed: int
    results: list[TakenRowOut]
