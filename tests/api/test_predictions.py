"""Predictions: who said what, asked how, and the evidence to compute every figure again."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.confidence import (
    ChoiceScore,
    ConfidenceSource,
    evidence_from_json,
)
from app.domain.labels import LabelSet
from app.domain.unknown import UnknownReason
from tests.support.api import LABELS, Api
from tests.support.choices import score_single_choice
from tests.support.labeling import LabelingSide
from tests.support.model_plays import FINGERPRINT, MODEL
from tests.support.problems import faults, problem
from tests.support.sql import Sql

FIGURES = ("p_raw", "p_norm", "margin", "entropy", "off_label", "ambiguous", "unseen")


async def predictions(api: Api, item: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get(f"/v1/items/{item}/predictions", **params))["data"]
    return found


@pytest.fixture(scope="module")
async def project(api: Api) -> str:
    return await api.make_project(labeler={"instructions": "Sort the post.", "model": "m-1"})


async def label(api: Api, labeling: LabelingSide, project: str, *texts: str) -> list[str]:
    ids = await api.send_items(project, texts)
    await labeling.drain(project)
    return ids


class TestProvenance:
    async def test_names_everything_that_led_to_the_answer(
        self, api: Api, labeling: LabelingSide, project: str
    ) -> None:
        (item,) = await label(api, labeling, project, "ham at 0.83")
        (prediction,) = await predictions(api, item)
        whole = await api.get(f"/v1/projects/{project}")
        labeler, schema = whole["labeler"], whole["label_schema"]
        assert prediction["item_id"] == item
        assert prediction["label"] == "ham"
        assert prediction["answer"] == '{"label":"ham"}'
        assert prediction["finish_reason"] == "stop"
        assert prediction["repaired"] is False
        assert prediction["prompt_tokens"] > 0
        assert prediction["completion_tokens"] > 0
        assert prediction["latency_ms"] >= 0
        assert prediction["provenance"] == {
            "labeler_id": labeler["id"],
            "labeler_revision": 1,
            "model": "m-1",
            "served_model": MODEL,
            "system_fingerprint": FINGERPRINT,
            "prompt_version": labeler["prompt_version"],
            "prompt_hash": labeler["prompt_hash"],
            "parameters": labeler["parameters"],
            "label_schema_id": schema["id"],
            "label_schema_version": 1,
        }

    async def test_the_item_shows_its_prediction(
        self, api: Api, labeling: LabelingSide, project: str
    ) -> None:
        (item_id,) = await label(api, labeling, project, "spam at 0.7")
        (prediction,) = await predictions(api, item_id)
        item = await api.get(f"/v1/items/{item_id}")
        assert item["prediction_id"] == prediction["id"]
        assert item["label"] == prediction["label"] == "spam"
        assert item["confidence"] == prediction["confidence"]
        assert item["state"] == "in_review"
        assert item["labeled_at"] is not None
        assert item["next_attempt_at"] is None

    async def test_an_item_that_waits_has_none(self, api: Api, project: str) -> None:
        (item,) = await api.send_items(project, ["later"])
        assert await predictions(api, item) == []

    async def test_a_stored_one_can_not_be_changed(
        self, api: Api, labeling: LabelingSide, project: str, sql: Sql
    ) -> None:
        await label(api, labeling, project, "ham at 0.5")
        with pytest.raises(Exception, match="rows of predictions are never updated"):
            await sql.rows("UPDATE predictions SET label = 'spam'")


class TestEvidence:
    @pytest.mark.parametrize(
        "text",
        [
            "ham at 0.83",
            "other thing at 0.41",
            "spam at 0.999999",
            # so sure that six digits would say 1
            "spam at 0.9999999999999",
            # whatever the seeded distribution says
            *(f"any text {n}" for n in range(6)),
        ],
    )
    async def test_the_figures_follow_from_it(
        self, api: Api, labeling: LabelingSide, project: str, text: str
    ) -> None:
        (item,) = await label(api, labeling, project, text)
        (prediction,) = await predictions(api, item, include="evidence")
        again = score_single_choice(
            evidence_from_json(prediction["evidence"]),
            content=prediction["answer"],
            labels=LabelSet.of(LABELS),
        )
        assert isinstance(again, ChoiceScore)
        score = prediction["score"]
        # to the last bit: on real logs six digits lost all of a threshold
        assert {name: score[name] for name in FIGURES} == {
            name: getattr(again, name) for name in FIGURES
        }
        assert score["logit"] == again.logit
        assert prediction["label"] == again.label
        assert prediction["confidence"] == {
            "value": again.confidence,
            "source": ConfidenceSource.LOGPROBS.value,
            "reason": None,
        }
        assert [(each["label"], each["probability"]) for each in score["alternatives"]] == [
            tuple(each) for each in again.alternatives
        ]

    async def test_the_figures_are_what_the_model_said(
        self, api: Api, labeling: LabelingSide, project: str
    ) -> None:
        (item,) = await label(api, labeling, project, "ham at 0.83")
        (prediction,) = await predictions(api, item)
        score = prediction["score"]
        assert prediction["confidence"]["value"] == pytest.approx(0.83, abs=1e-9)
        assert score["p_raw"] == pytest.approx(0.83, abs=1e-9)
        masses = {each["label"]: each["probability"] for each in score["alternatives"]}
        assert masses == pytest.approx({"ham": 0.83, "spam": 0.085, "other thing": 0.085})
        assert score["margin"] == pytest.approx(0.83 - 0.085)

    async def test_it_is_shown_when_asked_for(
        self, api: Api, labeling: LabelingSide, project: str
    ) -> None:
        (item,) = await label(api, labeling, project, "ham at 0.6")
        (without,) = await predictions(api, item)
        assert without["evidence"] is None
        answer = await api.http.get(f"/v1/items/{item}/predictions", params={"include": "all"})
        assert list(faults(answer)) == ["include"]


class TestUnknownConfidence:
    async def test_a_label_without_logprobs_says_so(
        self, api: Api, labeling: LabelingSide, project: str
    ) -> None:
        (item,) = await label(api, labeling, project, "ham at 0.9 unsure")
        (prediction,) = await predictions(api, item)
        assert prediction["label"] == "ham"
        assert prediction["score"] is None
        assert prediction["confidence"] == {
            "value": None,
            "source": ConfidenceSource.LOGPROBS.value,
            "reason": UnknownReason.NO_LOGPROBS.value,
        }

    async def test_a_refusal_has_no_label(
        self, api: Api, labeling: LabelingSide, project: str
    ) -> None:
        (item_id,) = await label(api, labeling, project, "refused")
        (prediction,) = await predictions(api, item_id)
        assert prediction["label"] is None
        assert prediction["confidence"]["value"] is None
        assert prediction["confidence"]["reason"] == UnknownReason.REFUSAL.value
        item = await api.get(f"/v1/items/{item_id}")
        assert (item["state"], item["label"]) == ("in_review", None)
        assert item["route_reason"] == "unknown_confidence"
        assert item["last_error"]


class TestAccessToThem:
    async def test_an_item_that_is_not_there(self, api: Api) -> None:
        path = "/v1/items/itm_01h455vb4pex5vsknk084sn02q/predictions"
        problem(await api.http.get(path), 404, "not_found")
