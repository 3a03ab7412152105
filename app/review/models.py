from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Double,
    Index,
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
from app.items.models import of_item, of_project, of_same_item


class QueueEntry(Base):
    """A slot of an item that waits for a person: narrow, since every claim rewrites it."""

    __tablename__ = "review_queue"

    item_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    round: Mapped[int] = mapped_column(SmallInteger)
    # log-odds of the label; -infinity where the confidence is unknown, so that it comes first
    # (NULL would sort last)
    score: Mapped[float] = mapped_column(Double)
    # who holds it: an assignment, while its lease lives
    assignment_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)

    __table_args__ = (
        of_item("review_queue"),
        of_same_item("review_queue", "assignment_id", "assignments", use_alter=True),
        Index(
            "ix_review_queue_claimable",
            "project_id",
            "score",
            "item_id",
            postgresql_where=text("assignment_id IS NULL"),
        ),
        {
            # room beside each row for its next version, and vacuum by a fixed number of dead
            # rows: 200,000 dead ones cut claims from 7,300/s to 1,500/s
            "postgresql_with": {
                "fillfactor": 50,
                "autovacuum_vacuum_scale_factor": 0,
                "autovacuum_vacuum_threshold": 2000,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )


class Assignment(Base):
    """A leased slot: who may decide an item until when. The token fences late hands."""

    __tablename__ = "assignments"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    item_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    slot: Mapped[int] = mapped_column(SmallInteger)
    round: Mapped[int] = mapped_column(SmallInteger)
    reviewer: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="leased")
    lease_token: Mapped[uuid.UUID] = mapped_column(Uuid)
    lease_expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # what a late submit said: not counted, not lost
    draft: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    closed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        UniqueConstraint("item_id", "id"),
        of_item("assignments"),
        CheckConstraint(
            "state IN ('leased', 'submitted', 'released', 'skipped', 'expired')", name="state"
        ),
        CheckConstraint("(state = 'leased') = (closed_at IS NULL)", name="closed"),
        # at most one live lease for an item and slot, and one for an item and reviewer
        Index(
            "uq_assignments_live_slot",
            "item_id",
            "slot",
            unique=True,
            postgresql_where=text("state = 'leased'"),
        ),
        Index(
            "ix_assignments_live_reviewer",
            "project_id",
            "reviewer",
            postgresql_where=text("state = 'leased'"),
        ),
        # no reviewer twice on an item: a claim looks here before it takes one
        Index("ix_assignments_item_id_reviewer", "item_id", "reviewer"),
        Index(
            "ix_assignments_lease_expires_at",
            "lease_expires_at",
            postgresql_where=text("state = 'leased'"),
        ),
    )


class Review(Base):
    """A person's verdict. Counted once: unique by item, reviewer and round."""

    __tablename__ = "reviews"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    item_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    assignment_id: Mapped[uuid.UUID] = mapped_column(Uuid, unique=True)
    round: Mapped[int] = mapped_column(SmallInteger)
    reviewer: Mapped[str] = mapped_column(Text)
    label: Mapped[str] = mapped_column(Text)
    comment: Mapped[str | None] = mapped_column(Text)
    # the prediction the reviewer saw: an open review
    prediction_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    label_schema_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    # what it added to the counters, of a kind that has no confusion matrix
    tally: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        UniqueConstraint("item_id", "reviewer", "round"),
        UniqueConstraint("item_id", "id"),
        of_item("reviews"),
        of_project("reviews", "label_schema_id", "label_schemas"),
        of_same_item("reviews", "assignment_id", "assignments"),
        of_same_item("reviews", "prediction_id", "predictions"),
        Index("ix_reviews_project_id_id", "project_id", "id"),
    )


class FinalLabel(Base):
    """What leaves the service, with where it came from. Append-only."""

    __tablename__ = "final_labels"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    item_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    label: Mapped[str] = mapped_column(Text)
    prediction_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    review_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    policy_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    label_schema_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        of_item("final_labels"),
        of_project("final_labels", "policy_id", "policies"),
        of_project("final_labels", "label_schema_id", "label_schemas"),
        of_same_item("final_labels", "review_id", "reviews"),
        of_same_item("final_labels", "prediction_id", "predictions"),
        # decided by exactly one: the model, or a person
        CheckConstraint("review_id IS NOT NULL OR prediction_id IS NOT NULL", name="provenance"),
        Index("ix_final_labels_item_id", "item_id", "id"),
    )
