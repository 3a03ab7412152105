"""Items on the wire."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, SkipValidation

from app.web.content import ContentIn, require_fit
from app.web.wire import Answer, JsonObject, Storable, Wire, example

MAX_METADATA_BYTES = 64 * 1024
MAX_BULK = 1000

StateName = Literal["pending", "labeling", "accepted", "in_review", "completed"]
RowStatus = Literal["created", "existing", "invalid", "conflict"]


def _fitting_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    require_fit(len(json.dumps(metadata, ensure_ascii=False).encode()), MAX_METADATA_BYTES)
    return metadata


class ItemIn(ContentIn):
    """An item: a text, a chat, named fields, or images with or without a text."""

    model_config = example(
        external_id="mail-1042", text="I was charged twice.", metadata={"lang": "en"}
    )

    external_id: Annotated[str, Field(min_length=1, max_length=200), Storable] | None = Field(
        None, description="yours; unique in the project, so that sending twice makes one item"
    )
    metadata: Annotated[JsonObject, AfterValidator(_fitting_metadata)] | None = None


class BulkIn(Wire):
    """Up to 1,000 items; each row is checked by itself, so one bad row loses no other."""

    model_config = example(
        items=[
            {"external_id": "mail-1042", "text": "I was charged twice."},
            {"external_id": "mail-1043", "text": "The page stays blank."},
        ]
    )

    # documented as what they should be, taken as what they are
    items: Annotated[list[SkipValidation[ItemIn]], Field(min_length=1, max_length=MAX_BULK)]


class ItemFilters(Wire):
    """Which items to list; all that are given must hold."""

    # from a query string everything comes as text
    model_config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str | None, Field(max_length=200)] = None
    state: StateName | None = None
    route: Literal["accept", "review"] | None = None
    label: Annotated[str, Field(max_length=2000), Storable] | None = Field(
        None, description="of kinds whose values are no strings: their JSON, without spaces"
    )
    final_label: Annotated[str, Field(max_length=2000), Storable] | None = None
    external_id: Annotated[str, Field(max_length=200), Storable] | None = None
    min_confidence: Annotated[float | None, Field(ge=0, le=1)] = None
    max_confidence: Annotated[float | None, Field(ge=0, le=1)] = None
    confidence_unknown: bool | None = None
    metadata: Annotated[str | None, Field(max_length=4000)] = Field(
        None, description='a JSON object the metadata contains: {"lang": "en"}'
    )

    def conditions(self) -> dict[str, Any]:
        """The filters that are plain values, by name."""
        return self.model_dump(exclude={"limit", "cursor", "metadata"})


class RowError(Answer):
    code: str
    detail: str
    errors: list[dict[str, str]] = Field(default_factory=list)


class RowOut(Answer):
    """What became of one row of a bulk call."""

    index: int
    status: RowStatus
    id: str | None = None
    error: RowError | None = None


class BulkOut(Answer):
    model_config = example(
        created=1,
        existing=0,
        failed=1,
        results=[
            {
                "index": 0,
                "status": "created",
                "id": "itm_01k2m3n4p5q6r7s8t9v0w1x2y3",
                "error": None,
            },
            {
                "index": 1,
                "status": "invalid",
                "id": None,
                "error": {
                    "code": "invalid",
                    "detail": "items/1/text: must be a string",
                    "errors": [{"pointer": "/items/1/text", "detail": "must be a string"}],
                },
            },
        ],
    )

    created: int
    existing: int
    failed: int
    results: list[RowOut]


class AlternativeOut(Answer):
    """A label with the model's probability for it."""

    label: Any
    probability: float


class ConfidenceOut(Answer):
    """How sure the model was: a value, or the reason why it is unknown."""

    value: float | None
    source: str | None
    reason: str | None


class PartOut(Answer):
    """A part of a value with its own confidence: a label of several, a field, an entity."""

    part: str
    value: Any
    confidence: float


class ItemOut(Answer):
    model_config = example(
        id="itm_01k2m3n4p5q6r7s8t9v0w1x2y3",
        project_id="prj_01k2m3n4p5q6r7s8t9v0w1x2y3",
        external_id="mail-1042",
        state="in_review",
        content={"text": "I was charged twice."},
        metadata={"lang": "en"},
        label="billing",
        confidence={"value": 0.62, "source": "logprobs", "reason": None},
        route="review",
        route_reason="below_threshold",
        final_label=None,
        prediction_id="prd_01k2m3n4p5q6r7s8t9v0w1x2y3",
        policy_id="pol_01k2m3n4p5q6r7s8t9v0w1x2y3",
        attempts=1,
        last_error=None,
        next_attempt_at=None,
        created_at="2026-11-22T12:00:00Z",
        labeled_at="2026-11-22T12:00:02Z",
        completed_at=None,
    )

    id: str
    project_id: str
    external_id: str | None
    state: str
    content: dict[str, Any]
    metadata: dict[str, Any] | None
    label: Any = Field(description="the model's, as the kind of label has it; null: none")
    confidence: ConfidenceOut | None
    route: str | None
    route_reason: str | None
    final_label: Any = Field(description="what leaves the service; null: not decided yet")
    prediction_id: str | None
    policy_id: str | None
    attempts: int
    last_error: str | None
    next_attempt_at: datetime | None
    created_at: datetime
    labeled_at: datetime | None
    completed_at: datetime | None
