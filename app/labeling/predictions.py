"""Reading predictions back."""

from __future__ import annotations

import uuid

from psycopg.rows import DictRow

from app.access.keys import Caller
from app.infra.db import Database
from app.items.service import ItemService
from app.labeling import queries


class PredictionService:
    """What labelers said of an item."""

    def __init__(self, database: Database, items: ItemService) -> None:
        self._database = database
        self._items = items

    async def list_predictions(
        self, item_id: uuid.UUID, *, with_evidence: bool, caller: Caller
    ) -> list[DictRow]:
        """All predictions of an item, newest first.

        Raises:
            NotFoundError: there is no such item that this caller may see.
        """
        await self._items.get(item_id, caller=caller)
        return await self._database.fetch_all(
            queries.PREDICTIONS, {"item_id": item_id, "with_evidence": with_evidence}
        )
