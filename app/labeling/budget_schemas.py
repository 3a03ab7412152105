"""Budgets on the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.web.wire import Answer, Wire, example


class BudgetIn(Wire):
    """What a project may spend on labels in a month."""

    model_config = example(monthly_limit=50.0)

    monthly_limit: Annotated[float, Field(ge=0, le=1e9)] | None = Field(
        description="in the currency of the labeler's prices; none: no limit"
    )


class BudgetOut(Answer):
    """Where a budget stands. Amounts are in `currency`."""

    model_config = example(
        monthly_limit=50.0,
        month="2026-11",
        spent=31.204518,
        reserved=0.0124,
        exhausted=False,
        currency="USD",
    )

    monthly_limit: float | None
    month: str = Field(description="the running one, in UTC")
    spent: float = Field(description="in this month, rounded up by the answer")
    reserved: float = Field(description="for what is being labelled at this moment")
    exhausted: bool = Field(
        description="labelling waits for a higher limit, a cheaper labeler or the next month"
    )
    currency: str | None = Field(description="none: the labeler has no prices, nothing is counted")
