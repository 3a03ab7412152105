"""Peeking at the queue: made for polling, takes nothing."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.problems import faults, problem
from tests.support.review import Reviewer
from tests.support.waiting import until


async def waiting(api: Api, labeling: LabelingSide, *texts: str) -> tuple[str, list[str]]:
    """A project where all of these wait for people, and their ids."""
    project = await api.make_project()
    ids = await api.send_items(project, texts)
    await labeling.drain(project)
    return project, ids


async def peek(api: Api, project: str, **params: Any) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await api.get(f"/v1/projects/{project}/queue", **params))["data"]
    return data


async def poll(api: Api, project: str, if_none_match: str | None = None) -> httpx2.Response:
    headers = {} if if_none_match is None else {"If-None-Match": if_none_match}
    return await api.http.get(f"/v1/projects/{project}/queue", headers=headers)


class TestPeeking:
    async def test_unknown_comes_first_then_the_lowest(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        texts = ["ham at 0.9", "ham at 0.5", "refused", "spam at 0.7", "ham at 0.6 unsure"]
        project, ids = await waiting(api, labeling, *texts)
        found = await peek(api, project)
        # of two unknown ones the first that came
        assert [each["item_id"] for each in found] == [ids[n] for n in (2, 4, 1, 3, 0)]
        assert [each["label"] for each in found] == [None, "ham", "ham", "spam", "ham"]
        values = [each["confidence"]["value"] for each in found]
        assert values == [None, None, *sorted(values[2:])]

    async def test_of_equals_the_first_that_came_is_first(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project, ids = await waiting(api, labeling, *["ham at 0.5"] * 5)
        assert [each["item_id"] for each in await peek(api, project)] == ids

    async def test_shows_how_each_stands_and_no_payload(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project = await api.make_project()
        row = {"external_id": "e1", "text": "ham at 0.5", "metadata": {"secret": 1}}
        item = (await api.http.post(f"/v1/projects/{project}/items", json=row)).json()
        await labeling.drain(project)
        (entry,) = await peek(api, project)
        shown = await api.get(f"/v1/items/{item['id']}")
        assert entry == {
            "item_id": item["id"],
            "external_id": "e1",
            "label": "ham",
            "confidence": shown["confidence"],
            "route_reason": "review_all",
            "waiting_since": shown["labeled_at"],
        }

    async def test_takes_nothing(self, api: Api, labeling: LabelingSide) -> None:
        project, ids = await waiting(api, labeling, "ham at 0.5", "ham at 0.6")
        for _ in range(3):
            assert [each["item_id"] for each in await peek(api, project)] == ids
        claimed = await Reviewer(api.http).claim(project, 5)
        assert [each["item"]["id"] for each in claimed] == ids

    async def test_does_not_show_what_somebody_holds(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project, ids = await waiting(api, labeling, "ham at 0.5", "ham at 0.6")
        await Reviewer(api.http).claim(project)
        assert [each["item_id"] for each in await peek(api, project)] == ids[1:]

    async def test_shows_as_many_as_were_asked_for(self, api: Api, labeling: LabelingSide) -> None:
        project, ids = await waiting(api, labeling, *[f"ham at 0.{n}" for n in range(40, 65)])
        for limit in (1, 3, 25, 100):
            found = await peek(api, project, limit=limit)
            assert [each["item_id"] for each in found] == ids[:limit]
        assert len(await peek(api, project)) == 20

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", "\u0663", "9" * 30])
    async def test_a_limit_that_is_none(self, api: Api, limit: str) -> None:
        project = await api.make_project()
        answer = await api.http.get(f"/v1/projects/{project}/queue", params={"limit": limit})
        assert list(faults(answer)) == ["limit"]

    async def test_an_empty_queue_and_no_queue_differ(self, api: Api) -> None:
        project = await api.make_project()
        assert await peek(api, project) == []
        await api.http.delete(f"/v1/projects/{project}")

        async def gone() -> bool:
            return (await poll(api, project)).status_code == 404

        # what was seen is shown for a quarter of a second
        await until(gone)
        problem(await poll(api, project), 404, "not_found")


class TestPolling:
    async def test_is_answered_304_until_something_changes(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project, _ = await waiting(api, labeling, "ham at 0.5", "ham at 0.6", "ham at 0.7")
        reviewer = Reviewer(api.http)
        first = await poll(api, project)
        assert first.headers["cache-control"] == "private, no-cache"
        tag = first.headers["etag"]

        same = await poll(api, project, tag)
        assert same.status_code == 304
        assert same.content == b""
        assert same.headers["etag"] == tag
        assert same.headers["x-request-id"]

        (held,) = await reviewer.claim(project)
        changed = await poll(api, project, tag)
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag
        assert len(changed.json()["data"]) == 2

        await reviewer.act("release", held)
        # back where it was, and so is its tag
        back = await poll(api, project, tag)
        assert (back.status_code, back.headers["etag"]) == (304, tag)

        (held,) = await reviewer.claim(project)
        await reviewer.submit(held, "ham")
        after = await poll(api, project, changed.headers["etag"])
        assert after.status_code == 304

    async def test_new_work_is_seen(self, api: Api, labeling: LabelingSide) -> None:
        project, _ = await waiting(api, labeling, "ham at 0.5")
        tag = (await poll(api, project)).headers["etag"]
        (item,) = await api.send_items(project, ["ham at 0.4"])
        await labeling.drain(project)

        async def seen() -> bool:
            return (await poll(api, project, tag)).status_code == 200

        # the worker is another process to this one: its work is seen within a quarter of a second
        await until(seen)
        assert (await peek(api, project))[0]["item_id"] == item

    async def test_what_is_beyond_the_head_changes_nothing(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project, _ = await waiting(api, labeling, "ham at 0.5", "ham at 0.6", "ham at 0.7")
        path, head = f"/v1/projects/{project}/queue", {"limit": "1"}
        tag = (await api.http.get(path, params=head)).headers["etag"]
        first, second = await Reviewer(api.http).claim(project, 2)
        await Reviewer(api.http).submit(second, "ham")
        await Reviewer(api.http).act("release", first)
        answer = await api.http.get(path, params=head, headers={"If-None-Match": tag})
        assert answer.status_code == 304

    @pytest.mark.parametrize(
        ("condition", "status"),
        [
            ("{tag}", 304),
            ("W/{tag}", 304),
            ('"other", {tag}', 304),
            ('{tag},"other"', 304),
            ('W/"other" ,  W/{tag}', 304),
            ("*", 304),
            ('"other"', 200),
            ("", 200),
            # the tag without its quotes is another
            ("{bare}", 200),
            # no tag at all
            ("W/", 200),
            (",,,", 200),
            ('"' + "x" * 10_000 + '"', 200),
        ],
    )
    async def test_conditions_are_read_as_http_says(
        self, api: Api, condition: str, status: int
    ) -> None:
        project = await api.make_project()
        tag = (await poll(api, project)).headers["etag"]
        sent = condition.format(tag=tag, bare=tag.strip('"'))
        assert (await poll(api, project, sent)).status_code == status

    async def test_a_stranger_learns_nothing_from_a_tag(self, api: Api) -> None:
        project, other = [await api.make_project() for _ in range(2)]
        tag = (await poll(api, project)).headers["etag"]
        key = await api.make_key("reviewer", projects=[other])
        async with api.client(key) as http:
            answer = await http.get(f"/v1/projects/{project}/queue", headers={"If-None-Match": tag})
        problem(answer, 404, "not_found")
