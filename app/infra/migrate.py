"""Runs alembic from code: there is no alembic.ini, the database comes from the settings.

Migrations run beside requests (docs/migrations.md). One that can't have a lock within a second
gives up, so that requests wait behind it for no longer, and is tried again a few times.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, pool
from sqlalchemy.exc import DBAPIError

from app.infra.db import sqlalchemy_url

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"
# any number that nobody else uses: two deploys at once take turns
_LOCK = 7_405_103_221
_TURN_SECONDS = 0.5
_OLDEST = """
SELECT format('process %s (%s, %s) for %s s', pid, coalesce(nullif(application_name, ''), '?'),
              state, extract(epoch FROM now() - xact_start)::int)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND xact_start < now() - interval '1 second'
ORDER BY xact_start LIMIT 3
"""
_log = logging.getLogger(__name__)


class LockedError(Exception):
    """A migration never got a lock that it needs; what it had done is rolled back."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often a migration that can't have a lock is tried.

    Attributes:
        tries: in all.
        pause_seconds: after the first; each further pause is twice as long.
        longest_pause: where the doubling ends.
    """

    tries: int = 10
    pause_seconds: float = 1.0
    longest_pause: float = 30.0

    def pause(self, tries: int) -> float:
        """Seconds to wait after so many tries."""
        return min(self.longest_pause, self.pause_seconds * 2.0 ** (tries - 1))


def alembic_config(database_url: str, *, scripts: Path = SCRIPTS) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["database_url"] = database_url
    return config


def upgrade(
    database_url: str,
    revision: str = "head",
    *,
    scripts: Path = SCRIPTS,
    patience: Patience | None = None,
) -> None:
    """Brings the schema to a revision; waits for another migration that is under way.

    Raises:
        LockedError: others hold a lock for too long.
    """
    config = alembic_config(database_url, scripts=scripts)
    with _alone(database_url) as connection:
        _patiently(lambda: command.upgrade(config, revision), connection, patience or Patience())


def downgrade(database_url: str, revision: str, *, patience: Patience | None = None) -> None:
    """Takes the schema back to a revision; `base` removes everything. Else as `upgrade`."""
    config = alembic_config(database_url)
    with _alone(database_url) as connection:
        _patiently(lambda: command.downgrade(config, revision), connection, patience or Patience())


@contextmanager
def _alone(database_url: str) -> Iterator[psycopg.Connection]:
    """Holds the lock of migrations, once nobody else does.

    It is asked for again and again rather than waited for: a statement that waits holds a snapshot,
    and the other's concurrent index would wait for that to end, and we for the other.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        told = False
        while not _holds(connection):
            if not told:
                _log.info("another migration is under way: waiting for it")
                told = True
            time.sleep(_TURN_SECONDS)
        yield connection


def _holds(connection: psycopg.Connection) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    return row is not None and bool(row[0])


def _patiently(
    migrate: Callable[[], None], connection: psycopg.Connection, patience: Patience
) -> None:
    """Tries until no lock is missing; revisions that are done stay done."""
    for tries in range(1, patience.tries + 1):
        try:
            migrate()
        except DBAPIError as error:
            if not isinstance(
                error.orig, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected
            ):
                raise
            oldest = ", ".join(row[0] for row in connection.execute(_OLDEST)) or "none"
            told = f"others hold a lock it needs; the oldest transactions: {oldest}"
            if tries == patience.tries:
                raise LockedError(f"the migration gave up: {told}") from error
            _log.warning("the migration will be tried again (%d): %s", tries, told)
            time.sleep(patience.pause(tries))
        else:
            return


def pending(database_url: str) -> bool:
    """Whether the database is behind the code."""
    engine = create_engine(sqlalchemy_url(database_url), poolclass=pool.NullPool)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return current != ScriptDirectory(str(SCRIPTS)).get_current_head()
