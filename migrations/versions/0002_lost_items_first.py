"""What lost its worker once is found at once, however much is waiting."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.steps import create_index, drop_index

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index(
        "ix_items_lost",
        "items",
        ["project_id", "rank"],
        postgresql_where=sa.text("state = 'pending' AND losses = 1"),
    )


def downgrade() -> None:
    drop_index("ix_items_lost")
