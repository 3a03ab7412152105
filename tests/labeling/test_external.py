"""Labels made elsewhere: taken in, routed as our own, never in the way of what is there."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httpx2
import pytest

from tests.labeling.support import Stage
from tests.labeling.test_budgets import PRICES, put
from tests.support.model_plays import Hang
from tests.support.problems import problem
from tests.support.waiting import until

THRESHOLD = {"kind": "fixed_threshold", "threshold": 0.8}


async def make(stage: Stage, *names: str, **project: Any) -> str:
    made = await stage.api.make_project(
        **{"labeler": {"source": "external"}, "policy": THRESHOLD, **project}
    )
    rows = [{"external_id": name, "text": f"text {name}"} for name in names]
    answer = await stage.api.http.post(f"/v1/projects/{made}/items/bulk", json={"items": rows})
    assert answer.status_code == 200
    return made


async def send(
    stage: Stage, project: str, *rows: dict[str, Any], producer: str = "a classifier"
) -> httpx2.Response:
    return await stage.api.http.post(
        f"/v1/projects/{project}/predictions",
        json={"producer": producer, "predictions": list(rows)},
    )


async def items(stage: Stage, project: str) -> dict[str, dict[str, Any]]:
    listed = (await stage.api.get(f"/v1/projects/{project}/items"))["data"]
    return {item["external_id"]: item for item in listed}


def row(name: str, label: str = "ham", **more: Any) -> dict[str, Any]:
    return {"external_id": name, "label": label, **more}


async def test_they_are_routed_by_their_confidence(stage: Stage) -> None:
    project = await make(stage, "sure", "unsure", "silent", "softmax")
    softmax = {"ham": 0.9, "spam": 0.06, "other thing": 0.04}
    answer = await send(
        stage,
        project,
        row("sure", confidence=1.0),
        row("unsure", confidence=0.3),
        row("silent"),
        row("softmax", probabilities=softmax),
    )
    assert (answer.status_code, answer.json()["taken"]) == (200, 4)
    found = await items(stage, project)
    assert {name: item["state"] for name, item in found.items()} == {
        "sure": "accepted",
        "unsure": "in_review",
        "silent": "in_review",
        "softmax": "accepted",
    }
    assert found["silent"]["confidence"] == {
        "value": None,
        "source": "external",
        "reason": "not_given",
    }
    # what is not known comes first
    assert [each["external_id"] for each in await stage.queue(project)] == ["silent", "unsure"]
    prediction = await stage.prediction(found["softmax"]["id"])
    assert prediction["confidence"]["value"] == pytest.approx(0.9)
    assert prediction["score"]["margin"] == pytest.approx(0.84)
    assert prediction["provenance"]["model"] == "a classifier"
    assert (prediction["calls"], prediction["cost"]) == (None, None)
    assert math.isfinite((await stage.prediction(found["sure"]["id"]))["score"]["logit"])
    assert await stage.by_state(project) == {"accepted": 2, "in_review": 2}
    assert await stage.events(found["sure"]["id"]) == ["item.labeled", "item.routed"]


async def test_a_bad_row_is_named_and_loses_no_other(stage: Stage) -> None:
    project = await make(stage, "good", "a", "b", "c", "d", "e")
    answer = await send(
        stage,
        project,
        row("a", "eggs", confidence=0.5),
        row("b", confidence=1.5),
        row("c", confidence=0.5, probabilities={"ham": 0.5}),
        row("d", probabilities={"ham": 0.9, "spam": 0.9}),
        row("e", probabilities={"spam": 0.5}),
        row("nobody", confidence=0.5),
        {"item_id": "itm_nonsense", "label": "ham"},
        {"label": "ham"},
        row("good", confidence=0.9),
        row("good", confidence=0.9),
        row("good", "spam", confidence=0.9),
    )
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [each["status"] for each in results] == ["invalid"] * 8 + [
        "taken",
        "existing",
        "conflict",
    ]
    pointers = [each["error"]["errors"][0]["pointer"] for each in results[:8]]
    assert pointers == [
        "/predictions/0/label",
        "/predictions/1/confidence",
        "/predictions/2/confidence",
        "/predictions/3/probabilities",
        "/predictions/4/probabilities",
        "/predictions/5/external_id",
        "/predictions/6/item_id",
        "/predictions/7",
    ]
    assert await stage.by_state(project) == {"accepted": 1, "pending": 5}


async def test_sent_again_they_are_there_and_another_label_is_a_conflict(stage: Stage) -> None:
    project = await make(stage, "x")
    for status in ("taken", "existing"):
        answer = await send(stage, project, row("x", confidence=0.5))
        assert answer.status_code == 200
        assert [each["status"] for each in answer.json()["results"]] == [status]
    for other in (row("x", "spam", confidence=0.5), row("x", confidence=0.6)):
        (refused,) = (await send(stage, project, other)).json()["results"]
        assert (refused["status"], refused["error"]["code"]) == ("conflict", "already_labeled")
    answer = await send(stage, project, row("x", confidence=0.5), producer="another")
    assert answer.json()["results"][0]["status"] == "conflict"


async def test_no_model_is_asked_for_what_is_labelled_elsewhere(stage: Stage) -> None:
    project = await make(stage, "x")
    assert (await stage.labeling.drain(project)).settled == 0
    await stage.labeling.sweep.once(stopping=lambda: False)
    assert await stage.by_state(project) == {"pending": 1}
    assert stage.model.count == 0


async def test_one_for_an_item_that_a_worker_holds_goes_before_the_workers(stage: Stage) -> None:
    stage.model.default = [Hang()]
    project = await make(stage, "x", labeler={"source": "logprobs"})
    stop = asyncio.Event()
    draining = asyncio.create_task(stage.labeling.drain(project, stopping=stop.is_set))
    await stage.model.wait_for_calls(1)
    answer = await send(stage, project, row("x", confidence=0.9))
    assert answer.json()["taken"] == 1
    stop.set()
    await draining
    found = (await items(stage, project))["x"]
    assert (found["state"], found["confidence"]["source"]) == ("accepted", "external")
    assert len(await stage.predictions(found["id"])) == 1


async def test_what_was_reserved_for_the_worker_is_counted_as_spent(stage: Stage) -> None:
    stage.model.default = [Hang()]
    project = await make(stage, "x", labeler={"source": "logprobs", "prices": PRICES})
    await put(stage, project, 5.0)
    stop = asyncio.Event()
    draining = asyncio.create_task(stage.labeling.drain(project, stopping=stop.is_set))
    await stage.model.wait_for_calls(1)
    before = await stage.api.get(f"/v1/projects/{project}/budget")
    assert before["reserved"] > 0
    await send(stage, project, row("x", confidence=0.9))
    budget = await stage.api.get(f"/v1/projects/{project}/budget")
    assert (budget["reserved"], budget["spent"]) == (0, before["reserved"])
    stop.set()
    await draining
    # told by the worker now, and not twice
    budget = await stage.api.get(f"/v1/projects/{project}/budget")
    assert (budget["reserved"], budget["spent"]) == (0, before["reserved"])


async def test_of_two_at_once_one_is_taken_and_the_other_is_told(stage: Stage) -> None:
    project = await make(stage, "x", "y")
    # the producers are known: the two meet at the item
    for producer in ("one", "other"):
        await send(stage, project, row("y", confidence=0.5), producer=producer)

    async def all_wait() -> bool:
        return await stage.sql.waiting() == 3

    async with stage.sql.connection.transaction():
        # whoever records waits for the project
        await stage.sql.rows("SELECT id FROM projects FOR NO KEY UPDATE")
        sending = [
            asyncio.create_task(send(stage, project, row("x", confidence=sure), producer=producer))
            for producer, sure in (("one", 0.5), ("one", 0.5), ("other", 0.6))
        ]
        await until(all_wait)
    told = [(await answer).json()["results"][0]["status"] for answer in sending]
    assert told.count("taken") == 1
    stored = (await items(stage, project))["x"]["confidence"]["value"]
    first = ["existing", "taken"] if stored == 0.5 else ["conflict", "conflict"]
    assert sorted(told[:2]) == first
    assert told[2] == ("conflict" if stored == 0.5 else "taken")


async def test_what_is_bad_altogether_makes_no_producer(stage: Stage) -> None:
    project = await make(stage, "x")
    await send(stage, project, row("nobody", confidence=0.5), producer="unheard of")
    labelers = (await stage.api.get(f"/v1/projects/{project}/labelers"))["data"]
    assert [each["model"] for each in labelers] == ["external"]


async def test_producers_at_once_are_one_labeler_each(stage: Stage) -> None:
    project = await make(stage, *map(str, range(20)))
    answers = await asyncio.gather(
        *(
            send(stage, project, row(str(n), confidence=0.5), producer=f"p{n % 2}")
            for n in range(20)
        )
    )
    assert [answer.json()["taken"] for answer in answers] == [1] * 20
    labelers = (await stage.api.get(f"/v1/projects/{project}/labelers"))["data"]
    assert sorted(each["model"] for each in labelers) == ["external", "p0", "p1"]
    assert len({each["revision"] for each in labelers}) == 3


async def test_another_project_is_not_found(stage: Stage) -> None:
    project = await make(stage, "x")
    key = await stage.api.make_key("ingest", projects=[await make(stage, "y")])
    async with stage.api.client(key) as http:
        body = {"producer": "p", "predictions": [row("x")]}
        answer = await http.post(f"/v1/projects/{project}/predictions", json=body)
    problem(answer, 404, "not_found")
