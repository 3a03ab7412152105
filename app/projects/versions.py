"""The versions of a project: label schemas, labelers, policies. Each is stored once and stays."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.keys import Caller
from app.domain.kinds.base import LabelSchema as Schema
from app.domain.routing import Policy as RoutingPolicy
from app.domain.routing import policy_to_json
from app.errors import ConflictError, NotFoundError, invalid_field
from app.infra.db import Database
from app.infra.ids import Kind, new_id, to_wire
from app.ledger import events
from app.ledger.models import Event
from app.projects.labelers import Endpoint, NewLabeler, for_schema, labeler_row
from app.projects.models import Labeler, LabelSchema, Policy, Project
from app.projects.schema_cache import read_schema
from app.projects.service import NO_PROJECT, require_visible

_LIMITED = text("SELECT 1 FROM budgets WHERE project_id = :id AND monthly_limit_micros IS NOT NULL")
Version = TypeVar("Version", LabelSchema, Labeler, Policy)


class VersionService:
    """Adds versions to projects and lists them."""

    def __init__(self, database: Database, *, own: Endpoint) -> None:
        self._database = database
        self._own = own

    async def list_versions(
        self,
        table: type[Version],
        project_id: uuid.UUID,
        *,
        caller: Caller,
        before: uuid.UUID | None,
        limit: int,
    ) -> Sequence[Version]:
        """Up to limit + 1 versions of one thing of a project, newest first.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        require_visible(project_id, caller)
        wanted = select(table).where(table.project_id == project_id)
        if before is not None:
            wanted = wanted.where(table.id < before)
        async with self._database.session() as session:
            found = list(await session.scalars(wanted.order_by(table.id.desc()).limit(limit + 1)))
        if not found and before is None:
            raise NotFoundError(NO_PROJECT)
        return found

    async def set_policy(
        self, project_id: uuid.UUID, policy: RoutingPolicy, *, caller: Caller
    ) -> Policy:
        """A new version that routes everything recorded after it commits; what was routed stays.

        Raises:
            NotFoundError: there is no such project that this caller may see.
        """
        async with self._database.session() as session:
            project = await _hold(session, project_id, caller)
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

    async def set_label_schema(
        self, project_id: uuid.UUID, schema: Schema, *, caller: Caller
    ) -> LabelSchema:
        """A new version, by which is labelled and reviewed from now on.

        What was labelled by earlier ones stays, and stays readable. The labeler gets a revision
        too, since its prompt names the labels.

        Raises:
            NotFoundError: there is no such project that this caller may see.
            InvalidError: another kind than the project's, or an example of the labeler that is no
                value of the schema.
        """
        async with self._database.session() as session:
            project = await _hold(session, project_id, caller)
            current = await session.get_one(LabelSchema, project.label_schema_id)
            if current.kind != schema.KIND:
                raise invalid_field(
                    "/label_schema/kind",
                    f"must stay {current.kind}: another kind of label is another project",
                )
            newest = await session.scalar(
                select(func.max(LabelSchema.version)).where(LabelSchema.project_id == project_id)
            )
            version = LabelSchema(
                id=new_id(),
                project_id=project_id,
                version=(newest or 0) + 1,
                kind=schema.KIND,
                definition=schema.definition(),
            )
            labeler = for_schema(
                await session.get_one(Labeler, project.labeler_id),
                schema,
                revision=await _next_revision(session, project_id),
                own=self._own,
            )
            session.add_all([version, labeler])
            await session.flush()
            project.label_schema_id, project.labeler_id = version.id, labeler.id
            await session.flush()
            await session.refresh(version)
        return version

    async def set_labeler(
        self, project_id: uuid.UUID, new: NewLabeler, *, caller: Caller
    ) -> Labeler:
        """A new revision, which labels from now on; what was labelled stays.

        Raises:
            NotFoundError: there is no such project that this caller may see.
            InvalidError: it can't be asked for the project's labels.
        """
        async with self._database.session() as session:
            project = await _hold(session, project_id, caller)
            current = await session.get_one(LabelSchema, project.label_schema_id)
            await _require_prices(session, project_id, new)
            labeler = labeler_row(
                new,
                schema=read_schema(current.kind, current.definition),
                project_id=project_id,
                revision=await _next_revision(session, project_id),
                own=self._own,
                under="",
            )
            session.add(labeler)
            await session.flush()
            project.labeler_id = labeler.id
            await session.flush()
            await session.refresh(labeler)
        return labeler


async def _hold(session: AsyncSession, project_id: uuid.UUID, caller: Caller) -> Project:
    """The project, locked until the transaction ends.

    Versions take turns by it, and wait for results that are being recorded, which hold the row
    shared while they route.

    Raises:
        NotFoundError: there is no such project that this caller may see.
    """
    require_visible(project_id, caller)
    project = await session.scalar(
        select(Project).where(Project.id == project_id).with_for_update(key_share=True)
    )
    if project is None:
        raise NotFoundError(NO_PROJECT)
    return project


async def _require_prices(session: AsyncSession, project_id: uuid.UUID, new: NewLabeler) -> None:
    """What a project has spent is one sum, and its budget one limit.

    Raises:
        InvalidError: earlier labelers were paid in another currency.
        ConflictError: there is a budget, and nothing tells what the new labeler costs.
    """
    if new.prices is None:
        if await session.scalar(_LIMITED, {"id": project_id}):
            raise ConflictError(
                "the project has a budget, to which a labeler without prices can't be held",
                code="no_prices",
            )
        return
    paid = await session.scalar(
        select(Labeler.prices["currency"].as_string())
        .where(Labeler.project_id == project_id, Labeler.prices.is_not(None))
        .order_by(Labeler.id.desc())
        .limit(1)
    )
    if paid is not None and paid != new.prices["currency"]:
        raise invalid_field("/prices/currency", f"must stay {paid}, as it was before")


async def _next_revision(session: AsyncSession, project_id: uuid.UUID) -> int:
    newest = await session.scalar(
        select(func.max(Labeler.revision)).where(Labeler.project_id == project_id)
    )
    return (newest or 0) + 1
