"""Projects and their versions: label schema, labeler, policy."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg.errors
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.keys import Caller
from app.domain import prompting
from app.domain.coin import CoinProbabilities
from app.domain.kinds import parse_schema
from app.domain.kinds.base import LabelSchema as Schema
from app.domain.kinds.base import SchemaError
from app.domain.routing import Policy as RoutingPolicy
from app.domain.routing import policy_to_json
from app.errors import (
    FieldError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    invalid_field,
)
from app.infra.db import Database
from app.infra.ids import Kind, new_id, to_wire
from app.ledger import events
from app.ledger.models import Event
from app.projects import queries
from app.projects.models import Labeler, LabelSchema, Policy, Project

_NO_PROJECT = "no such project"
_DELETE_TRIES = 10


@dataclass(frozen=True, slots=True)
class NewLabeler:
    """Who shall label; model None means the service's own."""

    model: str | None
    base_url: str | None
    instructions: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project with its current versions."""

    project: Project
    label_schema: LabelSchema
    labeler: Labeler
    policy: Policy


class ProjectService:
    """Makes, finds and removes projects."""

    def __init__(
        self, database: Database, *, default_model: str | None, default_base_url: str | None
    ) -> None:
        """The default model and base URL are the service's own endpoint."""
        self._database = database
        self._default_model = default_model
        self._default_base_url = default_base_url

    async def create(
        self,
        *,
        name: str,
        label_schema: Mapping[str, Any],
        labeler: NewLabeler,
        policy: RoutingPolicy,
        review_lease_seconds: int,
        audit_probability: float,
    ) -> ProjectView:
        """A project with version 1 of everything.

        Raises:
            InvalidError: a label schema that is none, an unusable base URL, no model.
        """
        schema = _schema(label_schema)
        model = labeler.model or self._default_model
        if model is None:
            raise invalid_field(
                "/labeler/model", "name a model, or start the service with SECONDLOOK_MODEL"
            )
        base_url = _checked_base_url(labeler.base_url, own=self._default_base_url)
        coin = CoinProbabilities.from_audit_rate(audit_probability)
        system = prompting.system_prompt(schema, instructions=labeler.instructions)
        version = prompting.prompt_version(schema)
        ids = {name: new_id() for name in ("project", "schema", "labeler", "policy")}
        project = Project(
            id=ids["project"],
            name=name,
            label_schema_id=ids["schema"],
            labeler_id=ids["labeler"],
            policy_id=ids["policy"],
            review_lease_seconds=review_lease_seconds,
            audit_probability=coin.audit,
            train_probability=coin.train,
        )
        versions = (
            LabelSchema(
                id=ids["schema"],
                project_id=project.id,
                version=1,
                kind=schema.KIND,
                definition=schema.definition(),
            ),
            Labeler(
                id=ids["labeler"],
                project_id=project.id,
                revision=1,
                model=model,
                base_url=base_url,
                instructions=labeler.instructions,
                prompt_version=version,
                prompt_hash=prompting.prompt_hash(system, version=version),
                parameters=labeler.parameters,
            ),
            Policy(
                id=ids["policy"],
                project_id=project.id,
                version=1,
                document=policy_to_json(policy),
            ),
        )
        async with self._database.session() as session:
            # the project first: its versions point at it at once, it at them at commit
            session.add(project)
            await session.flush()
            session.add_all(versions)
            await session.flush()
            for row in (project, *versions):
                await session.refresh(row)
        return ProjectView(project, *versions)

    async def get(self, project_id: uuid.UUID, *, caller: Caller) -> ProjectView:
        """A project with its current versions.

        Raises:
            NotFoundError: there is none that this caller may see.
        """
        require_visible(project_id, caller)
        async with self._database.session() as session:
            views = await _views(session, Project.id == project_id, limit=1)
        if not views:
            raise NotFoundError(_NO_PROJECT)
        return views[0]

    async def list_projects(
        self, *, caller: Caller, after: uuid.UUID | None, limit: int
    ) -> list[ProjectView]:
        """Up to limit + 1 projects the caller may see, oldest first."""
        conditions = []
        if after is not None:
            conditions.append(Project.id > after)
        if caller.project_ids is not None:
            conditions.append(Project.id.in_(caller.project_ids))
        async with self._database.session() as session:
            return await _views(session, *conditions, limit=limit + 1)

    async def delete(self, project_id: uuid.UUID, *, caller: Caller) -> None:
        """Removes a project and everything that belongs to it.

        In steps, so that a large project needs no long transaction; cut short, it is smaller and
        can be removed again.

        Raises:
            NotFoundError: there is none that this caller may see.
            UnavailableError: work in it was in the way again and again.
        """
        require_visible(project_id, caller)
        for _ in range(_DELETE_TRIES):
            try:
                found = await self._delete(project_id)
            except psycopg.errors.DeadlockDetected:
                # Work under way takes its locks from the item up to the project, a removal from
                # the project down to the item. One of the two has to begin again.
                continue
            if not found:
                raise NotFoundError(_NO_PROJECT)
            return
        raise UnavailableError("the project is busy; try again", code="busy", retry_after=1)

    async def _delete(self, project_id: uuid.UUID) -> bool:
        named = {"project_id": project_id}
        for step in queries.DELETE_STEPS:
            while True:
                row = await self._database.fetch_one(step, named)
                if row is None or row["n"] < queries.DELETE_STEP:
                    break
        async with self._database.connection() as connection:
            gone = await connection.execute(queries.DELETE, named)
            return gone.rowcount == 1

    async def list_policies(
        self, project_id: uuid.UUID, *, caller: Caller, before: uuid.UUID | None, limit: int
    ) -> list[Policy]:
        """Up to limit + 1 versions of a project's policy, newest first.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        wanted = select(Policy).where(Policy.project_id == project_id)
        if before is not None:
            wanted = wanted.where(Policy.id < before)
        async with self._database.session() as session:
            found = list(await session.scalars(wanted.order_by(Policy.id.desc()).limit(limit + 1)))
        if not found and before is None:
            raise NotFoundError(_NO_PROJECT)
        return found

    async def set_policy(
        self, project_id: uuid.UUID, policy: RoutingPolicy, *, caller: Caller
    ) -> Policy:
        """A new version that routes everything recorded after it commits; what was routed stays.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        async with self._database.session() as session:
            # The lock makes versions take turns, and waits for results being recorded, which
            # hold the row shared while they route.
            project = await session.scalar(
                select(Project).where(Project.id == project_id).with_for_update(key_share=True)
            )
            if project is None:
                raise NotFoundError(_NO_PROJECT)
            newest = await session.scalar(
                select(func.max(Policy.version)).where(Policy.project_id == project_id)
            )
            version = Policy(
                id=new_id(),
                project_id=project_id,
                version=(newest or 0) + 1,
                document=policy_to_json(policy),
            )
            session.add(version)
            await session.flush()
            project.policy_id = version.id
            session.add(
                Event(
                    id=new_id(),
                    project_id=project_id,
                    type=events.EventType.POLICY_UPDATED.value,
                    data={
                        "policy_id": to_wire(Kind.POLICY, version.id),
                        "version": version.version,
                    },
                )
            )
            await session.flush()
            await session.refresh(version)
        return version


def require_visible(project_id: uuid.UUID, caller: Caller) -> None:
    """Another project's things do not exist for a key that is bound elsewhere.

    Raises:
        NotFoundError: the key may not see the project.
    """
    if not caller.sees(project_id):
        raise NotFoundError(_NO_PROJECT)


async def _views(session: AsyncSession, *conditions: Any, limit: int) -> list[ProjectView]:
    rows = await session.execute(
        select(Project, LabelSchema, Labeler, Policy)
        .join(LabelSchema, LabelSchema.id == Project.label_schema_id)
        .join(Labeler, Labeler.id == Project.labeler_id)
        .join(Policy, Policy.id == Project.policy_id)
        .where(*conditions)
        .order_by(Project.id)
        .limit(limit)
    )
    return [ProjectView(*row) for row in rows]


def _schema(definition: Mapping[str, Any]) -> Schema:
    try:
        return parse_schema(definition)
    except SchemaError as error:
        raise InvalidError.about(
            [
                FieldError(f"/label_schema{problem.pointer}", problem.detail)
                for problem in error.problems
            ]
        ) from error


def _checked_base_url(base_url: str | None, *, own: str | None) -> str | None:
    """The URL as given; None where it is the service's own, so that an endpoint has one name."""
    if base_url is None:
        return None
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        # reading the port checks it
        _ = parts.port
    except ValueError:
        usable = False
    # a user or a password would be shown to everybody who reads the project
    if not usable or not base_url.isprintable() or set(base_url) & set(" \\@?#"):
        raise invalid_field(
            "/labeler/base_url",
            "must be an http or https URL without user, query or fragment",
        )
    return None if own is not None and _name(base_url) == _name(own) else base_url


def _name(base_url: str) -> str:
    return base_url.rstrip("/").lower()
