"""Calls to OpenAI-compatible servers: one try, one total deadline, failures told apart.

The openai SDK says what a request to an endpoint is: its address, its headers, its transport. It
is asked once an endpoint, not once a call: building the same request again and reading the answer
into types took it two thirds of the CPU of a label. Retries are the service's own, which decides
and remembers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient

from app.domain.backoff import FailureClass
from app.domain.unknown import UnknownReason

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


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A body that came with a 2xx status, whatever it is."""

    body: bytes


class CallError(Exception):
    """A call that brought no answer: how it failed, what the server asks for, why for people."""

    def __init__(
        self,
        failure: FailureClass,
        detail: str,
        *,
        reason: UnknownReason,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.reason = reason
        self.retry_after = retry_after


class ModelClient(Protocol):
    """Asks one endpoint."""

    async def complete(self, body: Mapping[str, Any]) -> RawAnswer:
        """Sends a chat-completions request once.

        Raises:
            CallError: no 2xx answer.
        """


class ModelClients(Protocol):
    """The clients of one process, by base URL."""

    def get(self, base_url: str | None) -> ModelClient:
        """The client of an endpoint; None is the service's own."""


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
        self._completions: httpx2.Request | None = None

    async def complete(self, body: Mapping[str, Any]) -> RawAnswer:
        try:
            request = await self._request(_write_json(body).encode())
            response = await self._http.send(request, stream=True)
            try:
                content = await _read_bounded(response)
            finally:
                await response.aclose()
        except AnswerTooLargeError as error:
            raise CallError(
                FailureClass.TRANSIENT,
                f"the model server's answer can't be read: {error}",
                reason=UnknownReason.UNREADABLE_RESPONSE,
            ) from error
        except Exception as error:
            # the transport lets through what it does not know, such as an answer that is no HTTP
            cause = error.__cause__ or error
            raise CallError(
                FailureClass.TRANSIENT,
                f"the model server could not be reached: {type(cause).__name__}",
                reason=UnknownReason.MODEL_UNREACHABLE,
            ) from error
        if not response.is_success:
            raise _status_error(response, content)
        return RawAnswer(content)

    async def _request(self, body: bytes) -> httpx2.Request:
        """The SDK's request for a chat completion, with this body."""
        template = self._completions
        if template is None:
            # `_Nowhere` gives the request back as its answer
            asked = await self._sdk.post(
                "/chat/completions", body={}, cast_to=httpx2.Response, options={"timeout": None}
            )
            template = self._completions = asked.request
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


def deadline_error(seconds: float) -> CallError:
    """What a call is that outlived its total deadline, however it dripped."""
    return CallError(
        FailureClass.TRANSIENT,
        f"the model server did not answer within {seconds:g} s",
        reason=UnknownReason.MODEL_UNREACHABLE,
    )


def _status_error(response: httpx2.Response, content: bytes) -> CallError:
    status = response.status_code
    detail = f"the model server answered {status}"
    retry_after = parse_retry_after(response.headers)
    if status == 429:
        return CallError(
            FailureClass.RATE_LIMITED,
            detail,
            reason=UnknownReason.ATTEMPTS_EXHAUSTED,
            retry_after=retry_after,
        )
    if status in {400, 413, 422}:
        filtered = "content_filter" in _error_code(content)
        return CallError(
            FailureClass.REJECTED,
            detail,
            reason=UnknownReason.CONTENT_FILTER if filtered else UnknownReason.REQUEST_REJECTED,
        )
    # A wrong key, a missing model and a redirect are about the endpoint, not about the item:
    # somebody can mend them while the item waits.
    endpoint = status < 500 and status not in {408, 409}
    return CallError(
        FailureClass.TRANSIENT,
        detail,
        reason=UnknownReason.REQUEST_REJECTED if endpoint else UnknownReason.ATTEMPTS_EXHAUSTED,
        retry_after=retry_after,
    )


def _error_code(content: bytes) -> str:
    """The code of an error document: `{"error": {"code": …}}`, or without the envelope."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    error = document.get("error", document) if isinstance(document, dict) else None
    return str(error.get("code", "")) if isinstance(error, dict) else ""


def parse_retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Seconds a server asks us to wait: Retry-After in seconds or as a date, or OpenAI's ms form.

    A date is read by the server's own clock where the answer tells it: ours may be wrong.

    Args:
        headers: of the answer, their names in any case that the mapping ignores.
        now: seconds since the epoch, for a date of an answer without one; the clock's where None.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    at = _moment(text)
    if at is None:
        return None
    sent = _moment(headers.get("date"))
    if sent is None:
        sent = time.time() if now is None else now
    return max(0.0, at - sent)


def _moment(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e9 else None


async def within(seconds: float, call: Any) -> Any:
    """Awaits a call under a total deadline.

    Raises:
        CallError: time ran out.
    """
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError as error:
        raise deadline_error(seconds) from error
