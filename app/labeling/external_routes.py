from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic import TypeAdapter, ValidationError

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.errors import FieldError, InvalidError
from app.infra.ids import InvalidIdError, Kind, from_wire, to_wire
from app.items.schemas import RowError
from app.labeling.external import (
    ExternalPrediction,
    ExternalPredictions,
    TakenRow,
    TakenStatus,
)
from app.labeling.external_schemas import (
    ExternalPredictionIn,
    ExternalPredictionsIn,
    TakenOut,
    TakenRowOut,
)
from app.web.faults import field_errors
from app.web.paging import path_id

router = secured_router("predictions")
_ROW = TypeAdapter(ExternalPredictionIn)
_TAKEN_ALREADY = "the item is labelled already; it was left as it is"


@router.post(
    "/projects/{project_id}/predictions",
    operation_id="create_predictions",
    openapi_extra=needs(Scope.INGEST),
    responses={207: {"model": TakenOut, "description": "Some rows were refused; each says why."}},
)
async def create_predictions(
    request: Request,
    response: Response,
    project_id: str,
    body: ExternalPredictionsIn,
    caller: CurrentCaller,
) -> TakenOut:
    """Takes labels that were made elsewhere, and routes their items as if they were our own.

    Up to 1,000 at once. A bad row is refused by itself and loses no other; one for an item that is
    labelled already is a conflict, unless it says the same.
    """
    service: ExternalPredictions = request.app.state.services.external
    rows: dict[int, TakenRowOut] = {}
    good: list[tuple[int, ExternalPrediction]] = []
    for index, raw in enumerate(body.predictions):
        try:
            good.append((index, _prediction(_ROW.validate_python(raw))))
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False)
            under = f"/predictions/{index}"
            rows[index] = _refused(index, field_errors(found, body=raw, where="body", under=under))
        except InvalidIdError as error:
            fault = FieldError(f"/predictions/{index}/item_id", str(error))
            rows[index] = _refused(index, [fault])
    taken = await service.take(
        path_id(Kind.PROJECT, project_id),
        [prediction for _, prediction in good],
        producer=body.producer,
        caller=caller,
    )
    for (index, _), row in zip(good, taken, strict=True):
        rows[index] = _show(index, row)
    shown = [rows[index] for index in range(len(body.predictions))]
    counts = {
        status: sum(row.status == status.value for row in shown)
        for status in (TakenStatus.TAKEN, TakenStatus.EXISTING)
    }
    failed = len(shown) - sum(counts.values())
    if failed:
        response.status_code = 207
    return TakenOut(
        taken=counts[TakenStatus.TAKEN],
        existing=counts[TakenStatus.EXISTING],
        failed=failed,
        results=shown,
    )


def _prediction(row: ExternalPredictionIn) -> ExternalPrediction:
    return ExternalPrediction(
        item_id=None if row.item_id is None else from_wire(Kind.ITEM, row.item_id),
        external_id=row.external_id,
        label=row.label,
        confidence=row.confidence,
        probabilities=row.probabilities,
    )


def _show(index: int, row: TakenRow) -> TakenRowOut:
    if row.status is TakenStatus.INVALID:
        fault = FieldError(f"/predictions/{index}{row.pointer}", row.detail)
        return _refused(index, [fault])
    error = None
    if row.status is TakenStatus.CONFLICT:
        error = RowError(code="already_labeled", detail=_TAKEN_ALREADY)
    item_id = None if row.item_id is None else to_wire(Kind.ITEM, row.item_id)
    return TakenRowOut(index=index, status=row.status.value, item_id=item_id, error=error)


def _refused(index: int, faults: list[FieldError]) -> TakenRowOut:
    refusal = InvalidError.about(faults)
    errors: list[dict[str, Any]] = [
        {"pointer": fault.pointer, "detail": fault.detail} for fault in refusal.errors
    ]
    return TakenRowOut(
        index=index,
        status="invalid",
        item_id=None,
        error=RowError(code=refusal.code, detail=refusal.detail, errors=errors),
    )
