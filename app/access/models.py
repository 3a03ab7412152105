from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, LargeBinary, Text, Uuid, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db import Base


class ApiKey(Base):
    """A key as it can be recognised, never as it was: its hash and its first characters."""

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    # SHA-256 of the key; the key has 178 random bits, so a slow hash would protect nothing
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    prefix: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # NULL: all projects. Not a foreign key: an array can't be one; a deleted project's id in it
    # opens nothing.
    project_ids: Mapped[list[uuid.UUID] | None] = mapped_column(ARRAY(Uuid))
    may_name_reviewer: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint(
            "scopes <@ ARRAY['admin', 'ingest', 'reviewer', 'read'] AND cardinality(scopes) > 0",
            name="scopes",
        ),
    )
