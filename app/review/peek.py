"""Peeks at queues, shared by all who poll a process."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from psycopg.rows import DictRow

from app.infra.db import Database
from app.infra.fresh import Fresh
from app.projects.schema_cache import SchemaCache
from app.review import queries

FRESH_SECONDS = 0.25
_MAX_KEPT = 1000
_MAX_REVIEWERS = 10_000


@dataclass(frozen=True, slots=True)
class Shown:
    """What whoever polls gets: the document, and the tag that names exactly it."""

    body: bytes
    etag: str


class Head:
    """The head of a queue at one moment."""

    def __init__(self, rows: list[DictRow]) -> None:
        self.rows = rows
        self._shown: Shown | None = None

    def shown(self, show: Callable[[list[DictRow]], bytes]) -> Shown:
        """What `show` makes of the rows; made once, however many poll."""
        if self._shown is None:
            body = show(self.rows)
            self._shown = Shown(body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"')
        return self._shown


class PeekCache:
    """Keeps each queue's head for a quarter of a second; concurrent polls share one look-up.

    Only a reviewer who has changed the queue meanwhile, in this process, waits for a newer head:
    whatever the others do, pollers cost four look-ups a second.
    """

    def __init__(self, database: Database, schemas: SchemaCache) -> None:
        self._database = database
        self._schemas = schemas
        self._fresh: Fresh[tuple[uuid.UUID, int], Head] = Fresh(
            self._look_up, seconds=FRESH_SECONDS, max_kept=_MAX_KEPT
        )
        self._changed: dict[tuple[uuid.UUID, str], float] = {}

    async def get(self, project_id: uuid.UUID, limit: int, *, reviewer: str) -> Head:
        """Up to `limit` rows of the queue's head, at most FRESH_SECONDS old.

        Never from before the reviewer's own last change.
        """
        since = self._changed.get((project_id, reviewer), 0.0)
        return await self._fresh.get((project_id, limit), since=since)

    def changed(self, project_id: uuid.UUID, *, reviewer: str) -> None:
        """To be called when a reviewer has changed the queue, so that they see what they did."""
        if len(self._changed) >= _MAX_REVIEWERS:
            self._changed.clear()
            self._fresh.forget(lambda _: True)
        self._changed[project_id, reviewer] = time.monotonic()

    async def _look_up(self, question: tuple[uuid.UUID, int]) -> Head:
        project_id, limit = question
        rows = await self._database.fetch_all(
            queries.PEEK, {"project_id": project_id, "limit": limit}
        )
        await self._schemas.decode(project_id, rows)
        return Head(rows)
