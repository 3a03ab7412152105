"""Label schemas by version, kept in the process: a version never changes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from psycopg.rows import DictRow

from app.domain.kinds import parse_schema
from app.domain.kinds.base import LabelSchema
from app.infra.db import Database

_MAX_KEPT = 1000
_DEFINITION = "SELECT kind, definition FROM label_schemas WHERE id = %(label_schema_id)s"
# any version: they are all of one kind
_OF_PROJECT = (
    "SELECT id, kind, definition FROM label_schemas WHERE project_id = %(project_id)s LIMIT 1"
)


def read_schema(kind: str, definition: dict[str, Any]) -> LabelSchema:
    """A stored schema."""
    return parse_schema({**definition, "kind": kind})


class SchemaCache:
    """Remembers schemas: reading one checks every name, which costs more than a verdict."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[uuid.UUID, LabelSchema] = {}
        self._of_projects: dict[uuid.UUID, LabelSchema] = {}

    async def get(self, label_schema_id: uuid.UUID) -> LabelSchema:
        """A stored schema version, which must exist."""
        kept = self._kept.get(label_schema_id)
        if kept is None:
            row = await self._database.fetch_one(_DEFINITION, {"label_schema_id": label_schema_id})
            assert row is not None, "schema versions are never removed before their project"
            kept = _keep(self._kept, label_schema_id, read_schema(row["kind"], row["definition"]))
        return kept

    async def of_project(self, project_id: uuid.UUID) -> LabelSchema | None:
        """Any version of a project's schema, None where there is no such project.

        All are of one kind and so read stored values alike; for whatever depends on the version,
        `get` it.
        """
        kept = self._of_projects.get(project_id)
        if kept is None:
            row = await self._database.fetch_one(_OF_PROJECT, {"project_id": project_id})
            if row is None:
                return None
            schema = read_schema(row["kind"], row["definition"])
            kept = _keep(self._of_projects, project_id, schema)
        return kept

    async def decode(self, project_id: uuid.UUID, rows: Iterable[DictRow]) -> None:
        """`decode_row` for rows of one project, which may have been removed meanwhile."""
        schema = await self.of_project(project_id)
        if schema is not None:
            for row in rows:
                decode_row(schema, row)


def decode_row(schema: LabelSchema, row: DictRow) -> None:
    """Puts values in the place of the texts that a row of an item or a prediction stores them by.

    Of its fields `label`, `final_label` and `alternatives` those that it has.
    """
    if schema.STRINGS:
        return
    for name in ("label", "final_label"):
        if row.get(name) is not None:
            row[name] = schema.decode(row[name])
    if row.get("alternatives"):
        row["alternatives"] = [[schema.decode(text), mass] for text, mass in row["alternatives"]]


def _keep(kept: dict[uuid.UUID, LabelSchema], key: uuid.UUID, schema: LabelSchema) -> LabelSchema:
    if len(kept) >= _MAX_KEPT:
        kept.clear()
    kept[key] = schema
    return schema
