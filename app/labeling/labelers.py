"""Labelers as their owners ask about them: what would be sent, and what their endpoint can do.

For the API process, which has no client of the models' SDK until somebody probes.
"""

from __future__ import annotations

import asyncio
import importlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.rows import DictRow

from app.access.keys import Caller
from app.domain.confidence import ConfidenceSource
from app.domain.content import TemplateError
from app.domain.kinds.base import LabelSchema
from app.domain.prompting import prompt_version
from app.errors import ConflictError, NotFoundError, invalid_field
from app.infra.db import Database
from app.labeling import findings
from app.labeling.endpoint import ModelClients, address_of
from app.labeling.findings import AUTO, Finding, finding_key
from app.labeling.probing import ProbeFailed, Prober
from app.labeling.question import Request, build_question
from app.labeling.way import Api, Way
from app.projects.schema_cache import read_schema

_LOAD = """
SELECT l.id, l.project_id, l.model, l.base_url, l.instructions, l.parameters, l.source, l.api,
       l.template, l.examples, s.kind, s.definition
FROM labelers l
JOIN projects p ON p.id = l.project_id
JOIN label_schemas s ON s.id = p.label_schema_id
WHERE l.id = %(labeler_id)s
"""
_NO_LABELER = "no such labeler"


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be sent for an item.

    Attributes:
        request: the path behind the base URL, and the body.
        way: by which it would be asked.
        assumed: whether the endpoint is yet to be probed, so that the way may be another one.
        calls: how often it would be sent, but for a repair.
        prompt_version: of the words it uses.
    """

    request: Request
    way: Way
    assumed: bool
    calls: int
    prompt_version: str


class LabelerService:
    """Shows what a labeler sends, and probes its endpoint."""

    def __init__(self, database: Database, *, base_url: str | None, api_key: str | None) -> None:
        """The base URL and the key are the service's own; the key is sent nowhere else."""
        self._database = database
        self._base_url = base_url
        self._api_key = api_key
        self._opening = asyncio.Lock()
        self._clients: Any = None

    async def preview(
        self, labeler_id: uuid.UUID, content: Mapping[str, Any], *, caller: Caller
    ) -> Preview:
        """The exact request for an item, without sending it.

        Args:
            labeler_id: any revision; its project's current schema is asked for.
            content: of an item, in the form that is stored.
            caller: who wants to see it.

        Raises:
            NotFoundError: there is no such labeler that this caller may see.
            ConflictError: its labels come from elsewhere.
            InvalidError: the item lacks a field that the labeler's template names.
        """
        row, schema = await self._load(labeler_id, caller)
        way = await self._known_way(row, schema)
        assumed = way is None
        question = build_question(row, schema=schema, way=way or Way(api=Api(row["api"])))
        try:
            prompt = question.prompt(content)
        except TemplateError as error:
            raise invalid_field("/item/fields", str(error)) from error
        return Preview(
            question.request(prompt), question.way, assumed, question.votes, prompt_version(schema)
        )

    async def probe(self, labeler_id: uuid.UUID, *, caller: Caller) -> Finding | ProbeFailed:
        """Asks the endpoint anew how it can be asked, and keeps the answer for all who label.

        Raises:
            NotFoundError: there is no such labeler that this caller may see.
            ConflictError: its labels come from elsewhere.
        """
        row, schema = await self._load(labeler_id, caller)
        prober = Prober(self._database, await self._opened())
        return await prober.probe(row, schema=schema, force=True)

    async def close(self) -> None:
        """Closes what a probe opened."""
        if self._clients is not None:
            await self._clients.close()

    async def _load(self, labeler_id: uuid.UUID, caller: Caller) -> tuple[DictRow, LabelSchema]:
        row = await self._database.fetch_one(_LOAD, {"labeler_id": labeler_id})
        if row is None or not caller.sees(row["project_id"]):
            raise NotFoundError(_NO_LABELER)
        if row["source"] == ConfidenceSource.EXTERNAL.value:
            raise ConflictError("no model is asked: this labeler's labels are made elsewhere")
        return row, read_schema(row["kind"], row["definition"])

    async def _known_way(self, row: DictRow, schema: LabelSchema) -> Way | None:
        address = address_of(row["base_url"] or self._base_url)
        key = finding_key(row, schema=schema, address=address, source=row["source"])
        known = await findings.find(self._database, key)
        if known is not None:
            return known.way
        return None if row["source"] == AUTO else Way.named(row["source"], row["api"])

    async def _opened(self) -> ModelClients:
        async with self._opening:
            if self._clients is None:
                # the SDK takes a second to import: not on the loop that answers everybody
                module = await asyncio.to_thread(importlib.import_module, "app.labeling.client")
                self._clients = module.OpenAIClients(
                    base_url=self._base_url, api_key=self._api_key, calls_in_flight=4
                )
            clients: ModelClients = self._clients
            return clients
