"""The interfaces of the scripted model server are those of the SDK's own types, both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from app.domain.confidence import ConfidenceSource
from app.domain.kinds import parse_schema
from app.domain.kinds.base import LabelSchema
from app.labeling.question import Question, Request
from app.labeling.way import Api, Way
from tests.support.model_plays import FAULTS, Answer
from tests.support.model_server import ModelServer
from tests.support.model_wires import CHAT, DECISIONS, RESPONSES

SINGLE = parse_schema({"kind": "single_choice", "labels": ["spam", "ham"]})
MULTI = parse_schema({"kind": "multi_choice", "labels": ["spam", "ham"]})
SURE = Answer(probabilities={"spam": 0.9, "ham": 0.1})


def request(way: Way, schema: LabelSchema = SINGLE) -> Request:
    question = Question("m", "system", schema, {"temperature": 0.0, "max_tokens": 9}, way=way)
    return question.request(question.prompt({"text": "Hello"}))


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    with ModelServer() as server:
        server.interfaces = (CHAT, RESPONSES, DECISIONS)
        server.default = [SURE]
        yield server


@pytest.fixture
async def client(model: ModelServer) -> AsyncIterator[AsyncOpenAI]:
    # validated where the SDK would otherwise believe what it is sent
    async with AsyncOpenAI(
        base_url=model.url, api_key="none", max_retries=0, _strict_response_validation=True
    ) as sdk:
        yield sdk


async def test_a_response_is_asked_and_answered_as_the_sdk_has_it(client: AsyncOpenAI) -> None:
    body: dict[str, Any] = request(Way(api=Api.RESPONSES)).body
    response = await client.responses.create(**body)
    assert response.output_text == '{"label":"spam"}'
    (message,) = (item for item in response.output if item.type == "message")
    (text,) = message.content
    assert text.type == "output_text"
    assert text.logprobs
    assert response.usage is not None
    assert response.usage.input_tokens > 0


@pytest.mark.parametrize("fault", ["refusal", "truncated_content", "content_filter"])
async def test_a_response_that_is_no_answer_has_its_form_too(
    client: AsyncOpenAI, model: ModelServer, fault: str
) -> None:
    model.default = [FAULTS[fault]]
    body: dict[str, Any] = request(Way(api=Api.RESPONSES)).body
    assert (await client.responses.create(**body)).object == "response"


@pytest.mark.parametrize(("schema", "kinds"), [(SINGLE, ["choice"]), (MULTI, ["predicate"] * 2)])
async def test_a_decision_is_asked_and_answered_as_the_sdk_has_it(
    client: AsyncOpenAI, schema: LabelSchema, kinds: list[str]
) -> None:
    way = Way(ConfidenceSource.DECISIONS, Api.DECISIONS)
    body: dict[str, Any] = request(way, schema).body
    decision = await client.decisions.create(**body)
    assert [answer.type for answer in decision.answers] == kinds
    assert decision.usage.output_tokens == len(kinds)


async def test_a_completion_is_asked_and_answered_as_the_sdk_has_it(client: AsyncOpenAI) -> None:
    body: dict[str, Any] = request(Way()).body
    completion = await client.chat.completions.create(**body)
    assert completion.choices[0].message.content == '{"label":"spam"}'


async def test_an_interface_that_is_not_there_is_not_found(
    client: AsyncOpenAI, model: ModelServer
) -> None:
    model.interfaces = (CHAT,)
    body: dict[str, Any] = request(Way(api=Api.RESPONSES)).body
    with pytest.raises(openai.NotFoundError):
        await client.responses.create(**body)
