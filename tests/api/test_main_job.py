"""The way of an item through the service, as its users see it."""

from __future__ import annotations

from tests.support.api import Api
from tests.support.labeling import LabelingSide


class TestTheMainJob:
    async def test_items_are_labelled_routed_reviewed_and_counted(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project = await api.make_project(policy={"kind": "fixed_threshold", "threshold": 0.6})
        await api.send_items(project, [f"text {n}" for n in range(40)])

        result = await labeling.drain(project)

        assert result.settled == 40
        stats = await api.get(f"/v1/projects/{project}/stats")
        waiting, accepted = stats["items"]["in_review"], stats["items"]["accepted"]
        assert waiting > 0
        assert accepted > 0
        assert waiting + accepted == stats["total"] == 40

        claimed = await api.claim(project, 40)
        assert len(claimed) == waiting
        confidences = [each["item"]["confidence"]["value"] for each in claimed]
        assert confidences == sorted(confidences)
        for each in claimed:
            answer = await api.submit(each, each["item"]["label"])
            assert answer.json()["agreed"] is True

        agreement = await api.get(f"/v1/projects/{project}/agreement")
        assert agreement["coverage"]["reviewed"] == waiting
        assert agreement["coverage"]["accepted"] == accepted
        assert agreement["accuracy"]["value"] == 1.0
        assert agreement["accuracy"]["n"] == waiting
