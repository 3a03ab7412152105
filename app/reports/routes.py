from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.domain.agreement import BinAgreement, LabelAgreement
from app.domain.compared import PartAgreement
from app.domain.intervals import Estimate
from app.infra.ids import Kind
from app.labeling.budget_routes import show_budget
from app.reports.cost import CostReport
from app.reports.schemas import (
    AgreementOut,
    BinAgreementOut,
    CostOut,
    CoverageOut,
    EndpointOut,
    EstimateOut,
    LabelAgreementOut,
    PartAgreementOut,
    PerCorrectLabelOut,
    PopulationOut,
    StatsOut,
)
from app.reports.service import AgreementReport, EndpointReport, ReportService, ValueReport
from app.web.paging import path_id

router = secured_router("reports")

_NOTE = (
    "Reviewed items are those the policy sent to people, the least certain first, so these figures "
    "say nothing about items the model decided alone or about items that still wait, nor about "
    "verdicts under earlier versions of the label schema."
)


def _service(request: Request) -> ReportService:
    service: ReportService = request.app.state.services.reports
    return service


@router.get(
    "/projects/{project_id}/agreement",
    operation_id="get_agreement",
    openapi_extra=needs(Scope.READ),
)
async def get_agreement(request: Request, project_id: str, caller: CurrentCaller) -> AgreementOut:
    """How the model agrees with people: every figure with its interval and its population."""
    report = await _service(request).agreement(path_id(Kind.PROJECT, project_id), caller=caller)
    return _show(report)


@router.get(
    "/projects/{project_id}/stats", operation_id="get_stats", openapi_extra=needs(Scope.READ)
)
async def get_stats(request: Request, project_id: str, caller: CurrentCaller) -> StatsOut:
    """Where a project stands: counts by state, speed, what waits and for how long."""
    stats = await _service(request).stats(path_id(Kind.PROJECT, project_id), caller=caller)
    return StatsOut(
        items=stats.by_state,
        total=sum(stats.by_state.values()),
        labels_per_second=stats.labels_per_second,
        queue_depth=stats.queue_depth,
        leased=stats.leased,
        oldest_pending_seconds=stats.oldest_pending_seconds,
        oldest_in_review_seconds=stats.oldest_in_review_seconds,
        cost=None if stats.cost is None else _cost(stats.cost),
        endpoint=None if stats.endpoint is None else _endpoint(stats.endpoint),
    )


def _endpoint(endpoint: EndpointReport) -> EndpointOut:
    return EndpointOut(state=endpoint.state.value, until=endpoint.until, said=endpoint.said)


def _cost(cost: CostReport) -> CostOut:
    correct = cost.per_correct_label
    return CostOut(
        currency=cost.money.currency,
        this_month=cost.this_month,
        total=cost.total,
        labels=cost.money.labels,
        calls=cost.money.calls,
        per_label=cost.per_label,
        per_correct_label=None
        if correct is None
        else PerCorrectLabelOut(
            value=correct.value,
            low=correct.low,
            high=correct.high,
            agreement=_estimate(correct.agreement),
        ),
        budget=show_budget(cost.money),
    )


def _show(report: AgreementReport | ValueReport) -> AgreementOut:
    coverage = CoverageOut(
        reviewed=report.reviewed,
        without_label=report.agreement.unanswered,
        waiting=report.waiting,
        accepted=report.accepted,
        note=_NOTE,
    )
    choice = report if isinstance(report, AgreementReport) else None
    value = report if isinstance(report, ValueReport) else None
    bins = report.bins if isinstance(report, AgreementReport) else report.agreement.bins
    return AgreementOut(
        kind=report.kind,
        label_schema_version=report.schema_version,
        coverage=coverage,
        accuracy=_estimate(report.agreement.accuracy),
        metrics=_estimates(value.agreement.metrics) if value else {},
        cohen_kappa=_estimate(choice.agreement.kappa) if choice else None,
        labels=[_label(each) for each in choice.agreement.by_label] if choice else [],
        confusion=[list(row) for row in choice.agreement.confusion] if choice else [],
        parts=[_part(each) for each in value.agreement.parts] if value else [],
        by_confidence=[_bin(each) for each in bins],
    )


def _part(each: PartAgreement) -> PartAgreementOut:
    return PartAgreementOut(
        part=each.part,
        tp=each.tp,
        fp=each.fp,
        fn=each.fn,
        tn=each.tn,
        **_estimates(each.measures),
    )


def _estimates(estimates: Mapping[str, Estimate]) -> dict[str, EstimateOut]:
    return {name: _estimate(estimate) for name, estimate in estimates.items()}


def _estimate(estimate: Estimate) -> EstimateOut:
    return EstimateOut(
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        level=estimate.level,
        n=estimate.n,
        method=estimate.method.value,
        population=PopulationOut(what=estimate.population.what, of=estimate.population.of),
    )


def _label(each: LabelAgreement) -> LabelAgreementOut:
    return LabelAgreementOut(
        label=each.label,
        support=each.support,
        predicted=each.predicted,
        precision=_estimate(each.precision),
        recall=_estimate(each.recall),
        f1=_estimate(each.f1),
    )


def _bin(each: BinAgreement) -> BinAgreementOut:
    return BinAgreementOut(
        low=each.low,
        high=each.high,
        n=each.n,
        agreed=each.correct,
        agreement=_estimate(each.agreement),
    )
