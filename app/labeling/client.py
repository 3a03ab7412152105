"""Calls to OpenAI-compatible servers: one try, one total deadline, failures told apart.

The openai SDK says what a request to an endpoint is: its address, its headers, its transport. It
is asked once an endpoint and interface, not once a call: building the same request again and
reading the answer into types took it two thirds of the CPU of a label. Retries are the service's
own, which decides and remembers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient

from app.labeling.endpoint import (
    CallError,
    ModelClient,
    ModelClients,
    RawAnswer,
    address_of,
    not_sent,
    parse_retry_after,
    status_error,
    unreachable,
    unreadable,
)

__all__ = [
    "MAX_ANSWER_BYTES",
    "CallError",
    "ModelClient",
    "ModelClients",
    "OpenAIClient",
    "OpenAIClients",
    "RawAnswer",
    "parse_retry_after",
]

# What the SDK sends where a server wants no key.
_NO_KEY = "none"
_KEEPALIVE_SECONDS = 30.0
# 20 alternatives for each of a thousand tokens fit ten times
MAX_ANSWER_BYTES = 16 * 1024 * 1024
_TOO_LARGE = f"it has more than {MAX_ANSWER_BYTES} bytes"
# What a request to any server needs. The rest is what the SDK read from the environment:
# organisation, project, custom headers, a key. They are meant for the service's endpoint alone.
_PLAIN_HEADERS = frozenset({"accept", "connection", "content-type", "host", "user-agent"})
# they differ from call to call
_NOT_OURS = frozenset({"content-length", "transfer-encoding"})
_write_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class OpenAIClients:
    """Clients of the openai SDK on its aiohttp backend; made and closed on one event loop."""

    def __init__(self, *, base_url: str | None, api_key: str | None, calls_in_flight: int) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._calls_in_flight = calls_in_flight
        self._clients: dict[str | None, OpenAIClient] = {}

    def get(self, base_url: str | None) -> OpenAIClient:
        own = base_url is None or base_url == self._base_url
        key = None if own else base_url
        client = self._clients.get(key)
        if client is None:
            client = OpenAIClient(
                base_url=self._base_url if own else base_url,
                # the service's key goes to the service's endpoint and nowhere else
                api_key=self._api_key if own else None,
                own=own,
                calls_in_flight=self._calls_in_flight,
            )
            self._clients[key] = client
        return client

    def address(self, base_url: str | None) -> str:
        return address_of(base_url or self._base_url)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()


class OpenAIClient:
    """One endpoint, as the openai SDK reaches it: the service's `own`, or one a labeler named."""

    def __init__(
        self, *, base_url: str | None, api_key: str | None, own: bool, calls_in_flight: int
    ) -> None:
        self._own = own
        self._api_key = api_key
        self._sdk = AsyncOpenAI(
            base_url=base_url or "https://api.openai.com/v1",
            api_key=api_key or _NO_KEY,
            max_retries=0,
            # the total deadline is the caller's; one for each read is outlived by a drip
            timeout=None,
            http_client=httpx2.AsyncClient(transport=_Nowhere()),
        )
        self._http = DefaultAioHttpClient(
            # an item must not follow a redirect to a host that nobody named
            follow_redirects=False,
            limits=httpx2.Limits(
                max_connections=calls_in_flight,
                max_keepalive_connections=calls_in_flight,
                keepalive_expiry=_KEEPALIVE_SECONDS,
            ),
        )
        self._templates: dict[str, httpx2.Request] = {}

    async def complete(self, path: str, body: Mapping[str, Any]) -> RawAnswer:
        try:
            request = await self._request(path, _write_json(body).encode())
            response = await self._http.send(request, stream=True)
            try:
                content = await _read_bounded(response)
            finally:
                await response.aclose()
        except AnswerTooLargeError as error:
            raise unreadable(error) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise not_sent(error.__cause__ or error) from error
        except Exception as error:
            # the transport lets through what it does not know, such as an answer that is no HTTP
            raise unreachable(error.__cause__ or error) from error
        if not response.is_success:
            raise status_error(
                response.status_code, response.headers, content, asked=body, key=self._api_key
            )
        return RawAnswer(content, response.headers)

    async def _request(self, path: str, body: bytes) -> httpx2.Request:
        """The SDK's request to an interface, with this body."""
        template = self._templates.get(path)
        if template is None:
            # `_Nowhere` gives the request back as its answer
            asked = await self._sdk.post(
                path, body={}, cast_to=httpx2.Response, options={"timeout": None}
            )
            template = self._templates[path] = asked.request
            for name in _NOT_OURS if self._own else set(template.headers) - _PLAIN_HEADERS:
                template.headers.pop(name, None)
            if not self._own:
                template.headers["authorization"] = f"Bearer {_NO_KEY}"
            # an answer that is packed could become any size
            template.headers["accept-encoding"] = "identity"
        return httpx2.Request(
            "POST",
            template.url,
            headers=template.headers.raw,
            content=body,
            extensions=template.extensions,
        )

    async def close(self) -> None:
        await self._sdk.close()
        await self._http.aclose()


class _Nowhere(httpx2.AsyncBaseTransport):
    """Sends nothing: what the SDK would send is all that is wanted of it."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={}, request=request)


class AnswerTooLargeError(Exception):
    """The body is larger than any answer we could want, or packed so that it may become so."""


async def _read_bounded(response: httpx2.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise AnswerTooLargeError("the answer is compressed, which was not asked for")
    chunks, received = [], 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        if received > MAX_ANSWER_BYTES:
            raise AnswerTooLargeError(_TOO_LARGE)
        chunks.append(chunk)
    return b"".join(chunks)
