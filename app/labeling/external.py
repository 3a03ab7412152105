"""Labels made elsewhere: by a vision model, a classifier, another service. Routed as our own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg.rows import DictRow

from app.access.keys import Caller
from app.domain.confidence import ConfidenceSource
from app.domain.content import TemplateError, text_of
from app.domain.external import score_external
from app.domain.kinds.base import LabelSchema, Score, ValueFaultError
from app.domain.unknown import Unknown
from app.errors import NotFoundError
from app.infra.db import Database
from app.infra.ids import new_id, uuid_array
from app.labeling import external_queries as queries
from app.labeling.answer import Reading
from app.labeling.call import Answered, Job
from app.labeling.plan import Settled
from app.labeling.record import Recorder, Source, hold_project
from app.labeling.spending import count_as_spent
from app.projects.schema_cache import SchemaCache
from app.projects.service import NO_PROJECT, require_visible


@dataclass(frozen=True, slots=True)
class ExternalPrediction:
    """A label for an item, which is named by one of its two ids.

    Attributes:
        item_id, external_id: the item's.
        label: JSON, checked against the project's label schema.
        confidence: probability in [0, 1]; None where its producer gave none.
        probabilities: of all labels, in the place of a confidence; None where there are none.
    """

    item_id: uuid.UUID | None
    external_id: str | None
    label: Any
    confidence: float | None
    probabilities: dict[str, float] | None


class TakenStatus(StrEnum):
    """What became of a row.

    EXISTING: the item has this very label of this producer. CONFLICT: it was labelled already.
    """

    TAKEN = "taken"
    EXISTING = "existing"
    CONFLICT = "conflict"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class TakenRow:
    """The outcome of one row.

    Attributes:
        status: what became of it.
        item_id: whose label it is; None where the row names no item.
        pointer, detail: of an invalid row: what is wrong with it, within the row.
    """

    status: TakenStatus
    item_id: uuid.UUID | None
    pointer: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Good:
    """A row that can be stored, if its item still waits."""

    item: DictRow
    reading: Reading


class ExternalPredictions:
    """Takes labels in and routes them by the project's policy."""

    def __init__(self, database: Database, schemas: SchemaCache) -> None:
        self._database = database
        self._schemas = schemas
        self._recorder = Recorder(database)

    async def take(
        self,
        project_id: uuid.UUID,
        rows: Sequence[ExternalPrediction],
        *,
        producer: str,
        caller: Caller,
    ) -> list[TakenRow]:
        """Stores labels and routes their items; one outcome a row, in order.

        An item that is labelled already keeps its label: a bad row, or one too late, loses no
        other. Sending the same again is harmless.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        project = await self._database.fetch_one(queries.PROJECT, {"project_id": project_id})
        if project is None:
            raise NotFoundError(NO_PROJECT)
        schema = await self._schemas.get(project["label_schema_id"])
        items = await self._find(project_id, rows, with_content=schema.NEEDS_TEXT)
        # a thousand large values take a second: beside the loop that answers everybody
        read = await asyncio.to_thread(
            lambda: [_read(row, items, schema, template=project["template"]) for row in rows]
        )
        good: dict[uuid.UUID, _Good] = {}
        for each in read:
            if isinstance(each, _Good):
                good.setdefault(each.item["id"], each)
        if good:
            labeler_id = await self._producer(project_id, producer, template=project["template"])
            source = Source(project_id, labeler_id, project["label_schema_id"], endpoint="")
            taken = await self._store(source, good)
            won = {id(good[item_id]) for item_id in taken}
            late = [row for row, each in zip(rows, read, strict=True) if id(each) not in won]
            # how the items of those that came too late, or twice, stand by now
            now = await self._find(project_id, late, with_content=False) if late else {}
        outcomes: list[TakenRow] = []
        for each in read:
            if isinstance(each, TakenRow):
                outcomes.append(each)
            elif id(each) in won:
                outcomes.append(TakenRow(TakenStatus.TAKEN, each.item["id"]))
            else:
                outcomes.append(_late(each, now.get(each.item["id"]), labeler_id=labeler_id))
        return outcomes

    async def _find(
        self, project_id: uuid.UUID, rows: Sequence[ExternalPrediction], *, with_content: bool
    ) -> dict[uuid.UUID | str, DictRow]:
        """The items that rows speak of, by both their ids."""
        found = await self._database.fetch_all(
            queries.ITEMS,
            {
                "project_id": project_id,
                "item_ids": uuid_array({row.item_id for row in rows if row.item_id}),
                "external_ids": [row.external_id for row in rows if row.external_id],
                "with_content": with_content,
            },
        )
        by_id: dict[uuid.UUID | str, DictRow] = {row["id"]: row for row in found}
        return by_id | {row["external_id"]: row for row in found if row["external_id"]}

    async def _store(self, source: Source, good: dict[uuid.UUID, _Good]) -> set[uuid.UUID]:
        """The items whose label was stored: those that still waited for one."""
        waiting = [item_id for item_id, each in good.items() if _waits(each.item)]
        if not waiting:
            return set()
        token = uuid.uuid4()
        named = {"project_id": source.project_id, "item_ids": uuid_array(waiting), "token": token}
        async with self._database.transaction() as connection:
            policy_id = await hold_project(connection, source.project_id)
            if policy_id is None:
                # it was deleted meanwhile, and its items with it
                raise NotFoundError(NO_PROJECT)
            cursor = await connection.execute(queries.TAKE, named)
            rows = await cursor.fetchall()
            await count_as_spent(connection, rows)
            settled = [
                _settled(good[row["id"]].reading, Job(row["id"], token, row["attempts"], {}))
                for row in rows
            ]
            await self._recorder.settle(connection, source, settled, policy_id=policy_id)
        return {row["id"] for row in rows}

    async def _producer(
        self, project_id: uuid.UUID, producer: str, *, template: str | None
    ) -> uuid.UUID:
        """The labeler that stands for a producer; its text is made as the project's is."""
        named = {"project_id": project_id, "producer": producer, "template": template}
        known = await self._database.fetch_one(queries.PRODUCER, named)
        if known is None:
            async with self._database.transaction() as connection:
                # producers met at once take turns
                cursor = await connection.execute(queries.HOLD_PROJECT, {"project_id": project_id})
                if await cursor.fetchone() is None:
                    raise NotFoundError(NO_PROJECT)
                cursor = await connection.execute(queries.PRODUCER, named)
                known = await cursor.fetchone()
                if known is None:
                    known = {"id": new_id()}
                    await connection.execute(queries.ADD_PRODUCER, {**named, **known})
        labeler_id: uuid.UUID = known["id"]
        return labeler_id


def _read(
    row: ExternalPrediction,
    items: dict[uuid.UUID | str, DictRow],
    schema: LabelSchema,
    *,
    template: str | None,
) -> _Good | TakenRow:
    key = row.item_id or row.external_id
    item = items.get(key) if key is not None else None
    if item is None:
        pointer = "/item_id" if row.item_id else "/external_id"
        return TakenRow(TakenStatus.INVALID, None, pointer, "is no item of this project")
    try:
        value = schema.accept(row.label, text=_text(item, template))
    except ValueFaultError as error:
        return _invalid(item, f"/label{error.pointer}", error.detail)
    try:
        score = score_external(
            schema, value, confidence=row.confidence, probabilities=row.probabilities
        )
    except ValueFaultError as error:
        return _invalid(item, error.pointer, error.detail)
    return _Good(
        item,
        Reading(
            label=schema.encode(value),
            score=score if isinstance(score, Score) else None,
            unknown=score if isinstance(score, Unknown) else None,
            answer=None,
            evidence=None,
            source=ConfidenceSource.EXTERNAL,
        ),
    )


def _settled(reading: Reading, job: Job) -> Settled:
    return Settled(Answered(job, reading, repaired=False, seconds=0.0), job.attempts)


def _text(item: DictRow, template: str | None) -> str | None:
    if item["content"] is None:
        return None
    try:
        return text_of(item["content"], template=template)
    except TemplateError:
        return text_of(item["content"])


def _invalid(item: DictRow, pointer: str, detail: str) -> TakenRow:
    return TakenRow(TakenStatus.INVALID, item["id"], pointer, detail)


def _waits(item: DictRow) -> bool:
    return item["state"] in {"pending", "labeling"}


def _late(each: _Good, item: DictRow | None, *, labeler_id: uuid.UUID) -> TakenRow:
    """Of a row whose item is labelled, and stands so now; None: it is gone."""
    score = each.reading.score
    said = (each.reading.label, None if score is None else score.confidence)
    same = (
        item is not None
        and item["labeler_id"] == labeler_id
        and said == (item["label"], item["confidence"])
    )
    return TakenRow(TakenStatus.EXISTING if same else TakenStatus.CONFLICT, each.item["id"])
