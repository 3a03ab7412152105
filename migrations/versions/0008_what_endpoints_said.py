"""What a model server said when it was left alone, for people to see."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("endpoint_pauses", sa.Column("said", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("endpoint_pauses", "said")
