"""Reviewing: peek, claim, renew, hand back, submit. Leases are fenced by a random token."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from app.access.keys import Caller
from app.errors import NotFoundError
from app.infra.db import Database
from app.infra.ids import Kind, new_id, to_wire, uuid_array
from app.infra.metrics import leases_expired, review_recorded
from app.ledger import events
from app.ledger.events import EventType, NewEvent
from app.projects.label_sets import LabelSets
from app.projects.service import require_visible
from app.review import lease, queries
from app.review.peek import Head, PeekCache
from app.review.record import RecordedReview, Verdict, record, recorded


class HandBack(StrEnum):
    """How an assignment is given back undecided.

    RELEASED: the item is free for anybody, this reviewer included. SKIPPED: for anybody else.
    """

    RELEASED = "released"
    SKIPPED = "skipped"


class ReviewService:
    """The way of an item through people's hands."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._peeks = PeekCache(database)
        self._label_sets = LabelSets()

    async def peek(self, project_id: uuid.UUID, *, limit: int, caller: Caller) -> Head:
        """The head of the queue without taking anything: least certain first, unknown before all.

        Up to a quarter of a second old, so that any number of polling clients cost four
        look-ups a second.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        head = await self._peeks.get(project_id, limit, reviewer=caller.reviewer)
        if not head.rows:
            await self._require_project(project_id)
        return head

    async def claim(self, project_id: uuid.UUID, *, limit: int, caller: Caller) -> list[DictRow]:
        """Leases up to `limit` items to the caller's reviewer, least certain first.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        claimed = await self._claim(project_id, limit, caller.reviewer)
        if len(claimed) < limit and await self.expire(project_id):
            # leases that ran out since the last sweep are free for whoever asks now
            claimed += await self._claim(project_id, limit - len(claimed), caller.reviewer)
        if not claimed:
            await self._require_project(project_id)
        self._peeks.changed(project_id, reviewer=caller.reviewer)
        return claimed

    async def _claim(self, project_id: uuid.UUID, limit: int, reviewer: str) -> list[DictRow]:
        return await self._database.fetch_all(
            queries.CLAIM,
            {
                "project_id": project_id,
                "reviewer": reviewer,
                "limit": limit,
                "ids": uuid_array(new_id() for _ in range(limit)),
                # random, never counted up: a counter could be reissued after a crash
                "tokens": uuid_array(uuid.uuid4() for _ in range(limit)),
            },
        )

    async def get(self, assignment_id: uuid.UUID, *, caller: Caller) -> DictRow:
        """An assignment, with the draft of a submit that came too late.

        Raises:
            NotFoundError: there is none that this caller may see.
        """
        row = await self._database.fetch_one(
            queries.GET_ASSIGNMENT,
            {**lease.visible_to(caller, assignment_id), "reviewer": caller.reviewer},
        )
        if row is None:
            raise NotFoundError("no such assignment")
        return row

    async def held(self, project_id: uuid.UUID, *, caller: Caller) -> list[DictRow]:
        """What the caller's reviewer holds in a project, oldest first.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        rows = await self._database.fetch_all(
            queries.HELD, {"project_id": project_id, "reviewer": caller.reviewer}
        )
        if not rows:
            await self._require_project(project_id)
        return rows

    async def renew(
        self, assignment_id: uuid.UUID, *, lease_token: uuid.UUID, caller: Caller
    ) -> datetime:
        """Starts the lease anew; when it now ends.

        Raises:
            NotFoundError: no such assignment that this caller may see.
            ConflictError: another holds it, or it was closed already.
            GoneError: the lease ran out.
        """
        renewed = await self._database.fetch_one(
            queries.RENEW, lease.held_by(caller, assignment_id, lease_token)
        )
        if renewed is None:
            await lease.refuse(self._database, assignment_id, lease_token, caller=caller)
        expires: datetime = renewed["lease_expires_at"]
        return expires

    async def hand_back(
        self,
        assignment_id: uuid.UUID,
        how: HandBack,
        *,
        lease_token: uuid.UUID,
        caller: Caller,
    ) -> None:
        """Gives an item back undecided.

        Raises:
            NotFoundError: no such assignment that this caller may see.
            ConflictError: another holds it, or it was closed already.
            GoneError: the lease ran out.
        """
        closed = await self._database.fetch_one(
            queries.HAND_BACK,
            {**lease.held_by(caller, assignment_id, lease_token), "state": how.value},
        )
        if closed is None:
            await lease.refuse(self._database, assignment_id, lease_token, caller=caller)
        self._peeks.changed(closed["project_id"], reviewer=caller.reviewer)

    async def submit(
        self,
        assignment_id: uuid.UUID,
        verdict: Verdict,
        *,
        lease_token: uuid.UUID,
        caller: Caller,
    ) -> RecordedReview:
        """Records a verdict; the item is completed with it. Answered after the commit.

        A verdict that comes too late is kept on the assignment, where the reviewer finds it, and
        does not count. The same verdict sent again (its answer was lost) gets the same answer.

        Raises:
            InvalidError: the label is not of the schema.
            NotFoundError: no such assignment that this caller may see.
            ConflictError: another holds it, or it was closed already.
            GoneError: the lease ran out.
        """
        while True:
            row = await lease.standing(self._database, assignment_id, caller=caller)
            lease.require_holder(row, lease_token, caller=caller)
            if row["state"] == "submitted":
                return await recorded(self._database, row, verdict)
            try:
                lease.require_lease(row)
            except lease.LeaseLostError as error:
                await self._database.execute(
                    queries.KEEP_DRAFT,
                    {"assignment_id": assignment_id, "draft": Jsonb(verdict.as_draft())},
                )
                raise error.problem from None
            labels = await self._label_sets.get(self._database, row["label_schema_id"])
            review = await record(self._database, row, verdict, labels=labels)
            if review is not None:
                self._peeks.changed(review.project_id, reviewer=caller.reviewer)
                review_recorded(agreed=review.agreed)
                return review
            # something moved between the two statements: look again

    async def expire(self, project_id: uuid.UUID | None = None) -> int:
        """Takes back leases that ran out, of one project or of all; how many."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(queries.EXPIRE, {"project_id": project_id})
            rows = await cursor.fetchall()
            by_project: dict[uuid.UUID, list[NewEvent]] = {}
            for row in rows:
                by_project.setdefault(row["project_id"], []).append(
                    NewEvent(
                        EventType.ASSIGNMENT_EXPIRED,
                        {
                            "assignment_id": to_wire(Kind.ASSIGNMENT, row["id"]),
                            "item_id": to_wire(Kind.ITEM, row["item_id"]),
                            "reviewer": row["reviewer"],
                        },
                    )
                )
            for project, told in by_project.items():
                await events.record(connection, project, told)
        leases_expired("review", len(rows))
        return len(rows)

    async def _require_project(self, project_id: uuid.UUID) -> None:
        if await self._database.fetch_one(queries.PROJECT_EXISTS, {"project_id": project_id}):
            return
        raise NotFoundError("no such project")
