from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db import Base
from app.items.models import CONFIDENCE_RANGE, of_item, of_project


class Prediction(Base):
    """A labeler's answer, with the evidence to recompute every figure. Never updated."""

    __tablename__ = "predictions"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    item_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    labeler_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    label_schema_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    # NULL: the answer could not be used; unknown_reason says why, `answer` what it was
    label: Mapped[str | None] = mapped_column(Text)
    confidence: Mapped[float | None] = mapped_column(Double)
    confidence_source: Mapped[str] = mapped_column(Text)
    unknown_reason: Mapped[str | None] = mapped_column(Text)
    # the log-odds the queue is ordered by, since the probability saturates at 1
    score: Mapped[float | None] = mapped_column(Double)
    p_raw: Mapped[float | None] = mapped_column(Double)
    p_norm: Mapped[float | None] = mapped_column(Double)
    margin: Mapped[float | None] = mapped_column(Double)
    entropy: Mapped[float | None] = mapped_column(Double)
    off_label: Mapped[float | None] = mapped_column(Double)
    ambiguous: Mapped[float | None] = mapped_column(Double)
    unseen: Mapped[float | None] = mapped_column(Double)
    # [[label, mass], …], largest first
    alternatives: Mapped[list[Any] | None] = mapped_column(JSONB)
    # [[name, value, confidence, logit], …] of a value with parts
    parts: Mapped[list[Any] | None] = mapped_column(JSONB)
    # further figures of the kind or the source, by name
    figures: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    # the tokens with their alternatives, as app.domain writes and reads them, or what else the
    # confidence was made from
    evidence: Mapped[list[Any] | None] = mapped_column(JSONB)
    answer: Mapped[str | None] = mapped_column(Text)
    repaired: Mapped[bool] = mapped_column(Boolean)
    served_model: Mapped[str | None] = mapped_column(Text)
    system_fingerprint: Mapped[str | None] = mapped_column(Text)
    finish_reason: Mapped[str | None] = mapped_column(Text)
    prompt_tokens: Mapped[int | None] = mapped_column(Integer)
    completion_tokens: Mapped[int | None] = mapped_column(Integer)
    latency_ms: Mapped[int] = mapped_column(Integer)
    # requests it took; NULL of a label made elsewhere
    calls: Mapped[int | None] = mapped_column(SmallInteger)
    # in millionths of the currency of the labeler's prices; NULL where it has none
    cost_micros: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        UniqueConstraint("item_id", "id"),
        of_item("predictions"),
        of_project("predictions", "labeler_id", "labelers"),
        of_project("predictions", "label_schema_id", "label_schemas"),
        CheckConstraint(CONFIDENCE_RANGE, name="confidence"),
        CheckConstraint(
            "(confidence IS NULL) = (unknown_reason IS NOT NULL) "
            "AND (confidence IS NULL) = (score IS NULL)",
            name="unknown_is_explicit",
        ),
        CheckConstraint("confidence IS NULL OR label IS NOT NULL", name="confidence_of_a_label"),
    )


class EndpointPause(Base):
    """Until when nobody may call an endpoint, because it answered 429."""

    __tablename__ = "endpoint_pauses"

    endpoint: Mapped[str] = mapped_column(Text, primary_key=True)
    paused_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class EndpointFinding(Base):
    """What a probe found: how an endpoint can be asked for a confidence."""

    __tablename__ = "endpoint_findings"

    # SHA-256 of base URL, model, effort and schema
    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    finding: Mapped[dict[str, Any]] = mapped_column(JSONB)
    probed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
