from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import Query, Request, Response
from psycopg.rows import DictRow

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.errors import ConflictError
from app.infra.ids import Kind, to_wire
from app.items.routes import show_confidence, show_parts
from app.items.schemas import AlternativeOut
from app.review.record import Verdict
from app.review.schemas import (
    AssignmentItemOut,
    AssignmentOut,
    ClaimIn,
    ClaimsOut,
    LeaseIn,
    LeaseOut,
    QueueEntryOut,
    QueueOut,
    ReviewOut,
    SubmitIn,
)
from app.review.service import HandBack, ReviewService
from app.web.openapi import refuses
from app.web.paging import path_id

router = secured_router("review")


def _service(request: Request) -> ReviewService:
    service: ReviewService = request.app.state.services.review
    return service


@router.get(
    "/projects/{project_id}/queue",
    operation_id="peek_queue",
    openapi_extra=needs(Scope.REVIEWER),
    response_model=QueueOut,
    responses={
        200: {"headers": {"ETag": {"schema": {"type": "string"}}}},
        304: {"description": "Nothing has changed since the ETag you named."},
    },
)
async def peek_queue(
    request: Request,
    project_id: str,
    caller: CurrentCaller,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """The head of the queue: unknown confidence first, then the lowest. Takes nothing.

    Made for polling: send the `ETag` back as `If-None-Match` and get 304 while nothing changed.
    """
    head = await _service(request).peek(
        path_id(Kind.PROJECT, project_id), limit=limit, caller=caller
    )
    shown = head.shown(_show_queue)
    headers = {"ETag": shown.etag, "Cache-Control": "private, no-cache"}
    if _matches(request.headers.get("if-none-match"), shown.etag):
        return Response(status_code=304, headers=headers)
    return Response(shown.body, media_type="application/json", headers=headers)


@router.post(
    "/projects/{project_id}/claims",
    operation_id="claim_items",
    openapi_extra=needs(Scope.REVIEWER),
)
async def claim_items(
    request: Request, project_id: str, caller: CurrentCaller, body: ClaimIn
) -> ClaimsOut:
    """Leases items to the caller, least certain first; an empty list when nothing waits.

    Each comes with a lease token that renew, release, skip and submit ask for.
    """
    rows = await _service(request).claim(
        path_id(Kind.PROJECT, project_id), limit=body.limit, caller=caller
    )
    return ClaimsOut(data=[_show_assignment(row) for row in rows])


@router.get(
    "/projects/{project_id}/assignments",
    operation_id="list_held_assignments",
    openapi_extra=needs(Scope.REVIEWER),
)
async def list_held_assignments(
    request: Request, project_id: str, caller: CurrentCaller
) -> ClaimsOut:
    """What the caller holds, with its tokens: a frontend that was reloaded finds its work."""
    rows = await _service(request).held(path_id(Kind.PROJECT, project_id), caller=caller)
    return ClaimsOut(data=[_show_assignment(row) for row in rows])


@router.get(
    "/assignments/{assignment_id}",
    operation_id="get_assignment",
    openapi_extra=needs(Scope.REVIEWER),
)
async def get_assignment(
    request: Request, assignment_id: str, caller: CurrentCaller
) -> AssignmentOut:
    """One of the caller's assignments; `draft` holds a verdict that came too late."""
    row = await _service(request).get(path_id(Kind.ASSIGNMENT, assignment_id), caller=caller)
    return _show_assignment(row)


@router.post(
    "/assignments/{assignment_id}/renew",
    operation_id="renew_assignment",
    openapi_extra=needs(Scope.REVIEWER),
    responses=refuses(409, 410),
)
async def renew_assignment(
    request: Request, assignment_id: str, body: LeaseIn, caller: CurrentCaller
) -> LeaseOut:
    """Starts the lease anew."""
    expires = await _service(request).renew(
        path_id(Kind.ASSIGNMENT, assignment_id), lease_token=_token(body), caller=caller
    )
    return LeaseOut(id=assignment_id, lease_expires_at=expires)


@router.post(
    "/assignments/{assignment_id}/release",
    status_code=204,
    operation_id="release_assignment",
    openapi_extra=needs(Scope.REVIEWER),
    responses=refuses(409, 410),
)
async def release_assignment(
    request: Request, assignment_id: str, body: LeaseIn, caller: CurrentCaller
) -> None:
    """Gives the item back to the queue, for anybody."""
    await _service(request).hand_back(
        path_id(Kind.ASSIGNMENT, assignment_id),
        HandBack.RELEASED,
        lease_token=_token(body),
        caller=caller,
    )


@router.post(
    "/assignments/{assignment_id}/skip",
    status_code=204,
    operation_id="skip_assignment",
    openapi_extra=needs(Scope.REVIEWER),
    responses=refuses(409, 410),
)
async def skip_assignment(
    request: Request, assignment_id: str, body: LeaseIn, caller: CurrentCaller
) -> None:
    """Gives the item back to the queue, for others: this reviewer does not meet it again."""
    await _service(request).hand_back(
        path_id(Kind.ASSIGNMENT, assignment_id),
        HandBack.SKIPPED,
        lease_token=_token(body),
        caller=caller,
    )


@router.post(
    "/assignments/{assignment_id}/submit",
    operation_id="submit_review",
    openapi_extra=needs(Scope.REVIEWER),
    responses=refuses(409, 410),
)
async def submit_review(
    request: Request, assignment_id: str, body: SubmitIn, caller: CurrentCaller
) -> ReviewOut:
    """Records the verdict and completes the item. Answered when it is stored for good."""
    review = await _service(request).submit(
        path_id(Kind.ASSIGNMENT, assignment_id),
        Verdict(body.label, body.comment),
        lease_token=_token(body),
        caller=caller,
    )
    return ReviewOut(
        id=to_wire(Kind.REVIEW, review.review_id),
        item_id=to_wire(Kind.ITEM, review.item_id),
        label=review.label,
        agreed=review.agreed,
        created_at=review.created_at,
    )


def _token(body: LeaseIn) -> uuid.UUID:
    try:
        return uuid.UUID(body.lease_token)
    except ValueError as error:
        raise ConflictError(
            "another holds this assignment", code="lease_held_by_another"
        ) from error


def _matches(condition: str | None, etag: str) -> bool:
    if condition is None:
        return False
    wanted = {part.strip().removeprefix("W/") for part in condition.split(",")}
    return etag in wanted or "*" in wanted


def _show_queue(rows: list[DictRow]) -> bytes:
    return QueueOut(data=[_show_entry(row) for row in rows]).model_dump_json().encode()


def _show_entry(row: DictRow) -> QueueEntryOut:
    return QueueEntryOut(
        item_id=to_wire(Kind.ITEM, row["item_id"]),
        external_id=row["external_id"],
        label=row["label"],
        confidence=show_confidence(row),
        route_reason=row["route_reason"],
        waiting_since=row["labeled_at"],
    )


def _show_assignment(row: DictRow) -> AssignmentOut:
    return AssignmentOut(
        id=to_wire(Kind.ASSIGNMENT, row["id"]),
        state=row["state"],
        reviewer=row["reviewer"],
        lease_token=row["lease_token"].hex,
        lease_expires_at=row["lease_expires_at"],
        draft=row["draft"],
        item=AssignmentItemOut(
            id=to_wire(Kind.ITEM, row["item_id"]),
            external_id=row["external_id"],
            content=row["content"],
            metadata=row["metadata"],
            text=row["text"],
            label=row["label"],
            confidence=show_confidence(row),
            alternatives=[
                AlternativeOut(label=label, probability=mass)
                for label, mass in row["alternatives"] or []
            ],
            parts=show_parts(row),
            route_reason=row["route_reason"],
        ),
    )
