"""Review on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from app.items.schemas import ConfidenceOut
from app.web.wire import Answer, Storable, Wire, WireId


class ClaimIn(Wire):
    """How many items the reviewer wants."""

    limit: Annotated[int, Field(ge=1, le=100)] = 1


class LeaseIn(Wire):
    """The fencing token that came with the assignment."""

    lease_token: WireId


class SubmitIn(LeaseIn):
    """A verdict."""

    label: Annotated[str, Field(max_length=200), Storable]
    comment: Annotated[str, Field(max_length=10_000), Storable] | None = None


class AlternativeOut(Answer):
    label: str
    probability: float


class QueueEntryOut(Answer):
    """An item that waits, as it stands in the queue."""

    item_id: str
    external_id: str | None
    label: str | None
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
    label: str | None
    confidence: ConfidenceOut
    alternatives: list[AlternativeOut]
    route_reason: str


class AssignmentOut(Answer):
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
    id: str
    lease_expires_at: datetime


class ReviewOut(Answer):
    id: str
    item_id: str
    label: str
    agreed: bool | None = Field(
        description="whether the model had said the same; none where it gave no label"
    )
    created_at: datetime
