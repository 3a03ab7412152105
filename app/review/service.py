"""Reviewing: peek, claim, renew, hand back, submit. Leases are fenced by a random token."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from app.access.keys import Caller
from app.domain.content import TemplateError, text_of
from app.errors import NotFoundError
from app.infra.db import Database, is_unavailable, json_rows
from app.infra.ids import Kind, new_id, to_wire
from app.infra.metrics import leases_expired, review_recorded
from app.infra.together import Together
from app.ledger import events
from app.ledger.events import EventType, NewEvent
from app.projects.schema_cache import SchemaCache, decode_row
from app.projects.service import require_visible
from app.review import lease, queries
from app.review.peek import Head, PeekCache
from app.review.record import RecordedReview, Recorder, Verdict, recorded


class HandBack(StrEnum):
    """How an assignment is given back undecided.

    RELEASED: the item is free for anybody, this reviewer included. SKIPPED: for anybody else.
    """

    RELEASED = "released"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class _Ask:
    """How many items a reviewer wants."""

    reviewer: str
    limit: int

    def less(self, got: int) -> _Ask:
        return _Ask(self.reviewer, self.limit - got)


@dataclass(slots=True)
class _Got:
    """What fell to a reviewer, and whether something did that this reviewer had had before."""

    rows: list[DictRow]
    refused: bool


class ReviewService:
    """The way of an item through people's hands."""

    def __init__(self, database: Database, schemas: SchemaCache | None = None) -> None:
        """A cache of schemas is shared where a process has one."""
        self._database = database
        self._schemas = schemas or SchemaCache(database)
        self._peeks = PeekCache(database, self._schemas)
        self._standings = lease.Standings(database)
        self._recorder = Recorder(database)
        self._claims: Together[uuid.UUID, _Ask, _Got] = Together(
            self._claim_together, at_most=50, at_once=2, concerns_all=is_unavailable
        )

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
        ask = _Ask(caller.reviewer, limit)
        got = await self._claims.ask(project_id, ask)
        claimed = got.rows
        if got.refused:
            claimed += await self._claim_alone(project_id, ask.less(len(claimed)))
        if len(claimed) < limit and await self.expire(project_id):
            # leases that ran out since the last sweep are free for whoever asks now
            claimed += await self._claim_alone(project_id, ask.less(len(claimed)))
        if not claimed:
            await self._require_project(project_id)
        self._peeks.changed(project_id, reviewer=caller.reviewer)
        return await self._readable(project_id, claimed)

    async def _claim_together(self, project_id: uuid.UUID, asks: Sequence[_Ask]) -> list[_Got]:
        places = [place for place, ask in enumerate(asks) for _ in range(ask.limit)]
        rows = await self._database.fetch_all(
            queries.CLAIM_TOGETHER,
            _claim_parameters(project_id, [asks[place].reviewer for place in places]),
        )
        got = [_Got([], refused=False) for _ in asks]
        for place, row in zip(places, rows, strict=True):
            if row["id"] is not None:
                got[place].rows.append(row)
            got[place].refused |= row["refused"]
        return got

    async def _claim_alone(self, project_id: uuid.UUID, ask: _Ask) -> list[DictRow]:
        rows = await self._database.fetch_all(
            queries.CLAIM_ALONE,
            {
                **_claim_parameters(project_id, [ask.reviewer] * ask.limit),
                "reviewer": ask.reviewer,
            },
        )
        return [row for row in rows if row["id"] is not None]

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
        await self._readable(row["project_id"], [row])
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
        return await self._readable(project_id, rows)

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
            await self._standings.refuse(assignment_id, lease_token, caller=caller)
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
            await self._standings.refuse(assignment_id, lease_token, caller=caller)
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
        tried = False
        while True:
            row = await self._standings.get(assignment_id, caller=caller)
            lease.require_holder(row, lease_token, caller=caller)
            schema = await self._schemas.get(row["label_schema_id"])
            text = await self._text(row["item_id"]) if schema.NEEDS_TEXT else None
            if row["state"] == "submitted":
                return await recorded(
                    self._database, row, verdict, schemas=self._schemas, text=text
                )
            try:
                lease.require_lease(row)
            except lease.LeaseLostError as error:
                await self._database.execute(
                    queries.KEEP_DRAFT,
                    {"assignment_id": assignment_id, "draft": Jsonb(verdict.as_draft())},
                )
                raise error.problem from None
            review = await self._recorder.record(
                row, verdict, schema=schema, text=text, alone=tried
            )
            if review is not None:
                self._peeks.changed(review.project_id, reviewer=caller.reviewer)
                review_recorded(agreed=review.agreed)
                return review
            # something moved between the two statements, or somebody held it: look again
            tried = True

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

    async def _readable(self, project_id: uuid.UUID, rows: list[DictRow]) -> list[DictRow]:
        """Rows of assignments with their values, and with the text that offsets count in."""
        schema = await self._schemas.of_project(project_id)
        for row in rows:
            row["text"] = None
            if schema is not None:
                decode_row(schema, row)
                if schema.NEEDS_TEXT:
                    row["text"] = await self._text(row["item_id"])
        return rows

    async def _text(self, item_id: uuid.UUID) -> str:
        row = await self._database.fetch_one(queries.TEXT, {"item_id": item_id})
        if row is None:
            raise NotFoundError("no such assignment")
        try:
            return text_of(row["content"], template=row["template"])
        except TemplateError:
            return text_of(row["content"])

    async def _require_project(self, project_id: uuid.UUID) -> None:
        if await self._database.fetch_one(queries.PROJECT_EXISTS, {"project_id": project_id}):
            return
        raise NotFoundError("no such project")


def _claim_parameters(project_id: uuid.UUID, reviewers: Sequence[str]) -> dict[str, Any]:
    """What a claim takes: whose each place is, with a fresh id and token for it."""
    asked = [
        {
            "position": position,
            "reviewer": reviewer,
            "id": str(new_id()),
            # random, never counted up: a counter could be reissued after a crash
            "token": str(uuid.uuid4()),
        }
        for position, reviewer in enumerate(reviewers, start=1)
    ]
    return {"project_id": project_id, "asked": json_rows(asked), "count": len(asked)}
