"""What happens to every request: it is named, timed, logged if wanted, answered if it crashes."""

from __future__ import annotations

import time
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.infra import metrics
from app.infra.logging import write_request_line
from app.web import problems
from app.web.request_id import HEADER_BYTES, name_request

_NO_ROUTE = "none"


class RequestMiddleware:
    """Outermost, so that it sees the answers of all other middleware.

    A crash is logged here, once, and answered here unless an answer has begun; then it goes on to
    the server, which logs it and closes the connection.
    """

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = name_request(scope)
        named = (HEADER_BYTES, request_id.encode())
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), named]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception as error:
            if status:
                raise
            crashed = problems.answer_crash(Request(scope), error)
            await crashed(scope, receive, send_named)
        finally:
            # 499: nobody waited for the answer, as nginx has it
            self._tell(scope, status or 499, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        template = _NO_ROUTE if route is None else route.path_format
        metrics.request_answered(scope["method"], template, status, seconds)
        if self._access_log:
            write_request_line(
                "api",
                method=scope["method"],
                route=template,
                status=status,
                duration_ms=round(seconds * 1000, 1),
            )
