"""Peeks at queues, shared by all who poll a process."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass

from psycopg.rows import DictRow

from app.infra.db import Database
from app.review import queries

FRESH_SECONDS = 0.25
_MAX_KEPT = 1000


@dataclass(slots=True)
class _Kept:
    rows: asyncio.Future[list[DictRow]]
    until: float


class PeekCache:
    """Keeps each queue's head for a quarter of a second; concurrent polls share one look-up."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[tuple[uuid.UUID, int], _Kept] = {}

    async def get(self, project_id: uuid.UUID, limit: int) -> list[DictRow]:
        """Up to `limit` rows of the queue's head, at most FRESH_SECONDS old."""
        key = (project_id, limit)
        kept = self._kept.get(key)
        if kept is None or kept.until <= time.monotonic() or _failed(kept.rows):
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            look_up = asyncio.ensure_future(
                self._database.fetch_all(queries.PEEK, {"project_id": project_id, "limit": limit})
            )
            kept = _Kept(look_up, time.monotonic() + FRESH_SECONDS)
            self._kept[key] = kept
        # shielded: a client that hangs up must not cancel what others wait for
        return await asyncio.shield(kept.rows)

    def forget(self, project_id: uuid.UUID) -> None:
        """Called by whoever changed the queue in this process, so that they see what they did."""
        for key in [key for key in self._kept if key[0] == project_id]:
            del self._kept[key]


def _failed(rows: asyncio.Future[list[DictRow]]) -> bool:
    return rows.done() and (rows.cancelled() or rows.exception() is not None)
