"""What a project's labels cost, and what a right one does."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.domain.budget import MICROS
from app.domain.intervals import Estimate
from app.infra.db import Database
from app.labeling.budgets import Money, read_money


@dataclass(frozen=True, slots=True)
class PerCorrectLabel:
    """What a label that people agree with costs: the mean cost of a label over the agreement.

    Attributes:
        value, low, high: in the currency; `value` None where nothing was reviewed, `high` None
            where the interval of the agreement reaches down to nothing.
        agreement: of the model with people, whose interval and population these are.
    """

    value: float | None
    low: float
    high: float | None
    agreement: Estimate


@dataclass(frozen=True, slots=True)
class CostReport:
    """What labels cost. Amounts are in the currency of the labeler's prices.

    Attributes:
        money: as counted, in micros.
        this_month, total: spent.
        per_label: the mean over all labels that were had, with what was spent in vain; None where
            there is none.
        per_correct_label: None where there is no such mean.
    """

    money: Money
    this_month: float
    total: float
    per_label: float | None
    per_correct_label: PerCorrectLabel | None


async def read_cost(
    database: Database,
    project_id: uuid.UUID,
    *,
    agreement: Callable[[], Awaitable[Estimate | None]],
) -> CostReport | None:
    """What a project's labels cost; None where they have no price.

    Args:
        database: where it is counted.
        project_id: of the project.
        agreement: of the model with people; asked only where there is a cost. None: not known.
    """
    money = await read_money(database, project_id)
    if money is None or (money.currency is None and not money.total):
        return None
    per_label = money.total / money.labels / MICROS if money.labels else None
    agreed = None if per_label is None else await agreement()
    return CostReport(
        money=money,
        this_month=money.spent / MICROS,
        total=money.total / MICROS,
        per_label=per_label,
        per_correct_label=None
        if per_label is None or agreed is None
        else per_correct_label(per_label, agreed),
    )


def per_correct_label(per_label: float, agreement: Estimate) -> PerCorrectLabel:
    """The cost of a label over the share of labels that are right, with that share's interval."""
    return PerCorrectLabel(
        value=per_label / agreement.value if agreement.value else None,
        low=per_label / agreement.high,
        high=per_label / agreement.low if agreement.low > 0 else None,
        agreement=agreement,
    )
