from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db import Base


def _project() -> Mapped[uuid.UUID]:
    return mapped_column(Uuid, ForeignKey("projects.id", ondelete="CASCADE"))


class Event(Base):
    """The outbox: an event is here if and only if its change committed."""

    __tablename__ = "events"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = _project()
    type: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # readers go by this below pg_snapshot_xmin, never by id alone: a smaller id may commit later
    transaction_id: Mapped[int] = mapped_column(
        BigInteger, server_default=text("(pg_current_xact_id()::text)::bigint")
    )
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        Index("ix_events_transaction_id_id", "transaction_id", "id"),
        # what happened lately, by the database's clock
        Index("ix_events_project_id_created_at", "project_id", "created_at"),
    )


class CounterDelta(Base):
    """A change of a counter, appended by the transaction that made it."""

    __tablename__ = "counter_deltas"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    project_id: Mapped[uuid.UUID] = _project()
    name: Mapped[str] = mapped_column(Text)
    delta: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index("ix_counter_deltas_project_id", "project_id"),)


class CounterTotal(Base):
    """The folded part of a counter; a read is this plus the deltas not folded yet."""

    __tablename__ = "counter_totals"

    project_id: Mapped[uuid.UUID] = mapped_column(
        Uuid, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
