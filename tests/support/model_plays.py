"""What the scripted model server can answer: good answers, and every fault a real server has shown.

A play is asked for a response once per call. `FAULTS` names each fault for tables of cases.
"""

import asyncio
import contextlib
import math
import random
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import blake2b
from typing import Any, Protocol

from aiohttp import web

from app.demo.wire import (
    ChatRequest,
    choose,
    completion,
    encode,
    error_body,
    label_answer,
)
from tests.support import model_edits as edits
from tests.support.model_wires import CHAT, DECISIONS, RESPONSES, decision_body, response_body

MODEL = "scripted-test-model"
FINGERPRINT = "fp_scripted"

# (item text, labels of the request) -> probability of each label
Distribution = Callable[[str, Sequence[str]], Mapping[str, float]]


@dataclass(slots=True, kw_only=True)
class Call:
    """One call as the server saw it. Times are time.monotonic(); `ended` is None while it runs."""

    number: int
    item: str
    request: ChatRequest
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    path: str = CHAT
    began: float
    ended: float | None = None
    abandoned: bool = False  # the client went away first
    play: "Play | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a play works with: the call, its HTTP request, and the server's distribution."""

    call: Call
    http: web.BaseRequest
    distribution: Distribution


class Play(Protocol):
    async def play(self, turn: Turn, /) -> web.StreamResponse: ...


def seeded(seed: int = 0) -> Distribution:
    """Any item gets its own distribution, the same in every process: from flat to saturated."""

    def distribution(item: str, labels: Sequence[str]) -> Mapping[str, float]:
        digest = blake2b(f"{seed}\0{item}".encode(errors="surrogatepass"), digest_size=8).digest()
        draw = random.Random(digest)
        sharpness = draw.uniform(0, 12)
        logits = [sharpness * draw.random() for _ in labels]
        peak = max(logits)
        weights = [math.exp(logit - peak) for logit in logits]
        total = math.fsum(weights)
        return {label: weight / total for label, weight in zip(labels, weights, strict=True)}

    return distribution


def by_text(known: Mapping[str, Mapping[str, float]], otherwise: Distribution) -> Distribution:
    """Fixed probabilities for some items, by their whole text."""

    def distribution(item: str, labels: Sequence[str]) -> Mapping[str, float]:
        return known[item] if item in known else otherwise(item, labels)

    return distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A good answer, unless edited: the arg max, or a sample at temperature > 0.

    `probabilities` replaces the server's distribution; they may name labels the request does not.
    `chosen` is answered even if it is not the most probable. `edit` spoils the finished choice.
    """

    probabilities: Mapping[str, float] | None = None
    chosen: str | None = None
    edit: Callable[[edits.Choice], None] | None = None

    async def play(self, turn: Turn) -> web.StreamResponse:
        if turn.call.path == DECISIONS:
            request = turn.call.request
            known = self.probabilities or turn.distribution(request.item, request.labels)
            return json_response(decision_body(turn.call.body, known, model=MODEL))
        return as_asked(turn, self.completion(turn))

    def completion(self, turn: Turn) -> dict[str, Any]:
        request = turn.call.request
        probabilities = self.probabilities or turn.distribution(request.item, request.labels)
        chosen = self.chosen or choose(
            probabilities,
            temperature=request.temperature,
            seed=turn.call.number if request.seed is None else request.seed,
        )
        choice = label_answer(
            probabilities,
            chosen,
            top_logprobs=request.top_logprobs,
            logprobs=request.logprobs,
        )
        if self.edit:
            self.edit(choice)
        return completion(
            choice,
            request,
            model=MODEL,
            fingerprint=FINGERPRINT,
        )


def as_asked(turn: Turn, completion: Mapping[str, Any]) -> web.Response:
    """A completion in the form of the interface that was asked, of two that write text."""
    asked = response_body(completion) if turn.call.path == RESPONSES else completion
    return json_response(asked)


def json_response(body: Mapping[str, Any]) -> web.Response:
    """A body as careless servers write it, with NaN and infinities."""
    return web.Response(body=encode(body), content_type="application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class OffSchema:
    """Answers a label that the request does not have, with most of the mass on it."""

    label: str = "None of the above"
    mass: float = 0.9

    async def play(self, turn: Turn) -> web.StreamResponse:
        known = turn.distribution(turn.call.item, turn.call.request.labels)
        mixed = {label: p * (1 - self.mass) for label, p in known.items()}
        answer = Answer(probabilities={**mixed, self.label: self.mass}, chosen=self.label)
        return await answer.play(turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An error status with OpenAI's error body; `retry_after` in seconds, or as an HTTP date."""

    status: int
    kind: str = "server_error"
    code: str | None = None
    retry_after: float | None = None
    retry_after_as_date: bool = False

    async def play(self, _turn: Turn) -> web.StreamResponse:
        headers = {}
        if self.retry_after is not None and self.retry_after_as_date:
            # a date has whole seconds: round up, so that it never promises too early
            headers["Retry-After"] = formatdate(
                math.ceil(time.time() + self.retry_after), usegmt=True
            )
        elif self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:g}"
        error = error_body(f"scripted {self.status}", kind=self.kind, code=self.code)
        return web.json_response(error, status=self.status, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Html:
    """A proxy's page where JSON was expected."""

    status: int = 200

    async def play(self, _turn: Turn) -> web.StreamResponse:
        page = "<!doctype html><html><body><h1>Please sign in</h1></body></html>"
        return web.Response(text=page, content_type="text/html", status=self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedBody:
    """The first half of a good answer.

    Either as a whole response (`cut` false: the length is honest, the JSON is not), or with the
    connection closed before the announced length (`cut` true).
    """

    cut: bool = False

    async def play(self, turn: Turn) -> web.StreamResponse:
        body = encode(Answer().completion(turn))
        half = body[: len(body) // 2]
        if not self.cut:
            return web.Response(body=half, content_type="application/json")
        response = await _begin(turn.http, length=len(body))
        await response.write(half)
        if turn.http.transport is not None:
            turn.http.transport.close()
        return await _until_abandoned()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """The connection is reset (RST), before the answer or in the middle of it."""

    midway: bool = False

    async def play(self, turn: Turn) -> web.StreamResponse:
        if self.midway:
            response = await _begin(turn.http, length=1000)
            await response.write(b'{"id"')
        reset(turn.http.transport)
        return await _until_abandoned()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """Takes the request and never answers."""

    async def play(self, _turn: Turn) -> web.StreamResponse:
        return await _until_abandoned()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """Headers at once, then a good answer a byte at a time: every read succeeds, none is the last.

    A timeout per read never fires while `interval` seconds is below it.
    """

    interval: float = 0.05

    async def play(self, turn: Turn) -> web.StreamResponse:
        body = encode(Answer().completion(turn))
        response = await _begin(turn.http, length=len(body))
        for position in range(len(body)):
            await response.write(body[position : position + 1])
            await asyncio.sleep(self.interval)
        await response.write_eof()
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """Any play, `seconds` later than the server's own latency."""

    seconds: float
    then: Play = field(default_factory=Answer)

    async def play(self, turn: Turn) -> web.StreamResponse:
        await asyncio.sleep(self.seconds)
        return await self.then.play(turn)


def reset(transport: asyncio.Transport | None) -> None:
    """End a connection with RST instead of FIN."""
    if transport is None:
        return
    linger_0 = struct.pack("ii", 1, 0)
    with contextlib.suppress(OSError):  # it is already gone
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_0)
    transport.abort()


async def _begin(http: web.BaseRequest, *, length: int) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(length)}
    )
    await response.prepare(http)
    return response


async def _until_abandoned() -> web.StreamResponse:
    # The server cancels the handler when the connection is gone, or when it stops itself.
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoChoices:
    """A completion whose `choices` is empty, or null."""

    choices: tuple[()] | None = ()

    async def play(self, turn: Turn) -> web.StreamResponse:
        return as_asked(turn, {**Answer().completion(turn), "choices": self.choices})


FAULTS: Mapping[str, Play] = {
    "429_seconds": Status(status=429, kind="rate_limit_error", retry_after=1),
    "429_date": Status(
        status=429, kind="rate_limit_error", retry_after=1, retry_after_as_date=True
    ),
    "429_bare": Status(status=429, kind="rate_limit_error"),
    "429_quota": Status(status=429, kind="insufficient_quota", code="insufficient_quota"),
    "400": Status(status=400, kind="invalid_request_error"),
    "401": Status(status=401, kind="authentication_error", code="invalid_api_key"),
    "404": Status(status=404, kind="invalid_request_error", code="model_not_found"),
    "500": Status(status=500),
    "502_html": Html(status=502),
    "503": Status(status=503),
    "503_retry_after": Status(status=503, retry_after=1),
    "reset": Reset(),
    "reset_midway": Reset(midway=True),
    "cut_body": TruncatedBody(cut=True),
    "hang": Hang(),
    "drip": Drip(),
    "html": Html(),
    "truncated_body": TruncatedBody(),
    "truncated_content": Answer(edit=edits.truncated_content),
    "empty_choices": NoChoices(),
    "null_choices": NoChoices(choices=None),
    "empty_content": Answer(edit=edits.empty_content),
    "refusal": Answer(edit=edits.refusal),
    "content_filter": Answer(edit=edits.content_filter),
    "content_filter_400": Status(status=400, kind="invalid_request_error", code="content_filter"),
    "no_logprobs_key": Answer(edit=edits.no_logprobs_key),
    "null_logprobs": Answer(edit=edits.null_logprobs),
    "null_logprobs_content": Answer(edit=edits.null_logprobs_content),
    "empty_logprobs_content": Answer(edit=edits.empty_logprobs_content),
    "nan": Answer(edit=edits.value_logprob(math.nan)),
    "minus_infinity": Answer(edit=edits.value_logprob(-math.inf)),
    "positive": Answer(edit=edits.value_logprob(0.5)),
    "minus_9999": Answer(edit=edits.every_logprob(-9999.0)),
    "all_zero": Answer(edit=edits.every_logprob(0.0)),
    "sampled_outside_top": Answer(edit=edits.sampled_outside_top),
    "nan_alternative": Answer(edit=edits.alternative_logprob(math.nan)),
    "positive_alternative": Answer(edit=edits.alternative_logprob(0.5)),
    "off_schema": OffSchema(),
    "null_bytes": Answer(edit=edits.null_bytes),
    "no_bytes_key": Answer(edit=edits.no_bytes_key),
    "wrong_bytes": Answer(edit=edits.wrong_bytes),
    "missing_token": Answer(edit=edits.missing_token),
}
