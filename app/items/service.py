"""Items: taken in once, listed, shown."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg.errors
from psycopg.rows import DictRow

from app.access.keys import Caller
from app.domain.coin import CoinProbabilities, toss
from app.errors import NotFoundError
from app.infra.db import Connection, Database, json_rows
from app.infra.ids import new_id
from app.infra.jobs import WakeUps
from app.infra.metrics import items_received
from app.items import queries
from app.projects.schema_cache import SchemaCache
from app.projects.service import require_visible


class RowStatus(StrEnum):
    """What became of a row.

    EXISTING: its external id is known and says the same. CONFLICT: it is known and says other.
    """

    CREATED = "created"
    EXISTING = "existing"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to take in; already checked."""

    external_id: str | None
    content: dict[str, Any]
    metadata: dict[str, Any] | None

    def digest(self) -> bytes:
        """SHA-256 of what was sent, the same however its keys are ordered."""
        document = json.dumps([self.content, self.metadata], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(document.encode()).digest()


@dataclass(frozen=True, slots=True)
class RowResult:
    """The outcome of one row; the id is the new item's, or that of the one it met."""

    status: RowStatus
    item_id: uuid.UUID


class ItemService:
    """Takes items in and finds them again."""

    def __init__(
        self, database: Database, wake_ups: WakeUps, schemas: SchemaCache, *, rng: random.Random
    ) -> None:
        self._database = database
        self._wake_ups = wake_ups
        self._schemas = schemas
        self._rng = rng

    async def ingest(
        self, project_id: uuid.UUID, items: Sequence[NewItem], *, caller: Caller
    ) -> list[RowResult]:
        """Stores items and answers after the commit; one outcome an item, in order.

        Each item draws its coin and its rank here, before anything is known of it.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        if not items:
            await self._require_project(project_id)
            return []
        drafts = [(new_id(), item, item.digest()) for item in items]
        try:
            async with self._database.transaction() as connection:
                created = await self._insert(connection, project_id, drafts)
                known = await self._existing(connection, project_id, drafts, created)
        except psycopg.errors.ForeignKeyViolation as error:
            raise NotFoundError("no such project") from error
        if created:
            self._wake_ups.request(project_id)
        results = [_result(draft, created, known) for draft in drafts]
        items_received(result.status for result in results)
        return results

    async def _insert(
        self,
        connection: Connection,
        project_id: uuid.UUID,
        drafts: Sequence[tuple[uuid.UUID, NewItem, bytes]],
    ) -> set[uuid.UUID]:
        cursor = await connection.execute(
            queries.PROJECT_COIN, {"project_id": project_id}, prepare=True
        )
        coin = await cursor.fetchone()
        if coin is None:
            raise NotFoundError("no such project")
        probabilities = CoinProbabilities(coin["audit_probability"], coin["train_probability"])
        cursor = await connection.execute(
            queries.INSERT,
            {
                "project_id": project_id,
                "audit_probability": probabilities.audit,
                "train_probability": probabilities.train,
                "rows": json_rows(
                    {
                        "id": str(item_id),
                        "external_id": item.external_id,
                        "content": item.content,
                        "metadata": item.metadata,
                        "digest": f"\\x{digest.hex()}",
                        "rank": self._rng.random(),
                        "coin": toss(probabilities, uniform=self._rng.random()).value,
                    }
                    for item_id, item, digest in drafts
                ),
            },
            prepare=True,
        )
        return {row["id"] for row in await cursor.fetchall()}

    async def _existing(
        self,
        connection: Connection,
        project_id: uuid.UUID,
        drafts: Sequence[tuple[uuid.UUID, NewItem, bytes]],
        created: set[uuid.UUID],
    ) -> dict[str, DictRow]:
        met = [item.external_id for item_id, item, _ in drafts if item_id not in created]
        if not met:
            return {}
        cursor = await connection.execute(
            queries.EXISTING, {"project_id": project_id, "external_ids": met}
        )
        return {row["external_id"]: row for row in await cursor.fetchall()}

    async def get(self, item_id: uuid.UUID, *, caller: Caller) -> DictRow:
        """An item with its payload.

        Raises:
            NotFoundError: there is none that this caller may see.
        """
        row = await self._database.fetch_one(
            queries.GET,
            {
                "item_id": item_id,
                "projects": None if caller.project_ids is None else list(caller.project_ids),
            },
        )
        if row is None:
            raise NotFoundError("no such item")
        await self._schemas.decode(row["project_id"], [row])
        return row

    async def list_items(
        self, project_id: uuid.UUID, *, filters: dict[str, Any], limit: int, caller: Caller
    ) -> list[DictRow]:
        """Up to limit + 1 items in the order they came in.

        Args:
            project_id: whose items.
            filters: conditions by name, as `queries.list_statement` knows them; None is no filter.
            limit: how many.
            caller: who asks.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        given = {name: value for name, value in filters.items() if value is not None}
        rows = await self._database.fetch_all(
            queries.list_statement(given),
            {**given, "project_id": project_id, "limit": limit + 1},
        )
        if not rows:
            await self._require_project(project_id)
        await self._schemas.decode(project_id, rows)
        return rows

    async def _require_project(self, project_id: uuid.UUID) -> None:
        found = await self._database.fetch_one(queries.PROJECT_COIN, {"project_id": project_id})
        if found is None:
            raise NotFoundError("no such project")


def _result(
    draft: tuple[uuid.UUID, NewItem, bytes],
    created: set[uuid.UUID],
    known: dict[str, DictRow],
) -> RowResult:
    item_id, item, digest = draft
    if item_id in created:
        return RowResult(RowStatus.CREATED, item_id)
    assert item.external_id is not None
    met = known.get(item.external_id)
    if met is None:
        # it was there a moment ago: the project is being deleted
        raise NotFoundError("no such project")
    same = met["digest"] == digest
    return RowResult(RowStatus.EXISTING if same else RowStatus.CONFLICT, met["id"])
