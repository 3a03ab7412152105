"""What labels cost, in the statistics."""

from __future__ import annotations

import pytest

from tests.labeling.support import Stage
from tests.labeling.test_budgets import PRICE, PRICES, Priced, make_work, put
from tests.support.model_plays import FAULTS


class TestTheCostOfLabels:
    async def test_is_in_the_statistics_with_what_a_right_one_costs(self, stage: Stage) -> None:
        stage.model.default = [Priced()]
        project = await stage.api.make_project(labeler={"prices": PRICES})
        await stage.api.send_items(project, [f"text {n}" for n in range(8)])
        await stage.labeling.drain(project)
        before = (await stage.api.get(f"/v1/projects/{project}/stats"))["cost"]
        assert before["per_label"] == pytest.approx(PRICE / 1e6)
        assert before["per_correct_label"]["value"] is None
        assert before["per_correct_label"]["high"] is None

        others = {"spam": "ham", "ham": "spam", "other thing": "ham"}
        for n, assignment in enumerate(await stage.api.claim(project, 8)):
            label = (await stage.item(assignment["item"]["id"]))["label"]
            said = label if n < 6 else others[label]
            assert (await stage.api.submit(assignment, said)).status_code == 200
        agreement = (await stage.api.get(f"/v1/projects/{project}/agreement"))["accuracy"]
        cost = (await stage.api.get(f"/v1/projects/{project}/stats"))["cost"]
        assert {name: cost[name] for name in ("currency", "labels", "calls")} == {
            "currency": "EUR",
            "labels": 8,
            "calls": 8,
        }
        assert cost["this_month"] == cost["total"] == pytest.approx(8 * PRICE / 1e6)
        correct = cost["per_correct_label"]
        assert correct["agreement"] == agreement
        assert correct["value"] == pytest.approx(PRICE / 1e6 / 0.75)
        assert correct["low"] == pytest.approx(PRICE / 1e6 / agreement["high"])
        assert cost["budget"] == await stage.api.get(f"/v1/projects/{project}/budget")

    async def test_has_in_it_what_failed(self, stage: Stage) -> None:
        stage.model.default = [FAULTS["500"], Priced()]
        project = await make_work(stage, 1, limit=None)
        await stage.labeling.drain(project)
        await stage.make_due(project)
        await stage.labeling.drain(project)
        cost = (await stage.api.get(f"/v1/projects/{project}/stats"))["cost"]
        assert (cost["labels"], cost["calls"]) == (1, 2)
        assert cost["per_label"] == cost["total"] > PRICE / 1e6

    async def test_says_that_a_budget_is_exhausted(self, stage: Stage) -> None:
        stage.model.default = [Priced()]
        project = await make_work(stage, 3, limit=None)
        await put(stage, project, 0.0)
        await stage.labeling.drain(project)
        cost = (await stage.api.get(f"/v1/projects/{project}/stats"))["cost"]
        assert cost["budget"]["exhausted"] is True
        assert cost["per_label"] is None

    async def test_is_none_where_labels_have_no_price(self, stage: Stage) -> None:
        project, _ = await stage.label_one()
        assert (await stage.api.get(f"/v1/projects/{project}/stats"))["cost"] is None
