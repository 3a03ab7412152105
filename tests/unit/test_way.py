"""Which way an endpoint is asked after it has refused one, in the words of those that do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.backoff import FailureClass
from app.domain.confidence import ConfidenceSource
from app.domain.unknown import UnknownReason
from app.domain.usage import Usage
from app.labeling.endpoint import status_error
from app.labeling.way import Api, Structured, Way
from tests.support import model_quirks as quirks

VOTES = ConfidenceSource.SELF_CONSISTENCY


def after(way: Way, saying: tuple[int, Any], *, wanted: int | None = 20) -> Way | None:
    status, document = saying
    error = status_error(status, {}, json.dumps(document).encode())
    return way.after_refusal(error.words, wanted=wanted)


@pytest.mark.parametrize(
    ("saying", "changed"),
    [
        # a limit that is told
        (quirks.AZURE_TOP_LOGPROBS, Way(top_logprobs=5)),
        (quirks.VLLM_TOP_LOGPROBS, Way(top_logprobs=10)),
        # a limit that is not
        ((400, {"message": "top_logprobs is too large"}), Way(top_logprobs=5)),
        # none at all; the number is one of the model's name
        (quirks.OPENAI_NO_LOGPROBS, Way(without=frozenset({"logprobs"}))),
        (quirks.GROQ_NO_LOGPROBS, Way(without=frozenset({"logprobs"}))),
        (quirks.GEMINI_NO_LOGPROBS, Way(without=frozenset({"logprobs"}))),
        (quirks.DEEPSEEK_NO_SCHEMA, Way(structured=Structured.JSON_OBJECT)),
        (quirks.FASTAPI_NO_FORMAT, Way(structured=Structured.JSON_OBJECT)),
        (quirks.LLAMA_CPP_GRAMMAR, Way(structured=Structured.JSON_OBJECT)),
        (quirks.OPENAI_TEMPERATURE, Way(without=frozenset({"temperature"}))),
        (quirks.OPENAI_MAX_TOKENS, Way(without=frozenset({"max_tokens"}))),
        # about something else: an item too long, a wrong key
        ((400, {"error": {"message": "maximum context length is 4096 tokens"}}), None),
        ((401, {"error": {"message": "Incorrect API key provided"}}), None),
        ((400, "no JSON object"), None),
    ],
)
def test_a_refusal_takes_away_what_was_refused(
    saying: tuple[int, Any], changed: Way | None
) -> None:
    assert after(Way(), saying) == changed


def test_less_is_asked_until_there_is_nothing_to_take_away() -> None:
    way = after(Way(), quirks.DEEPSEEK_NO_SCHEMA)
    assert way is not None
    # a server that knows neither
    assert (last := after(way, quirks.LM_STUDIO_NO_OBJECT)) == Way(structured=Structured.NONE)
    assert after(last, quirks.LM_STUDIO_NO_OBJECT) is None
    few = after(Way(), quirks.AZURE_TOP_LOGPROBS)
    assert few is not None
    assert after(few, quirks.AZURE_TOP_LOGPROBS) == Way(
        top_logprobs=5, without=frozenset({"logprobs"})
    )
    hot = after(Way(VOTES), quirks.OPENAI_TEMPERATURE)
    assert hot is not None
    assert after(hot, quirks.OPENAI_TEMPERATURE) is None


def test_what_was_not_asked_for_is_not_taken_away() -> None:
    assert after(Way(VOTES), quirks.GROQ_NO_LOGPROBS) is None
    # a labeler that wants three is under any limit of five
    assert after(Way(), quirks.AZURE_TOP_LOGPROBS, wanted=3) == Way(without=frozenset({"logprobs"}))


def test_what_a_server_quotes_of_the_request_is_not_what_it_refuses() -> None:
    quoting = {"detail": [{"loc": ["body", "messages"], "msg": "too long", "input": "temperature"}]}
    assert after(Way(), (422, quoting)) is None


@pytest.mark.parametrize("api", list(Api))
def test_a_way_can_be_kept(api: Api) -> None:
    way = Way(VOTES, api, Structured.NONE, 7, frozenset({"store", "temperature"}))
    assert Way.from_json(json.loads(json.dumps(way.to_json()))) == way


def test_a_decision_is_always_asked_by_its_interface() -> None:
    assert Way.named("decisions", "chat_completions").api is Api.DECISIONS
    assert Way.named("verbalized", "responses").api is Api.RESPONSES


@pytest.mark.parametrize(
    ("status", "failure", "reason", "usage"),
    [
        (400, FailureClass.REJECTED, UnknownReason.REQUEST_REJECTED, Usage(1)),
        (422, FailureClass.REJECTED, UnknownReason.REQUEST_REJECTED, Usage(1)),
        (401, FailureClass.TRANSIENT, UnknownReason.REQUEST_REJECTED, Usage(1)),
        (429, FailureClass.RATE_LIMITED, UnknownReason.ATTEMPTS_EXHAUSTED, Usage(1)),
        # what broke within may have cost something
        (500, FailureClass.TRANSIENT, UnknownReason.ATTEMPTS_EXHAUSTED, Usage(1, untold=1)),
    ],
)
def test_a_status_tells_what_failed(
    status: int, failure: FailureClass, reason: UnknownReason, usage: Usage
) -> None:
    error = status_error(status, {}, b"")
    assert (error.failure, error.reason, error.usage) == (failure, reason, usage)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[[[[[[[[1]]]]]]]]", b'"a"', b"\xff"])
def test_any_body_of_a_refusal_is_read(body: bytes) -> None:
    assert isinstance(status_error(400, {}, body).words, str)
