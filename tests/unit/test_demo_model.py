"""The demo model is a real classifier, behind a real endpoint."""

import asyncio
import json
import math
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from app.demo.identity import MODEL_ID
from app.demo.model import DemoModel, fit
from app.demo.sample import Company, industries, part
from app.demo.server import MAX_CHARACTERS, DemoServer
from app.domain.kinds import parse_schema
from app.labeling.client import OpenAIClients
from app.labeling.probing import Found, find_way
from app.labeling.way import Way

# The bins of the demo's table: the lowest and the highest are compared.
LOWEST = 0.5
HIGHEST = 0.999


@pytest.fixture(scope="module")
def model() -> DemoModel:
    return DemoModel.train(part("train"))


@pytest.fixture(scope="module")
def predictions(model: DemoModel) -> list[tuple[Company, Mapping[str, float]]]:
    return [(company, model.probabilities(company.text)) for company in part("stream")]


def accuracy(predictions: list[tuple[Company, Mapping[str, float]]]) -> float:
    right = [company.industry == max(p, key=lambda label: p[label]) for company, p in predictions]
    return sum(right) / len(right)


class TestTheClassifier:
    def test_knows_the_industries(self, model: DemoModel) -> None:
        assert model.labels == industries()

    def test_computes_what_scikit_learn_does(
        self, predictions: list[tuple[Company, Mapping[str, float]]]
    ) -> None:
        texts = [company.text for company, _ in predictions]
        expected = fit(part("train")).predict_proba(texts)
        ours = np.array([list(p.values()) for _, p in predictions])
        np.testing.assert_allclose(ours, expected, rtol=1e-9)

    def test_trains_to_the_same_model_again(self, model: DemoModel) -> None:
        again = DemoModel.train(part("train"))
        text = part("stream")[0].text
        assert again.fingerprint == model.fingerprint
        assert again.probabilities(text) == pytest.approx(model.probabilities(text), rel=1e-9)

    @pytest.mark.parametrize("text", ["", "漢字", "zzzz qqqq"])
    def test_is_unsure_of_what_says_nothing(self, model: DemoModel, text: str) -> None:
        probabilities = model.probabilities(text)
        assert math.fsum(probabilities.values()) == pytest.approx(1)
        assert max(probabilities.values()) < LOWEST

    def test_is_right_far_more_often_than_by_chance(
        self, predictions: list[tuple[Company, Mapping[str, float]]]
    ) -> None:
        assert accuracy(predictions) > 0.6

    def test_the_top_bin_is_20_points_more_accurate_than_the_bottom_one(
        self, predictions: list[tuple[Company, Mapping[str, float]]]
    ) -> None:
        top = [pair for pair in predictions if max(pair[1].values()) >= HIGHEST]
        bottom = [pair for pair in predictions if max(pair[1].values()) < LOWEST]
        assert min(len(top), len(bottom)) >= 20
        assert accuracy(top) - accuracy(bottom) > 0.2

    def test_the_ambiguous_are_less_certain_and_more_often_wrong(
        self, predictions: list[tuple[Company, Mapping[str, float]]]
    ) -> None:
        ambiguous = [pair for pair in predictions if pair[0].also]
        plain = [pair for pair in predictions if not pair[0].also]
        confidence = [np.mean([max(p.values()) for _, p in group]) for group in (ambiguous, plain)]
        assert confidence[0] < confidence[1]
        assert accuracy(ambiguous) < accuracy(plain)


@pytest.fixture(scope="module")
async def server(model: DemoModel) -> AsyncIterator[DemoServer]:
    async with DemoServer(model) as running:
        yield running


@pytest.fixture(scope="module")
async def client(server: DemoServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.url, api_key="unused", max_retries=0) as sdk:
        yield sdk


def response_format(labels: tuple[str, ...]) -> Any:
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(labels)}},
        "required": ["label"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "l", "strict": True, "schema": schema}}


async def ask(client: AsyncOpenAI, text: str, **changes: Any) -> ChatCompletion:
    options: dict[str, Any] = {
        "model": MODEL_ID,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
        "response_format": response_format(industries()),
        "messages": [
            {"role": "system", "content": "Name the industry of the item."},
            {"role": "user", "content": f"<item>\n{text}\n</item>"},
        ],
        **changes,
    }
    answer: ChatCompletion = await client.chat.completions.create(**options)
    return answer


def label_of(answer: ChatCompletion) -> str:
    label: str = json.loads(answer.choices[0].message.content or "")["label"]
    return label


class TestTheEndpoint:
    async def test_answers_the_openai_sdk(self, client: AsyncOpenAI, model: DemoModel) -> None:
        company = part("stream")[0]
        expected = model.probabilities(company.text)
        answer = await ask(client, company.text)
        assert label_of(answer) == max(expected, key=lambda label: expected[label])
        assert answer.model == MODEL_ID
        assert answer.system_fingerprint == model.fingerprint
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert answer.usage is not None
        assert answer.usage.completion_tokens == len(logprobs.content)
        assert math.exp(math.fsum(token.logprob for token in logprobs.content)) == pytest.approx(
            expected[label_of(answer)], abs=1e-9
        )

    async def test_answers_raw_http(self, server: DemoServer) -> None:
        body = {
            "model": MODEL_ID,
            "messages": [{"role": "user", "content": part("stream")[1].text}],
            "response_format": response_format(industries()),
        }
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{server.url}/chat/completions", json=body) as response,
        ):
            assert response.status == 200
            answer = await response.json()
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["logprobs"] is None
        assert json.loads(answer["choices"][0]["message"]["content"])["label"] in industries()

    async def test_is_listed_as_what_it_is(self, client: AsyncOpenAI) -> None:
        (listed,) = (await client.models.list()).data
        assert listed.id == MODEL_ID
        assert "not a language model" in listed.owned_by

    async def test_a_seed_samples_the_same_label_again(self, client: AsyncOpenAI) -> None:
        first, second = [
            [label_of(await ask(client, "a shop", temperature=2, seed=n)) for n in range(10)]
            for _ in range(2)
        ]
        assert first == second
        assert len(set(first)) > 1

    async def test_fewer_labels_share_the_whole_mass(
        self, client: AsyncOpenAI, model: DemoModel
    ) -> None:
        text = "Bank with branches and a mobile network."
        all_labels = model.probabilities(text)
        two = ("Retail", "Energy")
        answer = await ask(client, text, response_format=response_format(two))
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        share = math.exp(math.fsum(token.logprob for token in logprobs.content))
        chosen = label_of(answer)
        assert chosen in two
        assert share == pytest.approx(all_labels[chosen] / sum(all_labels[label] for label in two))

    async def test_many_at_once_each_get_their_own(
        self, client: AsyncOpenAI, model: DemoModel
    ) -> None:
        rows = part("stream")[:60]
        answers = await asyncio.gather(*(ask(client, row.text) for row in rows))
        for row, answer in zip(rows, answers, strict=True):
            expected = model.probabilities(row.text)
            assert label_of(answer) == max(expected, key=lambda label: expected[label])

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            # it can't guess at labels it was never taught, and says so
            ({"response_format": response_format(("spam", "ham"))}, "never taught the label 'ham'"),
            ({"response_format": None}, "json_schema"),
            ({"top_logprobs": 21}, "top_logprobs"),
            ({"messages": [{"role": "user", "content": "x" * (MAX_CHARACTERS + 1)}]}, "characters"),
        ],
    )
    async def test_400_says_why(
        self, client: AsyncOpenAI, changes: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(openai.BadRequestError, match=says):
            await ask(client, "x", **changes)

    async def test_another_model_is_not_found(self, client: AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match=MODEL_ID):
            await ask(client, "x", model="gpt-4o")

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
    async def test_no_json_is_400(self, server: DemoServer, body: bytes) -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{server.url}/chat/completions", data=body) as response,
        ):
            assert response.status == 400

    @pytest.mark.parametrize("route", ["embeddings", "responses", "decisions"])
    async def test_no_such_route(self, server: DemoServer, route: str) -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{server.url}/{route}", json={"model": MODEL_ID}) as response,
        ):
            assert response.status == 404

    async def test_a_probe_finds_its_log_probabilities(self, server: DemoServer) -> None:
        clients = OpenAIClients(base_url=server.url, api_key=None, calls_in_flight=1)
        labeler = {
            "model": MODEL_ID,
            "api": "chat_completions",
            "parameters": {"temperature": 0.0},
            "instructions": "",
            "template": None,
            "examples": None,
        }
        schema = parse_schema({"kind": "single_choice", "labels": list(industries())})
        try:
            found = await find_way(clients.get(None), labeler, schema=schema, seconds=60.0)
        finally:
            await clients.close()
        assert isinstance(found, Found)
        assert found.finding.way == Way()
        assert [each.fit for each in found.finding.tries] == [False, True]


def test_as_a_process_it_says_its_address_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "app.demo.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(MODEL_ID)
        assert "not a language model" in line

        async def listed() -> Any:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{line.split()[-1]}/models") as response,
            ):
                return await response.json()

        assert asyncio.run(listed())["data"][0]["id"] == MODEL_ID
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        assert process.stdout.read() == ""
