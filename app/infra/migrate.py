"""Runs alembic from code: there is no alembic.ini, the database comes from the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, pool

from app.infra.db import sqlalchemy_url

_SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"
# any number that nobody else uses: two deploys at once take turns
_LOCK = 7_405_103_221


def alembic_config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Brings the schema to a revision; waits for another migration that is under way."""
    with _alone(database_url):
        command.upgrade(alembic_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Takes the schema back to a revision; `base` removes everything. Waits as `upgrade` does."""
    with _alone(database_url):
        command.downgrade(alembic_config(database_url), revision)


@contextmanager
def _alone(database_url: str) -> Iterator[None]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        yield


def pending(database_url: str) -> bool:
    """Whether the database is behind the code."""
    engine = create_engine(sqlalchemy_url(database_url), poolclass=pool.NullPool)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return current != ScriptDirectory(str(_SCRIPTS)).get_current_head()
