"""Plays that wait for the test."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.model_plays import Answer, Play, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Answers when the test opens it; every call that comes before waits.

    Attributes:
        then: what is played then.
    """

    then: Play = field(default_factory=Answer)
    _opened: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        """Lets all calls through, from any thread."""
        self._opened.set()

    async def play(self, turn: Turn) -> web.StreamResponse:
        while not self._opened.is_set():  # noqa: ASYNC110  # opened in another thread
            await asyncio.sleep(0.005)
        return await self.then.play(turn)
