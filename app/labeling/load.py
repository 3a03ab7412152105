"""What a drain knows of its project: whose answers these will be, what is asked, and where."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain import prompting
from app.infra.db import Database
from app.labeling import queries
from app.labeling.endpoint import ModelClient, ModelClients
from app.labeling.question import Question
from app.labeling.record import Source
from app.projects.schema_cache import read_schema


@dataclass(frozen=True, slots=True)
class LoadedProject:
    """A project as a drain needs it; versions never change while it runs.

    Attributes:
        source: provenance of every prediction.
        question: what is asked.
        client: of the endpoint.
        limits: the labeler's, as stored; None where it has none.
        prices: the labeler's, as stored; None where it has none.
    """

    source: Source
    question: Question
    client: ModelClient
    limits: Mapping[str, Any] | None = None
    prices: Mapping[str, Any] | None = None


async def load_project(
    database: Database, clients: ModelClients, project_id: uuid.UUID
) -> LoadedProject | None:
    """The project; None where it is gone."""
    row = await database.fetch_one(queries.LOAD_PROJECT, {"project_id": project_id})
    if row is None:
        return None
    schema = read_schema(row["kind"], row["definition"])
    return LoadedProject(
        source=Source(
            project_id=project_id,
            labeler_id=row["labeler_id"],
            label_schema_id=row["label_schema_id"],
            endpoint=row["endpoint"],
        ),
        question=Question(
            model=row["model"],
            system=prompting.system_prompt(schema, instructions=row["instructions"]),
            schema=schema,
            parameters=row["parameters"],
        ),
        client=clients.get(row["base_url"]),
        limits=row["limits"],
        prices=row["prices"],
    )
