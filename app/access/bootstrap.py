"""The first key: made when there is none, shown once."""

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
        key = await AccessService(database).create(
            name="first admin key",
            scopes=frozenset({Scope.ADMIN}),
            project_ids=None,
            may_name_reviewer=True,
            expires_at=None,
        )
    finally:
        await database.close()
    return key.secret
