"""The outbox: events written by the transaction that makes the change they tell of."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

from app.infra.db import Connection
from app.infra.ids import new_id


class EventType(StrEnum):
    """What integrations can be told of. The data carries ids and routes, never content."""

    ITEM_LABELED = "item.labeled"
    ITEM_ROUTED = "item.routed"
    ITEM_COMPLETED = "item.completed"
    ASSIGNMENT_EXPIRED = "assignment.expired"
    REVIEW_SUBMITTED = "review.submitted"
    POLICY_UPDATED = "policy.updated"
    BUDGET_EXHAUSTED = "budget.exhausted"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event before it has an id."""

    type: EventType
    data: dict[str, Any]


def insert_of(source: str) -> str:
    """The statement that writes what the rows of a query hold in their column `events`.

    For use inside other statements of one project, `%(project_id)s`.
    """
    return f"""
    INSERT INTO events (id, project_id, type, data)
    SELECT e.id, %(project_id)s, e.type, e.data
    FROM {source} s
    CROSS JOIN LATERAL jsonb_to_recordset(s.events) AS e (id uuid, type text, data jsonb)
    """  # noqa: S608  # a name that our own statements give


_INSERT = insert_of("(SELECT %(events)s::jsonb AS events)")


def as_rows(events: Sequence[NewEvent]) -> list[dict[str, Any]]:
    """Events as the column `events` holds them, each with its id."""
    return [{"id": str(new_id()), "type": event.type.value, "data": event.data} for event in events]


async def record(connection: Connection, project_id: uuid.UUID, events: Sequence[NewEvent]) -> None:
    """Writes events in the caller's transaction."""
    if events:
        parameters = {"project_id": project_id, "events": Jsonb(as_rows(events))}
        await connection.execute(_INSERT, parameters, prepare=True)
