"""That a month's budget is spent, noted for the sweeper and told once, by whoever finds it so."""

from __future__ import annotations

import logging
import uuid

from app.infra.db import Connection
from app.infra.ids import Kind, to_wire
from app.labeling import budget_queries
from app.ledger import events
from app.ledger.events import EventType, NewEvent

_log = logging.getLogger(__name__)


async def note_exhausted(
    connection: Connection, project_id: uuid.UUID, *, labeler_id: uuid.UUID, month: str
) -> None:
    """Notes it in the transaction of who holds the budget; told once a month and limit.

    Args:
        connection: in a transaction that has locked the project and then its budget.
        project_id: whose.
        labeler_id: that can't go on; another may be cheaper.
        month: in UTC, "2026-11".
    """
    cursor = await connection.execute(
        budget_queries.EXHAUST,
        {"project_id": project_id, "month": month, "labeler_id": labeler_id},
        prepare=True,
    )
    told = await cursor.fetchone()
    if told is None:
        return
    data = {
        "project_id": to_wire(Kind.PROJECT, project_id),
        "month": month,
        "limit_micros": told["limit_micros"],
    }
    await events.record(connection, project_id, [NewEvent(EventType.BUDGET_EXHAUSTED, data)])
    _log.warning(
        "the budget of %s is exhausted; labelling waits", month, extra={"project_id": project_id}
    )
