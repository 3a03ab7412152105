"""Every way a model can answer wrongly, through a real HTTP server: what becomes of the item."""

from __future__ import annotations

import pytest

from tests.labeling.support import Stage
from tests.support.api import LABELS
from tests.support.model_plays import FAULTS, Answer, Play

SURE = {"spam": 0.9, "ham": 0.07, "other thing": 0.03}


class TestAGoodAnswer:
    async def test_is_stored_with_everything_that_explains_it(self, stage: Stage) -> None:
        stage.model.default = [Answer(probabilities=SURE)]
        project, item = await stage.label_one()

        shown = await stage.item(item)
        assert shown["state"] == "accepted"
        assert (shown["label"], shown["final_label"]) == ("spam", "spam")
        assert shown["confidence"]["value"] == pytest.approx(0.9)
        assert shown["confidence"]["source"] == "logprobs"
        assert (shown["route"], shown["route_reason"]) == ("accept", "accept_all")
        assert shown["attempts"] == 1

        prediction = await stage.prediction(item)
        assert prediction["id"] == shown["prediction_id"]
        assert prediction["answer"] == '{"label":"spam"}'
        assert prediction["repaired"] is False
        masses = {
            each["label"]: each["probability"] for each in prediction["score"]["alternatives"]
        }
        assert masses == pytest.approx(SURE)
        assert len(prediction["evidence"]) >= 4
        provenance = prediction["provenance"]
        known = await stage.api.get(f"/v1/projects/{project}")
        assert provenance["labeler_id"] == known["labeler"]["id"]
        assert provenance["prompt_hash"] == known["labeler"]["prompt_hash"]
        assert provenance["label_schema_id"] == known["label_schema"]["id"]
        assert provenance["served_model"] == "scripted-test-model"
        assert provenance["system_fingerprint"] == "fp_scripted"
        assert await stage.events(item) == ["item.labeled", "item.routed"]

    async def test_keeps_full_precision(self, stage: Stage) -> None:
        # what a useful threshold turned on: the seventh digit after 0.
        close = {"spam": 1 - 1.1e-7, "ham": 0.9e-7, "other thing": 0.2e-7}
        stage.model.default = [Answer(probabilities=close)]
        _, item = await stage.label_one()
        value = (await stage.item(item))["confidence"]["value"]
        assert 1 - value == pytest.approx(1.1e-7, rel=1e-6)

    @pytest.mark.parametrize("fault", ["null_bytes", "no_bytes_key"])
    async def test_without_bytes_is_read_by_its_text(self, stage: Stage, fault: str) -> None:
        stage.model.default = [FAULTS[fault]]
        _, item = await stage.label_one()
        assert (await stage.item(item))["confidence"]["reason"] is None


class TestALabelWithoutUsableLogprobs:
    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            ("no_logprobs_key", "no_logprobs"),
            ("null_logprobs", "no_logprobs"),
            ("null_logprobs_content", "no_logprobs"),
            ("empty_logprobs_content", "no_logprobs"),
            ("nan", "nan_logprob"),
            ("minus_infinity", "infinite_logprob"),
            ("positive", "positive_logprob"),
            ("minus_9999", "no_alternatives"),
            ("all_zero", "no_alternatives"),
            ("sampled_outside_top", "clamped_logprob"),
            ("nan_alternative", "nan_logprob"),
            ("positive_alternative", "positive_logprob"),
            ("wrong_bytes", "bytes_differ"),
            ("missing_token", "bytes_differ"),
        ],
    )
    async def test_keeps_its_label_and_goes_to_people_with_the_reason(
        self, stage: Stage, fault: str, reason: str
    ) -> None:
        stage.model.default = [FAULTS[fault]]
        # not even a policy that accepts everything accepts what is not known
        project, item = await stage.label_one()

        shown = await stage.item(item)
        assert shown["state"] == "in_review"
        assert shown["label"] in LABELS
        assert shown["confidence"] == {"value": None, "source": "logprobs", "reason": reason}
        assert (shown["route"], shown["route_reason"]) == ("review", "unknown_confidence")
        assert shown["final_label"] is None
        assert shown["last_error"]

        prediction = await stage.prediction(item)
        assert prediction["label"] == shown["label"]
        assert prediction["confidence"]["reason"] == reason
        assert prediction["score"] is None
        # a label is there: nothing to repair
        assert stage.model.calls_per_item["some text"] == 1
        assert await stage.events(item) == ["item.labeled", "item.routed"]
        assert await stage.by_state(project) == {"in_review": 1}

    async def test_keeps_what_evidence_could_be_read(self, stage: Stage) -> None:
        stage.model.script = [FAULTS["sampled_outside_top"]]
        _, item = await stage.label_one()
        assert (await stage.prediction(item))["evidence"]


class TestNoUsableLabel:
    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            ("empty_choices", "no_choices"),
            ("truncated_content", "truncated"),
            ("empty_content", "empty_answer"),
            ("off_schema", "label_outside_schema"),
        ],
    )
    async def test_is_asked_for_once_more_then_goes_to_people(
        self, stage: Stage, fault: str, reason: str
    ) -> None:
        stage.model.default = [FAULTS[fault]]
        _, item = await stage.label_one()

        shown = await stage.item(item)
        assert shown["state"] == "in_review"
        assert shown["label"] is None
        assert shown["confidence"]["reason"] == reason
        assert shown["route_reason"] == "unknown_confidence"
        prediction = await stage.prediction(item)
        assert prediction["label"] is None
        assert prediction["repaired"] is True
        assert stage.model.calls_per_item["some text"] == 2
        assert await stage.events(item) == ["item.routed"]

    @pytest.mark.parametrize("fault", ["off_schema", "truncated_content", "empty_choices"])
    async def test_is_repaired_where_the_second_answer_is_good(
        self, stage: Stage, fault: str
    ) -> None:
        stage.model.default = [FAULTS[fault], Answer(probabilities=SURE)]
        _, item = await stage.label_one()

        shown = await stage.item(item)
        assert (shown["state"], shown["label"]) == ("accepted", "spam")
        prediction = await stage.prediction(item)
        assert prediction["repaired"] is True
        # the figures are those of the answer that counts
        assert prediction["confidence"]["value"] == pytest.approx(0.9)
        first, second = stage.model.calls
        assert len(second.body["messages"]) == len(first.body["messages"]) + 2
        assert second.body["messages"][-2]["role"] == "assistant"

    async def test_an_off_schema_label_reaches_nobody(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["off_schema"]]
        project, item = await stage.label_one()
        (entry,) = await stage.queue(project)
        assert entry["item_id"] == item
        assert entry["label"] is None
        # what it said is kept as what was said, nowhere as a label
        prediction = await stage.prediction(item)
        assert "None of the above" in prediction["answer"]
        (assignment,) = await stage.api.claim(project)
        assert assignment["item"]["alternatives"] == []

    async def test_a_failed_repair_leaves_the_first_answer(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["off_schema"], FAULTS["500"]]
        _, item = await stage.label_one()
        prediction = await stage.prediction(item)
        assert prediction["confidence"]["reason"] == "label_outside_schema"
        assert "None of the above" in prediction["answer"]


class TestARefusal:
    @pytest.mark.parametrize(
        ("fault", "reason"), [("refusal", "refusal"), ("content_filter", "content_filter")]
    )
    async def test_is_not_asked_again(self, stage: Stage, fault: str, reason: str) -> None:
        stage.model.default = [FAULTS[fault]]
        _, item = await stage.label_one()
        shown = await stage.item(item)
        assert (shown["state"], shown["label"]) == ("in_review", None)
        assert shown["confidence"]["reason"] == reason
        assert (await stage.prediction(item))["repaired"] is False
        assert stage.model.calls_per_item["some text"] == 1

    @pytest.mark.parametrize(
        ("fault", "reason"), [("400", "request_rejected"), ("content_filter_400", "content_filter")]
    )
    async def test_of_the_request_goes_to_people_at_once(
        self, stage: Stage, fault: str, reason: str
    ) -> None:
        stage.model.default = [FAULTS[fault]]
        _, item = await stage.label_one()
        shown = await stage.item(item)
        assert (shown["state"], shown["label"], shown["attempts"]) == ("in_review", None, 1)
        assert shown["confidence"] == {"value": None, "source": None, "reason": reason}
        assert "400" in shown["last_error"]
        # no answer, so no prediction
        assert await stage.predictions(item) == []
        assert stage.model.calls_per_item["some text"] == 1
        assert await stage.events(item) == ["item.routed"]


class TestTheQueue:
    async def test_has_unknown_confidence_before_the_lowest_known(self, stage: Stage) -> None:
        plays: dict[str, list[Play]] = {
            "sure": [Answer(probabilities={"spam": 0.99, "ham": 0.006, "other thing": 0.004})],
            "torn": [Answer(probabilities={"spam": 0.34, "ham": 0.33, "other thing": 0.33})],
            "mute": [FAULTS["null_logprobs"]],
            "refused": [FAULTS["400"]],
        }
        stage.model.rules = plays
        project = await stage.api.make_project()
        texts = ["sure", "torn", "mute", "refused"]
        ids = dict(zip(await stage.api.send_items(project, texts), texts, strict=True))
        await stage.labeling.drain(project)

        queue = await stage.queue(project)
        order = [ids[entry["item_id"]] for entry in queue]
        assert set(order[:2]) == {"mute", "refused"}
        assert order[2:] == ["torn", "sure"]
        assert [entry["confidence"]["value"] is None for entry in queue] == [
            True,
            True,
            False,
            False,
        ]
        claimed = await stage.api.claim(project, 4)
        assert [ids[each["item"]["id"]] for each in claimed] == order
