"""What a project may spend on labels in a month, and where it stands."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from app.access.keys import Caller
from app.domain.budget import CALLS, COST_PREFIX, LABELS, TOTAL, Prices, month_counter
from app.errors import ConflictError, NotFoundError
from app.infra.db import Connection, Database
from app.infra.jobs import WakeUps
from app.labeling import budget_queries
from app.labeling.exhaustion import note_exhausted
from app.ledger import counters
from app.projects.service import require_visible

_NO_PROJECT = "no such project"


@dataclass(frozen=True, slots=True)
class Money:
    """What a project's labels cost. Amounts are micros of the currency.

    Attributes:
        currency: of the labeler's prices; None where it has none, so that nothing is counted.
        month: the running one in UTC, "2026-11".
        limit: of a month; None where there is no budget.
        spent: in the running month, so far.
        reserved: for what is being labelled.
        exhausted: whether labelling waits for a higher limit or the next month.
        total: spent since the project began.
        labels: that were had for it.
        calls: that were made for them, the failed ones included.
    """

    currency: str | None
    month: str
    limit: int | None
    spent: int
    reserved: int
    exhausted: bool
    total: int
    labels: int
    calls: int


async def read_money(database: Database, project_id: uuid.UUID) -> Money | None:
    """What a project's labels cost; None: there is no such project."""
    row = await database.fetch_one(budget_queries.STANDING, {"project_id": project_id})
    if row is None:
        return None
    counted = await counters.read(database, project_id, prefix=COST_PREFIX)
    prices = Prices.from_json(row["prices"])
    return Money(
        currency=None if prices is None else prices.currency,
        month=row["month"],
        limit=row["monthly_limit_micros"],
        spent=counted.get(month_counter(row["month"]), 0),
        reserved=row["reserved_micros"],
        exhausted=row["exhausted"],
        total=counted.get(TOTAL, 0),
        labels=counted.get(LABELS, 0),
        calls=counted.get(CALLS, 0),
    )


class BudgetService:
    """Sets and shows budgets."""

    def __init__(self, database: Database, wake_ups: WakeUps) -> None:
        self._database = database
        self._wake_ups = wake_ups

    async def get(self, project_id: uuid.UUID, *, caller: Caller) -> Money:
        """Where a project's budget stands.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        money = await read_money(self._database, project_id)
        if money is None:
            raise NotFoundError(_NO_PROJECT)
        return money

    async def set_limit(self, project_id: uuid.UUID, limit: int | None, *, caller: Caller) -> Money:
        """Limits what a project may spend in a month; None: no limit.

        It holds for every claim that begins from now on. What is being asked already, without a
        reservation, comes on top. Where as much is spent already, it is exhausted at once.

        Args:
            project_id: of the project.
            limit: in micros of the currency, >= 0.
            caller: who sets it.

        Raises:
            NotFoundError: there is no such project that this caller may see.
            ConflictError: what its labeler uses has no price.
        """
        money = await self.get(project_id, caller=caller)
        if limit is not None and money.currency is None:
            raise ConflictError(
                "the project's labeler has no prices, so what it spends can't be limited",
                code="no_prices",
            )
        async with self._database.transaction() as connection:
            await _set_limit(connection, project_id, limit)
        self._wake_ups.request(project_id)
        return await self.get(project_id, caller=caller)


async def _set_limit(connection: Connection, project_id: uuid.UUID, limit: int | None) -> None:
    project = {"project_id": project_id}
    cursor = await connection.execute(budget_queries.HOLD_PROJECT, project)
    held = await cursor.fetchone()
    if held is None:
        raise NotFoundError(_NO_PROJECT)
    await connection.execute(budget_queries.SET_LIMIT, {**project, "limit": limit})
    if limit is None:
        return
    # the budget is held by now: whoever reserves or gives back waits
    counter = {**project, "counter": month_counter(held["month"])}
    cursor = await connection.execute(budget_queries.SPENT, counter)
    spent = await cursor.fetchone()
    assert spent is not None
    if limit <= spent["micros"]:
        await note_exhausted(
            connection, project_id, labeler_id=held["labeler_id"], month=held["month"]
        )
