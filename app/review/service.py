"""Reviewing: peek, claim, renew, hand back, submit. Leases are fenced by a random token."""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from app.access.keys import Caller
from app.domain.states import ItemState
from app.errors import ConflictError, GoneError, NotFoundError, invalid_field
from app.infra.db import Connection, Database
from app.infra.ids import Kind, new_id, to_wire
from app.ledger import counters, events
from app.ledger.events import EventType, NewEvent
from app.projects.service import read_label_set, require_visible
from app.review import queries
from app.review.peek import PeekCache
from app.review.verdict import verdict_deltas


class HandBack(StrEnum):
    """How an assignment is given back undecided.

    RELEASED: the item is free for anybody, this reviewer included. SKIPPED: for anybody else.
    """

    RELEASED = "released"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person decided."""

    label: str
    comment: str | None

    def as_draft(self) -> dict[str, Any]:
        return {"label": self.label, "comment": self.comment}


@dataclass(frozen=True, slots=True)
class RecordedReview:
    """A verdict that counts."""

    review_id: uuid.UUID
    item_id: uuid.UUID
    project_id: uuid.UUID
    label: str
    agreed: bool | None
    created_at: datetime


class ReviewService:
    """The way of an item through people's hands."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._peeks = PeekCache(database)

    async def peek(self, project_id: uuid.UUID, *, limit: int, caller: Caller) -> list[DictRow]:
        """The head of the queue without taking anything: least certain first, unknown before all.

        Up to a quarter of a second old, so that any number of polling clients cost four
        look-ups a second.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        rows = await self._peeks.get(project_id, limit)
        if not rows:
            await self._require_project(project_id)
        return rows

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
        self._peeks.forget(project_id)
        return claimed

    async def _claim(self, project_id: uuid.UUID, limit: int, reviewer: str) -> list[DictRow]:
        return await self._database.fetch_all(
            queries.CLAIM,
            {
                "project_id": project_id,
                "reviewer": reviewer,
                "limit": limit,
                "ids": [new_id() for _ in range(limit)],
                # random, never counted up: a counter could be reissued after a crash
                "tokens": [uuid.uuid4() for _ in range(limit)],
            },
        )

    async def get(self, assignment_id: uuid.UUID, *, caller: Caller) -> DictRow:
        """An assignment, with the draft of a submit that came too late.

        Raises:
            NotFoundError: there is none that this caller may see.
        """
        row = await self._database.fetch_one(
            queries.GET_ASSIGNMENT,
            {**_scope(assignment_id, caller), "reviewer": caller.reviewer},
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
        async with self._database.transaction() as connection:
            row = await _lock(connection, assignment_id, caller)
            _require_lease(row, lease_token, caller)
            cursor = await connection.execute(
                queries.RENEW, {"assignment_id": assignment_id}, prepare=True
            )
            renewed = await cursor.fetchone()
        assert renewed is not None
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
        async with self._database.transaction() as connection:
            row = await _lock(connection, assignment_id, caller)
            _require_lease(row, lease_token, caller)
            await connection.execute(
                queries.HAND_BACK,
                {"assignment_id": assignment_id, "state": how.value},
                prepare=True,
            )
        self._peeks.forget(row["project_id"])

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
        late: GoneError | ConflictError | None = None
        recorded: RecordedReview | None = None
        async with self._database.transaction() as connection:
            row = await _lock(connection, assignment_id, caller)
            try:
                _require_holder(row, lease_token, caller)
                if row["state"] == "submitted":
                    return await _recorded(connection, row, verdict)
                _require_lease(row, lease_token, caller)
            except _LeaseLostError as error:
                await connection.execute(
                    queries.KEEP_DRAFT,
                    {"assignment_id": assignment_id, "draft": Jsonb(verdict.as_draft())},
                )
                late = error.problem
            else:
                recorded = await _record(connection, row, verdict)
        if late is not None:
            raise late
        assert recorded is not None
        self._peeks.forget(recorded.project_id)
        return recorded

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
        return len(rows)

    async def _require_project(self, project_id: uuid.UUID) -> None:
        if await self._database.fetch_one(queries.PROJECT_EXISTS, {"project_id": project_id}):
            return
        raise NotFoundError("no such project")


class _LeaseLostError(Exception):
    """The lease was this caller's and is no more; carries what to answer."""

    def __init__(self, problem: GoneError | ConflictError) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def _scope(assignment_id: uuid.UUID, caller: Caller) -> dict[str, Any]:
    projects = None if caller.project_ids is None else list(caller.project_ids)
    return {"assignment_id": assignment_id, "projects": projects}


async def _lock(connection: Connection, assignment_id: uuid.UUID, caller: Caller) -> DictRow:
    cursor = await connection.execute(
        queries.LOCK_ASSIGNMENT, _scope(assignment_id, caller), prepare=True
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError("no such assignment")
    return row


def _require_holder(row: DictRow, lease_token: uuid.UUID, caller: Caller) -> None:
    if row["reviewer"] != caller.reviewer or not hmac.compare_digest(
        row["lease_token"].bytes, lease_token.bytes
    ):
        raise ConflictError("another holds this assignment", code="lease_held_by_another")


def _require_lease(row: DictRow, lease_token: uuid.UUID, caller: Caller) -> None:
    _require_holder(row, lease_token, caller)
    if row["state"] in {"submitted", "released", "skipped"}:
        raise ConflictError(f"this assignment was {row['state']} already", code="assignment_closed")
    if row["taken_over"]:
        raise _LeaseLostError(
            ConflictError(
                "the lease ran out and another reviewer has the item now",
                code="lease_held_by_another",
            )
        )
    if row["state"] == "expired" or not row["alive"]:
        raise _LeaseLostError(GoneError("the lease ran out", code="lease_expired"))


async def _recorded(connection: Connection, row: DictRow, verdict: Verdict) -> RecordedReview:
    cursor = await connection.execute(queries.RECORDED, {"assignment_id": row["id"]})
    review = await cursor.fetchone()
    assert review is not None, "a submitted assignment has its review"
    if (review["label"], review["comment"]) != (verdict.label, verdict.comment):
        raise ConflictError(
            "this assignment was submitted already, with another verdict",
            code="assignment_closed",
        )
    predicted = review["predicted"]
    return RecordedReview(
        review_id=review["id"],
        item_id=review["item_id"],
        project_id=review["project_id"],
        label=review["label"],
        agreed=None if predicted is None else predicted == review["label"],
        created_at=review["created_at"],
    )


async def _record(connection: Connection, row: DictRow, verdict: Verdict) -> RecordedReview:
    cursor = await connection.execute(
        queries.ITEM_UNDER_REVIEW, {"item_id": row["item_id"]}, prepare=True
    )
    item = await cursor.fetchone()
    assert item is not None, "an assignment holds its item by a foreign key"
    labels = read_label_set(item["definition"])
    if verdict.label not in labels.names:
        raise invalid_field("/label", "is not a label of the project's schema")
    if item["state"] != ItemState.IN_REVIEW:
        raise ConflictError("the item is not in review any more", code="item_not_in_review")
    review_id, predicted = new_id(), item["label"]
    deltas = verdict_deltas(
        schema_version=item["label_schema_version"],
        confidence=item["confidence"],
        predicted=None if predicted is None else labels.index(predicted),
        actual=labels.index(verdict.label),
    )
    told = _told(row, item, review_id, verdict.label)
    cursor = await connection.execute(
        queries.RECORD_REVIEW,
        {
            "assignment_id": row["id"],
            "item_id": row["item_id"],
            "round": row["round"],
            "reviewer": row["reviewer"],
            "review_id": review_id,
            "final_id": new_id(),
            "label": verdict.label,
            "comment": verdict.comment,
            "prediction_id": item["prediction_id"],
            "policy_id": item["policy_id"],
            "label_schema_id": item["label_schema_id"],
            **counters.parameters(row["project_id"], deltas),
            **events.parameters(row["project_id"], told),
        },
        prepare=True,
    )
    recorded = await cursor.fetchone()
    assert recorded is not None
    return RecordedReview(
        review_id=review_id,
        item_id=row["item_id"],
        project_id=row["project_id"],
        label=verdict.label,
        agreed=None if predicted is None else predicted == verdict.label,
        created_at=recorded["created_at"],
    )


def _told(row: DictRow, item: DictRow, review_id: uuid.UUID, label: str) -> list[NewEvent]:
    item_id = to_wire(Kind.ITEM, row["item_id"])
    return [
        NewEvent(
            EventType.REVIEW_SUBMITTED,
            {
                "review_id": to_wire(Kind.REVIEW, review_id),
                "item_id": item_id,
                "reviewer": row["reviewer"],
                "agreed": None if item["label"] is None else item["label"] == label,
            },
        ),
        NewEvent(EventType.ITEM_COMPLETED, {"item_id": item_id, "route": item["route"]}),
    ]
