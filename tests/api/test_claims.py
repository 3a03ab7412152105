"""Claiming: leases that the database's clock ends, fenced by a token, nobody's twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.infra.ids import Kind, from_wire
from app.review.service import ReviewService
from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.problems import faults, problem
from tests.support.review import Reviewer, reviewer
from tests.support.sql import Sql
from tests.support.waiting import until

VERBS = ("renew", "release", "skip", "submit")


async def waiting(api: Api, labeling: LabelingSide, *texts: str, **fields: Any) -> str:
    """A project where all of these wait for people."""
    project = await api.make_project(**fields)
    await api.send_items(project, texts)
    await labeling.drain(project)
    return project


def items(assignments: list[dict[str, Any]]) -> list[str]:
    return [each["item"]["id"] for each in assignments]


def texts(assignments: list[dict[str, Any]]) -> list[str]:
    return [each["item"]["content"]["text"] for each in assignments]


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
    return await waiting(api, labeling, "ham at 0.5")


@pytest.fixture
async def held(ann: Reviewer, project: str) -> dict[str, Any]:
    """The one item of that project, in Ann's hands: held already, or claimed now."""
    found = (await ann.http.get(f"/v1/projects/{project}/assignments")).json()["data"]
    found = found or await ann.claim(project)
    (assignment,) = found
    return dict(assignment)


def verb_fields(verb: str) -> dict[str, str]:
    return {"label": "ham"} if verb == "submit" else {}


class TestClaiming:
    async def test_the_least_certain_come_first(
        self, api: Api, labeling: LabelingSide, ann: Reviewer
    ) -> None:
        project = await waiting(
            api,
            labeling,
            "ham at 0.9",
            "ham at 0.5",
            "refused",
            "ham at 0.7",
            "unsure",
            "ham at 0.5",
        )
        claimed = await ann.claim(project, 4) + await ann.claim(project, 4)
        assert texts(claimed) == [
            "refused", "unsure", "ham at 0.5", "ham at 0.5", "ham at 0.7", "ham at 0.9",
        ]  # fmt: skip
        assert len(set(items(claimed))) == 6

    async def test_an_assignment_has_what_is_needed_to_decide(
        self, api: Api, labeling: LabelingSide, ann: Reviewer
    ) -> None:
        project = await api.make_project()
        row = {"external_id": "e", "text": "ham at 0.8", "metadata": {"a": [1]}}
        item = (await api.http.post(f"/v1/projects/{project}/items", json=row)).json()
        await labeling.drain(project)
        (held,) = await ann.claim(project)
        assert held["id"].startswith("asn_")
        assert held["state"] == "leased"
        assert held["draft"] is None
        shown = held["item"]
        assert shown["id"] == item["id"]
        assert shown["external_id"] == "e"
        assert shown["content"] == {"text": "ham at 0.8"}
        assert shown["metadata"] == {"a": [1]}
        assert shown["label"] == "ham"
        assert shown["confidence"]["value"] == pytest.approx(0.8)
        assert shown["route_reason"] == "review_all"
        assert shown["alternatives"][0]["label"] == "ham"
        assert sum(each["probability"] for each in shown["alternatives"]) == pytest.approx(1)
        assert await ann.get(held) == held

    async def test_one_is_given_unless_more_are_asked_for(
        self, api: Api, labeling: LabelingSide, ann: Reviewer
    ) -> None:
        project = await waiting(api, labeling, *["ham at 0.5"] * 3)
        answer = await ann.http.post(f"/v1/projects/{project}/claims", json={})
        assert len(answer.json()["data"]) == 1
        assert len(await ann.claim(project, 100)) == 2

    async def test_where_nothing_waits_the_list_is_empty(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5", "ham at 0.6")
        assert len(await ann.claim(project, 2)) == 2
        # all are leased
        assert await bob.claim(project, 2) == []
        assert await ann.claim(project, 2) == []
        assert await ann.claim(await api.make_project()) == []

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"limit": 0}, "/limit"),
            ({"limit": 101}, "/limit"),
            ({"limit": -1}, "/limit"),
            ({"limit": 2**63}, "/limit"),
            ({"limit": "1"}, "/limit"),
            ({"limit": True}, "/limit"),
            ({"limit": 1.0}, "/limit"),
            ({"limit": None}, "/limit"),
            ({"limit": 1, "reviewer": "bob"}, "/reviewer"),
        ],
    )
    async def test_bad_input_is_named(
        self, api: Api, ann: Reviewer, body: dict[str, Any], pointer: str
    ) -> None:
        project = await api.make_project()
        answer = await ann.http.post(f"/v1/projects/{project}/claims", json=body)
        assert list(faults(answer)) == [pointer]

    async def test_many_at_once_never_get_the_same(self, api: Api, labeling: LabelingSide) -> None:
        project = await waiting(api, labeling, *[f"ham at 0.{n}" for n in range(400, 460)])
        key = await api.make_key("reviewer", may_name_reviewer=True)

        async def work(name: str) -> list[str]:
            got: list[str] = []
            async with api.client(key, **{"Secondlook-Reviewer": name}) as http:
                while claimed := await Reviewer(http).claim(project, 3):
                    got += items(claimed)
            return got

        shares = await asyncio.gather(*(work(f"person {n}") for n in range(8)))
        given = [item for share in shares for item in share]
        assert len(given) == len(set(given)) == 60
        for share in shares:
            # each is served in order
            order = [item["id"] for item in (await self._listed(api, project))]
            assert share == sorted(share, key=order.index)

    @staticmethod
    async def _listed(api: Api, project: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await api.get(f"/v1/projects/{project}/items"))["data"]
        return sorted(found, key=lambda item: float(item["confidence"]["value"]))


class TestWhoReviews:
    async def test_each_key_is_somebody_else(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5", "ham at 0.6")
        (hers,), (his,) = await ann.claim(project), await bob.claim(project)
        assert hers["reviewer"] != his["reviewer"]

    async def test_a_key_that_may_acts_for_many(self, api: Api, labeling: LabelingSide) -> None:
        project = await waiting(api, labeling, "ham at 0.5", "ham at 0.6")
        key = await api.make_key("reviewer", may_name_reviewer=True)
        names = ["Zoë Müller", "审核员"]
        for name in names:
            async with api.client(key) as http:
                answer = await http.post(
                    f"/v1/projects/{project}/claims",
                    json={},
                    headers={b"Secondlook-Reviewer": name.encode()},
                )
                (held,) = answer.json()["data"]
                assert held["reviewer"] == name
                # by itself the key is another
                problem(await http.get(f"/v1/assignments/{held['id']}"), 404, "not_found")

    async def test_nobody_sees_anothers_assignment(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5")
        (held,) = await ann.claim(project)
        problem(await bob.http.get(f"/v1/assignments/{held['id']}"), 404, "not_found")
        path = f"/v1/projects/{project}/assignments"
        assert (await bob.http.get(path)).json() == {"data": []}

    async def test_what_one_holds_is_found_again(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, sql: Sql
    ) -> None:
        project = await waiting(api, labeling, *[f"ham at 0.{n}" for n in (5, 6, 7, 8)])
        held = await ann.claim(project, 4)
        path = f"/v1/projects/{project}/assignments"
        assert (await ann.http.get(path)).json()["data"] == held
        await ann.act("release", held[0])
        await ann.submit(held[1], "ham")
        await sql.expire(held[2]["id"])
        assert (await ann.http.get(path)).json()["data"] == [held[3]]


class TestGivingBack:
    async def test_what_is_released_is_anybodys_again(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5")
        (held,) = await ann.claim(project)
        answer = await ann.act("release", held)
        assert (answer.status_code, answer.content) == (204, b"")
        (again,) = await ann.claim(project)
        assert items([again]) == items([held])
        assert again["id"] != held["id"]
        assert again["lease_token"] != held["lease_token"]
        await ann.act("release", again)
        assert items(await bob.claim(project)) == items([held])

    async def test_it_returns_to_its_place(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.7", "ham at 0.5", "ham at 0.6")
        first, *_ = await ann.claim(project, 2)
        await ann.act("release", first)
        assert texts(await bob.claim(project, 3)) == ["ham at 0.5", "ham at 0.7"]

    async def test_what_is_skipped_is_everybody_elses(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5", "ham at 0.6")
        (first,) = await ann.claim(project)
        answer = await ann.act("skip", first)
        assert (answer.status_code, answer.content) == (204, b"")
        assert texts(await ann.claim(project, 10)) == ["ham at 0.6"]
        assert await ann.claim(project, 10) == []
        (his,) = await bob.claim(project)
        assert items([his]) == items([first])
        # and back it comes not to her either
        await bob.act("release", his)
        assert await ann.claim(project, 10) == []

    @pytest.mark.parametrize("verb", ["release", "skip"])
    @pytest.mark.parametrize("then", VERBS)
    async def test_it_can_be_done_once(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, verb: str, then: str
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5")
        (held,) = await ann.claim(project)
        await ann.act(verb, held)
        answer = await ann.act(then, held, **verb_fields(then))
        problem(answer, 409, "assignment_closed")


class TestLeases:
    async def test_last_as_long_as_the_project_says_by_the_database_clock(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, sql: Sql
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5", review_lease_seconds=77)
        (held,) = await ann.claim(project)
        (row,) = await sql.rows(
            "SELECT extract(epoch FROM lease_expires_at - created_at) AS lease, "
            "abs(extract(epoch FROM created_at - now())) < 60 AS recent "
            "FROM assignments WHERE id = %(id)s",
            id=from_wire(Kind.ASSIGNMENT, held["id"]),
        )
        assert row["lease"] == 77
        assert row["recent"]

    async def test_begin_anew_when_renewed(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, sql: Sql
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5")
        (held,) = await ann.claim(project)
        await sql.rows(
            "UPDATE assignments SET lease_expires_at = now() + interval '5 seconds' "
            "WHERE id = %(id)s",
            id=from_wire(Kind.ASSIGNMENT, held["id"]),
        )
        answer = await ann.act("renew", held)
        assert answer.status_code == 200
        assert answer.json()["id"] == held["id"]
        assert answer.json()["lease_expires_at"] > held["lease_expires_at"]
        assert (await ann.get(held))["lease_expires_at"] == answer.json()["lease_expires_at"]

    async def test_one_that_ran_out_is_free_for_the_next_who_asks(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer
    ) -> None:
        """Nobody sweeps here, and nobody but the database looks at a clock."""
        project = await waiting(api, labeling, "ham at 0.5", review_lease_seconds=1)
        (held,) = await ann.claim(project)
        taken: list[dict[str, Any]] = []

        async def bob_has_it() -> bool:
            taken.extend(await bob.claim(project))
            return bool(taken)

        await until(bob_has_it)
        assert items(taken) == items([held])
        assert (await ann.get(held))["state"] == "expired"

    async def test_the_sweeper_frees_them_and_tells(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, sql: Sql
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5", "ham at 0.6")
        gone, kept = await ann.claim(project, 2)
        await sql.expire(gone["id"])
        await ReviewService(labeling.parts.database).expire(from_wire(Kind.PROJECT, project))
        assert (await ann.get(gone))["state"] == "expired"
        assert (await ann.get(kept))["state"] == "leased"
        events = await sql.rows(
            "SELECT data FROM events WHERE project_id = %(id)s AND type = 'assignment.expired'",
            id=from_wire(Kind.PROJECT, project),
        )
        assert [event["data"]["assignment_id"] for event in events] == [gone["id"]]

    async def test_who_lost_one_may_have_it_again(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, sql: Sql
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5")
        (held,) = await ann.claim(project)
        await sql.expire(held["id"])
        (again,) = await ann.claim(project)
        assert items([again]) == items([held])

    @pytest.mark.parametrize("verb", ["renew", "release", "skip"])
    async def test_after_its_end_nothing_can_be_done(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, sql: Sql, verb: str
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5")
        (held,) = await ann.claim(project)
        await sql.expire(held["id"])
        problem(await ann.act(verb, held), 410, "lease_expired")
        await ReviewService(labeling.parts.database).expire(from_wire(Kind.PROJECT, project))
        problem(await ann.act(verb, held), 410, "lease_expired")
        assert (await ann.get(held))["draft"] is None


class TestTokens:
    @pytest.mark.parametrize("verb", VERBS)
    @pytest.mark.parametrize(
        "token",
        [
            "0" * 32,
            "00000000-0000-0000-0000-000000000000",
            "",
            "not a token",
            "\u0660" * 32,
            "x" * 100,
        ],
    )
    async def test_a_wrong_one_moves_nothing(
        self, ann: Reviewer, held: dict[str, Any], verb: str, token: str
    ) -> None:
        answer = await ann.act(verb, held, lease_token=token, **verb_fields(verb))
        problem(answer, 409, "lease_held_by_another")
        assert await ann.get(held) == held

    @pytest.mark.parametrize("verb", VERBS)
    async def test_the_right_one_is_of_use_to_its_reviewer_only(
        self, ann: Reviewer, bob: Reviewer, held: dict[str, Any], verb: str
    ) -> None:
        answer = await bob.act(verb, held, **verb_fields(verb))
        problem(answer, 409, "lease_held_by_another")
        assert await ann.get(held) == held

    @pytest.mark.parametrize("verb", VERBS)
    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"lease_token": None}, "/lease_token"),
            ({"lease_token": 0}, "/lease_token"),
            ({"lease_token": "x" * 101}, "/lease_token"),
            ({"force": True}, "/force"),
        ],
    )
    async def test_bad_input_is_named(
        self, ann: Reviewer, held: dict[str, Any], verb: str, fields: Any, pointer: str
    ) -> None:
        answer = await ann.act(verb, held, **verb_fields(verb), **fields)
        assert list(faults(answer)) == [pointer]
        assert await ann.get(held) == held

    async def test_an_earlier_one_is_worth_nothing(
        self, api: Api, labeling: LabelingSide, ann: Reviewer, bob: Reviewer, sql: Sql
    ) -> None:
        project = await waiting(api, labeling, "ham at 0.5")
        (hers,) = await ann.claim(project)
        await sql.expire(hers["id"])
        (his,) = await bob.claim(project)
        for verb in ("renew", "release", "skip"):
            problem(await ann.act(verb, hers), 409, "lease_held_by_another")
            stolen = await ann.act(verb, his, lease_token=hers["lease_token"])
            problem(stolen, 409, "lease_held_by_another")
        assert (await bob.submit(his, "ham")).status_code == 200
