"""Label sets by schema version, kept in the process: a version never changes."""

from __future__ import annotations

import uuid
from typing import Any

from app.domain.labels import LabelSet
from app.infra.db import Database

_MAX_KEPT = 1000
_DEFINITION = "SELECT definition FROM label_schemas WHERE id = %(label_schema_id)s"


def read_label_set(definition: dict[str, Any]) -> LabelSet:
    """The label set of a stored schema."""
    return LabelSet.from_dicts(definition["labels"])


class LabelSets:
    """Remembers label sets: reading one checks every name, which costs more than a verdict."""

    def __init__(self) -> None:
        self._kept: dict[uuid.UUID, LabelSet] = {}

    async def get(self, database: Database, label_schema_id: uuid.UUID) -> LabelSet:
        """The label set of a stored schema version, which must exist."""
        kept = self._kept.get(label_schema_id)
        if kept is None:
            row = await database.fetch_one(_DEFINITION, {"label_schema_id": label_schema_id})
            assert row is not None, "schema versions are never removed before their project"
            kept = read_label_set(row["definition"])
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[label_schema_id] = kept
        return kept
