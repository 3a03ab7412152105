"""Whether an assignment is still the caller's, and the right word where it is not."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Sequence
from typing import Any, NoReturn

from psycopg.rows import DictRow

from app.access.keys import Caller
from app.errors import ConflictError, GoneError, NotFoundError
from app.infra.db import Database, is_unavailable
from app.infra.ids import uuid_array
from app.infra.together import Together
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


def held_by(caller: Caller, assignment_id: uuid.UUID, lease_token: uuid.UUID) -> dict[str, Any]:
    """The parameters of a statement that changes an assignment only for who holds its lease."""
    return {
        **visible_to(caller, assignment_id),
        "reviewer": caller.reviewer,
        "lease_token": lease_token,
    }


class Standings:
    """Reads how assignments stand; those asked for at the same time in one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._together: Together[None, uuid.UUID, DictRow | None] = Together(
            self._read, at_most=50, at_once=2, concerns_all=is_unavailable
        )

    async def get(self, assignment_id: uuid.UUID, *, caller: Caller) -> DictRow:
        """How an assignment and its item stand.

        Raises:
            NotFoundError: there is none that this caller may see.
        """
        row = await self._together.ask(None, assignment_id)
        if row is None or not caller.sees(row["project_id"]):
            raise NotFoundError("no such assignment")
        return row

    async def _read(self, _key: None, assignment_ids: Sequence[uuid.UUID]) -> list[DictRow | None]:
        rows = await self._database.fetch_all(
            queries.STANDING, {"assignment_ids": uuid_array(set(assignment_ids))}
        )
        found = {row["id"]: row for row in rows}
        return [found.get(each) for each in assignment_ids]

    async def refuse(
        self, assignment_id: uuid.UUID, lease_token: uuid.UUID, *, caller: Caller
    ) -> NoReturn:
        """Says why a change wrote nothing.

        Raises:
            NotFoundError: there is no such assignment that this caller may see.
            ConflictError: another holds it, or it was closed already.
            GoneError: the lease ran out.
        """
        row = await self.get(assignment_id, caller=caller)
        require_holder(row, lease_token, caller=caller)
        try:
            require_lease(row)
        except LeaseLostError as error:
            raise error.problem from None
        raise lease_expired()


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
        raise LeaseLostError(lease_expired())


def lease_expired() -> GoneError:
    """What whoever comes too late is told."""
    return GoneError("the lease ran out; a verdict is kept as the draft", code="lease_expired")
