"""Projects: made whole, found, removed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import psycopg.errors
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.keys import Caller
from app.domain.coin import CoinProbabilities
from app.domain.kinds.base import LabelSchema as Schema
from app.domain.routing import Policy as RoutingPolicy
from app.domain.routing import policy_to_json
from app.errors import NotFoundError, UnavailableError
from app.infra.db import Database
from app.infra.ids import new_id
from app.projects import queries
from app.projects.labelers import Endpoint, NewLabeler, labeler_row
from app.projects.models import Labeler, LabelSchema, Policy, Project

NO_PROJECT = "no such project"
_DELETE_TRIES = 10


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project with its current versions."""

    project: Project
    label_schema: LabelSchema
    labeler: Labeler
    policy: Policy


class ProjectService:
    """Makes, finds and removes projects."""

    def __init__(self, database: Database, *, own: Endpoint) -> None:
        self._database = database
        self._own = own

    async def create(
        self,
        *,
        name: str,
        label_schema: Schema,
        labeler: NewLabeler,
        policy: RoutingPolicy,
        review_lease_seconds: int,
        audit_probability: float,
    ) -> ProjectView:
        """A project with version 1 of everything.

        Raises:
            InvalidError: a labeler that can't be asked for such labels.
        """
        coin = CoinProbabilities.from_audit_rate(audit_probability)
        project_id = new_id()
        asked = labeler_row(
            labeler, schema=label_schema, project_id=project_id, revision=1, own=self._own
        )
        versions = (
            LabelSchema(
                id=new_id(),
                project_id=project_id,
                version=1,
                kind=label_schema.KIND,
                definition=label_schema.definition(),
            ),
            asked,
            Policy(id=new_id(), project_id=project_id, version=1, document=policy_to_json(policy)),
        )
        project = Project(
            id=project_id,
            name=name,
            label_schema_id=versions[0].id,
            labeler_id=asked.id,
            policy_id=versions[2].id,
            review_lease_seconds=review_lease_seconds,
            audit_probability=coin.audit,
            train_probability=coin.train,
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
            raise NotFoundError(NO_PROJECT)
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
                raise NotFoundError(NO_PROJECT)
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


def require_visible(project_id: uuid.UUID, caller: Caller) -> None:
    """Another project's things do not exist for a key that is bound elsewhere.

    Raises:
        NotFoundError: the key may not see the project.
    """
    if not caller.sees(project_id):
        raise NotFoundError(NO_PROJECT)


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
