"""What turns cost, written by the transaction that ends their leases."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from app.infra.db import Connection, json_rows
from app.labeling import budget_queries


@dataclass(frozen=True, slots=True)
class Turn:
    """An item's turn with a labeler that has prices.

    Attributes:
        item_id, token: which turn.
        micros: what it cost.
        calls: requests that were sent; a turn without any costs nothing and is not kept.
        labeled: whether it brought a label.
        reserved: what its lease held, given back now; 0 where somebody else ended the lease.
        estimated: whether nobody knows what it cost, and `micros` is what was reckoned with.
    """

    item_id: uuid.UUID
    token: uuid.UUID
    micros: int
    calls: int
    labeled: bool = False
    reserved: int = 0
    estimated: bool = False


async def spend(connection: Connection, project_id: uuid.UUID, turns: Iterable[Turn]) -> None:
    """Counts what turns cost and gives back what was reserved for them."""
    rows = [
        {
            "item_id": str(turn.item_id),
            "token": str(turn.token),
            "micros": turn.micros,
            "calls": turn.calls,
            "labels": int(turn.labeled),
            "estimated": turn.estimated,
            "reserved": turn.reserved,
        }
        for turn in turns
        if turn.calls or turn.reserved
    ]
    if rows:
        await connection.execute(
            budget_queries.SPEND, {"project_id": project_id, "rows": json_rows(rows)}, prepare=True
        )
