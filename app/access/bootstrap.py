"""Keys made by whoever can reach the database: the first one, and the demo's."""

from __future__ import annotations

from app.access.keys import Scope
from app.access.service import AccessService
from app.infra.db import Database


async def ensure_first_key(database_url: str) -> str | None:
    """An admin key for all projects where no key exists yet; None where one does."""
    database = Database(database_url, pool_size=1, application_name="secondlook-bootstrap")
    await database.open()
    try:
        if await database.fetch_one("SELECT 1 AS one FROM api_keys LIMIT 1", {}) is not None:
            return None
    finally:
        await database.close()
    return await make_admin_key(database_url, name="first admin key")


async def make_admin_key(database_url: str, *, name: str) -> str:
    """A new admin key for all projects, which may also act for any reviewer."""
    database = Database(database_url, pool_size=1, application_name="secondlook-bootstrap")
    await database.open()
    try:
        key = await AccessService(database).create(
            name=name,
            scopes=frozenset({Scope.ADMIN}),
            project_ids=None,
            may_name_reviewer=True,
            expires_at=None,
        )
    finally:
        await database.close()
    return key.secret
