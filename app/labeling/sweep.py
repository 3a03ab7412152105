"""The labelling part of a sweep: free what dead workers held, wake who is due, help out at need."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Sequence

from app.domain.states import ItemState
from app.infra.db import Database, is_unavailable
from app.infra.ids import Kind, to_wire
from app.infra.jobs import WakeUps
from app.infra.metrics import leases_expired
from app.labeling import endpoint_queries, queries
from app.labeling.drain import Drainer
from app.labeling.spending import count_as_spent
from app.ledger import events
from app.ledger.events import EventType, NewEvent

MAX_LOSSES = 3
# Work that nobody took for so long is drained here: the broker is away, or the workers are deaf.
OVERDUE_SECONDS = 10.0
_EXPIRE_BATCH = 500
_log = logging.getLogger(__name__)


class LabelingSweep:
    """Sweeps labelling; at most one project is drained here at a time."""

    def __init__(
        self,
        database: Database,
        wake_ups: WakeUps,
        drainer: Drainer,
        *,
        overdue_seconds: float = OVERDUE_SECONDS,
    ) -> None:
        self._database = database
        self._wake_ups = wake_ups
        self._drainer = drainer
        self._overdue_seconds = overdue_seconds
        self._helping: asyncio.Task[None] | None = None

    async def once(self, *, stopping: Callable[[], bool]) -> None:
        """One round."""
        await self.expire()
        async with self._database.connection() as connection:
            await connection.execute(endpoint_queries.FORGET)
        due = await self._database.fetch_all(queries.DUE_PROJECTS, {})
        for row in due:
            self._wake_ups.request(row["project_id"])
        overdue = [
            row["project_id"] for row in due if row["overdue_seconds"] > self._overdue_seconds
        ]
        if overdue and (self._helping is None or self._helping.done()):
            self._helping = asyncio.create_task(self._help(overdue, stopping))

    async def expire(self) -> None:
        """Takes items back whose worker is gone; those that lost three go to people."""
        while True:
            async with self._database.transaction() as connection:
                cursor = await connection.execute(
                    queries.EXPIRE, {"max_losses": MAX_LOSSES, "limit": _EXPIRE_BATCH}
                )
                rows = await cursor.fetchall()
                poison = [row for row in rows if row["state"] == ItemState.IN_REVIEW]
                for row in poison:
                    told = NewEvent(
                        EventType.ITEM_ROUTED,
                        {
                            "item_id": to_wire(Kind.ITEM, row["id"]),
                            "route": "review",
                            "reason": "unknown_confidence",
                        },
                    )
                    await events.record(connection, row["project_id"], [told])
                await count_as_spent(connection, rows)
            leases_expired("label", len(rows))
            for row in poison:
                _log.warning(
                    "an item lost worker after worker and goes to people",
                    extra={"item_id": row["id"], "project_id": row["project_id"]},
                )
            for project_id, lost in Counter(row["project_id"] for row in rows).items():
                about = {"project_id": project_id}
                _log.info("took back %d items from lost workers", lost, extra=about)
            if len(rows) < _EXPIRE_BATCH:
                return

    async def _help(self, project_ids: Sequence[uuid.UUID], stopping: Callable[[], bool]) -> None:
        """A time slice for each overdue project, so that a long backlog hides no short one."""
        for project_id in project_ids:
            if stopping():
                return
            try:
                result = await self._drainer.drain(project_id, stopping=stopping)
            except Exception as error:  # noqa: BLE001  # one project must not cost the others
                if is_unavailable(error):
                    _log.warning("help ended early: the database is away")
                    return
                _log.exception("a project could not be drained", extra={"project_id": project_id})
                continue
            if result.settled:
                _log.warning(
                    "labelled %d overdue items in the sweeper",
                    result.settled,
                    extra={"project_id": project_id},
                )

    async def close(self) -> None:
        """Waits for the help that is under way."""
        if self._helping is not None:
            await self._helping
