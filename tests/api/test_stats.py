"""Where a project stands: counters, against a count by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

from app.domain.states import ItemState
from app.infra.ids import Kind, from_wire
from app.ledger import counters
from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.review import Reviewer
from tests.support.sql import Sql

STATES = [state.value for state in ItemState]


async def stats(api: Api, project: str) -> dict[str, Any]:
    found: dict[str, Any] = await api.get(f"/v1/projects/{project}/stats")
    return found


class TestCounts:
    async def test_equal_what_is_there_at_every_step(
        self, api: Api, labeling: LabelingSide, sql: Sql
    ) -> None:
        project = await api.make_project(policy={"kind": "fixed_threshold", "threshold": 0.7})
        reviewer = Reviewer(api.http)

        async def check() -> dict[str, Any]:
            shown = await stats(api, project)
            page = await api.get(f"/v1/projects/{project}/items", limit=1000)
            counted = Counter(item["state"] for item in page["data"])
            assert shown["items"] == {state: counted[state] for state in STATES}
            assert shown["total"] == len(page["data"])
            (held,) = await sql.rows(
                "SELECT count(*) AS n FROM assignments WHERE project_id = %(id)s "
                "AND state = 'leased' AND lease_expires_at > now()",
                id=from_wire(Kind.PROJECT, project),
            )
            assert shown["leased"] == held["n"]
            assert shown["queue_depth"] == counted["in_review"] - held["n"]
            return shown

        await check()
        await api.send_items(project, [f"ham at 0.{n}" for n in range(40, 96, 2)] + ["refused"])
        assert (await check())["items"]["pending"] == 29
        await labeling.drain(project)
        assert (await check())["queue_depth"] == 16
        first, second, third, *_ = await reviewer.claim(project, 5)
        assert (await check())["leased"] == 5
        await reviewer.submit(first, "ham")
        await reviewer.act("skip", second)
        await check()
        # free for whoever asks, so nobody holds it
        await sql.expire(third["id"])
        assert (await check())["leased"] == 2
        await counters.fold(labeling.parts.database, from_wire(Kind.PROJECT, project))
        final = await check()
        assert final["items"]["completed"] == 1
        assert final["items"]["accepted"] == 13

    async def test_of_an_empty_project_are_all_nothing(self, api: Api) -> None:
        assert await stats(api, await api.make_project()) == {
            "items": dict.fromkeys(STATES, 0),
            "total": 0,
            "labels_per_second": 0,
            "queue_depth": 0,
            "leased": 0,
            "oldest_pending_seconds": None,
            "oldest_in_review_seconds": None,
            "cost": None,
            "endpoint": {"state": "ok", "until": None, "said": None},
        }

    async def test_are_each_projects_own(self, api: Api) -> None:
        one, other = [await api.make_project() for _ in range(2)]
        await api.send_items(one, ["x"] * 3)
        assert (await stats(api, other))["total"] == 0


class TestWhatWaits:
    async def test_the_oldest_of_each_kind_is_told(
        self, api: Api, labeling: LabelingSide, sql: Sql
    ) -> None:
        project = await api.make_project()
        for text, hours in (("ham at 0.5 old", 3), ("ham at 0.5 young", 2)):
            (item,) = await api.send_items(project, [text])
            await self._age(sql, item, hours)
        await labeling.drain(project)
        for text, hours in (("waits", 5), ("waits less", 1)):
            (item,) = await api.send_items(project, [text])
            await self._age(sql, item, hours)
        shown = await stats(api, project)
        # by the database's clock, give or take how long this test may take
        assert 0 <= shown["oldest_in_review_seconds"] - 3 * 3600 < 600
        assert 0 <= shown["oldest_pending_seconds"] - 5 * 3600 < 600

    @staticmethod
    async def _age(sql: Sql, item: str, hours: int) -> None:
        await sql.rows(
            "UPDATE items SET created_at = now() - make_interval(hours => %(hours)s) "
            "WHERE id = %(id)s",
            id=from_wire(Kind.ITEM, item),
            hours=hours,
        )


class TestSpeed:
    async def test_counts_what_was_routed_in_the_last_seconds(
        self, api: Api, labeling: LabelingSide, sql: Sql
    ) -> None:
        project = await api.make_project()
        await api.send_items(project, ["ham at 0.5"] * 30)
        assert (await stats(api, project))["labels_per_second"] == 0
        await labeling.drain(project)
        shown = (await stats(api, project))["labels_per_second"]
        (row,) = await sql.rows(
            "SELECT count(*) AS n FROM events WHERE project_id = %(id)s "
            "AND type = 'item.routed' AND created_at > now() - interval '10 seconds'",
            id=from_wire(Kind.PROJECT, project),
        )
        # those that are recent still were so then
        assert row["n"] / 10 <= shown <= 3
