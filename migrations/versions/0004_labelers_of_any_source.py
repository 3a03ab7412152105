"""Labelers of any source, and what is known of the endpoints they ask."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "labelers",
        sa.Column("source", sa.Text(), server_default=sa.text("'logprobs'"), nullable=False),
    )
    op.add_column(
        "labelers",
        sa.Column("api", sa.Text(), server_default=sa.text("'chat_completions'"), nullable=False),
    )
    op.add_column("labelers", sa.Column("template", sa.Text(), nullable=True))
    op.add_column("labelers", sa.Column("examples", postgresql.JSONB(), nullable=True))
    op.add_column("labelers", sa.Column("limits", postgresql.JSONB(), nullable=True))
    op.add_column("labelers", sa.Column("prices", postgresql.JSONB(), nullable=True))
    op.create_table(
        "endpoint_findings",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("finding", postgresql.JSONB(), nullable=False),
        sa.Column(
            "probed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_endpoint_findings")),
    )


def downgrade() -> None:
    op.drop_table("endpoint_findings")
    for column in ("prices", "limits", "examples", "template", "api", "source"):
        op.drop_column("labelers", column)
