"""What a process on its way out tells its clients."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(slots=True)
class Leaving:
    """How far a process is on its way out.

    Attributes:
        closes: every answer says `Connection: close`, so that its client leaves with it.
        unready: `/readyz` says so, and balancers send nobody new.
    """

    closes: bool = False
    unready: bool = False


class CloseWhileLeaving:
    """Around the whole application, so that the answers of all middleware say it too."""

    def __init__(self, app: ASGIApp, leaving: Leaving) -> None:
        self._app = app
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_closing(message: Message) -> None:
            # asked when the answer begins: its request may be older than the wish to leave
            if message["type"] == "http.response.start" and self._leaving.closes:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_closing)
