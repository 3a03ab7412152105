"""Verdicts: counted once, answered when they are stored, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.infra.ids import Kind, from_wire
from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.problems import faults, problem
from tests.support.review import Reviewer, reviewer
from tests.support.sql import Sql


@pytest.fixture(scope="module")
async def ann(api: Api) -> AsyncIterator[Reviewer]:
    async with reviewer(api) as one:
        yield one


@pytest.fixture(scope="module")
async def bob(api: Api) -> AsyncIterator[Reviewer]:
    async with reviewer(api) as another:
        yield another


@pytest.fixture(scope="module")
async def project(api: Api, labeling: LabelingSide) -> str:
    """Forty items, all alike, for the tests to take one each."""
    project = await api.make_project()
    await api.send_items(project, ["ham at 0.6"] * 40)
    await labeling.drain(project)
    return project


@pytest.fixture
async def held(ann: Reviewer, project: str) -> dict[str, Any]:
    (assignment,) = await ann.claim(project)
    return assignment


async def one_waits(api: Api, labeling: LabelingSide, text: str = "ham at 0.5") -> str:
    """A project with one item, which waits for people."""
    project = await api.make_project()
    await api.send_items(project, [text])
    await labeling.drain(project)
    return project


async def reviews(sql: Sql, assignment: dict[str, Any]) -> list[dict[str, Any]]:
    return await sql.rows(
        "SELECT * FROM reviews WHERE item_id = %(id)s",
        id=from_wire(Kind.ITEM, assignment["item"]["id"]),
    )


class TestSubmitting:
    async def test_completes_the_item(
        self, api: Api, ann: Reviewer, held: dict[str, Any], sql: Sql
    ) -> None:
        answer = await ann.submit(held, "spam", comment="obvious")
        assert answer.status_code == 200
        review = answer.json()
        assert review["id"].startswith("rev_")
        assert review["item_id"] == held["item"]["id"]
        assert review["label"] == "spam"
        assert review["agreed"] is False
        item = await api.get(f"/v1/items/{review['item_id']}")
        assert (item["state"], item["final_label"]) == ("completed", "spam")
        # what the model said stays what it said
        assert item["label"] == "ham"
        assert item["completed_at"] is not None
        assert (await ann.get(held))["state"] == "submitted"

        (stored,) = await reviews(sql, held)
        assert stored["comment"] == "obvious"
        assert stored["reviewer"] == held["reviewer"]
        assert stored["prediction_id"] == from_wire(Kind.PREDICTION, item["prediction_id"])
        (final,) = await sql.rows(
            "SELECT * FROM final_labels WHERE item_id = %(id)s", id=stored["item_id"]
        )
        assert (final["label"], final["review_id"]) == ("spam", stored["id"])
        assert final["policy_id"] == from_wire(Kind.POLICY, item["policy_id"])

    async def test_says_whether_the_model_had_said_the_same(
        self, ann: Reviewer, held: dict[str, Any]
    ) -> None:
        assert (await ann.submit(held, "ham")).json()["agreed"] is True

    async def test_of_an_item_without_a_label_there_is_nothing_to_agree_with(
        self, api: Api, labeling: LabelingSide, ann: Reviewer
    ) -> None:
        project = await one_waits(api, labeling, "refused")
        (held,) = await ann.claim(project)
        first = await ann.submit(held, "ham")
        assert first.json()["agreed"] is None
        assert (await ann.submit(held, "ham")).json() == first.json()

    async def test_the_item_leaves_the_queue(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer
    ) -> None:
        project = await one_waits(api, labeling)
        (held,) = await ann.claim(project)
        await ann.submit(held, "ham")
        assert await bob.claim(project) == []
        assert (await api.get(f"/v1/projects/{project}/queue"))["data"] == []

    @pytest.mark.parametrize("comment", [None, "", "two\nlines", "é 🧪 \u202e", "x" * 10_000])
    async def test_a_comment_is_kept_as_it_is(
        self, ann: Reviewer, held: dict[str, Any], sql: Sql, comment: str | None
    ) -> None:
        assert (await ann.submit(held, "ham", comment=comment)).status_code == 200
        (stored,) = await reviews(sql, held)
        assert stored["comment"] == comment

    @pytest.mark.parametrize(
        ("fields", "pointer", "said"),
        [
            # no label of the schema, however like one
            ({"label": "nonsense"}, "/label", 'is none of the project\'s labels: "spam", "ham"'),
            ({"label": "Ham"}, "/label", 'is none of the project\'s labels: "spam", "ham"'),
            ({"label": "ham "}, "/label", 'is none of the project\'s labels: "spam", "ham"'),
            ({"label": ""}, "/label", 'is none of the project\'s labels: "spam", "ham"'),
            ({"label": "h\u0430m"}, "/label", 'is none of the project\'s labels: "spam", "ham"'),
            # no label at all
            ({"label": "ham\0"}, "/label", "has a NUL character at position 3"),
            ({"label": "x" * 201}, "/label", "is none of the project's labels"),
            ({"label": None}, "/label", "must be a string"),
            ({"label": 0}, "/label", "must be a string"),
            ({"label": ["ham"]}, "/label", "must be a string"),
            ({"label": "ham", "comment": "a\0"}, "/comment", "has a NUL character at position 1"),
            ({"label": "ham", "comment": "x" * 10_001}, "/comment", "must have at most 10000"),
            ({"label": "ham", "comment": 1}, "/comment", "must be a string"),
            ({"label": "ham", "confidence": 1}, "/confidence", "unknown field"),
        ],
    )
    async def test_bad_input_is_named_and_the_lease_survives(
        self, ann: Reviewer, held: dict[str, Any], fields: Any, pointer: str, said: str
    ) -> None:
        found = faults(await ann.act("submit", held, **fields))
        assert list(found) == [pointer]
        assert found[pointer].startswith(said)
        assert await ann.get(held) == held
        # back, so that there is enough for all tests
        assert (await ann.act("release", held)).status_code == 204

    async def test_a_lone_surrogate_is_refused(self, ann: Reviewer, held: dict[str, Any]) -> None:
        body = f'{{"lease_token": "{held["lease_token"]}", "label": "ham", "comment": "\\ud800"}}'
        answer = await ann.http.post(
            f"/v1/assignments/{held['id']}/submit",
            content=body.encode(),
            headers={"Content-Type": "application/json"},
        )
        assert faults(answer) == {"/comment": "has a lone surrogate"}


class TestSubmittingAgain:
    async def test_the_same_verdict_has_the_same_answer(
        self, ann: Reviewer, held: dict[str, Any], sql: Sql
    ) -> None:
        """Its answer was lost on the way: the client can't know, and asks again."""
        first = await ann.submit(held, "spam", comment="c")
        again = await ann.submit(held, "spam", comment="c")
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.json() == first.json()
        assert len(await reviews(sql, held)) == 1

    async def test_also_when_the_lease_would_be_over_by_now(
        self, ann: Reviewer, held: dict[str, Any], sql: Sql
    ) -> None:
        first = await ann.submit(held, "ham")
        await sql.expire(held["id"])
        assert (await ann.submit(held, "ham")).json() == first.json()

    @pytest.mark.parametrize(
        "other", [{"label": "spam"}, {"label": "ham", "comment": "new"}, {"label": "nonsense"}]
    )
    async def test_another_verdict_is_a_conflict(
        self, api: Api, ann: Reviewer, held: dict[str, Any], other: dict[str, str]
    ) -> None:
        await ann.submit(held, "ham")
        problem(await ann.act("submit", held, **other), 409, "assignment_closed")
        item = await api.get(f"/v1/items/{held['item']['id']}")
        assert item["final_label"] == "ham"

    @pytest.mark.parametrize("verb", ["renew", "release", "skip"])
    async def test_nothing_else_can_be_done_with_it(
        self, ann: Reviewer, held: dict[str, Any], verb: str
    ) -> None:
        await ann.submit(held, "ham")
        problem(await ann.act(verb, held), 409, "assignment_closed")

    async def test_two_at_once_count_once(
        self, ann: Reviewer, held: dict[str, Any], sql: Sql
    ) -> None:
        answers = await asyncio.gather(*(ann.submit(held, "ham") for _ in range(6)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        assert len(await reviews(sql, held)) == 1

    async def test_of_two_verdicts_at_once_one_counts(
        self, api: Api, ann: Reviewer, held: dict[str, Any], sql: Sql
    ) -> None:
        labels = ("ham", "spam", "other thing")
        answers = await asyncio.gather(*(ann.submit(held, label) for label in labels))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
        (won,) = [answer.json()["label"] for answer in answers if answer.status_code == 200]
        (stored,) = await reviews(sql, held)
        assert stored["label"] == won
        assert (await api.get(f"/v1/items/{held['item']['id']}"))["final_label"] == won

    async def test_of_a_verdict_and_a_release_at_once_one_counts(
        self, ann: Reviewer, held: dict[str, Any], sql: Sql
    ) -> None:
        verdict, release = await asyncio.gather(ann.submit(held, "ham"), ann.act("release", held))
        assert {verdict.status_code, release.status_code} in ({200, 409}, {204, 409})
        assert len(await reviews(sql, held)) == (verdict.status_code == 200)


class TestSubmittingLate:
    async def test_the_verdict_is_kept_as_a_draft(
        self, api: Api, ann: Reviewer, held: dict[str, Any], sql: Sql
    ) -> None:
        await sql.expire(held["id"])
        answer = await ann.submit(held, "spam", comment="took me an hour")
        problem(answer, 410, "lease_expired")
        shown = await ann.get(held)
        assert shown["draft"] == {"label": "spam", "comment": "took me an hour"}
        assert await reviews(sql, held) == []
        item = await api.get(f"/v1/items/{held['item']['id']}")
        assert item["state"] == "in_review"

    async def test_also_when_another_has_the_item(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer, sql: Sql
    ) -> None:
        project = await one_waits(api, labeling)
        (hers,) = await ann.claim(project)
        await sql.expire(hers["id"])
        (his,) = await bob.claim(project)
        problem(await ann.submit(hers, "spam"), 409, "lease_held_by_another")
        assert (await ann.get(hers))["draft"] == {"label": "spam", "comment": None}
        # the draft is hers alone and counts for nothing
        assert (await bob.get(his))["draft"] is None
        assert (await bob.submit(his, "ham")).json()["label"] == "ham"
        problem(await ann.submit(hers, "spam"), 409, "lease_held_by_another")
        (stored,) = await reviews(sql, hers)
        assert (stored["label"], stored["reviewer"]) == ("ham", his["reviewer"])

    async def test_a_draft_can_be_submitted_under_a_new_lease(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, sql: Sql
    ) -> None:
        project = await one_waits(api, labeling)
        (held,) = await ann.claim(project)
        await sql.expire(held["id"])
        await ann.submit(held, "spam")
        draft = (await ann.get(held))["draft"]
        (again,) = await ann.claim(project)
        assert (await ann.submit(again, draft["label"])).status_code == 200
