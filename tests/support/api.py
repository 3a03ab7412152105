"""The API as a client meets it: real HTTP on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings

LABELS = ("spam", "ham", "other thing")


@dataclass(frozen=True)
class Api:
    """A running API and ways to talk to it.

    Attributes:
        base_url: where it listens.
        admin_key: a key that may do everything.
        http: a client with that key.
    """

    base_url: str
    admin_key: str
    http: httpx2.AsyncClient

    @asynccontextmanager
    async def client(self, key: str | None, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
        """A client with another key (None: without one)."""
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        async with _client(self.base_url, headers) as client:
            yield client

    async def make_key(
        self,
        *scopes: str,
        projects: Sequence[str] | None = None,
        may_name_reviewer: bool = False,
    ) -> str:
        """A new key with these scopes."""
        body: dict[str, Any] = {
            "name": "test",
            "scopes": list(scopes),
            "may_name_reviewer": may_name_reviewer,
        }
        if projects is not None:
            body["projects"] = list(projects)
        answer = await self.http.post("/v1/keys", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    async def make_project(
        self,
        *,
        labels: Sequence[str] = LABELS,
        policy: dict[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """A new project; its id. The default policy sends everything to people."""
        answer = await self.http.post(
            "/v1/projects",
            json={
                "name": "test",
                "label_schema": {"kind": "single_choice", "labels": list(labels)},
                "policy": policy or {"kind": "review_all"},
                # no probe: what a test's model server is asked is what the test asks
                "labeler": {"source": "logprobs", **fields.pop("labeler", {})},
                **fields,
            },
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def send_items(self, project: str, texts: Sequence[str]) -> list[str]:
        """Sends texts as items; their ids in order."""
        ids = []
        for begin in range(0, len(texts), 1000):
            rows = [{"text": text} for text in texts[begin : begin + 1000]]
            answer = await self.http.post(
                f"/v1/projects/{project}/items/bulk", json={"items": rows}
            )
            assert answer.status_code == 200, answer.text
            ids += [row["id"] for row in answer.json()["results"]]
        return ids

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of a GET that must succeed."""
        answer = await self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def claim(self, project: str, limit: int = 1) -> list[dict[str, Any]]:
        """Claims with the admin key."""
        answer = await self.http.post(f"/v1/projects/{project}/claims", json={"limit": limit})
        assert answer.status_code == 200, answer.text
        claimed: list[dict[str, Any]] = answer.json()["data"]
        return claimed

    async def submit(self, assignment: dict[str, Any], label: str) -> httpx2.Response:
        """Submits a verdict with the admin key."""
        return await self.http.post(
            f"/v1/assignments/{assignment['id']}/submit",
            json={"lease_token": assignment["lease_token"], "label": label},
        )


def _client(base_url: str, headers: dict[str, str]) -> httpx2.AsyncClient:
    # plain HTTP: reading the system's certificates would cost 60 ms a client
    return httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=30, verify=False)


@asynccontextmanager
async def serve_api(settings: Settings, *, admin_key: str) -> AsyncIterator[Api]:
    """Serves the API on a free port of loopback for as long as the block lasts."""
    async with serve_app(create_app(settings), admin_key=admin_key) as api:
        yield api


@asynccontextmanager
async def serve_app(app: FastAPI, *, admin_key: str) -> AsyncIterator[Api]:
    """The same for an application that was made already."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            if serving.done():
                serving.result()
            await asyncio.sleep(0.01)
        base_url = f"http://127.0.0.1:{port}"
        try:
            async with _client(base_url, {"Authorization": f"Bearer {admin_key}"}) as http:
                yield Api(base_url, admin_key, http)
        finally:
            server.should_exit = True
            await serving
