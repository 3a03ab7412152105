"""Each kind of label on the whole way: ingest, label, queue, review, agreement by its metric."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.domain.kinds import KINDS, parse_schema
from app.domain.storable import unstorable
from tests.labeling.support import Stage
from tests.support.answer_tokens import as_logprobs, pieces_of, token
from tests.support.model_plays import Play
from tests.support.model_quirks import Says
from tests.support.review import Reviewer

TEXT = "Ann went to Rome."
LABELS = ["person", "place"]


@dataclass(frozen=True)
class Way:
    """A kind with an item that the model gets right and one that it gets wrong.

    Attributes:
        schema: its label schema.
        right, wrong: what the model says of the two items, as values.
        actual: what people say of the second; of the first they say what the model says.
        metrics: what the agreement tells after both.
        parts: some of what it tells of parts: (part, measure) to its value.
        items: what the two items say besides their names.
    """

    schema: Mapping[str, Any]
    right: Any
    wrong: Any
    actual: Any
    metrics: Mapping[str, float]
    parts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    content: Mapping[str, Any] = field(default_factory=lambda: {"text": TEXT})


def span(start: int, end: int, label: str) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, "text": TEXT[start:end]}


def region(x: float, score: float) -> dict[str, Any]:
    return {"label": "person", "box": [x, 0, 10, 10], "score": score}


WAYS = {
    "single_choice": Way(
        schema={"kind": "single_choice", "labels": LABELS},
        right="person",
        wrong="person",
        actual="place",
        metrics={},
    ),
    "multi_choice": Way(
        schema={"kind": "multi_choice", "labels": LABELS},
        right=["person", "place"],
        wrong=["person"],
        actual=["person", "place"],
        metrics={"jaccard": 0.75, "exact": 0.5},
        parts={("person", "f1"): 1.0, ("place", "recall"): 0.5},
    ),
    "spans": Way(
        schema={"kind": "spans", "labels": LABELS},
        right=[span(0, 3, "person"), span(12, 16, "place")],
        wrong=[span(0, 3, "person")],
        actual=[span(0, 3, "person"), span(12, 16, "place")],
        metrics={"span_f1": (1 + 2 / 3) / 2, "exact": 0.5},
        parts={("place", "recall"): 0.5, ("person", "precision"): 1.0},
    ),
    "fields": Way(
        schema={
            "kind": "fields",
            "schema": {
                "type": "object",
                "properties": {
                    "who": {"type": "string"},
                    "travels": {"type": "boolean"},
                    "day": {"type": ["string", "null"], "format": "date"},
                },
            },
        },
        right={"who": "Ann", "travels": True, "day": None},
        wrong={"who": "Ann", "travels": True, "day": "2026-02-01"},
        actual={"who": "Ann", "travels": False, "day": None},
        metrics={"field_accuracy": (1 + 1 / 3) / 2, "exact": 0.5},
        parts={("who", "accuracy"): 1.0, ("day", "accuracy"): 0.5},
        content={"fields": {"subject": "Ann", "length": 3}},
    ),
    "text": Way(
        schema={"kind": "text", "description": "Translate it."},
        right="Anna ging nach Rom.",
        wrong="abcd",
        actual="abxd",
        metrics={"edit_similarity": 0.875, "exact": 0.5},
    ),
    "regions": Way(
        schema={"kind": "regions", "labels": LABELS},
        right=[region(0, 0.9)],
        wrong=[region(0, 0.4)],
        actual=[{"label": "person", "box": [5, 0, 10, 10]}],
        metrics={"mean_iou": (1 + 1 / 3) / 2, "f1_at_50": 0.5, "exact": 0.5},
        parts={("person", "precision"): 0.5},
        content={"images": [{"url": "https://images.example/1.png"}], "text": "a street"},
    ),
}


def test_no_kind_is_left_out() -> None:
    assert WAYS.keys() == KINDS.keys()


def says(schema: Mapping[str, Any], value: Any, *, sure: float) -> Play:
    """A model that gives this value, each of its tokens with this probability."""
    content = parse_schema(schema).answer(value)
    spelled = [token(piece, sure, {"~": 1 - sure}) for piece in pieces_of(content)]
    return Says(content=content, tokens=as_logprobs(spelled))


async def label(stage: Stage, way: Way) -> tuple[str, dict[str, Any]]:
    """A project whose two items are labelled: `right` surely, `wrong` with doubt."""
    asked = KINDS[way.schema["kind"]].ASKED
    project = await stage.api.make_project(
        label_schema=way.schema, labeler={"source": "logprobs" if asked else "external"}
    )
    rows = [{"external_id": name, **way.content} for name in ("right", "wrong")]
    sent = await stage.api.http.post(f"/v1/projects/{project}/items/bulk", json={"items": rows})
    assert sent.status_code == 200, sent.text
    if not asked:
        labels = [
            {"external_id": "right", "label": way.right},
            {"external_id": "wrong", "label": way.wrong},
        ]
        body = {"producer": "a detector", "predictions": labels}
        answer = await stage.api.http.post(f"/v1/projects/{project}/predictions", json=body)
        assert (answer.status_code, answer.json()["taken"]) == (200, 2), answer.text
    else:
        stage.model.labels = LABELS
        for name, value, sure in (("right", way.right, 0.999), ("wrong", way.wrong, 0.9)):
            # one at a time, so that it is known which item an answer is for
            await stage.sql.rows(
                "UPDATE items SET next_attempt_at = now() + interval '1 hour' * "
                "(external_id <> %(name)s)::int WHERE state = 'pending'",
                name=name,
            )
            stage.model.default = [says(way.schema, value, sure=sure)]
            assert (await stage.labeling.drain(project)).settled == 1
    listed = (await stage.api.get(f"/v1/projects/{project}/items"))["data"]
    return project, {item["external_id"]: item for item in listed}


@pytest.mark.parametrize("kind", WAYS)
async def test_the_whole_way(stage: Stage, kind: str) -> None:
    way = WAYS[kind]
    project, items = await label(stage, way)

    for name, value in (("right", way.right), ("wrong", way.wrong)):
        assert items[name]["label"] == value
        assert items[name]["confidence"]["reason"] is None
        source = items[name]["confidence"]["source"]
        assert source == ("logprobs" if KINDS[kind].ASKED else "external")
    # the least certain first
    queue = (await stage.api.get(f"/v1/projects/{project}/queue"))["data"]
    assert [entry["external_id"] for entry in queue] == ["wrong", "right"]
    assert [entry["label"] for entry in queue] == [way.wrong, way.right]

    reviewer = Reviewer(stage.api.http)
    held = {each["item"]["external_id"]: each for each in await reviewer.claim(project, 2)}
    assert held["wrong"]["item"]["label"] == way.wrong
    needs_text = KINDS[kind].NEEDS_TEXT
    assert held["wrong"]["item"]["text"] == (TEXT if needs_text else None)
    for name, actual, agreed in (("right", way.right, True), ("wrong", way.actual, False)):
        answer = await reviewer.submit(held[name], actual)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["label"], answer.json()["agreed"]) == (actual, agreed)

    shown = await stage.item(items["wrong"]["id"])
    assert (shown["state"], shown["final_label"]) == ("completed", way.actual)
    report = await stage.api.get(f"/v1/projects/{project}/agreement")
    assert (report["kind"], report["coverage"]["reviewed"]) == (kind, 2)
    assert (report["accuracy"]["value"], report["accuracy"]["n"]) == (0.5, 2)
    for metric, value in way.metrics.items():
        estimate = report["metrics"][metric]
        assert estimate["value"] == pytest.approx(value, abs=1e-5)
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert estimate["population"]["of"] == 2
    parts = {part["part"]: part for part in report["parts"]}
    for (part, measure), value in way.parts.items():
        assert parts[part][measure]["value"] == pytest.approx(value)


@pytest.mark.parametrize("kind", [kind for kind in WAYS if KINDS[kind].ASKED])
async def test_a_preview_is_the_very_request(stage: Stage, kind: str) -> None:
    way = WAYS[kind]
    project, items = await label(stage, way)
    labeler = (await stage.api.get(f"/v1/projects/{project}"))["labeler"]["id"]
    answer = await stage.api.http.post(
        f"/v1/labelers/{labeler}/preview", json={"item_id": items["wrong"]["id"]}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["body"] == stage.model.calls[-1].body
    assert unstorable(json.dumps(answer.json())) is None


@pytest.mark.parametrize("kind", WAYS)
async def test_a_verdict_that_is_no_value_is_named_and_the_lease_survives(
    stage: Stage, kind: str
) -> None:
    project, _ = await label(stage, WAYS[kind])
    reviewer = Reviewer(stage.api.http)
    (held,) = await reviewer.claim(project, 1)
    for wrong in (7, {"no": ["such"]}, [{"label": "person"}], ["nobody"], None, True):
        answer = await reviewer.submit(held, wrong)
        assert answer.status_code == 422, (wrong, answer.text)
        assert all(fault["pointer"].startswith("/label") for fault in answer.json()["errors"])
    assert (await reviewer.submit(held, WAYS[kind].actual)).status_code == 200
