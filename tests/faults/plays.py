"""Answers of the model server that do harm."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass

import psutil
from aiohttp import web

from tests.support.model_plays import Turn
from tests.support.processes import Program


@dataclass(frozen=True)
class Deadly:
    """Answers by killing whoever asks: the child of the worker at the other end."""

    worker: Program

    async def play(self, turn: Turn) -> web.StreamResponse:
        transport = turn.http.transport
        assert transport is not None
        port = transport.get_extra_info("peername")[1]
        for child in self.worker.children():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                connections = psutil.Process(child).net_connections("tcp4")
                if any(each.laddr.port == port for each in connections):
                    os.kill(child, signal.SIGKILL)
        return web.Response(status=500)
