"""Servers as they are: what becomes of an item that one of them is asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.votes import DEFAULT_TEMPERATURE
from tests.labeling.support import Stage
from tests.support import model_quirks as quirks
from tests.support.api import LABELS
from tests.support.model_plays import Answer, Play
from tests.support.model_quirks import QUIRKS, Refuses, Says, Sends, structure
from tests.support.model_wires import RESPONSES

SURE = {"spam": 0.9, "ham": 0.07, "other thing": 0.03}
RECORDED = Path(__file__).resolve().parents[3] / "shared/data/payloads/payloads_envelopes.jsonl"


def like(play: Play) -> Play:
    """The same quirk of an answer that is known."""
    assert isinstance(play, Answer)
    return Answer(probabilities=SURE, edit=play.edit)


class TestAGoodAnswerInItsOwnDress:
    @pytest.mark.parametrize(
        "quirk",
        [
            # a server that ignores response_format
            "code_fence",
            "prose",
            "thinks_first",
            # thinking beside the content, whose tokens are the content's
            "llama_cpp_thinking",
            "ollama_thinking",
            # more alternatives than asked, two tokens of one text, an empty one at the end
            "llama_cpp",
        ],
    )
    async def test_is_scored_by_the_tokens_that_spell_it(self, stage: Stage, quirk: str) -> None:
        stage.model.default = [like(QUIRKS[quirk])]
        _, item = await stage.label_one()
        shown = await stage.item(item)
        assert (shown["state"], shown["label"]) == ("accepted", "spam")
        assert shown["confidence"]["value"] == pytest.approx(0.9, rel=1e-6)
        assert len(stage.model.calls) == 1

    async def test_of_a_grammar_tells_what_the_model_would_have_said(self, stage: Stage) -> None:
        stage.model.default = [like(QUIRKS["vllm_raw"])]
        _, item = await stage.label_one()
        shown = await stage.item(item)
        assert shown["label"] == "spam"
        # what the grammar forbids has most of the mass: no share of the labels', but doubt
        score = (await stage.prediction(item))["score"]
        assert score["off_label"] == pytest.approx(0.75)
        assert score["p_norm"] == pytest.approx(0.9)
        assert shown["confidence"]["value"] == pytest.approx(0.9 * 0.25)

    @pytest.mark.parametrize(
        ("quirk", "reason"),
        [
            # tokens of the thinking stand among those of the content
            ("sglang_thinking", "bytes_differ"),
            ("llama_cpp_post_sampling", "malformed_logprobs"),
            ("sums_above_one", "not_a_distribution"),
            ("outside_the_top", "no_alternatives"),
        ],
    )
    async def test_keeps_its_label_where_its_tokens_say_nothing(
        self, stage: Stage, quirk: str, reason: str
    ) -> None:
        stage.model.default = [like(QUIRKS[quirk])]
        _, item = await stage.label_one()
        shown = await stage.item(item)
        assert (shown["state"], shown["label"]) == ("in_review", "spam")
        assert shown["confidence"] == {"value": None, "source": "logprobs", "reason": reason}
        assert len(stage.model.calls) == 1

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("It is spam, no doubt.", "not_json"),
            ("<think>It says {buy}, so", "truncated"),
            ("<think>Spam.</think>", "empty_answer"),
            ('{"label":"spam"} or {"label":"ham"}', "not_json"),
            ('["spam"]', "wrong_shape"),
            ('{"label":"spam","label":"ham"}', "wrong_shape"),
        ],
    )
    async def test_that_is_none_is_repaired_once_then_goes_to_people(
        self, stage: Stage, content: str, reason: str
    ) -> None:
        stage.model.default = [Says(content=content)]
        _, item = await stage.label_one()
        shown = await stage.item(item)
        assert (shown["state"], shown["label"]) == ("in_review", None)
        assert shown["confidence"]["reason"] == reason
        prediction = await stage.prediction(item)
        assert (prediction["repaired"], prediction["answer"]) == (True, content)
        assert len(stage.model.calls) == 2


def asks_many(body: Any) -> bool:
    return bool((body.get("top_logprobs") or 0) > 5)


def asks_schema(body: Any) -> bool:
    return structure(body) == "json_schema"


def asks_structure(body: Any) -> bool:
    return structure(body) is not None


def asks_logprobs(body: Any) -> bool:
    return bool(body.get("logprobs") or body.get("include"))


def asks_cold(body: Any) -> bool:
    return bool(body.get("temperature") == 0)


def asks_max_tokens(body: Any) -> bool:
    return "max_tokens" in body


class TestARequestThatAServerRefusesInPart:
    @pytest.mark.parametrize(
        ("refuses", "calls", "sent"),
        [
            (Refuses(what=asks_many, saying=quirks.AZURE_TOP_LOGPROBS), 2, {"top_logprobs": 5}),
            (
                Refuses(what=asks_schema, saying=quirks.DEEPSEEK_NO_SCHEMA),
                2,
                {"response_format": {"type": "json_object"}},
            ),
            (
                Refuses(what=asks_schema, saying=quirks.LLAMA_CPP_GRAMMAR),
                2,
                {"response_format": {"type": "json_object"}},
            ),
            # neither a schema nor an object
            (
                Refuses(what=asks_structure, saying=quirks.FASTAPI_NO_FORMAT),
                3,
                {"response_format": None},
            ),
            (Refuses(what=asks_cold, saying=quirks.OPENAI_TEMPERATURE), 2, {"temperature": None}),
            (
                Refuses(what=asks_max_tokens, saying=quirks.OPENAI_MAX_TOKENS),
                2,
                {"max_tokens": None, "max_completion_tokens": 50},
            ),
        ],
    )
    async def test_is_sent_again_without_that_part_and_never_with_it_again(
        self, stage: Stage, refuses: Refuses, calls: int, sent: dict[str, Any]
    ) -> None:
        stage.model.labels = LABELS
        stage.model.default = [refuses]
        # an endpoint of its own, of which nothing is known yet
        labeler = {"model": f"model-{refuses.saying[1]!s:.60}", "max_tokens": 50}
        project = await stage.api.make_project(policy={"kind": "accept_all"}, labeler=labeler)
        (first,) = await stage.api.send_items(project, ["first text"])
        await stage.labeling.drain(project)
        shown = await stage.item(first)
        assert (shown["state"], shown["confidence"]["reason"]) == ("accepted", None)
        assert stage.model.calls_per_item["first text"] == calls
        assert {name: stage.model.calls[-1].body.get(name) for name in sent} == sent

        # the next drain, of whatever process, knows
        await stage.api.send_items(project, ["second text", "third text"])
        await stage.labeling.drain(project)
        assert stage.model.calls_per_item["second text"] == 1
        assert stage.model.calls_per_item["third text"] == 1

    @pytest.mark.parametrize(
        "saying",
        [quirks.OPENAI_NO_LOGPROBS, quirks.GROQ_NO_LOGPROBS, quirks.GEMINI_NO_LOGPROBS],
    )
    @pytest.mark.parametrize("interface", ["chat_completions", "responses"])
    async def test_without_log_probabilities_is_a_label_of_unknown_confidence(
        self, stage: Stage, saying: tuple[int, Any], interface: str
    ) -> None:
        stage.model.interfaces = (*stage.model.interfaces, RESPONSES)
        stage.model.default = [Refuses(what=asks_logprobs, saying=saying)]
        labeler = {"model": f"mute {saying[1]!s:.60}", "api": interface}
        project = await stage.api.make_project(policy={"kind": "accept_all"}, labeler=labeler)
        (item,) = await stage.api.send_items(project, ["some text"])
        await stage.labeling.drain(project)
        shown = await stage.item(item)
        assert shown["label"] in LABELS
        assert shown["confidence"] == {
            "value": None,
            "source": "logprobs",
            "reason": "no_logprobs",
        }

    async def test_is_found_out_once_for_several_answers(self, stage: Stage) -> None:
        stage.model.labels = LABELS
        stage.model.default = [Refuses(what=asks_schema, saying=quirks.DEEPSEEK_NO_SCHEMA)]
        labeler = {"source": "self_consistency", "votes": 4, "model": "several"}
        project = await stage.api.make_project(labeler=labeler)
        (item,) = await stage.api.send_items(project, ["some text"])
        await stage.labeling.drain(project)
        assert (await stage.item(item))["confidence"]["reason"] is None
        assert stage.model.calls[-1].body["temperature"] == DEFAULT_TEMPERATURE
        await stage.api.send_items(project, ["other text"])
        await stage.labeling.drain(project)
        assert stage.model.calls_per_item["other text"] == 4

    async def test_of_an_item_alone_is_no_lesson(self, stage: Stage) -> None:
        too_long = (400, {"error": {"message": "maximum context length is 4096 tokens"}})
        stage.model.default = [Refuses(what=lambda _: True, saying=too_long)]
        _, item = await stage.label_one()
        shown = await stage.item(item)
        assert shown["confidence"]["reason"] == "request_rejected"
        assert len(stage.model.calls) == 1


class TestRecordedAnswers:
    """What real servers sent, through the whole path: read or unknown, and never an exception."""

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            # it answers another question than ours
            ("openai-gpt4o-structured", "wrong_shape"),
            # ten times the same token, and not a word
            ("vllm-deepseek-degenerate", "truncated"),
        ],
    )
    async def test_are_read(self, stage: Stage, name: str, reason: str) -> None:
        if not RECORDED.exists():
            pytest.skip("the recorded answers are not beside the checkout")
        rows = {row["id"]: row for row in map(json.loads, RECORDED.read_text().splitlines())}
        stage.model.default = [Sends(document=rows[name]["payload"])]
        _, item = await stage.label_one()
        shown = await stage.item(item)
        assert (shown["state"], shown["confidence"]["reason"]) == ("in_review", reason)
        served = (await stage.prediction(item))["provenance"]["served_model"]
        assert served == rows[name]["payload"]["model"]
