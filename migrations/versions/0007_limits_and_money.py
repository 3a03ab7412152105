"""Limits and money: budgets, what turns cost, broken endpoints, who shares a rate."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("monthly_limit_micros", sa.BigInteger(), nullable=True),
        sa.Column("reserved_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("exhausted_month", sa.Text(), nullable=True),
        sa.Column("exhausted_limit_micros", sa.BigInteger(), nullable=True),
        sa.Column("exhausted_labeler_id", sa.Uuid(), nullable=True),
        _moment("updated_at"),
        sa.CheckConstraint("monthly_limit_micros >= 0", name=op.f("ck_budgets_limit")),
        sa.CheckConstraint("reserved_micros >= 0", name=op.f("ck_budgets_reserved")),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_budgets_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "exhausted_labeler_id"],
            ["labelers.project_id", "labelers.id"],
            name="fk_budgets_exhausted_labeler_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_budgets")),
    )
    op.create_table(
        "budget_exhaustions",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("limit_micros", sa.BigInteger(), nullable=False),
        _moment("created_at"),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_budget_exhaustions_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "project_id", "month", "limit_micros", name=op.f("pk_budget_exhaustions")
        ),
    )
    op.create_table(
        "spendings",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.SmallInteger(), nullable=False),
        sa.Column("labels", sa.SmallInteger(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        _moment("created_at"),
        sa.CheckConstraint("micros >= 0", name=op.f("ck_spendings_micros")),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_spendings_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "token", "item_id", name=op.f("pk_spendings")),
    )
    op.create_table(
        "endpoint_breakers",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("delay", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", name=op.f("pk_endpoint_breakers")),
    )
    op.create_table(
        "rate_shares",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "worker_id", name=op.f("pk_rate_shares")),
    )
    op.add_column("items", sa.Column("reserved_micros", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("items", "reserved_micros")
    for table in (
        "rate_shares", "endpoint_breakers", "spendings", "budget_exhaustions", "budgets",
    ):  # fmt: skip
        op.drop_table(table)
