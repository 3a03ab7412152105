"""One process of the API, which leaves without a failed request.

Run by `secondlook serve`, which hands it listening sockets and a link to talk by. On SIGTERM or
SIGINT it **drains**: `/readyz` says 503, so that balancers take the host out, and every answer says
`Connection: close`, so that clients leave; after the drain time it stops to accept, finishes what
is in flight, closes what idles and ends. Told to **retire**, because another process has taken its
place on the same sockets, it stops to accept at once and remains ready: the host does.

A connection that has said nothing for the whole drain time is closed by us; only a request sent in
that very moment would be lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import select
import signal
import socket
from collections.abc import Generator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.infra.logging import LIFECYCLE
from app.main import create_app
from app.serving.link import HURRY, READY, STOP_SECONDS
from app.settings import load_settings
from app.web.leaving import CloseWhileLeaving, Leaving

# Longer than balancers keep idle connections (60 s is usual), so that they close them and not we:
# a connection closed by us may be carrying a request already.
KEEP_ALIVE_SECONDS = 75
_TICK = 0.02
_log = logging.getLogger(LIFECYCLE)


class LeavingServer(uvicorn.Server):
    """Uvicorn with an end of its own."""

    def __init__(
        self,
        config: uvicorn.Config,
        leaving: Leaving,
        *,
        drain_seconds: float,
        link: socket.socket,
    ) -> None:
        super().__init__(config)
        self.servers = []
        self._leaving = leaving
        self._drain_seconds = drain_seconds
        self._link = link

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # the parent and the terminal may both say it: once is enough, hurry goes by the link
            loop.add_signal_handler(number, self.drain)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._link.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link, self._hear)
        with contextlib.suppress(OSError):  # the parent has gone: it will be heard of in a moment
            self._link.send(READY)
        _log.info("serving")

    def drain(self) -> None:
        """Leaves after the drain time, which is what balancers and clients have to leave first."""
        if not self._leaving.unready:
            self._leaving.unready = True
            self._leave_after_drain("draining")

    def retire(self) -> None:
        """Accepts nobody any longer; leaves when the clients have, or after the drain time."""
        for server in self.servers:
            server.close()
        if not self._leaving.closes:
            self._leave_after_drain("retiring")

    def _leave_after_drain(self, word: str) -> None:
        _log.info(word)
        if not self._leaving.closes:
            self._leaving.closes = True
            asyncio.get_running_loop().call_later(self._drain_seconds, self._end)

    def _end(self) -> None:
        self.should_exit = True

    def _hear(self) -> None:
        try:
            said = self._link.recv(16)
        except OSError:
            said = b""
        if HURRY in said:
            self.should_exit = self.force_exit = True
            return
        if not said:  # the parent died, and whoever starts it anew needs our address
            asyncio.get_running_loop().remove_reader(self._link)
        self.retire()

    async def on_tick(self, counter: int) -> bool:
        listens = any(server.is_serving() for server in self.servers)
        if not listens and not self.server_state.connections:
            self._end()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                # first a moment for those that were accepted and do not count as connected yet
                await asyncio.sleep(_TICK)
                while self._is_busy() and not self.force_exit:  # noqa: ASYNC110  # sockets are polled
                    await asyncio.sleep(_TICK)
        if self.server_state.tasks:
            _log.warning("cut off %d requests", len(self.server_state.tasks))
            for task in self.server_state.tasks:
                task.cancel()
            await asyncio.wait(self.server_state.tasks, timeout=1.0)
        await self.lifespan.shutdown()
        _log.info("left")

    def _is_busy(self) -> bool:
        """Whether anybody is connected or answered; closes connections that idle."""
        for connection in list(self.server_state.connections):
            # a request that has reached this host is answered, though nobody has read it yet
            if not _has_unread(connection.transport):
                connection.shutdown()
        return bool(self.server_state.connections or self.server_state.tasks)


def _has_unread(transport: asyncio.Transport) -> bool:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class StartWhenReady:
    """Holds the application's start up until it can serve: it takes the place of one that does."""

    def __init__(self, app: ASGIApp, leaving: Leaving) -> None:
        self._app = app
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            send = partial(self._send_when_ready, send)
        await self._app(scope, receive, send)

    async def _send_when_ready(self, send: Send, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            while not self._leaving.unready and not await says_ready(self._app):  # noqa: ASYNC110  # asked
                await asyncio.sleep(0.1)
        await send(message)


async def says_ready(app: ASGIApp) -> bool:
    """Whether `/readyz` answers 200, asked within the process."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/readyz",
        "raw_path": b"/readyz",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": None,
        "server": None,
    }
    await app(scope, receive, send)
    return statuses == [200]


def main() -> None:
    """Serves until told to leave."""
    parser = argparse.ArgumentParser(prog="app.serving.server")
    parser.add_argument("--listener", type=int, action="append", required=True, help="open files")
    parser.add_argument("--link", type=int, required=True, help="an open socket to the parent")
    parser.add_argument("--replaces", action="store_true", help="serve only when ready")
    arguments = parser.parse_args()

    settings = load_settings()
    api = create_app(settings)
    leaving: Leaving = api.state.leaving
    config = uvicorn.Config(
        CloseWhileLeaving(StartWhenReady(api, leaving) if arguments.replaces else api, leaving),
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    server = LeavingServer(
        config,
        leaving,
        drain_seconds=settings.drain_seconds,
        link=socket.socket(fileno=arguments.link),
    )
    server.run([socket.socket(fileno=number) for number in arguments.listener])


if __name__ == "__main__":
    main()
