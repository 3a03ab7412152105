"""Agreement of the model with people, against scikit-learn on the same pairs."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from app.domain.agreement import CONFIDENCE_BINS
from app.infra.ids import Kind, from_wire
from app.ledger import counters
from tests.support.api import LABELS, Api
from tests.support.labeling import LabelingSide
from tests.support.review import Reviewer

TEXTS = [
    *(f"{label} at {p}" for label in LABELS for p in (0.4, 0.55, 0.69, 0.75, 0.86, 0.93, 0.97)),
    *(f"{label} at {p}" for label in LABELS for p in (0.995, 0.9995, 0.4, 0.6)),
    *(f"{label} at 0.9 unsure" for label in LABELS),
    "refused",
]


@dataclass(frozen=True)
class Reviewed:
    """A project whose items people have decided, and what they decided, as its items say."""

    id: str
    report: dict[str, Any]
    items: list[dict[str, Any]]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(model, person) where the model gave a label."""
        return [(i["label"], i["final_label"]) for i in self.items if i["label"] is not None]


async def agreement(api: Api, project: str) -> dict[str, Any]:
    report: dict[str, Any] = await api.get(f"/v1/projects/{project}/agreement")
    return report


async def review(api: Api, project: str, verdict: Any, *, count: int) -> None:
    """Decides `count` items, each as `verdict(item)` says."""
    reviewer = Reviewer(api.http)
    for held in await reviewer.claim(project, count):
        answer = await reviewer.submit(held, verdict(held["item"]))
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
async def reviewed(api: Api, labeling: LabelingSide) -> Reviewed:
    """Eighty items with every kind of disagreement, three of them left to wait."""
    project = await api.make_project()
    await api.send_items(project, TEXTS * 2)
    await labeling.drain(project)
    rng = random.Random(11)

    def verdict(item: dict[str, Any]) -> str:
        # the model is right about two times in three
        wrong = item["label"] is None or rng.random() < 0.35
        return str(rng.choice(LABELS) if wrong else item["label"])

    await review(api, project, verdict, count=len(TEXTS) * 2 - 3)
    page = await api.get(f"/v1/projects/{project}/items", state="completed", limit=1000)
    return Reviewed(project, await agreement(api, project), page["data"])


def estimates(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield report["accuracy"]
    yield report["cohen_kappa"]
    for label in report["labels"]:
        yield from (label["precision"], label["recall"], label["f1"])
    yield from (each["agreement"] for each in report["by_confidence"])


class TestFigures:
    def test_the_confusion_is_that_of_the_pairs(self, reviewed: Reviewed) -> None:
        predicted, actual = zip(*reviewed.pairs, strict=True)
        assert [label["label"] for label in reviewed.report["labels"]] == list(LABELS)
        # a row a label of the model, where theirs has a row a label of people
        expected = metrics.confusion_matrix(actual, predicted, labels=LABELS).T
        assert reviewed.report["confusion"] == expected.tolist()
        # every kind of disagreement is there, else a mix-up of the two could hide
        assert (expected > 0).all()
        assert (expected != expected.T).any()

    def test_accuracy_and_kappa_are_those_of_the_pairs(self, reviewed: Reviewed) -> None:
        predicted, actual = zip(*reviewed.pairs, strict=True)
        report = reviewed.report
        accuracy = metrics.accuracy_score(actual, predicted)
        kappa = metrics.cohen_kappa_score(actual, predicted)
        assert report["accuracy"]["value"] == pytest.approx(accuracy, abs=1e-12)
        assert report["cohen_kappa"]["value"] == pytest.approx(kappa, abs=1e-12)

    def test_each_label_has_its_own_figures(self, reviewed: Reviewed) -> None:
        predicted, actual = zip(*reviewed.pairs, strict=True)
        columns = metrics.precision_recall_fscore_support(actual, predicted, labels=LABELS)
        for label, precision, recall, f1, support in zip(
            reviewed.report["labels"], *columns, strict=True
        ):
            assert label["precision"]["value"] == pytest.approx(precision, abs=1e-12)
            assert label["recall"]["value"] == pytest.approx(recall, abs=1e-12)
            assert label["f1"]["value"] == pytest.approx(f1, abs=1e-12)
            assert label["support"] == support
            assert label["predicted"] == predicted.count(label["label"])

    def test_each_bin_of_confidence_has_its_share(self, reviewed: Reviewed) -> None:
        bins = reviewed.report["by_confidence"]
        edges = [(each["low"], each["high"]) for each in bins]
        assert edges == [*itertools.pairwise(CONFIDENCE_BINS), (None, None)]
        labelled = [item for item in reviewed.items if item["label"] is not None]
        for each in bins:
            inside = [item for item in labelled if self._inside(item, each)]
            assert inside, each
            agreed = sum(item["label"] == item["final_label"] for item in inside)
            assert (each["n"], each["agreed"]) == (len(inside), agreed)
            assert each["agreement"]["value"] == pytest.approx(agreed / len(inside))

    @staticmethod
    def _inside(item: dict[str, Any], each: dict[str, Any]) -> bool:
        value = item["confidence"]["value"]
        if value is None or each["low"] is None:
            return value is None and each["low"] is None
        last = each["high"] == CONFIDENCE_BINS[-1]
        return bool(each["low"] <= value < each["high"] or (last and value == each["high"]))

    def test_the_bins_add_up_to_the_whole(self, reviewed: Reviewed) -> None:
        bins = reviewed.report["by_confidence"]
        confusion = np.array(reviewed.report["confusion"])
        assert sum(each["n"] for each in bins) == confusion.sum() == len(reviewed.pairs)
        assert sum(each["agreed"] for each in bins) == confusion.trace()


class TestWhomTheySpeakFor:
    def test_every_figure_lies_in_its_interval(self, reviewed: Reviewed) -> None:
        for estimate in estimates(reviewed.report):
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
            assert estimate["low"] < estimate["high"]
            assert estimate["level"] == 0.95
            assert estimate["method"] in {"wilson", "wilson_union", "normal"}

    def test_every_figure_names_its_population_and_its_size(self, reviewed: Reviewed) -> None:
        whole = "items reviewed by people and labelled by the model"
        pairs = reviewed.pairs
        report = reviewed.report
        for estimate in (report["accuracy"], report["cohen_kappa"]):
            assert estimate["population"] == {"what": whole, "of": len(pairs)}
            assert estimate["n"] == len(pairs)
        for label in report["labels"]:
            name = label["label"]
            by_model = sum(predicted == name for predicted, _ in pairs)
            by_people = sum(actual == name for _, actual in pairs)
            either = sum(name in pair for pair in pairs)
            for figure, words, size in (
                ("precision", f"labelled {name} by the model", by_model),
                ("recall", f"labelled {name} by people", by_people),
                ("f1", f"labelled {name} by the model or by people", either),
            ):
                assert label[figure]["population"] == {"what": f"{whole}, {words}", "of": size}
                assert label[figure]["n"] == size
        for each in report["by_confidence"]:
            assert each["agreement"]["population"]["of"] == each["n"]
            assert each["agreement"]["population"]["what"].startswith(f"{whole}, confidence ")

    def test_what_they_do_not_speak_of_is_counted_apart(self, reviewed: Reviewed) -> None:
        coverage = reviewed.report["coverage"]
        assert coverage["reviewed"] == len(reviewed.items)
        assert coverage["without_label"] == len(reviewed.items) - len(reviewed.pairs) == 2
        assert coverage["waiting"] == 3
        assert coverage["accepted"] == 0
        assert "least certain first" in coverage["note"]

    async def test_folding_the_counters_changes_nothing(
        self, api: Api, labeling: LabelingSide, reviewed: Reviewed
    ) -> None:
        await counters.fold(labeling.parts.database, from_wire(Kind.PROJECT, reviewed.id))
        assert await agreement(api, reviewed.id) == reviewed.report


class TestLittleData:
    async def test_without_reviews_nothing_is_claimed(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project = await api.make_project(policy={"kind": "fixed_threshold", "threshold": 0.5})
        await api.send_items(project, ["ham at 0.9", "ham at 0.4"])
        await labeling.drain(project)
        report = await agreement(api, project)
        for estimate in estimates(report):
            assert estimate["value"] is None
            assert estimate["n"] == 0
            assert (estimate["low"], estimate["high"]) in {(0, 1), (-1, 1)}
        assert report["confusion"] == [[0] * 3] * 3
        coverage = report["coverage"]
        assert (coverage["reviewed"], coverage["waiting"], coverage["accepted"]) == (0, 1, 1)

    async def test_where_all_is_one_label_kappa_has_no_value(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project = await api.make_project()
        await api.send_items(project, ["ham at 0.9"] * 4)
        await labeling.drain(project)
        await review(api, project, lambda item: item["label"], count=4)
        report = await agreement(api, project)
        assert report["cohen_kappa"]["value"] is None
        assert report["accuracy"]["value"] == 1
        # four of four is not certainty
        assert report["accuracy"]["low"] == pytest.approx(0.5101, abs=1e-4)
        by_label = {label["label"]: label for label in report["labels"]}
        assert by_label["ham"]["f1"]["value"] == 1
        assert by_label["spam"]["precision"]["value"] is None
        assert by_label["spam"]["recall"]["value"] is None

    async def test_items_without_a_label_alone_make_no_figure(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project = await api.make_project()
        await api.send_items(project, ["refused"] * 3)
        await labeling.drain(project)
        await review(api, project, lambda _: "ham", count=3)
        report = await agreement(api, project)
        assert report["coverage"]["without_label"] == report["coverage"]["reviewed"] == 3
        assert all(estimate["value"] is None for estimate in estimates(report))

    async def test_every_figure_is_a_number_json_can_carry(self, reviewed: Reviewed) -> None:
        for estimate in estimates(reviewed.report):
            assert all(math.isfinite(estimate[name]) for name in ("value", "low", "high", "level"))
