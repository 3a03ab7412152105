"""The tables of the main job: items in, labels, review, final labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


CURRENT = {"label_schema": "label_schemas", "labeler": "labelers", "policy": "policies"}
# rows that name one another
LATER = (
    ("items", "id", "prediction_id", "predictions"),
    ("review_queue", "item_id", "assignment_id", "assignments"),
)
# provenance: what once was said stays as it was said
NEVER_UPDATED = (
    "label_schemas",
    "labelers",
    "policies",
    "predictions",
    "final_labels",
    "item_payloads",
    "events",
)
TABLES = (
    "api_keys",
    "endpoint_pauses",
    "projects",
    "counter_deltas",
    "counter_totals",
    "events",
    "label_schemas",
    "labelers",
    "policies",
    "items",
    "assignments",
    "item_payloads",
    "predictions",
    "review_queue",
    "reviews",
    "final_labels",
)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("project_ids", postgresql.ARRAY(sa.Uuid()), nullable=True),
        sa.Column("may_name_reviewer", sa.Boolean(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "scopes <@ ARRAY['admin', 'ingest', 'reviewer', 'read'] AND cardinality(scopes) > 0",
            name=op.f("ck_api_keys_scopes"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_table(
        "endpoint_pauses",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", name=op.f("pk_endpoint_pauses")),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label_schema_id", sa.Uuid(), nullable=False),
        sa.Column("labeler_id", sa.Uuid(), nullable=False),
        sa.Column("policy_id", sa.Uuid(), nullable=False),
        sa.Column("review_lease_seconds", sa.Integer(), nullable=False),
        sa.Column("audit_probability", sa.Double(), nullable=False),
        sa.Column("train_probability", sa.Double(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "audit_probability >= 0 AND train_probability >= 0 AND audit_probability + train_probability <= 1",
            name=op.f("ck_projects_coin"),
        ),
        sa.CheckConstraint(
            "review_lease_seconds BETWEEN 1 AND 86400", name=op.f("ck_projects_review_lease")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.create_table(
        "counter_deltas",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_counter_deltas_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counter_deltas")),
    )
    op.create_index("ix_counter_deltas_project_id", "counter_deltas", ["project_id"], unique=False)
    op.create_table(
        "counter_totals",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_counter_totals_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_counter_totals")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "transaction_id",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text)::bigint"),
            nullable=False,
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_events_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(
        "ix_events_project_id_created_at", "events", ["project_id", "created_at"], unique=False
    )
    op.create_index("ix_events_transaction_id_id", "events", ["transaction_id", "id"], unique=False)
    op.create_table(
        "label_schemas",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("kind IN ('single_choice')", name=op.f("ck_label_schemas_kind")),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_label_schemas_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_schemas")),
        sa.UniqueConstraint("project_id", "id", name=op.f("uq_label_schemas_project_id_id")),
        sa.UniqueConstraint(
            "project_id", "version", name=op.f("uq_label_schemas_project_id_version")
        ),
    )
    op.create_table(
        "labelers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=True),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("prompt_version", sa.Text(), nullable=False),
        sa.Column("prompt_hash", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_labelers_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labelers")),
        sa.UniqueConstraint("project_id", "id", name=op.f("uq_labelers_project_id_id")),
        sa.UniqueConstraint("project_id", "revision", name=op.f("uq_labelers_project_id_revision")),
    )
    op.create_table(
        "policies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_policies_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
        sa.UniqueConstraint("project_id", "id", name=op.f("uq_policies_project_id_id")),
        sa.UniqueConstraint("project_id", "version", name=op.f("uq_policies_project_id_version")),
    )
    op.create_table(
        "items",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("coin", sa.Text(), nullable=False),
        sa.Column("audit_probability", sa.Double(), nullable=False),
        sa.Column("train_probability", sa.Double(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("losses", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column(
            "next_attempt_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("prediction_id", sa.Uuid(), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("confidence_source", sa.Text(), nullable=True),
        sa.Column("unknown_reason", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("route_reason", sa.Text(), nullable=True),
        sa.Column("policy_id", sa.Uuid(), nullable=True),
        sa.Column("final_label", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("labeled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(final_label IS NOT NULL) = (state IN ('accepted', 'completed'))",
            name=op.f("ck_items_final_label"),
        ),
        sa.CheckConstraint(
            "(route IS NULL) = (state IN ('pending', 'labeling')) AND (route IS NULL) = (route_reason IS NULL) AND (route IS NULL) = (policy_id IS NULL)",
            name=op.f("ck_items_routed"),
        ),
        sa.CheckConstraint(
            "(state = 'labeling') = (lease_token IS NOT NULL) AND (lease_token IS NULL) = (lease_expires_at IS NULL)",
            name=op.f("ck_items_lease"),
        ),
        sa.CheckConstraint("coin IN ('audit', 'train', 'none')", name=op.f("ck_items_coin")),
        sa.CheckConstraint(
            "state IN ('pending', 'labeling', 'accepted', 'in_review', 'completed')",
            name=op.f("ck_items_state"),
        ),
        sa.CheckConstraint(
            "CASE WHEN route IS NULL THEN confidence IS NULL AND unknown_reason IS NULL ELSE (confidence IS NULL) = (unknown_reason IS NOT NULL) END",
            name=op.f("ck_items_unknown_is_explicit"),
        ),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name=op.f("ck_items_confidence")),
        sa.CheckConstraint(
            "confidence IS NULL OR prediction_id IS NOT NULL", name=op.f("ck_items_provenance")
        ),
        sa.CheckConstraint("rank >= 0 AND rank < 1", name=op.f("ck_items_rank")),
        sa.ForeignKeyConstraint(
            ["project_id", "policy_id"],
            ["policies.project_id", "policies.id"],
            name="fk_items_policy_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_items_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_items")),
        sa.UniqueConstraint(
            "project_id", "external_id", name=op.f("uq_items_project_id_external_id")
        ),
        sa.UniqueConstraint("project_id", "id", name=op.f("uq_items_project_id_id")),
    )
    op.create_index(
        "ix_items_due",
        "items",
        ["project_id", "next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_items_leased",
        "items",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'labeling'"),
    )
    op.create_index(
        "ix_items_pending",
        "items",
        ["project_id", "rank"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_items_project_id_state_id", "items", ["project_id", "state", "id"], unique=False
    )
    op.create_index(
        "ix_items_suspect",
        "items",
        ["project_id", "rank"],
        unique=False,
        postgresql_where=sa.text("state = 'pending' AND losses >= 2"),
    )
    op.create_table(
        "assignments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("round", sa.SmallInteger(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="leased", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("draft", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'leased') = (closed_at IS NULL)", name=op.f("ck_assignments_closed")
        ),
        sa.CheckConstraint(
            "state IN ('leased', 'submitted', 'released', 'skipped', 'expired')",
            name=op.f("ck_assignments_state"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "item_id"],
            ["items.project_id", "items.id"],
            name="fk_assignments_item",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignments")),
        sa.UniqueConstraint("item_id", "id", name=op.f("uq_assignments_item_id_id")),
    )
    op.create_index(
        "ix_assignments_item_id_reviewer", "assignments", ["item_id", "reviewer"], unique=False
    )
    op.create_index(
        "ix_assignments_lease_expires_at",
        "assignments",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_index(
        "ix_assignments_live_reviewer",
        "assignments",
        ["project_id", "reviewer"],
        unique=False,
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_index(
        "uq_assignments_live_slot",
        "assignments",
        ["item_id", "slot"],
        unique=True,
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_table(
        "item_payloads",
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("content", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "item_id"],
            ["items.project_id", "items.id"],
            name="fk_item_payloads_item",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_item_payloads")),
    )
    op.create_index(
        "ix_item_payloads_metadata",
        "item_payloads",
        ["metadata"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
        postgresql_where=sa.text("metadata IS NOT NULL"),
    )
    op.create_table(
        "predictions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("labeler_id", sa.Uuid(), nullable=False),
        sa.Column("label_schema_id", sa.Uuid(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("confidence_source", sa.Text(), nullable=False),
        sa.Column("unknown_reason", sa.Text(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("p_raw", sa.Double(), nullable=True),
        sa.Column("p_norm", sa.Double(), nullable=True),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("entropy", sa.Double(), nullable=True),
        sa.Column("off_label", sa.Double(), nullable=True),
        sa.Column("ambiguous", sa.Double(), nullable=True),
        sa.Column("unseen", sa.Double(), nullable=True),
        sa.Column("alternatives", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("repaired", sa.Boolean(), nullable=False),
        sa.Column("served_model", sa.Text(), nullable=True),
        sa.Column("system_fingerprint", sa.Text(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "(confidence IS NULL) = (unknown_reason IS NOT NULL) AND (confidence IS NULL) = (score IS NULL)",
            name=op.f("ck_predictions_unknown_is_explicit"),
        ),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name=op.f("ck_predictions_confidence")),
        sa.CheckConstraint(
            "confidence IS NULL OR label IS NOT NULL",
            name=op.f("ck_predictions_confidence_of_a_label"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "item_id"],
            ["items.project_id", "items.id"],
            name="fk_predictions_item",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "label_schema_id"],
            ["label_schemas.project_id", "label_schemas.id"],
            name="fk_predictions_label_schema_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "labeler_id"],
            ["labelers.project_id", "labelers.id"],
            name="fk_predictions_labeler_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
        sa.UniqueConstraint("item_id", "id", name=op.f("uq_predictions_item_id_id")),
    )
    op.create_table(
        "review_queue",
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("round", sa.SmallInteger(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("assignment_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id", "item_id"],
            ["items.project_id", "items.id"],
            name="fk_review_queue_item",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("item_id", "slot", name=op.f("pk_review_queue")),
        postgresql_with={
            "fillfactor": 50,
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 2000,
            "autovacuum_vacuum_cost_delay": 0,
        },
    )
    op.create_index(
        "ix_review_queue_claimable",
        "review_queue",
        ["project_id", "score", "item_id"],
        unique=False,
        postgresql_where=sa.text("assignment_id IS NULL"),
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("assignment_id", sa.Uuid(), nullable=False),
        sa.Column("round", sa.SmallInteger(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("prediction_id", sa.Uuid(), nullable=True),
        sa.Column("label_schema_id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["item_id", "assignment_id"],
            ["assignments.item_id", "assignments.id"],
            name="fk_reviews_assignment_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["item_id", "prediction_id"],
            ["predictions.item_id", "predictions.id"],
            name="fk_reviews_prediction_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "item_id"],
            ["items.project_id", "items.id"],
            name="fk_reviews_item",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "label_schema_id"],
            ["label_schemas.project_id", "label_schemas.id"],
            name="fk_reviews_label_schema_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
        sa.UniqueConstraint("assignment_id", name=op.f("uq_reviews_assignment_id")),
        sa.UniqueConstraint("item_id", "id", name=op.f("uq_reviews_item_id_id")),
        sa.UniqueConstraint(
            "item_id", "reviewer", "round", name=op.f("uq_reviews_item_id_reviewer_round")
        ),
    )
    op.create_index("ix_reviews_project_id_id", "reviews", ["project_id", "id"], unique=False)
    op.create_table(
        "final_labels",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("prediction_id", sa.Uuid(), nullable=True),
        sa.Column("review_id", sa.Uuid(), nullable=True),
        sa.Column("policy_id", sa.Uuid(), nullable=False),
        sa.Column("label_schema_id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "review_id IS NOT NULL OR prediction_id IS NOT NULL",
            name=op.f("ck_final_labels_provenance"),
        ),
        sa.ForeignKeyConstraint(
            ["item_id", "prediction_id"],
            ["predictions.item_id", "predictions.id"],
            name="fk_final_labels_prediction_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["item_id", "review_id"],
            ["reviews.item_id", "reviews.id"],
            name="fk_final_labels_review_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "item_id"],
            ["items.project_id", "items.id"],
            name="fk_final_labels_item",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "label_schema_id"],
            ["label_schemas.project_id", "label_schemas.id"],
            name="fk_final_labels_label_schema_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "policy_id"],
            ["policies.project_id", "policies.id"],
            name="fk_final_labels_policy_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_final_labels")),
    )
    op.create_index("ix_final_labels_item_id", "final_labels", ["item_id", "id"], unique=False)
    for name, table in CURRENT.items():
        op.create_foreign_key(
            f"fk_projects_current_{name}",
            "projects",
            table,
            ["id", f"{name}_id"],
            ["project_id", "id"],
            deferrable=True,
            initially="DEFERRED",
        )
    for table, item, column, target in LATER:
        op.create_foreign_key(
            f"fk_{table}_{column}",
            table,
            target,
            [item, column],
            ["item_id", "id"],
            ondelete="CASCADE",
        )
    op.execute(
        """
        CREATE FUNCTION refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'rows of % are never updated', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
        """
    )
    for table in NEVER_UPDATED:
        op.execute(
            f"CREATE TRIGGER never_updated BEFORE UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_update()"
        )


def downgrade() -> None:
    for name in CURRENT:
        op.drop_constraint(f"fk_projects_current_{name}", "projects", type_="foreignkey")
    for table, _, column, _ in LATER:
        op.drop_constraint(f"fk_{table}_{column}", table, type_="foreignkey")
    for table in reversed(TABLES):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_update()")
