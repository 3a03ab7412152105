from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from fastapi import Request

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.domain.budget import MICROS
from app.infra.ids import Kind
from app.labeling.budget_schemas import BudgetIn, BudgetOut
from app.labeling.budgets import BudgetService, Money
from app.web.openapi import refuses
from app.web.paging import path_id

router = secured_router("budgets")


def _service(request: Request) -> BudgetService:
    service: BudgetService = request.app.state.services.budgets
    return service


@router.put(
    "/projects/{project_id}/budget",
    operation_id="set_budget",
    openapi_extra=needs(Scope.ADMIN),
    responses=refuses(409),
)
async def set_budget(
    request: Request, project_id: str, body: BudgetIn, caller: CurrentCaller
) -> BudgetOut:
    """Limits what labels may cost in a month; labelling pauses when nothing more can be spent.

    409 `no_prices` where the labeler has no prices.
    """
    limit = None if body.monthly_limit is None else _micros(body.monthly_limit)
    money = await _service(request).set_limit(
        path_id(Kind.PROJECT, project_id), limit, caller=caller
    )
    return show_budget(money)


@router.get(
    "/projects/{project_id}/budget",
    operation_id="get_budget",
    openapi_extra=needs(Scope.READ),
)
async def get_budget(request: Request, project_id: str, caller: CurrentCaller) -> BudgetOut:
    """What a project's labels may cost in this month, and what they have cost."""
    money = await _service(request).get(path_id(Kind.PROJECT, project_id), caller=caller)
    return show_budget(money)


def show_budget(money: Money) -> BudgetOut:
    """A budget as its answer."""
    return BudgetOut(
        monthly_limit=None if money.limit is None else money.limit / MICROS,
        month=money.month,
        spent=money.spent / MICROS,
        reserved=money.reserved / MICROS,
        exhausted=money.exhausted,
        currency=money.currency,
    )


def _micros(amount: float) -> int:
    exact = Decimal(str(amount)) * MICROS
    return int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))
