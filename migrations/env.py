"""Alembic's entry: migrations run on the project's own driver, with short lock waits.

A migration that waits for a lock makes everybody queue behind it, so it gives up after a second and
is tried again; long work is done by `migrations.steps`, in small steps or concurrently.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool

import app.access.models
import app.items.models
import app.labeling.models
import app.ledger.models
import app.projects.models
import app.review.models  # noqa: F401  # each import registers its tables
from app.infra.db import Base, sqlalchemy_url

LOCK_TIMEOUT = "1s"
STATEMENT_TIMEOUT = "15min"


def run() -> None:
    url = context.config.attributes.get("database_url")
    if url is None:
        raise SystemExit("run migrations with `secondlook migrate`, which knows the database")
    options = f"-c lock_timeout={LOCK_TIMEOUT} -c statement_timeout={STATEMENT_TIMEOUT}"
    engine = create_engine(
        sqlalchemy_url(str(url)), poolclass=pool.NullPool, connect_args={"options": options}
    )
    with engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=Base.metadata, transaction_per_migration=True
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
