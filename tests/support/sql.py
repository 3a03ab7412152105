"""The database below the API."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from app.infra.ids import Kind, from_wire


@dataclass(frozen=True)
class Sql:
    """A connection on which each statement commits by itself."""

    connection: psycopg.AsyncConnection[Any]

    async def rows(self, statement: LiteralString, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a statement, none where it returns none."""
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def waiting(self) -> int:
        """How many others wait for a lock that this connection holds."""
        (row,) = await self.rows(
            "SELECT count(DISTINCT pid) AS n FROM pg_locks "
            "WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return int(row["n"])

    async def somebody_waits(self) -> bool:
        return await self.waiting() > 0

    async def expire(self, assignment: str) -> None:
        """Lets a lease run out: puts its end into the past of the database's clock."""
        changed = await self.rows(
            "UPDATE assignments SET lease_expires_at = now() - interval '1 second' "
            "WHERE id = %(id)s RETURNING id",
            id=from_wire(Kind.ASSIGNMENT, assignment),
        )
        assert len(changed) == 1


@asynccontextmanager
async def spoilt_project(sql: Sql, project: str) -> AsyncIterator[None]:
    """A project whose stored label schema is as no code of ours leaves it: reading it crashes."""
    project_id = from_wire(Kind.PROJECT, project)
    (row,) = await sql.rows(
        "SELECT definition FROM label_schemas WHERE project_id = %(id)s", id=project_id
    )
    await _overwrite_schema(sql, project_id, {})
    try:
        yield
    finally:
        await _overwrite_schema(sql, project_id, row["definition"])


async def _overwrite_schema(sql: Sql, project_id: uuid.UUID, definition: dict[str, Any]) -> None:
    async with sql.connection.transaction():
        await sql.rows("ALTER TABLE label_schemas DISABLE TRIGGER never_updated")
        await sql.rows(
            "UPDATE label_schemas SET definition = %(definition)s WHERE project_id = %(id)s",
            definition=Jsonb(definition),
            id=project_id,
        )
        await sql.rows("ALTER TABLE label_schemas ENABLE TRIGGER never_updated")
