"""Who may do what. A key is looked up by its hash and remembered for a quarter of a second."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.keys import SHOWN_LENGTH, Caller, Scope, digest, is_well_formed, make_key
from app.access.models import ApiKey
from app.errors import (
    MissingScopeError,
    NotFoundError,
    UnauthenticatedError,
    invalid_field,
)
from app.infra.db import Database
from app.infra.fresh import Fresh
from app.infra.ids import Kind, new_id, to_wire

# A revoked key dies at once in the process that revoked it and within this time in all others;
# in return a polling client costs four look-ups a second, not one a request.
REMEMBER_SECONDS = 0.25
_MAX_REMEMBERED = 10_000

_FIND = """
SELECT id, scopes, project_ids, may_name_reviewer,
       last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS stale
FROM api_keys
WHERE digest = %(digest)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""
_TOUCH = "UPDATE api_keys SET last_used_at = now() WHERE id = %(id)s"


@dataclass(frozen=True, slots=True)
class _Known:
    key_id: uuid.UUID
    scopes: frozenset[Scope]
    project_ids: frozenset[uuid.UUID] | None
    may_name_reviewer: bool


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the one moment its text is known."""

    secret: str
    row: ApiKey


class AccessService:
    """Makes, finds and revokes keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Fresh[bytes, _Known | None] = Fresh(
            self._look_up, seconds=REMEMBER_SECONDS, max_kept=_MAX_REMEMBERED
        )

    async def authenticate(
        self, authorization: str | None, *, scope: Scope, reviewer: str | None
    ) -> Caller:
        """The caller behind an Authorization header.

        Args:
            authorization: `Bearer slk_…`.
            scope: what the route needs.
            reviewer: whom the caller names in Secondlook-Reviewer, if anybody.

        Raises:
            UnauthenticatedError: no key, a malformed, unknown, expired or revoked one.
            MissingScopeError: the key lacks the scope, or may not act for others.
        """
        known = await self._known.get(digest(_bearer(authorization)))
        if known is None:
            raise UnauthenticatedError("this key is unknown, expired or revoked")
        caller = Caller(
            key_id=known.key_id,
            scopes=known.scopes,
            project_ids=known.project_ids,
            reviewer=to_wire(Kind.API_KEY, known.key_id),
        )
        if not caller.has(scope):
            raise MissingScopeError(f"this needs a key with the scope {scope.value}")
        if reviewer is None:
            return caller
        if not known.may_name_reviewer:
            raise MissingScopeError("this key may not act for other reviewers")
        if not (0 < len(reviewer) <= 200 and reviewer.isprintable()):
            raise invalid_field(
                "Secondlook-Reviewer", "must be 1 to 200 printable characters", where="header"
            )
        return Caller(
            key_id=caller.key_id,
            scopes=caller.scopes,
            project_ids=caller.project_ids,
            reviewer=reviewer,
        )

    async def _look_up(self, fingerprint: bytes) -> _Known | None:
        # Looking up by the hash of a random key leaks nothing by its timing that helps to guess
        # another key.
        row = await self._database.fetch_one(_FIND, {"digest": fingerprint})
        if row is None:
            return None
        if row["stale"]:
            async with self._database.connection() as connection:
                await connection.execute(_TOUCH, {"id": row["id"]})
        projects = row["project_ids"]
        return _Known(
            key_id=row["id"],
            scopes=frozenset(Scope(scope) for scope in row["scopes"]),
            project_ids=None if projects is None else frozenset(projects),
            may_name_reviewer=row["may_name_reviewer"],
        )

    async def create(
        self,
        *,
        name: str,
        scopes: frozenset[Scope],
        project_ids: list[uuid.UUID] | None,
        may_name_reviewer: bool,
        expires_at: datetime | None,
    ) -> NewKey:
        """Makes a key; its text is in the answer and nowhere else.

        Raises:
            InvalidError: it would be over before it begins, names a project that is not there, or
                may name reviewers without being one.
        """
        if may_name_reviewer and not scopes & {Scope.REVIEWER, Scope.ADMIN}:
            raise invalid_field("/may_name_reviewer", "needs the scope reviewer")
        secret = make_key(secrets.token_bytes(60))
        row = ApiKey(
            id=new_id(),
            name=name,
            digest=digest(secret),
            prefix=secret[:SHOWN_LENGTH],
            scopes=sorted(scope.value for scope in scopes),
            project_ids=project_ids,
            may_name_reviewer=may_name_reviewer,
            expires_at=expires_at,
        )
        async with self._database.session() as session:
            await _require_sense(session, project_ids, expires_at)
            session.add(row)
            await session.flush()
            await session.refresh(row)
        return NewKey(secret, row)

    async def list_keys(self, *, after: uuid.UUID | None, limit: int) -> list[ApiKey]:
        """Up to limit + 1 keys that were not revoked, oldest first."""
        wanted = select(ApiKey).where(ApiKey.revoked_at.is_(None))
        if after is not None:
            wanted = wanted.where(ApiKey.id > after)
        async with self._database.session() as session:
            return list(await session.scalars(wanted.order_by(ApiKey.id).limit(limit + 1)))

    async def revoke(self, key_id: uuid.UUID) -> None:
        """Ends a key.

        Raises:
            NotFoundError: no such key, or revoked already.
        """
        async with self._database.session() as session:
            found = await session.scalar(
                update(ApiKey)
                .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
                .values(revoked_at=func.now())
                .returning(ApiKey.id)
            )
        if found is None:
            raise NotFoundError("no such key")
        self._known.forget(lambda _: True)


async def _require_sense(
    session: AsyncSession, project_ids: list[uuid.UUID] | None, expires_at: datetime | None
) -> None:
    """Refuses a key that could never be used as it was meant."""
    if expires_at is not None and await session.scalar(select(literal(expires_at) <= func.now())):
        raise invalid_field("/expires_at", "is over already")
    if project_ids is None:
        return
    there = await session.scalars(
        text("SELECT id FROM projects WHERE id = ANY(:ids)"), {"ids": project_ids}
    )
    missing = set(project_ids) - set(there)
    for index, project_id in enumerate(project_ids):
        if project_id in missing:
            raise invalid_field(f"/projects/{index}", "there is no such project")


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise UnauthenticatedError("send the key as `Authorization: Bearer slk_…`")
    if not is_well_formed(key):
        raise UnauthenticatedError("this is no key of this service: its check digits are wrong")
    return key


def require_unbound(caller: Caller) -> None:
    """What concerns the whole service is not for keys that are bound to projects.

    Raises:
        MissingScopeError: the key is bound.
    """
    if caller.project_ids is not None:
        raise MissingScopeError("this needs a key that is bound to no project")
