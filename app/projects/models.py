from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db import Base


def _created() -> Mapped[datetime]:
    return mapped_column(DateTime(timezone=True), server_default=func.now())


def _project() -> Mapped[uuid.UUID]:
    return mapped_column(Uuid, ForeignKey("projects.id", ondelete="CASCADE"))


class Project(Base):
    """What belongs together: items, one current label schema, labeler and policy."""

    __tablename__ = "projects"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    label_schema_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    labeler_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    policy_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    review_lease_seconds: Mapped[int] = mapped_column(Integer)
    audit_probability: Mapped[float] = mapped_column(Double)
    train_probability: Mapped[float] = mapped_column(Double)
    created_at: Mapped[datetime] = _created()

    # Deferred: a project and its first versions name one another and are written together.
    __table_args__ = (
        *(
            ForeignKeyConstraint(
                ["id", f"{name}_id"],
                [f"{table}.project_id", f"{table}.id"],
                name=f"fk_projects_current_{name}",
                deferrable=True,
                initially="DEFERRED",
                use_alter=True,
            )
            for name, table in (
                ("label_schema", "label_schemas"),
                ("labeler", "labelers"),
                ("policy", "policies"),
            )
        ),
        CheckConstraint("review_lease_seconds BETWEEN 1 AND 86400", name="review_lease"),
        CheckConstraint(
            "audit_probability >= 0 AND train_probability >= 0 "
            "AND audit_probability + train_probability <= 1",
            name="coin",
        ),
    )


class LabelSchema(Base):
    """A version of what may be said about an item. Never updated."""

    __tablename__ = "label_schemas"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = _project()
    version: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(Text)
    definition: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = _created()

    __table_args__ = (
        UniqueConstraint("project_id", "version"),
        UniqueConstraint("project_id", "id"),
    )


class Labeler(Base):
    """A revision of who labels: model, prompt and parameters. Never updated."""

    __tablename__ = "labelers"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = _project()
    revision: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(Text)
    # NULL: the service's own endpoint (OPENAI_BASE_URL)
    base_url: Mapped[str | None] = mapped_column(Text)
    instructions: Mapped[str] = mapped_column(Text)
    prompt_version: Mapped[str] = mapped_column(Text)
    prompt_hash: Mapped[str] = mapped_column(Text)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # where its confidences come from, `auto` included, and the interface it is asked by
    source: Mapped[str] = mapped_column(Text, server_default="logprobs")
    api: Mapped[str] = mapped_column(Text, server_default="chat_completions")
    # how `fields` items become text; NULL: a line a field
    template: Mapped[str | None] = mapped_column(Text)
    # [{"content": …, "value": …}, …], shown to the model
    examples: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    # {"requests_per_minute": …, "tokens_per_minute": …}
    limits: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    # {"input_per_million": …, "output_per_million": …, "currency": …}
    prices: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = _created()

    __table_args__ = (
        UniqueConstraint("project_id", "revision"),
        UniqueConstraint("project_id", "id"),
    )


class Policy(Base):
    """A version of how labels are routed. Never updated."""

    __tablename__ = "policies"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    project_id: Mapped[uuid.UUID] = _project()
    version: Mapped[int] = mapped_column(Integer)
    document: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = _created()

    __table_args__ = (
        UniqueConstraint("project_id", "version"),
        UniqueConstraint("project_id", "id"),
    )
