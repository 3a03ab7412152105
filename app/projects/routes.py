from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request

from app.access.keys import Scope
from app.access.secured import CurrentCaller, needs, secured_router
from app.access.service import require_unbound
from app.domain.routing import policy_from_json
from app.infra.ids import Kind, to_wire
from app.projects.models import LabelSchema, Policy
from app.projects.schemas import (
    LabelerOut,
    LabelSchemaOut,
    PolicyIn,
    PolicyOut,
    ProjectIn,
    ProjectOut,
)
from app.projects.service import NewLabeler, ProjectService, ProjectView
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
    labeler = body.labeler
    view = await _service(request).create(
        name=body.name,
        label_schema=body.label_schema,
        labeler=NewLabeler(
            model=labeler.model,
            base_url=labeler.base_url,
            instructions=labeler.instructions,
            parameters=labeler.model_dump(
                include={"temperature", "top_logprobs", "max_tokens"}, exclude_none=True
            ),
        ),
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
    return _show_schema(view.label_schema)


@router.delete(
    "/projects/{project_id}",
    status_code=204,
    operation_id="delete_project",
    openapi_extra=needs(Scope.ADMIN),
)
async def delete_project(request: Request, project_id: str, caller: CurrentCaller) -> None:
    """Removes a project with all its items, labels, reviews and events. There is no way back."""
    await _service(request).delete(path_id(Kind.PROJECT, project_id), caller=caller)


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
    policy = await _service(request).set_policy(
        path_id(Kind.PROJECT, project_id), policy_from_json(body.model_dump()), caller=caller
    )
    return _show_policy(policy)


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
    rows = await _service(request).list_policies(
        path_id(Kind.PROJECT, project_id), caller=caller, before=decode_cursor(cursor), limit=limit
    )
    return make_page(rows, limit=limit, key=lambda policy: policy.id, show=_show_policy)


def show_project(view: ProjectView) -> ProjectOut:
    """A project as its answer."""
    project, labeler = view.project, view.labeler
    return ProjectOut(
        id=to_wire(Kind.PROJECT, project.id),
        name=project.name,
        label_schema=_show_schema(view.label_schema),
        labeler=LabelerOut(
            id=to_wire(Kind.LABELER, labeler.id),
            revision=labeler.revision,
            model=labeler.model,
            base_url=labeler.base_url,
            instructions=labeler.instructions,
            prompt_version=labeler.prompt_version,
            prompt_hash=labeler.prompt_hash,
            parameters=labeler.parameters,
        ),
        policy=_show_policy(view.policy),
        review_lease_seconds=project.review_lease_seconds,
        audit_probability=project.audit_probability,
        train_probability=project.train_probability,
        created_at=project.created_at,
    )


def _show_schema(schema: LabelSchema) -> LabelSchemaOut:
    return LabelSchemaOut(
        id=to_wire(Kind.LABEL_SCHEMA, schema.id),
        version=schema.version,
        kind=schema.kind,
        **schema.definition,
    )


def _show_policy(policy: Policy) -> PolicyOut:
    return PolicyOut(
        id=to_wire(Kind.POLICY, policy.id),
        version=policy.version,
        policy=policy.document,
        created_at=policy.created_at,
    )
