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
    ForeignKey,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
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
    """Until when nobody may call an endpoint, because it answered 429 or fails for everybody."""

    __tablename__ = "endpoint_pauses"

    endpoint: Mapped[str] = mapped_column(Text, primary_key=True)
    paused_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # why, for people; of a broken endpoint how its last call failed
    said: Mapped[str | None] = mapped_column(Text)


class EndpointBreaker(Base):
    """An endpoint that failed for everybody: nobody calls it but for one trial at a time."""

    __tablename__ = "endpoint_breakers"

    endpoint: Mapped[str] = mapped_column(Text, primary_key=True)
    # seconds of its last pause, from which the next is reckoned
    delay: Mapped[float] = mapped_column(Double)


class RateShare(Base):
    """Who asks an endpoint with limits: so many share them while Redis is away."""

    __tablename__ = "rate_shares"

    endpoint: Mapped[str] = mapped_column(Text, primary_key=True)
    worker_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Budget(Base):
    """What a project may spend in a month, and what of it is spoken for."""

    __tablename__ = "budgets"

    project_id: Mapped[uuid.UUID] = mapped_column(
        Uuid, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    # in millionths of the currency; NULL: none, but what was reserved is still settled
    monthly_limit_micros: Mapped[int | None] = mapped_column(BigInteger)
    # the sum of items.reserved_micros
    reserved_micros: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # when nothing more could be reserved: of which month and limit, for which labeler
    exhausted_month: Mapped[str | None] = mapped_column(Text)
    exhausted_limit_micros: Mapped[int | None] = mapped_column(BigInteger)
    exhausted_labeler_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        of_project("budgets", "exhausted_labeler_id", "labelers"),
        CheckConstraint("monthly_limit_micros >= 0", name="limit"),
        CheckConstraint("reserved_micros >= 0", name="reserved"),
    )


class BudgetExhaustion(Base):
    """That a month's limit was reached, which is told once."""

    __tablename__ = "budget_exhaustions"

    project_id: Mapped[uuid.UUID] = mapped_column(
        Uuid, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    month: Mapped[str] = mapped_column(Text, primary_key=True)
    limit_micros: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Spending(Base):
    """What an item's turn with a labeler that has prices cost, whatever came of it."""

    __tablename__ = "spendings"

    project_id: Mapped[uuid.UUID] = mapped_column(
        Uuid, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    # of the claim: with the item it names the turn, so that each counts once
    token: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    # in UTC, "2026-11"
    month: Mapped[str] = mapped_column(Text)
    micros: Mapped[int] = mapped_column(BigInteger)
    calls: Mapped[int] = mapped_column(SmallInteger)
    # 1 where the turn brought a label, else 0
    labels: Mapped[int] = mapped_column(SmallInteger)
    # nobody lived to tell: what was reserved counts until somebody does
    estimated: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (CheckConstraint("micros >= 0", name="micros"),)


class EndpointFinding(Base):
    """What a probe found: how an endpoint can be asked for a confidence."""

    __tablename__ = "endpoint_findings"

    # SHA-256 of base URL, model, effort and schema
    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    finding: Mapped[dict[str, Any]] = mapped_column(JSONB)
    probed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
