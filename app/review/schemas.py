"""Review on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from app.items.schemas import AlternativeOut, ConfidenceOut, PartOut
from app.web.wire import Answer, JsonValue, Storable, Wire, WireId, example

_LEASE = {"lease_token": "5f2b1c9e8d7a46b3a0c4d2e1f6b7a8c9"}
_ITEM = "itm_01k2m3n4p5q6r7s8t9v0w1x2y3"
_ASSIGNMENT = "asn_01k2m3n4p5q6r7s8t9v0w1x2y3"


class ClaimIn(Wire):
    """How many items the reviewer wants."""

    model_config = example(limit=5)

    limit: Annotated[int, Field(ge=1, le=100)] = 1


class LeaseIn(Wire):
    """The fencing token that came with the assignment."""

    model_config = example(**_LEASE)

    lease_token: WireId


class SubmitIn(LeaseIn):
    """A verdict."""

    model_config = example(**_LEASE, label="billing", comment="two invoices are named")

    label: JsonValue = Field(description="a value of the project's label schema")
    comment: Annotated[str, Field(max_length=10_000), Storable] | None = None


class QueueEntryOut(Answer):
    """An item that waits, as it stands in the queue."""

    model_config = example(
        item_id=_ITEM,
        external_id="mail-1042",
        label="billing",
        confidence={"value": 0.62, "source": "logprobs", "reason": None},
        route_reason="below_threshold",
        waiting_since="2026-11-22T12:00:02Z",
    )

    item_id: str
    external_id: str | None
    label: Any
    confidence: ConfidenceOut
    route_reason: str
    waiting_since: datetime


class QueueOut(Answer):
    data: list[QueueEntryOut]


class AssignmentItemOut(Answer):
    """What a reviewer needs to decide."""

    id: str
    external_id: str | None
    content: dict[str, Any]
    metadata: dict[str, Any] | None
    text: str | None = Field(
        description="the text that offsets count in, of a kind of label that has some"
    )
    label: Any
    confidence: ConfidenceOut
    alternatives: list[AlternativeOut]
    parts: list[PartOut]
    route_reason: str


class AssignmentOut(Answer):
    model_config = example(
        id=_ASSIGNMENT,
        state="leased",
        reviewer="ann",
        lease_expires_at="2026-11-22T12:10:00Z",
        item={
            "id": _ITEM,
            "external_id": "mail-1042",
            "content": {"text": "I was charged twice."},
            "metadata": {"lang": "en"},
            "text": None,
            "label": "billing",
            "confidence": {"value": 0.62, "source": "logprobs", "reason": None},
            "alternatives": [
                {"label": "billing", "probability": 0.62},
                {"label": "bug", "probability": 0.38},
            ],
            "parts": [],
            "route_reason": "below_threshold",
        },
        draft=None,
        **_LEASE,
    )

    id: str
    state: str
    reviewer: str
    lease_token: str
    lease_expires_at: datetime
    item: AssignmentItemOut
    draft: dict[str, Any] | None


class ClaimsOut(Answer):
    data: list[AssignmentOut]


class LeaseOut(Answer):
    model_config = example(id=_ASSIGNMENT, lease_expires_at="2026-11-22T12:20:00Z")

    id: str
    lease_expires_at: datetime


class ReviewOut(Answer):
    model_config = example(
        id="rev_01k2m3n4p5q6r7s8t9v0w1x2y3",
        item_id=_ITEM,
        label="billing",
        agreed=True,
        created_at="2026-11-22T12:05:00Z",
    )

    id: str
    item_id: str
    label: Any
    agreed: bool | None = Field(
        description="whether the model had said the same; none where it gave no label"
    )
    created_at: datetime
