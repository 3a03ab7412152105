from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request

from app.access.keys import Scope
from app.access.models import ApiKey
from app.access.schemas import KeyIn, KeyOut, NewKeyOut
from app.access.secured import CurrentCaller, needs, secured_router
from app.access.service import AccessService, require_unbound
from app.errors import invalid_field
from app.infra.ids import InvalidIdError, Kind, from_wire, to_wire
from app.web.paging import Page, decode_cursor, make_page, path_id
from app.web.wire import Limit

router = secured_router("keys")


def _service(request: Request) -> AccessService:
    service: AccessService = request.app.state.services.access
    return service


@router.post("/keys", status_code=201, operation_id="create_key", openapi_extra=needs(Scope.ADMIN))
async def create_key(request: Request, body: KeyIn, caller: CurrentCaller) -> NewKeyOut:
    """Makes a key. Its text is in this answer and can't be had again."""
    require_unbound(caller)
    projects = None
    if body.projects is not None:
        projects = []
        for index, text in enumerate(body.projects):
            try:
                projects.append(from_wire(Kind.PROJECT, text))
            except InvalidIdError as error:
                raise invalid_field(f"/projects/{index}", str(error)) from error
    made = await _service(request).create(
        name=body.name,
        scopes=frozenset(Scope(scope) for scope in body.scopes),
        project_ids=projects,
        may_name_reviewer=body.may_name_reviewer,
        expires_at=body.expires_at,
    )
    return NewKeyOut(key=made.secret, **_fields(made.row))


@router.get("/keys", operation_id="list_keys", openapi_extra=needs(Scope.ADMIN))
async def list_keys(
    request: Request,
    caller: CurrentCaller,
    limit: Annotated[Limit, Query()] = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[KeyOut]:
    """The keys that were not revoked, without their texts, oldest first."""
    require_unbound(caller)
    rows = await _service(request).list_keys(after=decode_cursor(cursor), limit=limit)
    return make_page(
        rows, limit=limit, key=lambda row: row.id, show=lambda row: KeyOut(**_fields(row))
    )


@router.delete(
    "/keys/{key_id}",
    status_code=204,
    operation_id="revoke_key",
    openapi_extra=needs(Scope.ADMIN),
)
async def revoke_key(request: Request, key_id: str, caller: CurrentCaller) -> None:
    """Ends a key at once."""
    require_unbound(caller)
    await _service(request).revoke(path_id(Kind.API_KEY, key_id))


def _fields(row: ApiKey) -> dict[str, Any]:
    projects = row.project_ids
    return {
        "id": to_wire(Kind.API_KEY, row.id),
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "projects": None
        if projects is None
        else [to_wire(Kind.PROJECT, project) for project in projects],
        "may_name_reviewer": row.may_name_reviewer,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
    }
