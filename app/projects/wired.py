"""Between the wire and projects: what a body defines, and how versions are shown."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

from app.domain.kinds import parse_schema
from app.domain.kinds.base import LabelSchema as Schema
from app.domain.kinds.base import SchemaError
from app.errors import FieldError, InvalidError, invalid_field
from app.infra.ids import Kind, to_wire
from app.projects.models import Labeler, LabelSchema, Policy
from app.projects.schemas import LabelerOut, LabelSchemaOut, PolicyOut, ProjectOut
from app.projects.service import ProjectView
from app.web.wire import storable_json


def show_project(view: ProjectView) -> ProjectOut:
    """A project as its answer."""
    project = view.project
    return ProjectOut(
        id=to_wire(Kind.PROJECT, project.id),
        name=project.name,
        label_schema=show_schema(view.label_schema),
        labeler=show_labeler(view.labeler),
        policy=show_policy(view.policy),
        review_lease_seconds=project.review_lease_seconds,
        audit_probability=project.audit_probability,
        train_probability=project.train_probability,
        created_at=project.created_at,
    )


def schema_in(definition: dict[str, Any]) -> Schema:
    """The label schema that a body defines in its field `label_schema`.

    Raises:
        InvalidError: it defines none; every problem with its pointer.
    """
    try:
        schema = parse_schema(definition)
    except SchemaError as error:
        raise InvalidError.about(
            [
                FieldError(f"/label_schema{problem.pointer}", problem.detail)
                for problem in error.problems
            ]
        ) from error
    try:
        storable_json(definition)
    except PydanticCustomError as error:
        raise invalid_field("/label_schema", error.message()) from error
    return schema


def show_labeler(labeler: Labeler) -> LabelerOut:
    """A labeler as its answer."""
    plain = (
        "revision", "model", "base_url", "source", "api", "instructions", "template",
        "prompt_version", "prompt_hash", "parameters", "limits", "prices", "created_at",
    )  # fmt: skip
    return LabelerOut(
        id=to_wire(Kind.LABELER, labeler.id),
        examples=[
            {**example["content"], "label": example["value"]} for example in labeler.examples or ()
        ],
        **{name: getattr(labeler, name) for name in plain},
    )


def show_schema(schema: LabelSchema) -> LabelSchemaOut:
    """A label schema as its answer."""
    return LabelSchemaOut(
        id=to_wire(Kind.LABEL_SCHEMA, schema.id),
        version=schema.version,
        kind=schema.kind,
        **schema.definition,
    )


def show_policy(policy: Policy) -> PolicyOut:
    """A policy as its answer."""
    return PolicyOut(
        id=to_wire(Kind.POLICY, policy.id),
        version=policy.version,
        policy=policy.document,
        created_at=policy.created_at,
    )
