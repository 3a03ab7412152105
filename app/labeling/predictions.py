"""Reading predictions back."""

from __future__ import annotations

import uuid

from psycopg.rows import DictRow

from app.access.keys import Caller
from app.infra.db import Database
from app.items.service import ItemService
from app.labeling import queries
from app.projects.schema_cache import SchemaCache


class PredictionService:
    """What labelers said of an item."""

    def __init__(self, database: Database, items: ItemService, schemas: SchemaCache) -> None:
        self._database = database
        self._items = items
        self._schemas = schemas

    async def list_predictions(
        self, item_id: uuid.UUID, *, with_evidence: bool, caller: Caller
    ) -> list[DictRow]:
        """All predictions of an item, newest first.

        Raises:
            NotFoundError: there is no such item that this caller may see.
        """
        item = await self._items.get(item_id, caller=caller)
        rows = await self._database.fetch_all(
            queries.PREDICTIONS, {"item_id": item_id, "with_evidence": with_evidence}
        )
        await self._schemas.decode(item["project_id"], rows)
        return rows
