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


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event before it has an id."""

    type: EventType
    data: dict[str, Any]


INSERT = """
INSERT INTO events (id, project_id, type, data)
SELECT * FROM unnest(
    %(event_ids)s::uuid[], %(event_projects)s::uuid[], %(event_types)s::text[],
    %(event_data)s::jsonb[]
)
"""


def parameters(project_id: uuid.UUID, events: Sequence[NewEvent]) -> dict[str, object]:
    """What INSERT takes."""
    return {
        "event_ids": [new_id() for _ in events],
        "event_projects": [project_id] * len(events),
        "event_types": [event.type.value for event in events],
        "event_data": [Jsonb(event.data) for event in events],
    }


async def record(connection: Connection, project_id: uuid.UUID, events: Sequence[NewEvent]) -> None:
    """Writes events in the caller's transaction."""
    if events:
        await connection.execute(INSERT, parameters(project_id, events), prepare=True)
