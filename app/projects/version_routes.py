from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.domain.routing import policy_from_json
from app.infra.ids import Kind
from app.projects.models import Labeler, LabelSchema, Policy
from app.projects.schemas import (
    LabelerIn,
    LabelerOut,
    LabelSchemaOut,
    LabelSchemaVersionIn,
    PolicyIn,
    PolicyOut,
)
from app.projects.versions import VersionService
from app.projects.wired import schema_in, show_labeler, show_policy, show_schema
from app.web.openapi import refuses
from app.web.paging import Page, decode_cursor, make_page, path_id
from app.web.wire import Limit

router = secured_router("projects")


def _service(request: Request) -> VersionService:
    service: VersionService = request.app.state.services.versions
    return service


@router.post(
    "/projects/{project_id}/policies",
    status_code=201,
    operation_id="set_policy",
    openapi_extra=needs(Scope.ADMIN),
)
async def set_policy(
    request: Request, project_id: str, body: PolicyIn, caller: CurrentCaller
) -> PolicyOut:
    """A new version of the policy. It routes what is labelled from now on."""
    version = await _service(request).set_policy(
        path_id(Kind.PROJECT, project_id), policy_from_json(body.model_dump()), caller=caller
    )
    return show_policy(version)


@router.get(
    "/projects/{project_id}/policies",
    operation_id="list_policies",
    openapi_extra=needs(Scope.READ),
)
async def list_policies(
    request: Request,
    project_id: str,
    caller: CurrentCaller,
    limit: Annotated[Limit, Query()] = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[PolicyOut]:
    """The versions of the policy, newest first."""
    rows = await _service(request).list_versions(
        Policy,
        path_id(Kind.PROJECT, project_id),
        caller=caller,
        before=decode_cursor(cursor),
        limit=limit,
    )
    return make_page(rows, limit=limit, key=lambda version: version.id, show=show_policy)


@router.post(
    "/projects/{project_id}/label-schemas",
    status_code=201,
    operation_id="set_label_schema",
    openapi_extra=needs(Scope.ADMIN),
)
async def set_label_schema(
    request: Request, project_id: str, body: LabelSchemaVersionIn, caller: CurrentCaller
) -> LabelSchemaOut:
    """A new version of the label schema, of the same kind.

    What is labelled and reviewed from now on speaks in it; what was labelled before stays readable.
    The labeler gets a new revision with it, since its prompt names the labels.
    """
    version = await _service(request).set_label_schema(
        path_id(Kind.PROJECT, project_id), schema_in(body.label_schema), caller=caller
    )
    return show_schema(version)


@router.get(
    "/projects/{project_id}/label-schemas",
    operation_id="list_label_schemas",
    openapi_extra=needs(Scope.READ),
)
async def list_label_schemas(
    request: Request,
    project_id: str,
    caller: CurrentCaller,
    limit: Annotated[Limit, Query()] = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[LabelSchemaOut]:
    """The versions of the label schema, newest first."""
    rows = await _service(request).list_versions(
        LabelSchema,
        path_id(Kind.PROJECT, project_id),
        caller=caller,
        before=decode_cursor(cursor),
        limit=limit,
    )
    return make_page(rows, limit=limit, key=lambda version: version.id, show=show_schema)


@router.post(
    "/projects/{project_id}/labelers",
    status_code=201,
    operation_id="set_labeler",
    openapi_extra=needs(Scope.ADMIN),
    responses=refuses(409),
)
async def set_labeler(
    request: Request, project_id: str, body: LabelerIn, caller: CurrentCaller
) -> LabelerOut:
    """A new revision of the labeler. It labels what waits from now on."""
    version = await _service(request).set_labeler(
        path_id(Kind.PROJECT, project_id), body.new_labeler(), caller=caller
    )
    return show_labeler(version)


@router.get(
    "/projects/{project_id}/labelers",
    operation_id="list_labelers",
    openapi_extra=needs(Scope.READ),
)
async def list_labelers(
    request: Request,
    project_id: str,
    caller: CurrentCaller,
    limit: Annotated[Limit, Query()] = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[LabelerOut]:
    """The revisions of the labeler, newest first.

    Producers of external predictions are among them, each a revision of its own.
    """
    rows = await _service(request).list_versions(
        Labeler,
        path_id(Kind.PROJECT, project_id),
        caller=caller,
        before=decode_cursor(cursor),
        limit=limit,
    )
    return make_page(rows, limit=limit, key=lambda version: version.id, show=show_labeler)
