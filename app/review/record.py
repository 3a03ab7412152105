"""Verdicts: stored once, with everything that follows from them, in one transaction."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow

from app.domain.kinds.base import LabelSchema, ValueFaultError
from app.domain.states import ItemState
from app.errors import ConflictError, InvalidError, invalid_field
from app.infra.db import Database, is_unavailable, json_rows
from app.infra.ids import Kind, new_id, to_wire
from app.infra.together import Together
from app.ledger import events
from app.ledger.events import EventType, NewEvent
from app.projects.schema_cache import SchemaCache
from app.review import queries
from app.review.verdict import verdict_counts


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person decided."""

    label: Any
    comment: str | None

    def as_draft(self) -> dict[str, Any]:
        return {"label": self.label, "comment": self.comment}


@dataclass(frozen=True, slots=True)
class RecordedReview:
    """A verdict that counts."""

    review_id: uuid.UUID
    item_id: uuid.UUID
    project_id: uuid.UUID
    label: Any
    agreed: bool | None
    created_at: datetime


async def recorded(
    database: Database,
    row: DictRow,
    verdict: Verdict,
    *,
    schemas: SchemaCache,
    text: str | None,
) -> RecordedReview:
    """What a submitted assignment was answered with, for the same verdict sent again.

    Read by the schema by which it was stored: the project may have another one now.

    Raises:
        ConflictError: the verdict differs from the one stored.
    """
    review = await database.fetch_one(queries.RECORDED, {"assignment_id": row["id"]})
    assert review is not None, "a submitted assignment has its review"
    schema = await schemas.get(review["label_schema_id"])
    try:
        label = schema.encode(accepted(schema, verdict, text=text))
    except InvalidError:
        label = None
    if (review["label"], review["comment"]) != (label, verdict.comment):
        raise ConflictError(
            "this assignment was submitted already, with another verdict",
            code="assignment_closed",
        )
    value = schema.decode(review["label"])
    predicted = _predicted(schema, review["predicted"], text=text)
    agreed = None if review["predicted"] is None else False
    if predicted is not None:
        agreed = await asyncio.to_thread(schema.equal, predicted, value)
    return RecordedReview(
        review_id=review["id"],
        item_id=review["item_id"],
        project_id=review["project_id"],
        label=value,
        agreed=agreed,
        created_at=review["created_at"],
    )


class Recorder:
    """Stores verdicts; those of one project that come at the same time share a commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._together: Together[uuid.UUID, dict[str, Any], datetime | None] = Together(
            self._write, at_most=50, at_once=2, concerns_all=is_unavailable
        )

    async def record(
        self, row: DictRow, verdict: Verdict, *, schema: LabelSchema, text: str | None, alone: bool
    ) -> RecordedReview | None:
        """Stores a verdict and completes its item, in one statement that commits by itself.

        Args:
            row: how the assignment and its item stood, as `lease.Standings` read it.
            verdict: what was decided.
            schema: the project's current one.
            text: the item's text, where the schema needs it.
            alone: waits for whoever holds the item, where others that are recorded together with
                it would have to wait as well.

        Returns:
            What was stored; None, and nothing stored, if the lease or the item has moved since, or
            somebody else holds it at the moment.

        Raises:
            InvalidError: the label is not of the schema.
            ConflictError: the item is not in review any more.
        """
        value = accepted(schema, verdict, text=text)
        if row["item_state"] != ItemState.IN_REVIEW:
            raise ConflictError("the item is not in review any more", code="item_not_in_review")
        review_id = new_id()
        count = functools.partial(
            verdict_counts,
            schema,
            version=row["label_schema_version"],
            confidence=row["confidence"],
            predicted=_predicted(schema, row["label"], text=text),
            actual=value,
        )
        # a choice is compared at once; other values may keep everybody waiting
        counts = count() if schema.CONFUSION else await asyncio.to_thread(count)
        # a label that this version of the schema does not know is one all the same, and another
        agreed = False if counts.equal is None and row["label"] is not None else counts.equal
        project_id: uuid.UUID = row["project_id"]
        given = {
            "assignment_id": str(row["id"]),
            "reviewer": row["reviewer"],
            "lease_token": str(row["lease_token"]),
            "prediction_id": None if row["prediction_id"] is None else str(row["prediction_id"]),
            "review_id": str(review_id),
            "final_id": str(new_id()),
            "label": schema.encode(value),
            "comment": verdict.comment,
            "label_schema_id": str(row["label_schema_id"]),
            "tally": counts.tally,
            "deltas": counts.deltas,
            "events": events.as_rows(_told(row, review_id, agreed=agreed)),
        }
        if alone:
            (created_at,) = await self._write(project_id, [given], statement=queries.RECORD_ALONE)
        else:
            created_at = await self._together.ask(project_id, given)
        if created_at is None:
            return None
        return RecordedReview(
            review_id=review_id,
            item_id=row["item_id"],
            project_id=project_id,
            label=value,
            agreed=agreed,
            created_at=created_at,
        )

    async def _write(
        self,
        project_id: uuid.UUID,
        given: Sequence[dict[str, Any]],
        *,
        statement: str = queries.RECORD_TOGETHER,
    ) -> list[datetime | None]:
        """When each was stored, None for what was not."""
        rows = await self._database.fetch_all(
            statement, {"project_id": project_id, "rows": json_rows(given)}
        )
        stored = {str(row["id"]): row["created_at"] for row in rows}
        return [stored.get(each["review_id"]) for each in given]


def accepted(schema: LabelSchema, verdict: Verdict, *, text: str | None) -> Any:
    """The verdict's value as the schema spells it.

    Raises:
        InvalidError: it is none of the schema's.
    """
    try:
        return schema.accept(verdict.label, text=text)
    except ValueFaultError as error:
        raise invalid_field(f"/label{error.pointer}", error.detail) from error


def _predicted(schema: LabelSchema, stored: str | None, *, text: str | None) -> Any | None:
    """The model's value; None where it gave none, or none that this schema version knows."""
    if stored is None:
        return None
    try:
        return schema.accept(schema.decode(stored), text=text)
    except ValueFaultError:
        return None


def _told(row: DictRow, review_id: uuid.UUID, *, agreed: bool | None) -> list[NewEvent]:
    item_id = to_wire(Kind.ITEM, row["item_id"])
    return [
        NewEvent(
            EventType.REVIEW_SUBMITTED,
            {
                "review_id": to_wire(Kind.REVIEW, review_id),
                "item_id": item_id,
                "reviewer": row["reviewer"],
                "agreed": agreed,
            },
        ),
        NewEvent(EventType.ITEM_COMPLETED, {"item_id": item_id, "route": row["route"]}),
    ]
