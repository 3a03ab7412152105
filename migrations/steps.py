"""Steps of migrations that take long beside requests: each commits by itself and may be repeated.

A migration that uses one of these does nothing else, so that trying it again after any interruption
is safe. None waits in the way of reads or writes, so none is hurried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op

# left behind when its building was interrupted; it is kept up to date and never used
_INVALID = """
SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(quote_ident(:name))
"""


def create_index(
    name: str, table: str, columns: Sequence[str | sa.TextClause], **more: Any
) -> None:
    """An index on an existing table, built while rows are read and written."""
    with _unhurried() as connection:
        if connection.execute(sa.text(_INVALID), {"name": name}).scalar():
            op.drop_index(name, postgresql_concurrently=True)
        op.create_index(
            name, table, list(columns), postgresql_concurrently=True, if_not_exists=True, **more
        )


def drop_index(name: str) -> None:
    """Removes an index once nobody reads by it."""
    with _unhurried():
        op.drop_index(name, postgresql_concurrently=True, if_exists=True)


def validate(table: str, constraint: str) -> None:
    """Looks at all rows for a constraint that was added NOT VALID, while they are written."""
    with _unhurried():
        op.execute(f'ALTER TABLE "{table}" VALIDATE CONSTRAINT "{constraint}"')


def in_batches(change: str, *, table: str, where: str, size: int = 1000) -> None:
    """Changes all rows of a table that want it, `size` at a time, while others are written.

    Each batch commits by itself, so rows are locked for a moment and vacuum can follow. It passes
    over rows that a request has locked, since two that wait for each other's rows deadlock. Those
    are waited for when nothing else is left, one in a statement: it holds no other row meanwhile.

    Args:
        change: `UPDATE … SET …` or `DELETE FROM …`, without WHERE.
        table: whose rows they are; its key is `id`.
        where: what is true of a row until it has been changed.
        size: of a batch, a few thousand at most.
    """
    rows = f'FROM "{table}" WHERE ({where})'
    free = f"{change} WHERE id IN (SELECT id {rows} LIMIT {size} FOR UPDATE SKIP LOCKED)"
    locked = f"{change} WHERE ({where}) AND id = (SELECT id {rows} LIMIT 1)"
    left = f"SELECT 1 {rows} LIMIT 1"  # what was waited for may have been changed by another
    with _unhurried() as connection:

        def changed(statement: str) -> int:
            return connection.execute(sa.text(statement)).rowcount

        while changed(free) or changed(locked) or connection.scalar(sa.text(left)):
            pass


@contextmanager
def _unhurried() -> Iterator[sa.Connection]:
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        connection.execute(sa.text("SET lock_timeout = 0"))
        connection.execute(sa.text("SET statement_timeout = 0"))
        try:
            yield connection
        finally:
            connection.execute(sa.text("RESET lock_timeout"))
            connection.execute(sa.text("RESET statement_timeout"))
