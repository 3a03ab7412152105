from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.access.service import require_unbound
from app.domain.routing import policy_from_json
from app.infra.ids import Kind
from app.projects.schemas import LabelSchemaOut, ProjectIn, ProjectOut
from app.projects.service import ProjectService
from app.projects.wired import schema_in, show_project, show_schema
from app.web.paging import Page, decode_cursor, make_page, path_id
from app.web.wire import Limit

router = secured_router("projects")


def _service(request: Request) -> ProjectService:
    service: ProjectService = request.app.state.services.projects
    return service


@router.post(
    "/projects",
    status_code=201,
    operation_id="create_project",
    openapi_extra=needs(Scope.ADMIN),
)
async def create_project(request: Request, body: ProjectIn, caller: CurrentCaller) -> ProjectOut:
    """Makes a project with its label schema, labeler and policy."""
    require_unbound(caller)
    view = await _service(request).create(
        name=body.name,
        label_schema=schema_in(body.label_schema),
        labeler=body.labeler.new_labeler(),
        policy=policy_from_json(body.policy.model_dump()),
        review_lease_seconds=body.review_lease_seconds,
        audit_probability=body.audit_probability,
    )
    return show_project(view)


@router.get("/projects", operation_id="list_projects", openapi_extra=needs(Scope.READ))
async def list_projects(
    request: Request,
    caller: CurrentCaller,
    limit: Annotated[Limit, Query()] = 100,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[ProjectOut]:
    """The projects this key may see, oldest first."""
    rows = await _service(request).list_projects(
        caller=caller, after=decode_cursor(cursor), limit=limit
    )
    return make_page(rows, limit=limit, key=lambda view: view.project.id, show=show_project)


@router.get("/projects/{project_id}", operation_id="get_project", openapi_extra=needs(Scope.READ))
async def get_project(request: Request, project_id: str, caller: CurrentCaller) -> ProjectOut:
    """A project with its current versions."""
    view = await _service(request).get(path_id(Kind.PROJECT, project_id), caller=caller)
    return show_project(view)


@router.get(
    "/projects/{project_id}/label-schema",
    operation_id="get_label_schema",
    openapi_extra=needs(Scope.REVIEWER),
)
async def get_label_schema(
    request: Request, project_id: str, caller: CurrentCaller
) -> LabelSchemaOut:
    """The labels that a verdict may name, with the descriptions a reviewer decides by."""
    view = await _service(request).get(path_id(Kind.PROJECT, project_id), caller=caller)
    return show_schema(view.label_schema)


@router.delete(
    "/projects/{project_id}",
    status_code=204,
    operation_id="delete_project",
    openapi_extra=needs(Scope.ADMIN),
)
async def delete_project(request: Request, project_id: str, caller: CurrentCaller) -> None:
    """Removes a project with all its items, labels, reviews and events. There is no way back."""
    await _service(request).delete(path_id(Kind.PROJECT, project_id), caller=caller)
