"""What tests of labelling play with: an API, a worker's side, a model server and the database."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from app.infra.ids import Kind, from_wire
from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.model_plays import Turn
from tests.support.model_server import ModelServer
from tests.support.sql import Sql


@dataclass(frozen=True)
class Stage:
    """Everything a test of labelling needs at once.

    Attributes:
        api: what clients see.
        labeling: a worker's side, driven by hand.
        model: the scripted model server.
        sql: the database below.
    """

    api: Api
    labeling: LabelingSide
    model: ModelServer
    sql: Sql

    async def label_one(
        self, text: str = "some text", *, policy: str = "accept_all"
    ) -> tuple[str, str]:
        """A project of one item that one drain settles; their ids."""
        project = await self.api.make_project(policy={"kind": policy})
        (item,) = await self.api.send_items(project, [text])
        assert (await self.labeling.drain(project)).settled == 1
        return project, item

    async def item(self, item_id: str) -> dict[str, Any]:
        """An item as clients see it."""
        shown: dict[str, Any] = await self.api.get(f"/v1/items/{item_id}")
        return shown

    async def prediction(self, item_id: str) -> dict[str, Any]:
        """The only prediction of an item, with its evidence."""
        (found,) = await self.predictions(item_id)
        return found

    async def predictions(self, item_id: str) -> list[dict[str, Any]]:
        """All predictions of an item, with their evidence."""
        answer = await self.api.get(f"/v1/items/{item_id}/predictions", include="evidence")
        found: list[dict[str, Any]] = answer["data"]
        return found

    async def queue(self, project: str) -> list[dict[str, Any]]:
        """What waits for people, in order."""
        found: list[dict[str, Any]] = (await self.api.get(f"/v1/projects/{project}/queue"))["data"]
        return found

    async def by_state(self, project: str) -> dict[str, int]:
        """How many items are in each state that any is in, by the counters."""
        counted = (await self.api.get(f"/v1/projects/{project}/stats"))["items"]
        return {state: count for state, count in counted.items() if count}

    async def events(self, item_id: str) -> list[str]:
        """The types of what the outbox tells of an item."""
        found = await self.sql.rows(
            "SELECT type FROM events WHERE data->>'item_id' = %(item)s ORDER BY type",
            item=item_id,
        )
        return [row["type"] for row in found]

    async def make_due(self, project: str) -> None:
        """Moves a project's next attempts to now, and ends all pauses, instead of waiting."""
        await self.sql.rows(
            "UPDATE items SET next_attempt_at = now() "
            "WHERE state = 'pending' AND project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        await self.sql.rows("DELETE FROM endpoint_pauses")

    async def lose_leases(self, project: str) -> None:
        """Lets a project's leases run out, as if their worker had died long ago."""
        await self.sql.rows(
            "UPDATE items SET lease_expires_at = now() - interval '1 second' "
            "WHERE state = 'labeling' AND project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Answers with a redirect to another server."""

    location: str
    status: int = 302

    async def play(self, _turn: Turn) -> web.StreamResponse:
        return web.Response(status=self.status, headers={"Location": self.location})


@dataclass(frozen=True, slots=True, kw_only=True)
class NoContent:
    """A success that says nothing."""

    async def play(self, _turn: Turn) -> web.StreamResponse:
        return web.Response(status=204)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A kilobyte that unpacks to a thousand times as much, though nobody asked for gzip."""

    async def play(self, _turn: Turn) -> web.StreamResponse:
        packed = gzip.compress(bytes(1024 * 1024), compresslevel=1)
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=packed, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endless:
    """A good beginning that never ends, as fast as it is read.

    Attributes:
        sent: bytes written by all of them, in a list of one.
    """

    sent: list[int] = field(default_factory=lambda: [0])

    async def play(self, turn: Turn) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(turn.http)
        await response.write(b'{"choices": [{"message": {"content": "')
        while True:
            await response.write(b"x" * 65536)
            self.sent[0] += 65536


@contextmanager
def garbage_server(says: bytes) -> Iterator[str]:
    """A base URL where somebody listens who does not speak HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(says)

        thread = threading.Thread(target=serve, name="garbage-server", daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
