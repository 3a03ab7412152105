"""Where a confidence comes from, source by source, through a real HTTP server."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from app.infra.ids import Kind, from_wire
from tests.labeling.support import Stage
from tests.support.model_plays import FAULTS, Answer, Html, Play, Status
from tests.support.model_quirks import Says, Sends
from tests.support.model_wires import CHAT, DECISIONS, RESPONSES

SURE = {"spam": 0.9, "ham": 0.07, "other thing": 0.03}
ACCEPT = {"kind": "accept_all"}
STATED = {"source": "verbalized"}
VOTED = {"source": "self_consistency"}
DECIDED = {"source": "decisions"}
BY_RESPONSES = {"source": "logprobs", "api": "responses"}


async def label(
    stage: Stage, labeler: dict[str, Any], *, text: str = "some text", **project: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An item that one drain settles, as clients see it, and its only prediction, as stored."""
    made = await stage.api.make_project(labeler=labeler, **{"policy": ACCEPT, **project})
    (item,) = await stage.api.send_items(made, [text])
    assert (await stage.labeling.drain(made)).settled == 1
    (stored,) = await stage.sql.rows(
        "SELECT * FROM predictions WHERE item_id = %(id)s", id=from_wire(Kind.ITEM, item)
    )
    return await stage.item(item), dict(stored)


class TestTheResponsesApi:
    async def test_gives_log_probabilities(self, stage: Stage) -> None:
        stage.model.interfaces = (RESPONSES,)
        stage.model.default = [Answer(probabilities=SURE)]
        shown, prediction = await label(stage, BY_RESPONSES)
        assert (shown["state"], shown["label"]) == ("accepted", "spam")
        assert shown["confidence"]["source"] == "logprobs"
        assert shown["confidence"]["value"] == pytest.approx(0.9)
        assert prediction["answer"] == '{"label":"spam"}'
        assert prediction["finish_reason"] == "stop"
        assert prediction["prompt_tokens"] > 0
        (call,) = stage.model.calls
        assert (call.path, call.body["store"]) == (RESPONSES, False)

    @pytest.mark.parametrize(
        ("fault", "reason", "calls"),
        [
            ("refusal", "refusal", 1),
            ("content_filter", "content_filter", 1),
            ("truncated_content", "truncated", 2),
            ("empty_content", "empty_answer", 2),
            ("empty_choices", "no_choices", 2),
            ("off_schema", "label_outside_schema", 2),
            ("null_logprobs", "no_logprobs", 1),
            ("minus_9999", "no_alternatives", 1),
            ("wrong_bytes", "bytes_differ", 1),
        ],
    )
    async def test_faults_are_those_of_any_interface(
        self, stage: Stage, fault: str, reason: str, calls: int
    ) -> None:
        stage.model.interfaces = (RESPONSES,)
        stage.model.default = [FAULTS[fault]]
        shown, _ = await label(stage, BY_RESPONSES)
        assert shown["state"] == "in_review"
        assert shown["confidence"] == {"value": None, "source": "logprobs", "reason": reason}
        assert stage.model.calls_per_item["some text"] == calls

    async def test_repairs_an_answer(self, stage: Stage) -> None:
        stage.model.interfaces = (RESPONSES,)
        stage.model.default = [FAULTS["off_schema"], Answer(probabilities=SURE)]
        shown, prediction = await label(stage, BY_RESPONSES)
        assert (shown["label"], prediction["repaired"]) == ("spam", True)
        _, second = stage.model.calls
        roles = [turn["role"] for turn in second.body["input"]]
        assert roles == ["system", "user", "assistant", "user"]


class TestDecisions:
    async def test_give_probabilities_of_one_label(self, stage: Stage) -> None:
        stage.model.interfaces = (DECISIONS,)
        stage.model.default = [Answer(probabilities=SURE)]
        shown, prediction = await label(stage, DECIDED)
        assert (shown["state"], shown["label"]) == ("accepted", "spam")
        assert shown["confidence"]["source"] == "decisions"
        assert shown["confidence"]["value"] == pytest.approx(0.9)
        assert prediction["evidence"] == [["label", [[name, p] for name, p in SURE.items()]]]
        assert prediction["answer"] is None
        assert stage.model.calls_per_item["some text"] == 1

    async def test_give_probabilities_of_every_label(self, stage: Stage) -> None:
        stage.model.interfaces = (DECISIONS,)
        stage.model.default = [Answer(probabilities={"spam": 0.9, "urgent": 0.6, "long": 0.2})]
        schema = {"kind": "multi_choice", "labels": ["spam", "urgent", "long"]}
        shown, stored = await label(stage, DECIDED, label_schema=schema)
        assert json.loads(stored["label"]) == ["spam", "urgent"]
        assert shown["confidence"]["source"] == "decisions"
        assert shown["confidence"]["value"] == pytest.approx(0.6)

    @pytest.mark.parametrize(
        ("answers", "reason"),
        [
            ([{"type": "refusal", "name": "label"}], "refusal"),
            ([], "wrong_shape"),
            ([{"type": "choice", "choice": "eggs", "probabilities": []}], "label_outside_schema"),
        ],
    )
    async def test_without_a_label_go_to_people_at_once(
        self, stage: Stage, answers: list[Any], reason: str
    ) -> None:
        stage.model.interfaces = (DECISIONS,)
        stage.model.default = [Sends(document={"answers": answers, "model": "m"})]
        shown, _ = await label(stage, DECIDED)
        assert (shown["state"], shown["label"]) == ("in_review", None)
        assert shown["confidence"] == {"value": None, "source": "decisions", "reason": reason}
        # a decision can't be told what was wrong with it
        assert stage.model.calls_per_item["some text"] == 1

    async def test_that_are_no_distribution_are_unknown(self, stage: Stage) -> None:
        listed = [{"value": "spam", "probability": 0.8}, {"value": "ham", "probability": 0.3}]
        answer = {"type": "choice", "choice": "spam", "confidence": 1, "probabilities": listed}
        stage.model.interfaces = (DECISIONS,)
        stage.model.default = [Sends(document={"answers": [answer], "model": "m"})]
        shown, _ = await label(stage, DECIDED)
        assert (shown["state"], shown["label"]) == ("in_review", "spam")
        assert shown["confidence"]["reason"] == "not_a_distribution"

    async def test_of_a_server_that_has_none_wait_for_somebody_to_mend_it(
        self, stage: Stage
    ) -> None:
        project = await stage.api.make_project(labeler=DECIDED)
        (item,) = await stage.api.send_items(project, ["some text"])
        assert (await stage.labeling.drain(project)).settled == 0
        shown = await stage.item(item)
        assert (shown["state"], shown["attempts"]) == ("pending", 1)
        assert "404" in shown["last_error"]


def says(label: str) -> Answer:
    return Answer(probabilities={label: 1.0}, chosen=label)


class TestSeveralAnswers:
    async def test_are_one_label_by_its_share(self, stage: Stage) -> None:
        stage.model.default = [says("spam"), says("ham"), says("spam"), says("spam"), says("ham")]
        shown, prediction = await label(stage, VOTED)
        assert (shown["state"], shown["label"]) == ("accepted", "spam")
        assert shown["confidence"]["source"] == "self_consistency"
        assert shown["confidence"]["value"] == pytest.approx(3.5 / 6)
        assert prediction["score"] == pytest.approx(math.log(3.5 / 2.5))
        assert prediction["evidence"] == [["spam", 3], ["ham", 2]]
        assert prediction["alternatives"] == [["spam", 0.6], ["ham", 0.4]]
        assert prediction["calls"] == 5
        # five answers of one question, at a temperature and without log probabilities
        assert len(stage.model.calls) == 5
        assert {call.body["temperature"] for call in stage.model.calls} == {0.7}
        assert not any("logprobs" in call.body for call in stage.model.calls)

    async def test_by_the_responses_api(self, stage: Stage) -> None:
        stage.model.interfaces = (RESPONSES,)
        stage.model.default = [says("spam")]
        shown, _ = await label(stage, {**VOTED, "api": "responses", "votes": 3})
        assert shown["confidence"] == {
            "value": 3.5 / 4,
            "source": "self_consistency",
            "reason": None,
        }
        assert [call.path for call in stage.model.calls] == [RESPONSES] * 3

    async def test_of_a_server_without_log_probabilities(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["null_logprobs"]]
        shown, _ = await label(stage, {**VOTED, "votes": 2})
        assert shown["confidence"]["reason"] is None

    async def test_that_can_t_be_used_count_against_the_others(self, stage: Stage) -> None:
        stage.model.default = [says("spam"), FAULTS["off_schema"], FAULTS["refusal"], says("spam")]
        shown, prediction = await label(stage, {**VOTED, "votes": 4})
        assert (shown["label"], shown["confidence"]["value"]) == ("spam", 0.5)
        assert prediction["evidence"] == [["spam", 2], [None, 2]]

    @pytest.mark.parametrize("fault", ["500", "reset"])
    async def test_that_fail_are_asked_for_once_more(self, stage: Stage, fault: str) -> None:
        stage.model.default = [says("spam"), FAULTS[fault], says("spam"), says("ham")]
        shown, prediction = await label(stage, {**VOTED, "votes": 3})
        assert shown["confidence"]["value"] == pytest.approx(2.5 / 4)
        assert prediction["evidence"] == [["spam", 2], ["ham", 1]]

    async def test_that_fail_twice_count_against_the_others(self, stage: Stage) -> None:
        stage.model.default = [says("spam"), FAULTS["500"], FAULTS["500"]]
        shown, _ = await label(stage, {**VOTED, "votes": 2})
        assert shown["confidence"]["value"] == 1.5 / 3

    async def test_that_are_limited_wait_as_long_as_the_server_asks(self, stage: Stage) -> None:
        limited = Status(status=429, retry_after=0.2)
        stage.model.default = [says("spam"), limited, says("spam")]
        shown, _ = await label(stage, {**VOTED, "votes": 2})
        assert shown["confidence"]["value"] == pytest.approx(2.5 / 3)
        first, second, third = stage.model.calls
        assert third.began - max(first.began, second.began) >= 0.2

    @pytest.mark.parametrize(
        ("fault", "state", "attempts"), [("500", "pending", 1), ("429_bare", "pending", 0)]
    )
    async def test_that_all_fail_are_one_failure(
        self, stage: Stage, fault: str, state: str, attempts: int
    ) -> None:
        stage.model.default = [FAULTS[fault]]
        project = await stage.api.make_project(labeler={**VOTED, "votes": 3})
        (item,) = await stage.api.send_items(project, ["some text"])
        assert (await stage.labeling.drain(project)).settled == 0
        shown = await stage.item(item)
        assert (shown["state"], shown["attempts"]) == (state, attempts)
        await stage.make_due(project)

    async def test_that_can_t_be_used_at_all_are_repaired_once(self, stage: Stage) -> None:
        stage.model.default = [*[FAULTS["off_schema"]] * 3, says("ham")]
        shown, prediction = await label(stage, {**VOTED, "votes": 3})
        # one vote of the four that were asked for
        assert (shown["label"], shown["confidence"]["value"]) == ("ham", 1.5 / 5)
        assert (prediction["repaired"], len(stage.model.calls)) == (True, 4)

    async def test_that_can_t_be_used_after_that_go_to_people(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["off_schema"]]
        shown, prediction = await label(stage, {**VOTED, "votes": 3})
        assert (shown["state"], shown["label"]) == ("in_review", None)
        assert shown["confidence"] == {
            "value": None,
            "source": "self_consistency",
            "reason": "label_outside_schema",
        }
        assert prediction["repaired"] is True

    async def test_that_are_refused_go_to_people_at_once(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["refusal"]]
        shown, _ = await label(stage, {**VOTED, "votes": 3})
        assert shown["confidence"]["reason"] == "refusal"
        assert len(stage.model.calls) == 3

    async def test_of_parts_have_a_share_for_each(self, stage: Stage) -> None:
        stage.model.default = [
            Says(content='{"spam": true, "urgent": true}'),
            Says(content='{"spam": true, "urgent": false}'),
            Says(content='{"spam": true, "urgent": true}'),
            Says(content='{"spam": true, "urgent": true}'),
        ]
        schema = {"kind": "multi_choice", "labels": ["spam", "urgent"]}
        shown, prediction = await label(stage, {**VOTED, "votes": 4}, label_schema=schema)
        assert json.loads(prediction["label"]) == ["spam", "urgent"]
        assert shown["confidence"]["value"] == pytest.approx(3.5 / 5)
        parts = {name: (value, share) for name, value, share, _ in prediction["parts"]}
        assert parts == {"spam": (True, 4.5 / 5), "urgent": (True, 3.5 / 5)}


class TestAStatedConfidence:
    async def test_is_named_as_what_it_is(self, stage: Stage) -> None:
        stage.model.default = [Says(content='{"answer": {"label": "ham"}, "confidence": 0.85}')]
        shown, prediction = await label(stage, STATED)
        assert (shown["state"], shown["label"]) == ("accepted", "ham")
        assert shown["confidence"] == {"value": 0.85, "source": "verbalized", "reason": None}
        assert prediction["score"] == pytest.approx(math.log(0.85 / 0.15))
        assert prediction["evidence"] == [["stated", 0.85]]

    @pytest.mark.parametrize("certain", [0, 1])
    async def test_that_is_certain_can_be_ranked(self, stage: Stage, certain: int) -> None:
        answer = f'{{"answer": {{"label": "ham"}}, "confidence": {certain}}}'
        stage.model.default = [Says(content=answer)]
        shown, prediction = await label(stage, STATED)
        assert shown["confidence"]["value"] == certain
        assert math.isfinite(prediction["score"])

    async def test_that_is_none_is_repaired_then_unknown(self, stage: Stage) -> None:
        stage.model.default = [Says(content='{"answer": {"label": "ham"}, "confidence": "high"}')]
        shown, prediction = await label(stage, STATED)
        assert shown["confidence"]["reason"] == "wrong_shape"
        assert (prediction["repaired"], len(stage.model.calls)) == (True, 2)


class TestAnExternalLabeler:
    async def test_is_asked_nothing(self, stage: Stage) -> None:
        project = await stage.api.make_project(labeler={"source": "external"})
        (item,) = await stage.api.send_items(project, ["some text"])
        assert (await stage.labeling.drain(project)).settled == 0
        assert (await stage.item(item))["state"] == "pending"
        # nor is anybody woken for it
        due = await stage.sql.rows(
            "SELECT 1 FROM items WHERE id = %(id)s AND state = 'pending'",
            id=from_wire(Kind.ITEM, item),
        )
        assert due
        await stage.labeling.sweep.once(stopping=lambda: False)
        assert stage.model.calls == []


class TestOneInterfaceAloneIsNoOther:
    @pytest.mark.parametrize(
        ("interfaces", "labeler"),
        [
            ((CHAT,), {"source": "logprobs", "api": "responses"}),
            ((RESPONSES,), {"source": "logprobs"}),
        ],
    )
    async def test_what_is_not_there_answers_404(
        self, stage: Stage, interfaces: tuple[str], labeler: dict[str, Any]
    ) -> None:
        stage.model.interfaces = interfaces
        project = await stage.api.make_project(labeler=labeler)
        (item,) = await stage.api.send_items(project, ["some text"])
        await stage.labeling.drain(project)
        assert "404" in (await stage.item(item))["last_error"]

    @pytest.mark.parametrize("play", [Html(), Sends(document={"object": "list", "data": []})])
    async def test_what_is_no_answer_of_it_is_unreadable(self, stage: Stage, play: Play) -> None:
        for path, labeler in (
            (RESPONSES, {"source": "logprobs", "api": "responses"}),
            (DECISIONS, {"source": "decisions"}),
        ):
            stage.model.interfaces, stage.model.default = (path,), [play]
            project = await stage.api.make_project(labeler=labeler)
            (item,) = await stage.api.send_items(project, ["some text"])
            await stage.labeling.drain(project)
            assert "can't be read" in (await stage.item(item))["last_error"]
