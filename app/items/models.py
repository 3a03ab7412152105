from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
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


def of_item(table: str) -> ForeignKeyConstraint:
    """Ties a row to an item of its own project, and lets it go with the item."""
    return ForeignKeyConstraint(
        ["project_id", "item_id"],
        ["items.project_id", "items.id"],
        name=f"fk_{table}_item",
        ondelete="CASCADE",
    )


def of_same_item(
    table: str, column: str, target: str, *, item: str = "item_id", use_alter: bool = False
) -> ForeignKeyConstraint:
    """Ties a row to a row of the very same item.

    The key leads with the item, which every such table has an index on: when an item goes, no
    table is searched.
    """
    return ForeignKeyConstraint(
        [item, column],
        [f"{target}.item_id", f"{target}.id"],
        name=f"fk_{table}_{column}",
        use_alter=use_alter,
        ondelete="CASCADE",
    )


def of_project(table: str, column: str, target: str) -> ForeignKeyConstraint:
    """Ties a row to a version of the same project."""
    return ForeignKeyConstraint(
        ["project_id", column],
        [f"{target}.project_id", f"{target}.id"],
        name=f"fk_{table}_{column}",
        # only ever followed when the whole project goes; without it the order in which the
        # server walks the cascades decides whether the delete succeeds
        ondelete="CASCADE",
    )


# Unknown is explicit: NULL with a reason, never 0 and never 1. BETWEEN passes NULL, so a second
# check ties the two columns together.
CONFIDENCE_RANGE = "confidence BETWEEN 0 AND 1"


class Item(Base):
    """Where an item stands; its payload lies elsewhere, so that moving it moves little."""

    __tablename__ = "items"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(
        Uuid, ForeignKey("projects.id", ondelete="CASCADE")
    )
    external_id: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="pending")
    # drawn at ingest, independent of content and confidence (docs/guarantee.md)
    rank: Mapped[float] = mapped_column(Double)
    coin: Mapped[str] = mapped_column(Text)
    audit_probability: Mapped[float] = mapped_column(Double)
    train_probability: Mapped[float] = mapped_column(Double)
    # labelling: who holds it, what it cost so far, when it is due
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    losses: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
    lease_token: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    lease_expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # what the lease may cost, of a project with a budget
    reserved_micros: Mapped[int | None] = mapped_column(BigInteger)
    last_error: Mapped[str | None] = mapped_column(Text)
    # what came of it
    prediction_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    label: Mapped[str | None] = mapped_column(Text)
    confidence: Mapped[float | None] = mapped_column(Double)
    confidence_source: Mapped[str | None] = mapped_column(Text)
    unknown_reason: Mapped[str | None] = mapped_column(Text)
    route: Mapped[str | None] = mapped_column(Text)
    route_reason: Mapped[str | None] = mapped_column(Text)
    policy_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    final_label: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    labeled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        # also the keyset of listings, and what other tables' composite keys point at
        UniqueConstraint("project_id", "id"),
        UniqueConstraint("project_id", "external_id"),
        of_project("items", "policy_id", "policies"),
        # written together with the prediction, which names the item
        of_same_item("items", "prediction_id", "predictions", item="id", use_alter=True),
        CheckConstraint(
            "state IN ('pending', 'labeling', 'accepted', 'in_review', 'completed')", name="state"
        ),
        CheckConstraint("coin IN ('audit', 'train', 'none')", name="coin"),
        CheckConstraint("rank >= 0 AND rank < 1", name="rank"),
        CheckConstraint(
            "(state = 'labeling') = (lease_token IS NOT NULL) "
            "AND (lease_token IS NULL) = (lease_expires_at IS NULL)",
            name="lease",
        ),
        CheckConstraint(CONFIDENCE_RANGE, name="confidence"),
        CheckConstraint(
            "CASE WHEN route IS NULL THEN confidence IS NULL AND unknown_reason IS NULL "
            "ELSE (confidence IS NULL) = (unknown_reason IS NOT NULL) END",
            name="unknown_is_explicit",
        ),
        CheckConstraint(
            "(route IS NULL) = (state IN ('pending', 'labeling')) "
            "AND (route IS NULL) = (route_reason IS NULL) "
            "AND (route IS NULL) = (policy_id IS NULL)",
            name="routed",
        ),
        CheckConstraint(
            "(final_label IS NOT NULL) = (state IN ('accepted', 'completed'))", name="final_label"
        ),
        CheckConstraint("confidence IS NULL OR prediction_id IS NOT NULL", name="provenance"),
        Index(
            "ix_items_pending",
            "project_id",
            "rank",
            postgresql_where=text("state = 'pending'"),
        ),
        # looked for at every claim or drain, and hardly ever there
        Index(
            "ix_items_lost",
            "project_id",
            "rank",
            postgresql_where=text("state = 'pending' AND losses = 1"),
        ),
        Index(
            "ix_items_suspect",
            "project_id",
            "rank",
            postgresql_where=text("state = 'pending' AND losses >= 2"),
        ),
        Index(
            "ix_items_due",
            "project_id",
            "next_attempt_at",
            postgresql_where=text("state = 'pending'"),
        ),
        Index("ix_items_leased", "lease_expires_at", postgresql_where=text("state = 'labeling'")),
        Index("ix_items_project_id_state_id", "project_id", "state", "id"),
    )


class ItemPayload(Base):
    """What was sent in: written once, read by the labeler and by people."""

    __tablename__ = "item_payloads"

    item_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # JSON null, not an empty object, where none was given: the index skips it
    item_metadata: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)
    digest: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        of_item("item_payloads"),
        Index(
            "ix_item_payloads_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
            postgresql_where=text("metadata IS NOT NULL"),
        ),
    )
