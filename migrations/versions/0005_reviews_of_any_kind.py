"""What a verdict of a kind without a confusion matrix adds to the counters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("reviews", sa.Column("tally", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("reviews", "tally")
