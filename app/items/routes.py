from __future__ import annotations

import json
import uuid
from typing import Annotated, Any

from fastapi import Query, Request, Response
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter, ValidationError

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.errors import ConflictError, InvalidError, invalid_field
from app.infra.ids import Kind, to_wire
from app.items.schemas import (
    BulkIn,
    BulkOut,
    ConfidenceOut,
    ItemFilters,
    ItemIn,
    ItemOut,
    PartOut,
    RowError,
    RowOut,
)
from app.items.service import ItemService, NewItem, RowResult, RowStatus
from app.web.faults import field_errors
from app.web.openapi import refuses
from app.web.paging import Page, decode_cursor, make_page, path_id
from app.web.wire import storable_json

router = secured_router("items")
_ROW = TypeAdapter(ItemIn)


def _service(request: Request) -> ItemService:
    service: ItemService = request.app.state.services.items
    return service


@router.post(
    "/projects/{project_id}/items",
    status_code=201,
    operation_id="create_item",
    openapi_extra=needs(Scope.INGEST),
    responses={
        200: {"model": ItemOut, "description": "It was there already, the same."},
        **refuses(409),
    },
)
async def create_item(
    request: Request, response: Response, project_id: str, body: ItemIn, caller: CurrentCaller
) -> ItemOut:
    """Takes one item in. Sending it again with the same `external_id` is harmless."""
    service = _service(request)
    (result,) = await service.ingest(
        path_id(Kind.PROJECT, project_id), [_new_item(body)], caller=caller
    )
    if result.status is RowStatus.CONFLICT:
        raise ConflictError(_CONFLICT, code="external_id_conflict")
    if result.status is RowStatus.EXISTING:
        response.status_code = 200
    return show_item(await service.get(result.item_id, caller=caller))


@router.post(
    "/projects/{project_id}/items/bulk",
    operation_id="create_items",
    openapi_extra=needs(Scope.INGEST),
    responses={207: {"model": BulkOut, "description": "Some rows were refused; each says why."}},
)
async def create_items(
    request: Request, response: Response, project_id: str, body: BulkIn, caller: CurrentCaller
) -> BulkOut:
    """Takes up to 1,000 items in. A bad row is refused by itself and loses no other."""
    rows: dict[int, RowOut] = {}
    good: list[tuple[int, NewItem]] = []
    for index, raw in enumerate(body.items):
        try:
            good.append((index, _new_item(_ROW.validate_python(raw))))
        except ValidationError as error:
            rows[index] = _refused(index, raw, error)
    results = await _service(request).ingest(
        path_id(Kind.PROJECT, project_id), [item for _, item in good], caller=caller
    )
    for (index, _), result in zip(good, results, strict=True):
        rows[index] = _row(index, result)
    shown = [rows[index] for index in range(len(body.items))]
    created = sum(row.status == "created" for row in shown)
    existing = sum(row.status == "existing" for row in shown)
    failed = len(shown) - created - existing
    if failed:
        response.status_code = 207
    return BulkOut(created=created, existing=existing, failed=failed, results=shown)


@router.get(
    "/projects/{project_id}/items", operation_id="list_items", openapi_extra=needs(Scope.READ)
)
async def list_items(
    request: Request,
    project_id: str,
    caller: CurrentCaller,
    filters: Annotated[ItemFilters, Query()],
) -> Page[ItemOut]:
    """Items in the order they came in, by any of the filters together."""
    conditions = {
        **filters.conditions(),
        "after": decode_cursor(filters.cursor),
        "metadata": _metadata_filter(filters.metadata),
    }
    rows = await _service(request).list_items(
        path_id(Kind.PROJECT, project_id), filters=conditions, limit=filters.limit, caller=caller
    )
    return make_page(rows, limit=filters.limit, key=_id, show=show_item)


@router.get("/items/{item_id}", operation_id="get_item", openapi_extra=needs(Scope.READ))
async def get_item(request: Request, item_id: str, caller: CurrentCaller) -> ItemOut:
    """An item with its payload and where it stands."""
    return show_item(await _service(request).get(path_id(Kind.ITEM, item_id), caller=caller))


_CONFLICT = "an item with this external_id exists and says something else; it was left as it is"


def _new_item(item: ItemIn) -> NewItem:
    return NewItem(item.external_id, item.content(), item.metadata)


def _id(row: DictRow) -> uuid.UUID:
    item_id: uuid.UUID = row["id"]
    return item_id


def _refused(index: int, raw: Any, error: ValidationError) -> RowOut:
    refusal = InvalidError.about(
        field_errors(
            error.errors(include_input=False, include_url=False),
            body=raw,
            where="body",
            under=f"/items/{index}",
        )
    )
    errors = [{"pointer": fault.pointer, "detail": fault.detail} for fault in refusal.errors]
    return RowOut(
        index=index,
        status="invalid",
        error=RowError(code=refusal.code, detail=refusal.detail, errors=errors),
    )


def _row(index: int, result: RowResult) -> RowOut:
    item_id = to_wire(Kind.ITEM, result.item_id)
    if result.status is RowStatus.CONFLICT:
        return RowOut(
            index=index,
            status="conflict",
            id=item_id,
            error=RowError(code="external_id_conflict", detail=_CONFLICT),
        )
    return RowOut(index=index, status=result.status.value, id=item_id)


def _metadata_filter(text: str | None) -> Jsonb | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
        storable_json(value)
    except (ValueError, RecursionError) as error:
        raise invalid_field("metadata", f"not usable JSON: {error}", where="query") from error
    if not isinstance(value, dict):
        raise invalid_field("metadata", "must be a JSON object", where="query")
    return Jsonb(value)


def show_confidence(row: DictRow) -> ConfidenceOut:
    """The typed confidence of an item or a prediction."""
    return ConfidenceOut(
        value=row["confidence"], source=row["confidence_source"], reason=row["unknown_reason"]
    )


def show_parts(row: DictRow) -> list[PartOut]:
    """The parts of a prediction, least certain first."""
    stored = sorted(row["parts"] or [], key=lambda part: part[3])
    return [
        PartOut(part=name, value=value, confidence=confidence)
        for name, value, confidence, _ in stored
    ]


def show_item(row: DictRow) -> ItemOut:
    """An item as its answer."""
    plain = (
        "external_id", "state", "content", "metadata", "label", "route", "route_reason",
        "final_label", "attempts", "last_error", "next_attempt_at", "created_at", "labeled_at",
        "completed_at",
    )  # fmt: skip
    prediction, policy = row["prediction_id"], row["policy_id"]
    return ItemOut(
        id=to_wire(Kind.ITEM, row["id"]),
        project_id=to_wire(Kind.PROJECT, row["project_id"]),
        confidence=show_confidence(row) if row["route"] is not None else None,
        prediction_id=None if prediction is None else to_wire(Kind.PREDICTION, prediction),
        policy_id=None if policy is None else to_wire(Kind.POLICY, policy),
        **{name: row[name] for name in plain},
    )
