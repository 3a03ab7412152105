"""Peeks at queues, shared by all who poll a process."""

from __future__ import annotations

import uuid

from psycopg.rows import DictRow

from app.infra.db import Database
from app.infra.fresh import Fresh
from app.review import queries

FRESH_SECONDS = 0.25
_MAX_KEPT = 1000


class PeekCache:
    """Keeps each queue's head for a quarter of a second; concurrent polls share one look-up."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fresh: Fresh[tuple[uuid.UUID, int], list[DictRow]] = Fresh(
            self._look_up, seconds=FRESH_SECONDS, max_kept=_MAX_KEPT
        )

    async def get(self, project_id: uuid.UUID, limit: int) -> list[DictRow]:
        """Up to `limit` rows of the queue's head, at most FRESH_SECONDS old."""
        return await self._fresh.get((project_id, limit))

    def forget(self, project_id: uuid.UUID) -> None:
        """Called by whoever changed the queue in this process, so that they see what they did."""
        self._fresh.forget(lambda question: question[0] == project_id)

    async def _look_up(self, question: tuple[uuid.UUID, int]) -> list[DictRow]:
        project_id, limit = question
        return await self._database.fetch_all(
            queries.PEEK, {"project_id": project_id, "limit": limit}
        )
