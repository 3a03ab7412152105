"""Label schemas and labelers have versions; what was labelled by earlier ones stays readable."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.problems import faults, problem
from tests.support.review import Reviewer

SPAM = {"kind": "single_choice", "labels": ["spam", "ham"]}


async def new_schema(api: Api, project: str, **schema: Any) -> httpx2.Response:
    return await api.http.post(
        f"/v1/projects/{project}/label-schemas",
        json={"label_schema": {"kind": "single_choice", **schema}},
    )


async def new_labeler(api: Api, project: str, **labeler: Any) -> httpx2.Response:
    return await api.http.post(f"/v1/projects/{project}/labelers", json=labeler)


class TestLabelSchemas:
    async def test_a_new_version_is_the_current_one_and_the_old_stays(self, api: Api) -> None:
        project = await api.make_project()
        made = await new_schema(api, project, labels=["spam", "other"])
        assert (made.status_code, made.json()["version"]) == (201, 2)
        shown = await api.get(f"/v1/projects/{project}")
        assert shown["label_schema"] == made.json()
        # the labeler's prompt names the labels
        assert shown["labeler"]["revision"] == 2
        versions = (await api.get(f"/v1/projects/{project}/label-schemas"))["data"]
        assert [version["version"] for version in versions] == [2, 1]
        assert [label["name"] for label in versions[1]["labels"]] == ["spam", "ham", "other thing"]
        revisions = (await api.get(f"/v1/projects/{project}/labelers"))["data"]
        assert len({revision["prompt_hash"] for revision in revisions}) == 2

    async def test_another_kind_is_another_project(self, api: Api) -> None:
        project = await api.make_project()
        found = faults(await new_schema(api, project, kind="multi_choice", labels=["a", "b"]))
        assert found["/label_schema/kind"].startswith("must stay single_choice")
        assert (await api.get(f"/v1/projects/{project}"))["label_schema"]["version"] == 1

    async def test_one_that_an_example_contradicts_is_refused(self, api: Api) -> None:
        example = {"text": "x", "label": "ham"}
        project = await api.make_project(labeler={"examples": [example]})
        found = faults(await new_schema(api, project, labels=["spam", "other"]))
        assert found["/labeler/examples/0/label"].startswith("is none of the project's labels")

    @pytest.mark.parametrize("when", ["before the new version", "after it"])
    async def test_a_verdict_sent_again_is_answered_as_it_was(self, api: Api, when: str) -> None:
        def schema(*names: str) -> dict[str, Any]:
            fields = {name: {"type": "string"} for name in names}
            return {"kind": "fields", "schema": {"type": "object", "properties": fields}}

        project = await api.make_project(label_schema=schema("who"), labeler={"source": "external"})
        await api.http.post(f"/v1/projects/{project}/items", json={"external_id": "x", "text": "t"})
        row = {"external_id": "x", "label": {"who": "Ann"}, "confidence": 0.5}
        body = {"producer": "p", "predictions": [row]}
        await api.http.post(f"/v1/projects/{project}/predictions", json=body)
        (held,) = await api.claim(project)
        verdict = {"who": "Ann"}
        if when == "after it":
            verdict["where"] = "Rome"
        else:
            first = await Reviewer(api.http).submit(held, verdict)
        made = await new_schema(api, project, **schema("who", "where"))
        assert made.status_code == 201, made.text
        if when == "after it":
            first = await Reviewer(api.http).submit(held, verdict)
        assert first.status_code == 200, first.text
        again = await Reviewer(api.http).submit(held, verdict)
        assert (again.status_code, again.json()) == (200, first.json())

    async def test_what_was_labelled_before_stays_readable_and_is_reviewed_by_the_new(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project = await api.make_project()
        # the model's labels follow the texts
        gone, kept = await api.send_items(project, ["other thing at 0.6", "ham at 0.7"])
        await labeling.drain(project)
        await new_schema(api, project, labels=["ham", "spam"])
        (old,) = (await api.get(f"/v1/items/{gone}/predictions"))["data"]
        assert old["label"] == "other thing"
        assert old["provenance"]["label_schema_version"] == 1

        reviewer = Reviewer(api.http)
        held = {each["item"]["id"]: each for each in await reviewer.claim(project, 2)}
        problem(await reviewer.submit(held[gone], "other thing"), 422, "invalid")
        answer = await reviewer.submit(held[gone], "spam")
        assert (answer.status_code, answer.json()["agreed"]) == (200, False)
        assert (await reviewer.submit(held[kept], "ham")).json()["agreed"] is True
        report = await api.get(f"/v1/projects/{project}/agreement")
        assert report["label_schema_version"] == 2
        # of the two one had no label of this version
        assert (report["coverage"]["reviewed"], report["coverage"]["without_label"]) == (2, 1)
        assert report["confusion"] == [[1, 0], [0, 0]]


class TestLabelers:
    async def test_a_new_revision_labels_from_now_on(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project = await api.make_project()
        before, after = await api.send_items(project, ["ham at 0.7"]), []
        await labeling.drain(project)
        made = await new_labeler(
            api,
            project,
            source="logprobs",
            instructions="Say what it is.",
            examples=[{"messages": [{"role": "user", "content": "hi"}], "label": "ham"}],
            limits={"requests_per_minute": 600},
            prices={"input_per_million": 1, "output_per_million": 2},
        )
        assert (made.status_code, made.json()["revision"]) == (201, 2)
        assert made.json()["examples"] == [
            {"messages": [{"role": "user", "content": "hi"}], "label": "ham"}
        ]
        after = await api.send_items(project, ["spam at 0.7"])
        await labeling.drain(project)
        said = [
            (await api.get(f"/v1/items/{item}/predictions"))["data"][0]
            for item in (*before, *after)
        ]
        assert [each["provenance"]["labeler_revision"] for each in said] == [1, 2]
        assert [each["cost"] is None for each in said] == [True, False]

    async def test_one_without_prices_can_not_take_over_a_budget(self, api: Api) -> None:
        prices = {"input_per_million": 1, "output_per_million": 2}
        project = await api.make_project(labeler={"prices": prices})
        limit = await api.http.put(f"/v1/projects/{project}/budget", json={"monthly_limit": 1.0})
        assert limit.status_code == 200
        problem(await new_labeler(api, project), 409, "no_prices")
        assert (await new_labeler(api, project, prices=prices)).status_code == 201
        await api.http.put(f"/v1/projects/{project}/budget", json={"monthly_limit": None})
        assert (await new_labeler(api, project)).status_code == 201

    async def test_a_project_is_paid_in_one_currency(self, api: Api) -> None:
        prices = {"input_per_million": 1, "output_per_million": 2, "currency": "EUR"}
        project = await api.make_project(labeler={"prices": prices})
        assert (await new_labeler(api, project)).status_code == 201
        other = {**prices, "currency": "USD"}
        found = faults(await new_labeler(api, project, prices=other))
        assert found["/prices/currency"] == "must stay EUR, as it was before"
        assert (await new_labeler(api, project, prices=prices)).status_code == 201

    @pytest.mark.parametrize(
        ("labeler", "pointer", "detail"),
        [
            ({"template": "{a"}, "/template", "the brace at position 0"),
            ({"template": "no field"}, "/template", "names no field"),
            (
                {"template": "{a}", "examples": [{"fields": {"b": 1}, "label": "ham"}]},
                "/examples/0/fields",
                "the item has no field 'a'",
            ),
            (
                {"examples": [{"text": "x", "label": "eggs"}]},
                "/examples/0/label",
                "is none of the project's labels",
            ),
            ({"examples": [{"text": "x"}]}, "/examples/0/label", "required"),
            (
                {"examples": [{"text": "é" * 50_000, "label": "ham"}] * 3},
                "/examples",
                "at most 262144 fit",
            ),
            ({"base_url": "ftp://x"}, "/base_url", "must be an http or https URL"),
            (
                {"examples": [{"images": [{"url": "https://x.example/1"}], "label": "ham"}]},
                "/examples/0/images",
                "can't be an image",
            ),
            ({"source": "guess"}, "/source", "must be 'auto'"),
            ({"votes": 1}, "/votes", ""),
            ({"prices": {"input_per_million": 1}}, "/prices/output_per_million", "required"),
        ],
    )
    async def test_a_bad_one_is_named(
        self, api: Api, labeler: dict[str, Any], pointer: str, detail: str
    ) -> None:
        project = await api.make_project()
        found = faults(await new_labeler(api, project, **labeler))
        assert found.keys() == {pointer}
        assert detail in found[pointer]

    async def test_a_kind_that_no_model_is_asked_for_is_labelled_elsewhere(self, api: Api) -> None:
        regions = {"kind": "regions", "labels": ["cat"]}
        sent = {"name": "x", "label_schema": regions, "labeler": {"source": "logprobs"}}
        found = faults(await api.http.post("/v1/projects", json=sent))
        assert "external predictions" in found["/labeler/source"]
        made = await api.http.post("/v1/projects", json={**sent, "labeler": {}})
        assert made.json()["labeler"]["source"] == "external"
        labeler = made.json()["labeler"]["id"]
        body = {"item": {"text": "x"}}
        problem(await api.http.post(f"/v1/labelers/{labeler}/preview", json=body), 409, "conflict")
        problem(await api.http.post(f"/v1/labelers/{labeler}/probe"), 409, "conflict")
