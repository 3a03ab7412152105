"""Whether an assignment is still the caller's: locked, looked at, refused with the right word."""

from __future__ import annotations

import hmac
import uuid
from typing import Any

from psycopg.rows import DictRow

from app.access.keys import Caller
from app.errors import ConflictError, GoneError, NotFoundError
from app.infra.db import Connection
from app.review import queries


class LeaseLostError(Exception):
    """The lease was this caller's and is no more; carries what to answer."""

    def __init__(self, problem: GoneError | ConflictError) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def visible_to(caller: Caller, assignment_id: uuid.UUID) -> dict[str, Any]:
    """The parameters that find an assignment the caller may see."""
    projects = None if caller.project_ids is None else list(caller.project_ids)
    return {"assignment_id": assignment_id, "projects": projects}


async def lock(connection: Connection, assignment_id: uuid.UUID, *, caller: Caller) -> DictRow:
    """The assignment with its item, both locked until the transaction ends.

    Raises:
        NotFoundError: there is none that this caller may see.
    """
    cursor = await connection.execute(
        queries.LOCK_ASSIGNMENT, visible_to(caller, assignment_id), prepare=True
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError("no such assignment")
    return row


def require_holder(row: DictRow, lease_token: uuid.UUID, *, caller: Caller) -> None:
    """Refuses whoever is not the one the assignment was given to.

    Raises:
        ConflictError: it was given to another.
    """
    same = hmac.compare_digest(row["lease_token"].bytes, lease_token.bytes)
    if row["reviewer"] != caller.reviewer or not same:
        raise ConflictError("another holds this assignment", code="lease_held_by_another")


def require_lease(row: DictRow) -> None:
    """Refuses a holder whose lease is over.

    Raises:
        ConflictError: the assignment was closed by its holder.
        LeaseLostError: the lease ran out, or another has the item by now.
    """
    if row["state"] in {"submitted", "released", "skipped"}:
        raise ConflictError(f"this assignment was {row['state']} already", code="assignment_closed")
    if row["taken_over"]:
        raise LeaseLostError(
            ConflictError(
                "the lease ran out and the item was given out again",
                code="lease_held_by_another",
            )
        )
    if row["state"] == "expired" or not row["alive"]:
        raise LeaseLostError(
            GoneError("the lease ran out; a verdict is kept as the draft", code="lease_expired")
        )
