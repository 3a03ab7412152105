"""The scripted model server is itself trusted by every fault test, so each fault is shown here."""

import asyncio
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from tests.support.model_plays import (
    FAULTS,
    Answer,
    Drip,
    Hang,
    OffSchema,
    Slow,
    Status,
    by_text,
    seeded,
)
from tests.support.model_server import ModelServer

LABELS = ["ship", "shipping", "air freight"]


def request_body(item: str = "a crate of tea", **changes: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"label": {"type": "string", "enum": LABELS}}}
    return {
        "model": "any",
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
        "messages": [
            {"role": "system", "content": "Choose a label. <item> marks the item."},
            {"role": "user", "content": f"<item>\n{item}\n</item>"},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "l", "schema": schema}},
        **changes,
    }


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


async def ask(
    client: aiohttp.ClientSession, model: ModelServer, item: str = "a crate of tea", **changes: Any
) -> tuple[int, Any]:
    body = request_body(item, **changes)
    async with client.post(f"{model.url}/chat/completions", json=body) as response:
        return response.status, json.loads(await response.read())


async def play(client: aiohttp.ClientSession, model: ModelServer, fault: str) -> dict[str, Any]:
    """The one choice of a fault that still is a completion."""
    model.script = [FAULTS[fault]]
    status, body = await ask(client, model)
    assert status == 200
    choice: dict[str, Any] = body["choices"][0]
    return choice


def value_tokens(choice: dict[str, Any]) -> list[dict[str, Any]]:
    tokens: list[dict[str, Any]] = choice["logprobs"]["content"]
    return tokens[3:]


class TestAGoodAnswer:
    async def test_is_the_most_probable_label_of_the_request(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.distribution = by_text(
            {"a crate of tea": {"ship": 0.2, "shipping": 0.7, "air freight": 0.1}}, seeded()
        )
        status, body = await ask(client, model)
        choice = body["choices"][0]
        assert status == 200
        assert choice["message"]["content"] == '{"label":"shipping"}'
        assert choice["finish_reason"] == "stop"
        logprob = math.fsum(token["logprob"] for token in choice["logprobs"]["content"])
        assert math.exp(logprob) == pytest.approx(0.7, abs=1e-12)

    async def test_is_the_same_for_the_same_text_on_any_server(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        with ModelServer() as other:
            _, first = await ask(client, model)
            _, second = await ask(client, other)
        assert first["choices"] == second["choices"]

    async def test_has_no_logprobs_where_none_were_asked_for(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        _, body = await ask(client, model, logprobs=False, top_logprobs=None)
        assert body["choices"][0]["logprobs"] is None

    async def test_needs_a_label_set(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        status, body = await ask(client, model, response_format=None)
        assert status == 400
        assert body["error"]["param"] == "response_format"
        assert len(model.bad_requests) == 1
        assert model.calls == []


class TestTheScript:
    async def test_goes_before_rules_and_rules_before_the_default(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [Status(status=500)]
        model.rules = {"crate": [Status(status=502)]}
        model.default = [Status(status=503)]
        statuses = [(await ask(client, model))[0] for _ in range(2)]
        statuses.append((await ask(client, model, "a bag"))[0])
        assert statuses == [500, 502, 503]

    async def test_a_rule_counts_calls_per_item_and_keeps_its_last_entry(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.rules = {"crate": [Status(status=500), Answer()]}
        items = ["crate 1", "crate 2", "crate 1", "crate 2", "crate 1"]
        statuses = [(await ask(client, model, item))[0] for item in items]
        assert statuses == [500, 500, 200, 200, 200]
        assert model.calls_per_item == {"crate 1": 3, "crate 2": 2}

    async def test_can_be_switched_while_running(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.default = [Status(status=500)]
        before, _ = await ask(client, model)
        model.default = [Answer()]
        after, _ = await ask(client, model)
        assert (before, after) == (500, 200)


class TestTheRecord:
    async def test_holds_bodies_headers_and_times(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        began = time.monotonic()
        await ask(client, model, seed=7)
        (call,) = model.calls
        assert call.item == "a crate of tea"
        assert call.body["seed"] == 7
        assert call.headers["Content-Type"] == "application/json"
        assert call.ended is not None
        assert began <= call.began <= call.ended <= time.monotonic()

    async def test_counts_what_is_in_flight_together(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.default = [Hang()]
        calls = [asyncio.create_task(ask(client, model, f"item {n}")) for n in range(500)]
        await model.wait_for_calls(500)
        assert model.in_flight == 500
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        model.default = [Answer()]
        assert (await ask(client, model))[0] == 200
        assert model.max_in_flight >= 500

    async def test_an_abandoned_call_is_marked(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [Hang()]
        task = asyncio.create_task(ask(client, model))
        await model.wait_for_calls(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while model.in_flight:  # noqa: ASYNC110 - the server lives in another thread and loop
            await asyncio.sleep(0.005)
        assert model.calls[0].abandoned


class TestTransportFaults:
    @pytest.mark.parametrize(
        ("fault", "status"),
        [("400", 400), ("401", 401), ("404", 404), ("500", 500), ("503", 503), ("429_bare", 429)],
    )
    async def test_statuses_carry_openai_errors(
        self, client: aiohttp.ClientSession, model: ModelServer, fault: str, status: int
    ) -> None:
        model.script = [FAULTS[fault]]
        answered, body = await ask(client, model)
        assert answered == status
        assert body["error"]["message"]

    async def test_retry_after_in_seconds(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [Status(status=429, retry_after=2.5)]
        async with client.post(f"{model.url}/chat/completions", json=request_body()) as response:
            assert response.headers["Retry-After"] == "2.5"

    async def test_retry_after_as_a_date_is_never_early(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        earliest = time.time() + 30
        model.script = [Status(status=429, retry_after=30, retry_after_as_date=True)]
        async with client.post(f"{model.url}/chat/completions", json=request_body()) as response:
            date = parsedate_to_datetime(response.headers["Retry-After"])
        assert date.timestamp() >= earliest

    async def test_reset(self, client: aiohttp.ClientSession, model: ModelServer) -> None:
        model.script = [FAULTS["reset"]]
        with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
            await ask(client, model)

    @pytest.mark.parametrize("fault", ["reset_midway", "cut_body"])
    async def test_an_answer_that_breaks_off(
        self, client: aiohttp.ClientSession, model: ModelServer, fault: str
    ) -> None:
        model.script = [FAULTS[fault]]
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(client, model)

    async def test_absent_then_back_on_the_same_port(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        assert (await ask(client, model))[0] == 200
        model.refuse()
        async with aiohttp.ClientSession() as newcomer:
            with pytest.raises(aiohttp.ClientConnectorError):
                await ask(newcomer, model)
        model.accept()
        async with aiohttp.ClientSession() as newcomer:
            assert (await ask(newcomer, model))[0] == 200

    async def test_going_away_resets_what_is_in_flight(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [Hang()]
        task = asyncio.create_task(ask(client, model))
        await model.wait_for_calls(1)
        model.refuse()
        with pytest.raises(aiohttp.ClientError):
            await task

    async def test_a_drip_sends_headers_and_one_byte_at_a_time(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [Drip(interval=3600)]
        async with client.post(f"{model.url}/chat/completions", json=request_body()) as response:
            assert response.status == 200
            assert await response.content.readany() == b"{"

    async def test_a_drip_ends_as_a_good_answer(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [Drip(interval=0)]
        _, body = await ask(client, model)
        assert body["choices"][0]["finish_reason"] == "stop"

    async def test_html_with_status_200(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [FAULTS["html"]]
        async with client.post(f"{model.url}/chat/completions", json=request_body()) as response:
            assert (response.status, response.content_type) == (200, "text/html")

    async def test_a_truncated_body_is_no_json(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [FAULTS["truncated_body"]]
        with pytest.raises(json.JSONDecodeError):
            await ask(client, model)

    async def test_slow_delays_another_play(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [Slow(seconds=3600), Slow(seconds=0, then=Status(status=500))]
        waiting = asyncio.create_task(ask(client, model))
        await model.wait_for_calls(1)
        assert (await ask(client, model))[0] == 500
        assert model.calls[0].ended is None
        waiting.cancel()


class TestContentFaults:
    async def test_no_choices(self, client: aiohttp.ClientSession, model: ModelServer) -> None:
        model.script = [FAULTS["empty_choices"], FAULTS["null_choices"]]
        assert [(await ask(client, model))[1]["choices"] for _ in range(2)] == [[], None]

    async def test_truncated_content(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        choice = await play(client, model, "truncated_content")
        assert choice["finish_reason"] == "length"
        with pytest.raises(json.JSONDecodeError):
            json.loads(choice["message"]["content"])
        spelled = b"".join(bytes(token["bytes"]) for token in choice["logprobs"]["content"])
        assert spelled.decode() == choice["message"]["content"]

    async def test_refusal(self, client: aiohttp.ClientSession, model: ModelServer) -> None:
        choice = await play(client, model, "refusal")
        assert choice["message"]["content"] is None
        assert choice["message"]["refusal"]

    async def test_content_filter(self, client: aiohttp.ClientSession, model: ModelServer) -> None:
        choice = await play(client, model, "content_filter")
        assert choice["finish_reason"] == "content_filter"
        model.script = [FAULTS["content_filter_400"]]
        status, body = await ask(client, model)
        assert (status, body["error"]["code"]) == (400, "content_filter")

    async def test_empty_content(self, client: aiohttp.ClientSession, model: ModelServer) -> None:
        assert (await play(client, model, "empty_content"))["message"]["content"] == ""

    async def test_off_schema_label(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        model.script = [OffSchema(label="Ship", mass=0.75)]
        _, body = await ask(client, model)
        choice = body["choices"][0]
        assert json.loads(choice["message"]["content"]) == {"label": "Ship"}
        logprob = math.fsum(token["logprob"] for token in choice["logprobs"]["content"])
        assert math.exp(logprob) == pytest.approx(0.75)


class TestLogprobFaults:
    @pytest.mark.parametrize(
        ("fault", "logprobs"),
        [
            ("null_logprobs", None),
            ("null_logprobs_content", {"content": None, "refusal": None}),
            ("empty_logprobs_content", {"content": [], "refusal": None}),
        ],
    )
    async def test_missing(
        self, client: aiohttp.ClientSession, model: ModelServer, fault: str, logprobs: Any
    ) -> None:
        assert (await play(client, model, fault))["logprobs"] == logprobs

    async def test_missing_key(self, client: aiohttp.ClientSession, model: ModelServer) -> None:
        assert "logprobs" not in await play(client, model, "no_logprobs_key")

    @pytest.mark.parametrize(
        ("fault", "shown"),
        [
            ("nan", "nan"),
            ("minus_infinity", "-inf"),
            ("positive", "0.5"),
            ("minus_9999", "-9999.0"),
            ("all_zero", "0.0"),
        ],
    )
    async def test_impossible_values(
        self, client: aiohttp.ClientSession, model: ModelServer, fault: str, shown: str
    ) -> None:
        choice = await play(client, model, fault)
        assert {str(token["logprob"]) for token in value_tokens(choice)} == {shown}

    @pytest.mark.parametrize("fault", ["minus_9999", "all_zero"])
    async def test_without_alternatives(
        self, client: aiohttp.ClientSession, model: ModelServer, fault: str
    ) -> None:
        choice = await play(client, model, fault)
        assert all(token["top_logprobs"] == [] for token in choice["logprobs"]["content"])

    async def test_sampled_token_outside_the_top(
        self, client: aiohttp.ClientSession, model: ModelServer
    ) -> None:
        first = value_tokens(await play(client, model, "sampled_outside_top"))[0]
        assert first["logprob"] == -9999.0
        assert first["top_logprobs"]
        assert first["bytes"] not in [other["bytes"] for other in first["top_logprobs"]]

    @pytest.mark.parametrize(
        ("fault", "shown"), [("nan_alternative", "nan"), ("positive_alternative", "0.5")]
    )
    async def test_impossible_alternatives(
        self, client: aiohttp.ClientSession, model: ModelServer, fault: str, shown: str
    ) -> None:
        first = value_tokens(await play(client, model, fault))[0]
        assert shown in [str(other["logprob"]) for other in first["top_logprobs"]]

    async def test_null_bytes(self, client: aiohttp.ClientSession, model: ModelServer) -> None:
        choice = await play(client, model, "null_bytes")
        assert [token["bytes"] for token in value_tokens(choice)][:1] == [None]

    async def test_no_bytes_key(self, client: aiohttp.ClientSession, model: ModelServer) -> None:
        choice = await play(client, model, "no_bytes_key")
        assert all("bytes" not in token for token in choice["logprobs"]["content"])

    @pytest.mark.parametrize("fault", ["wrong_bytes", "missing_token"])
    async def test_bytes_that_differ_from_the_content(
        self, client: aiohttp.ClientSession, model: ModelServer, fault: str
    ) -> None:
        choice = await play(client, model, fault)
        spelled = b"".join(bytes(token["bytes"]) for token in choice["logprobs"]["content"])
        assert spelled.decode() != choice["message"]["content"]


def test_every_fault_is_played_and_the_server_carries_on() -> None:
    ends_by_itself = [name for name in FAULTS if name not in ("hang", "drip")]

    async def play_all(model: ModelServer) -> int:
        async with aiohttp.ClientSession() as client:
            for name in ends_by_itself:
                model.script = [FAULTS[name]]
                try:
                    await ask(client, model)
                except (aiohttp.ClientError, json.JSONDecodeError):
                    continue
            return (await ask(client, model))[0]

    with ModelServer() as model:
        assert asyncio.run(play_all(model)) == 200
        played = [call.play for call in model.calls[: len(ends_by_itself)]]
        assert played == [FAULTS[name] for name in ends_by_itself]


def test_as_a_process_it_says_its_address_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "tests.support.model_server", "--fault", "500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()

        async def status() -> int:
            async with (
                aiohttp.ClientSession() as client,
                client.post(f"{url}/chat/completions", json=request_body()) as response,
            ):
                return response.status

        assert asyncio.run(status()) == 500
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
