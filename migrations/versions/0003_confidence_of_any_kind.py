"""Predictions of any kind and any source: parts, further figures, what they cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("predictions", sa.Column("parts", postgresql.JSONB(), nullable=True))
    op.add_column("predictions", sa.Column("figures", postgresql.JSONB(), nullable=True))
    op.add_column("predictions", sa.Column("calls", sa.SmallInteger(), nullable=True))
    op.add_column("predictions", sa.Column("cost_micros", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for column in ("cost_micros", "calls", "figures", "parts"):
        op.drop_column("predictions", column)
