"""Answers of the model server that know who asks."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from tests.support.model_plays import Answer, Turn
from tests.support.processes import Program

_ESTABLISHED = "01"


@dataclass(frozen=True)
class Traced:
    """Answers after a while, and knows meanwhile whose calls are in flight.

    Attributes:
        seconds: how long a call takes.
        callers: the ports at the other end of those in flight.
    """

    seconds: float
    callers: set[int] = field(default_factory=set)

    async def play(self, turn: Turn) -> web.StreamResponse:
        port = _caller(turn)
        self.callers.add(port)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.callers.discard(port)
        return await Answer().play(turn)


@dataclass(frozen=True)
class Deadly:
    """Answers by killing whoever asks: the child of the worker at the other end.

    A sweeper that helps out lives on and sees a failure.
    """

    worker: Program

    async def play(self, turn: Turn) -> web.StreamResponse:
        # a look at a table that changes meanwhile may miss what is in it
        for _ in range(20):
            child = child_at(_caller(turn), self.worker.children())
            if child is not None:
                os.kill(child, signal.SIGKILL)
                break
            await asyncio.sleep(0.01)
        return web.Response(status=500)


def _caller(turn: Turn) -> int:
    transport = turn.http.transport
    assert transport is not None
    port: int = transport.get_extra_info("peername")[1]
    return port


def child_at(port: int, children: list[int]) -> int | None:
    """Which of these processes holds the connection from a port of loopback, None: none does.

    Read from /proc: asking for all connections of each process takes longer than a call.
    """
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    socket = next(
        (
            f"socket:[{words[9]}]"
            for words in lines
            if words[3] == _ESTABLISHED and int(words[1].rpartition(":")[2], 16) == port
        ),
        None,
    )
    return next((child for child in children if socket in _files(child)), None)


def _files(process: int) -> set[str]:
    found: set[str] = set()
    with suppress(OSError):
        for file in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                found.add(str(file.readlink()))
    return found
