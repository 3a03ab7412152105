"""Every kind of label may be stored: the code knows which there are, a constraint need not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_label_schemas_kind"), "label_schemas", type_="check")


def downgrade() -> None:
    op.create_check_constraint(
        op.f("ck_label_schemas_kind"), "label_schemas", sa.text("kind IN ('single_choice')")
    )
