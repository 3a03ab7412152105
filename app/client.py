"""A small client of the API, for commands that talk to a service: nothing curl could not do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2

_LONGEST_PAUSE = 5.0
# It is restarting, or a proxy stands before nothing, or it asks for patience.
_PASSING = frozenset({429, 502, 503, 504})


class ServiceError(RuntimeError):
    """The service refused a request, or can't be reached; `status` is None for the latter."""

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ServiceClient:
    """Requests to one service, answered as JSON.

    Args:
        http: with the base URL and the key.
        patience: for how many seconds a request that may be repeated is tried again while the
            service is away.
    """

    def __init__(self, http: httpx2.AsyncClient, *, patience: float = 0.0) -> None:
        self._http = http
        self._patience = patience

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """The body of a GET.

        Raises:
            ServiceError: no 2xx answer.
        """
        return await self._send(path, "GET", patience=self._patience, params=params)

    async def post(
        self, path: str, body: Mapping[str, Any] | bytes, *, repeatable: bool = False
    ) -> dict[str, Any]:
        """The body of a POST, whose own body may be JSON written already.

        Args:
            path: where to.
            body: what to send.
            repeatable: whether doing it twice does no harm.

        Raises:
            ServiceError: no 2xx answer.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        patience = self._patience if repeatable else 0.0
        return await self._send(path, "POST", patience=patience, content=content, headers=headers)

    async def pages(self, path: str, **params: Any) -> AsyncIterator[list[dict[str, Any]]]:
        """The pages of a list, to its end."""
        while True:
            page = await self.get(path, **params)
            yield page["data"]
            if not page["has_more"]:
                return
            params["cursor"] = page["next_cursor"]

    async def _send(
        self, path: str, method: str, *, patience: float, **more: Any
    ) -> dict[str, Any]:
        gives_up = time.monotonic() + patience
        pause = 0.1
        while True:
            try:
                answer = await self._http.request(method, path, **more)
            except httpx2.TransportError as error:
                failure = ServiceError(f"{self._where} can't be reached: {_words(error)}")
                asked = 0.0
            else:
                if answer.is_success:
                    return _decoded(answer)
                failure = _refusal(answer)
                if answer.status_code not in _PASSING:
                    raise failure
                asked = _seconds(answer.headers.get("retry-after"))
            wait = max(asked, pause)
            if time.monotonic() + wait > gives_up:
                raise failure
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)

    @property
    def _where(self) -> str:
        return f"the service at {self._http.base_url}".rstrip("/")


def _words(error: httpx2.TransportError) -> str:
    return str(error) or type(error).__name__


def _seconds(header: str | None) -> float:
    """Seconds of a Retry-After; a date, which no part of ours sends, counts as none."""
    return float(header) if header is not None and header.isdecimal() else 0.0


def _decoded(answer: httpx2.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError as error:
        raise _no_service(answer) from error
    if not isinstance(body, dict):
        raise _no_service(answer)
    return body


def _no_service(answer: httpx2.Response) -> ServiceError:
    path = answer.request.url.path
    message = f"what answers at {answer.request.url.host}{path} is no Secondlook service"
    return ServiceError(message, status=answer.status_code)


def _refusal(answer: httpx2.Response) -> ServiceError:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "detail" not in problem:
        words = f"{answer.request.url.path}: status {answer.status_code}"
        return ServiceError(words, status=answer.status_code)
    return ServiceError(
        f"{answer.request.url.path}: {problem['detail']}",
        status=answer.status_code,
        code=problem.get("code"),
    )
