"""What turns cost, written by the transaction that ends their leases."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg.rows import DictRow

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


async def count_as_spent(connection: Connection, lost: Sequence[DictRow]) -> None:
    """Counts what was reserved for turns that somebody else ended, until who had them tells.

    Their calls were most likely sent, and are paid for. To give the reservations back would let a
    worker that dies again and again spend without end.

    Args:
        connection: in the transaction that ends their leases.
        lost: `id`, `project_id`, and the `lease_token` and `reserved_micros` that the item had.
    """
    turns: dict[uuid.UUID, list[Turn]] = {}
    for row in lost:
        if reserved := row["reserved_micros"]:
            turn = Turn(
                row["id"],
                row["lease_token"],
                micros=reserved,
                calls=1,
                reserved=reserved,
                estimated=True,
            )
            turns.setdefault(row["project_id"], []).append(turn)
    # in one order, as all who hold several budgets
    for project_id, of_project in sorted(turns.items()):
        await spend(connection, project_id, of_project)
