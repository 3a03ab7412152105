"""What a call to a model server comes to, whoever makes it: an answer, or a failure told apart.

Nothing here imports an SDK: the API process reads this too.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

from app.domain.backoff import FailureClass
from app.domain.unknown import UnknownReason
from app.domain.usage import Usage
from app.labeling.server_words import printable, words_of
from app.labeling.unreached import why_unreached

# what a server says of a refusal is looked at no further than that
_MAX_WORDS: Final = 4000
# A request that these answer was not worked on; the model may have worked on any other.
_UNSENT: Final = Usage()
_REFUSED: Final = Usage(calls=1)
_UNTOLD: Final = Usage(calls=1, untold=1)


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A body that came with a 2xx status, whatever it is.

    Attributes:
        body: as it came.
        headers: of the answer, their names in any case.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class CallError(Exception):
    """A call that brought no answer.

    Attributes:
        failure: how it failed.
        detail: why, for people.
        reason: why there is no label, if this was the last try.
        retry_after: seconds the server asks us to wait.
        status: what it answered; None where it answered nothing.
        words: what it said of the request, for a program to look for names in; may be anything.
        told: what it said of itself, for people; neither a key nor an item is in it.
        usage: what the call used, as far as that is known; nothing where none was sent.
        headers: of the answer, their names in any case.
    """

    def __init__(
        self,
        failure: FailureClass,
        detail: str,
        *,
        reason: UnknownReason,
        retry_after: float | None = None,
        status: int | None = None,
        words: str = "",
        told: str = "",
        usage: Usage = _UNSENT,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.reason = reason
        self.retry_after = retry_after
        self.status = status
        self.words = words
        self.told = told
        self.usage = usage
        self.headers: Mapping[str, str] = {} if headers is None else headers

    @property
    def said(self) -> str:
        """Why, with the server's own words where it has any."""
        return printable(f"{self.detail}: {self.told}") if self.told else self.detail


class ModelClient(Protocol):
    """Asks one endpoint."""

    async def complete(self, path: str, body: Mapping[str, Any]) -> RawAnswer:
        """Sends a request once.

        Args:
            path: of the interface, behind the base URL: "/chat/completions".
            body: JSON.

        Raises:
            CallError: no 2xx answer.
        """


class ModelClients(Protocol):
    """The clients of one process, by base URL."""

    def get(self, base_url: str | None) -> ModelClient:
        """The client of an endpoint; None is the service's own."""

    def address(self, base_url: str | None) -> str:
        """The base URL that `get` would use, in lower case, with no slash at its end."""


def address_of(base_url: str | None) -> str:
    """A base URL in the spelling by which an endpoint is known; None is the SDK's own default."""
    return (base_url or "https://api.openai.com/v1").rstrip("/").lower()


def not_sent(cause: BaseException) -> CallError:
    """No connection was had, so nothing was sent."""
    return _unreachable(cause, _UNSENT)


def unreachable(cause: BaseException) -> CallError:
    """The connection broke, or what came was no HTTP."""
    return _unreachable(cause, _UNTOLD)


def _unreachable(cause: BaseException, usage: Usage) -> CallError:
    return CallError(
        FailureClass.TRANSIENT,
        f"the model server could not be reached: {why_unreached(cause)}",
        reason=UnknownReason.MODEL_UNREACHABLE,
        usage=usage,
    )


def unreadable(error: Exception) -> CallError:
    """A success whose body can't be read: it is about the endpoint, so it may pass."""
    return CallError(
        FailureClass.TRANSIENT,
        f"the model server's answer can't be read: {error}",
        reason=UnknownReason.UNREADABLE_RESPONSE,
        usage=_UNTOLD,
    )


def deadline_error(seconds: float) -> CallError:
    """What a call is that outlived its total deadline, however it dripped."""
    return CallError(
        FailureClass.TRANSIENT,
        f"the model server did not answer within {round(seconds, 1):g} s",
        reason=UnknownReason.MODEL_UNREACHABLE,
        usage=_UNTOLD,
    )


def status_error(
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    asked: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> CallError:
    """What an answer is that was no success.

    Args:
        status: of the answer.
        headers: of the answer, their names in any case.
        content: of the answer, as it came.
        asked: the request's body, of which nothing is repeated; None: the server isn't quoted.
        key: that was sent with it, which isn't repeated either.
    """
    detail = f"the model server answered {status}"
    retry_after = parse_retry_after(headers)
    document = _document(content)
    words = _words(document)
    if status == 429:
        failure, reason = FailureClass.RATE_LIMITED, UnknownReason.ATTEMPTS_EXHAUSTED
    elif status in {400, 413, 422}:
        filtered = "content_filter" in _code(document)
        failure = FailureClass.REJECTED
        reason = UnknownReason.CONTENT_FILTER if filtered else UnknownReason.REQUEST_REJECTED
        retry_after = None
    else:
        # A wrong key, a missing model and a redirect are about the endpoint, not about the item:
        # somebody can mend them while the item waits.
        endpoint = status < 500 and status not in {408, 409}
        failure = FailureClass.TRANSIENT
        reason = UnknownReason.REQUEST_REJECTED if endpoint else UnknownReason.ATTEMPTS_EXHAUSTED
    return CallError(
        failure,
        detail,
        reason=reason,
        retry_after=retry_after,
        status=status,
        words=words,
        told="" if asked is None else words_of(status, document, asked=asked, key=key),
        # what went wrong within may have cost something; what was refused did not
        usage=_UNTOLD if status >= 500 else _REFUSED,
        headers=headers,
    )


def _document(content: bytes) -> object:
    try:
        document: object = json.loads(content)
    except (ValueError, RecursionError):
        return content[:_MAX_WORDS].decode("utf-8", "replace")
    # Google's compatible endpoint sends a list of one
    return document[0] if isinstance(document, list) and document else document


def _code(document: object) -> str:
    """The code of an error document: `{"error": {"code": …}}`, or without the envelope."""
    error = document.get("error", document) if isinstance(document, dict) else None
    return str(error.get("code", "")) if isinstance(error, dict) else ""


def _words(document: object) -> str:
    """What an error document says, in lower case; never what it quotes of the request.

    `{"error": {"message", "param"}}` at OpenAI, `{"error": "…"}` at LM Studio and TGI,
    `{"message"}` at vLLM, `{"detail": [{"loc", "msg", "input"}]}` of a FastAPI.
    """
    said: list[str] = []

    def gather(value: object, depth: int) -> None:
        if isinstance(value, str):
            said.append(value)
        elif isinstance(value, list) and depth:
            for each in value[:20]:
                gather(each, depth - 1)
        elif isinstance(value, dict) and depth:
            for name in ("error", "message", "param", "detail", "loc", "msg"):
                gather(value.get(name), depth - 1)

    gather(document, 4)
    return "\n".join(said)[:_MAX_WORDS].lower()


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
