"""A labeler that leaves its source to the service: what is found out, kept, and told."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.access.keys import Caller, Scope
from app.errors import ConflictError, InvalidError, NotFoundError
from app.infra.ids import Kind, from_wire
from app.labeling.findings import Finding
from app.labeling.labelers import LabelerService
from app.labeling.probing import NEUTRAL, ProbeFailed
from app.labeling.way import Api
from app.settings import Settings
from tests.labeling.support import Stage
from tests.support import model_quirks as quirks
from tests.support.api import LABELS
from tests.support.model_plays import FAULTS, Answer, Html, Play, Status
from tests.support.model_quirks import Refuses, Says, structure
from tests.support.model_wires import CHAT, DECISIONS, RESPONSES

EVERYBODY = Caller(uuid.uuid4(), frozenset(Scope), None, "somebody")


def unknown_model() -> str:
    """An endpoint of which nothing is known yet."""
    return f"model-{uuid.uuid4()}"


async def make(stage: Stage, **labeler: Any) -> str:
    settings = {"source": "auto", "model": unknown_model(), **labeler}
    return await stage.api.make_project(policy={"kind": "accept_all"}, labeler=settings)


async def label(stage: Stage, project: str, text: str = "some text") -> dict[str, Any]:
    (item,) = await stage.api.send_items(project, [text])
    await stage.labeling.drain(project)
    return await stage.item(item)


async def known(stage: Stage) -> int:
    (row,) = await stage.sql.rows("SELECT count(*) AS n FROM endpoint_findings")
    return int(row["n"])


def asked(stage: Stage) -> list[tuple[str, bool]]:
    """The calls: by which interface, and whether it was a probe's."""
    probing = NEUTRAL["text"]
    return [(call.path, call.item == probing) for call in stage.model.calls]


class TestWhatIsFound:
    @pytest.mark.parametrize(
        ("interfaces", "play", "source", "probes"),
        [
            ((CHAT,), Answer(), "logprobs", [CHAT]),
            ((CHAT, RESPONSES), Answer(), "logprobs", [CHAT]),
            ((CHAT, RESPONSES, DECISIONS), Answer(), "decisions", [DECISIONS]),
            ((RESPONSES,), Answer(), "logprobs", [RESPONSES]),
            ((CHAT,), FAULTS["null_logprobs"], "self_consistency", [CHAT, CHAT]),
            ((CHAT,), FAULTS["no_logprobs_key"], "self_consistency", [CHAT, CHAT]),
            ((CHAT,), FAULTS["all_zero"], "self_consistency", [CHAT, CHAT]),
            ((CHAT,), quirks.QUIRKS["sglang_thinking"], "self_consistency", [CHAT, CHAT]),
            ((RESPONSES,), FAULTS["null_logprobs"], "self_consistency", [RESPONSES] * 2),
        ],
    )
    async def test_is_the_best_that_the_endpoint_shows(
        self, stage: Stage, interfaces: tuple[str, ...], play: Play, source: str, probes: list[str]
    ) -> None:
        stage.model.interfaces, stage.model.default = interfaces, [play]
        project = await make(stage, votes=2)
        shown = await label(stage, project)
        assert shown["label"] in LABELS
        assert shown["confidence"]["source"] == source
        assert shown["confidence"]["reason"] is None
        assert [path for path, probing in asked(stage) if probing] == probes

        # once and for all: the next drain asks about its items only
        stage.model.calls.clear()
        again = await label(stage, project, "other text")
        assert again["confidence"]["source"] == source
        assert {probing for _, probing in asked(stage)} == {False}

    async def test_names_the_interface_the_labeler_prefers_first(self, stage: Stage) -> None:
        stage.model.interfaces = (CHAT, RESPONSES)
        await label(stage, await make(stage, api="responses"))
        assert asked(stage) == [(RESPONSES, True), (RESPONSES, False)]

    async def test_is_without_what_the_endpoint_refuses(self, stage: Stage) -> None:
        stage.model.labels = LABELS
        stage.model.default = [
            Refuses(what=lambda body: bool(structure(body)), saying=quirks.DEEPSEEK_NO_SCHEMA)
        ]
        shown = await label(stage, await make(stage))
        assert shown["confidence"]["reason"] is None
        assert stage.model.calls_per_item["some text"] == 1
        assert "response_format" not in stage.model.calls[-1].body

    async def test_is_several_answers_of_a_model_that_may_not_tell(self, stage: Stage) -> None:
        stage.model.default = [
            Refuses(what=lambda body: bool(body.get("logprobs")), saying=quirks.OPENAI_NO_LOGPROBS)
        ]
        shown = await label(stage, await make(stage, votes=3))
        assert shown["confidence"]["source"] == "self_consistency"
        assert stage.model.calls_per_item["some text"] == 3

    async def test_is_no_decision_about_what_decisions_do_not_fit(self, stage: Stage) -> None:
        stage.model.interfaces, stage.model.default = (CHAT, DECISIONS), [Says(content="a text")]
        stage.model.labels = LABELS
        project = await stage.api.make_project(
            label_schema={"kind": "text"},
            labeler={"source": "auto", "model": unknown_model(), "votes": 2},
        )
        shown = await label(stage, project)
        assert shown["confidence"]["source"] == "self_consistency"
        assert {path for path, _ in asked(stage)} == {CHAT}

    async def test_is_of_its_model_its_effort_and_its_schema(self, stage: Stage) -> None:
        model = unknown_model()
        before = await known(stage)
        await label(stage, await make(stage, model=model))
        # the same again, in another project
        await label(stage, await make(stage, model=model, instructions="Mind the tone."))
        assert await known(stage) == before + 1
        await label(stage, await make(stage, model=model, reasoning_effort="low"))
        await label(stage, await make(stage, model=unknown_model()))
        other = await stage.api.make_project(
            labels=["yes", "no"], labeler={"source": "auto", "model": model}
        )
        await label(stage, other)
        assert await known(stage) == before + 4


class TestNothingFound:
    @pytest.mark.parametrize(
        "play", [Status(status=401), FAULTS["429_bare"], FAULTS["503"], FAULTS["reset"]]
    )
    async def test_is_not_kept_and_items_fail_as_they_would(self, stage: Stage, play: Play) -> None:
        before = await known(stage)
        stage.model.default = [play]
        project = await make(stage)
        shown = await label(stage, project)
        assert (shown["state"], shown["label"]) == ("pending", None)
        assert shown["last_error"]
        assert await known(stage) == before

        # when it is mended, it is probed and labels
        stage.model.default = [Answer()]
        await stage.make_due(project)
        await stage.labeling.drain(project)
        assert (await stage.item(shown["id"]))["confidence"]["reason"] is None
        assert await known(stage) == before + 1

    @pytest.mark.parametrize("play", [FAULTS["refusal"], FAULTS["off_schema"], Html()])
    async def test_of_answers_that_say_nothing(self, stage: Stage, play: Play) -> None:
        before = await known(stage)
        stage.model.default = [play]
        await label(stage, await make(stage))
        assert await known(stage) == before

    async def test_a_moment_s_trouble_with_a_better_way_is_no_finding(self, stage: Stage) -> None:
        before = await known(stage)
        stage.model.interfaces = (CHAT, DECISIONS)
        stage.model.script = [FAULTS["503"]]
        project = await make(stage)
        assert (await label(stage, project))["confidence"]["source"] == "logprobs"
        assert await known(stage) == before
        assert (await label(stage, project))["confidence"]["source"] == "decisions"
        assert await known(stage) == before + 1

    async def test_an_endpoint_that_rests_is_not_probed(self, stage: Stage) -> None:
        project = await make(stage)
        stage.model.default = [Status(status=429, retry_after=600)]
        await label(stage, project)
        stage.model.calls.clear()
        await stage.labeling.drain(project)
        assert stage.model.calls == []
        await stage.make_due(project)


class TestAProcessThatStops:
    async def test_waits_for_no_probe(self, stage: Stage) -> None:
        before = await known(stage)
        stage.model.default = [FAULTS["hang"]]
        project = await make(stage)
        await stage.api.send_items(project, ["some text"])
        stops: list[bool] = []
        drain = asyncio.create_task(stage.labeling.drain(project, stopping=lambda: bool(stops)))
        await stage.model.wait_for_calls(1)
        stops.append(True)
        assert (await drain).settled == 0
        assert await known(stage) == before
        # nothing was claimed, and the probe hangs on no longer
        assert await stage.by_state(project) == {"pending": 1}
        (call,) = stage.model.calls
        while not call.abandoned:  # noqa: ASYNC110  # the server lives in another thread
            await asyncio.sleep(0.005)


class TestWhatCanTBe:
    async def test_decisions_that_do_not_fit_give_way_to_chat(self, stage: Stage) -> None:
        # no such labeler can be made; a service that was older may have made one
        project = await stage.api.make_project(
            label_schema={"kind": "text"}, labeler={"source": "logprobs"}
        )
        await stage.sql.rows("ALTER TABLE labelers DISABLE TRIGGER never_updated")
        await stage.sql.rows(
            "UPDATE labelers SET source = 'decisions' WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        await stage.sql.rows("ALTER TABLE labelers ENABLE TRIGGER never_updated")
        stage.model.labels = LABELS
        stage.model.default = [Says(content="a text")]
        shown = await label(stage, project)
        assert shown["confidence"] == {"value": None, "source": "logprobs", "reason": "no_logprobs"}

    async def test_a_lesson_that_can_t_be_kept_costs_no_label(self, stage: Stage) -> None:
        stage.model.labels = LABELS
        stage.model.default = [
            Refuses(what=lambda body: bool(structure(body)), saying=quirks.DEEPSEEK_NO_SCHEMA)
        ]
        project = await make(stage, source="logprobs")
        await stage.sql.rows(
            "ALTER TABLE endpoint_findings ADD CONSTRAINT full_up CHECK (false) NOT VALID"
        )
        try:
            shown = await label(stage, project)
        finally:
            await stage.sql.rows("ALTER TABLE endpoint_findings DROP CONSTRAINT full_up")
        assert shown["confidence"]["reason"] is None


@pytest.fixture
async def labelers(stage: Stage, settings: Settings) -> AsyncIterator[LabelerService]:
    service = LabelerService(
        stage.labeling.parts.database, base_url=settings.openai_base_url, api_key=None
    )
    yield service
    await service.close()


async def labeler_of(stage: Stage, project: str) -> uuid.UUID:
    shown = await stage.api.get(f"/v1/projects/{project}")
    return from_wire(Kind.LABELER, shown["labeler"]["id"])


class TestAProbeOnDemand:
    async def test_tells_what_was_tried_and_is_kept(
        self, stage: Stage, labelers: LabelerService
    ) -> None:
        stage.model.default = [FAULTS["null_logprobs"]]
        project = await make(stage, votes=2)
        found = await labelers.probe(await labeler_of(stage, project), caller=EVERYBODY)
        assert isinstance(found, Finding)
        assert found.way.source == "self_consistency"
        assert found.served_model == "scripted-test-model"
        assert [(each.way.api, each.fit) for each in found.tries] == [
            (Api.DECISIONS, False),
            (Api.CHAT_COMPLETIONS, False),
            (Api.RESPONSES, False),
            (Api.CHAT_COMPLETIONS, True),
        ]
        assert [each.said for each in found.tries] == [
            "the model server answered 404",
            "The answer has no logprobs.",
            "the model server answered 404",
            "It answers with a confidence.",
        ]
        assert Finding.from_json(json.loads(json.dumps(found.to_json()))) == found
        stage.model.calls.clear()
        await label(stage, project)
        assert {probing for _, probing in asked(stage)} == {False}

    async def test_finds_what_changed_since(self, stage: Stage, labelers: LabelerService) -> None:
        stage.model.default = [FAULTS["null_logprobs"]]
        project = await make(stage, votes=2)
        await label(stage, project)
        stage.model.default = [Answer()]
        assert (await label(stage, project))["confidence"]["source"] == "self_consistency"
        await labelers.probe(await labeler_of(stage, project), caller=EVERYBODY)
        assert (await label(stage, project))["confidence"]["source"] == "logprobs"

    async def test_says_why_nothing_was_found(self, stage: Stage, labelers: LabelerService) -> None:
        stage.model.default = [Status(status=401)]
        project = await make(stage)
        found = await labelers.probe(await labeler_of(stage, project), caller=EVERYBODY)
        assert isinstance(found, ProbeFailed)
        assert found.detail == "the model server answered 401"

    async def test_is_for_who_may_see_the_project(
        self, stage: Stage, labelers: LabelerService
    ) -> None:
        labeler_id = await labeler_of(stage, await make(stage))
        stranger = Caller(uuid.uuid4(), frozenset(Scope), frozenset({uuid.uuid4()}), "somebody")
        for caller, wanted in ((stranger, labeler_id), (EVERYBODY, uuid.uuid4())):
            with pytest.raises(NotFoundError):
                await labelers.probe(wanted, caller=caller)
            with pytest.raises(NotFoundError):
                await labelers.preview(wanted, {"text": "x"}, caller=caller)
        assert stage.model.calls == []

    async def test_of_an_external_labeler_is_a_conflict(
        self, stage: Stage, labelers: LabelerService
    ) -> None:
        labeler_id = await labeler_of(stage, await make(stage, source="external"))
        with pytest.raises(ConflictError):
            await labelers.probe(labeler_id, caller=EVERYBODY)


class TestAPreview:
    async def test_is_what_a_drain_sends(self, stage: Stage, labelers: LabelerService) -> None:
        stage.model.interfaces = (RESPONSES,)
        project = await make(stage)
        labeler_id = await labeler_of(stage, project)
        content = {"text": "Hello"}
        assert (await labelers.preview(labeler_id, content, caller=EVERYBODY)).assumed
        await label(stage, project, "Hello")
        shown = await labelers.preview(labeler_id, content, caller=EVERYBODY)
        assert not shown.assumed
        assert (shown.request.path, shown.calls) == (RESPONSES, 1)
        assert shown.request.body == stage.model.calls[-1].body

    async def test_says_how_often_it_is_sent(self, stage: Stage, labelers: LabelerService) -> None:
        project = await make(stage, source="self_consistency", votes=7)
        shown = await labelers.preview(
            await labeler_of(stage, project), {"text": "Hello"}, caller=EVERYBODY
        )
        assert (shown.calls, shown.assumed) == (7, False)

    async def test_names_the_field_that_an_item_lacks(
        self, stage: Stage, labelers: LabelerService
    ) -> None:
        project = await make(stage, source="logprobs", template="{subject}")
        with pytest.raises(InvalidError):
            await labelers.preview(
                await labeler_of(stage, project), {"fields": {"body": "x"}}, caller=EVERYBODY
            )
