"""People who review."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.support.api import Api


@dataclass(frozen=True)
class Reviewer:
    """A person with a key of their own."""

    http: httpx2.AsyncClient

    async def claim(self, project: str, limit: int = 1) -> list[dict[str, Any]]:
        answer = await self.http.post(f"/v1/projects/{project}/claims", json={"limit": limit})
        assert answer.status_code == 200, answer.text
        claimed: list[dict[str, Any]] = answer.json()["data"]
        return claimed

    async def act(self, verb: str, assignment: dict[str, Any], **fields: Any) -> httpx2.Response:
        """renew, release, skip or submit, with the assignment's own token unless another."""
        body = {"lease_token": assignment["lease_token"], **fields}
        return await self.http.post(f"/v1/assignments/{assignment['id']}/{verb}", json=body)

    async def submit(
        self, assignment: dict[str, Any], label: Any, **fields: Any
    ) -> httpx2.Response:
        return await self.act("submit", assignment, label=label, **fields)

    async def get(self, assignment: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/assignments/{assignment['id']}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@asynccontextmanager
async def reviewer(api: Api) -> AsyncIterator[Reviewer]:
    """Another person who reviews."""
    async with api.client(await api.make_key("reviewer")) as http:
        yield Reviewer(http)
