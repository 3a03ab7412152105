"""Every request has an id: in its answer's header, in its errors, in its log lines."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.infra.ids import Kind, new_id, to_wire
from app.infra.logging import set_request_id

HEADER = "X-Request-Id"


class RequestIdMiddleware:
    """Names each request; outermost, so that errors of other middleware have the id too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = to_wire(Kind.REQUEST, new_id())
        set_request_id(request_id)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        await self._app(scope, receive, send_named)
