"""Finding items again: filters, alone and together, and pages that stay whole while items come."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.problems import faults, problem
from tests.support.review import Reviewer

Item = dict[str, Any]
LANGUAGES = ("en", "de", None)


def value_of(item: Item) -> float | None:
    confidence = item["confidence"]
    return None if confidence is None else confidence["value"]


def every(_item: Item) -> bool:
    return True


def none(_item: Item) -> bool:
    return False


def within(low: float, high: float) -> Callable[[Item], bool]:
    """Known, and in the closed range: what is not known is not 0."""
    return lambda item: (value := value_of(item)) is not None and low <= value <= high


def has(**fields: Any) -> Callable[[Item], bool]:
    return lambda item: fields.items() <= item.items()


def unknown(item: Item) -> bool:
    """Labelled, and the confidence is not known; one that still waits is neither."""
    return item["route"] is not None and value_of(item) is None


def both(*conditions: Callable[[Item], bool]) -> Callable[[Item], bool]:
    return lambda item: all(condition(item) for condition in conditions)


def given_metadata(item: Item) -> bool:
    return item["metadata"] is not None


def metadata_has(**part: Any) -> Callable[[Item], bool]:
    return lambda item: part.items() <= (item["metadata"] or {}).items()


# (query, what must hold of exactly those items that are found)
FILTERS: list[tuple[dict[str, str], Callable[[Item], bool]]] = [
    ({}, every),
    ({"state": "pending"}, has(state="pending")),
    ({"state": "accepted"}, has(state="accepted")),
    ({"state": "in_review"}, has(state="in_review")),
    ({"state": "completed"}, has(state="completed")),
    ({"state": "labeling"}, none),
    ({"route": "accept"}, has(route="accept")),
    ({"route": "review"}, has(route="review")),
    ({"label": "ham"}, has(label="ham")),
    ({"label": "Ham"}, none),
    ({"label": "other thing"}, has(label="other thing")),
    ({"final_label": "spam"}, has(final_label="spam")),
    ({"external_id": "7"}, has(external_id="7")),
    ({"external_id": "nobody's"}, none),
    # edges are included
    ({"min_confidence": "0.7"}, within(0.7, 1)),
    ({"max_confidence": "0.7"}, within(0, 0.7)),
    ({"min_confidence": "0"}, within(0, 1)),
    ({"max_confidence": "1"}, within(0, 1)),
    ({"min_confidence": "0.5", "max_confidence": "0.8"}, within(0.5, 0.8)),
    ({"min_confidence": "0.8", "max_confidence": "0.5"}, none),
    ({"confidence_unknown": "true"}, unknown),
    ({"confidence_unknown": "false"}, lambda item: not unknown(item)),
    # metadata that contains
    ({"metadata": '{"lang": "en"}'}, metadata_has(lang="en")),
    ({"metadata": '{"lang": "en", "even": true}'}, metadata_has(lang="en", even=True)),
    ({"metadata": '{"lang": "EN"}'}, none),
    ({"metadata": '{"even": 1}'}, none),
    ({"metadata": '{"nested": {"tags": ["a"]}}'}, given_metadata),
    ({"metadata": "{}"}, given_metadata),
    # together
    ({"state": "in_review", "label": "ham"}, has(state="in_review", label="ham")),
    (
        {"route": "review", "final_label": "spam", "metadata": '{"lang": "de"}'},
        both(has(route="review", final_label="spam"), metadata_has(lang="de")),
    ),
    (
        {"confidence_unknown": "true", "label": "spam", "state": "completed"},
        both(unknown, has(label="spam", state="completed")),
    ),
    (
        {"min_confidence": "0.6", "label": "ham", "state": "accepted", "metadata": "{}"},
        both(within(0.6, 1), has(label="ham", state="accepted"), given_metadata),
    ),
]


@pytest.fixture(scope="module")
async def project(api: Api, labeling: LabelingSide) -> str:
    """Items in every state, with every label, with metadata or without."""
    project = await api.make_project(policy={"kind": "fixed_threshold", "threshold": 0.75})
    texts = [
        f"{label} at 0.{p}" for label in ("ham", "spam", "other thing") for p in (4, 5, 7, 8, 95)
    ]
    texts += ["spam at 0.9 unsure", "ham at 0.9 unsure", "refused"]
    await send(api, project, texts * 3)
    await labeling.drain(project)
    reviewer = Reviewer(api.http)
    for assignment in await reviewer.claim(project, 8):
        await reviewer.submit(assignment, "spam")
    await send(api, project, ["later"] * 4, first=1000)
    return project


async def send(api: Api, project: str, texts: list[str], *, first: int = 0) -> None:
    rows = [
        {
            "external_id": f"{n}",
            "text": text,
            "metadata": None
            if lang is None
            else {"lang": lang, "even": n % 2 == 0, "nested": {"tags": ["a", "b"]}},
        }
        for n, (text, lang) in enumerate(zip(texts, itertools.cycle(LANGUAGES)), first)
    ]
    answer = await api.http.post(f"/v1/projects/{project}/items/bulk", json={"items": rows})
    assert answer.status_code == 200


async def listed(api: Api, project: str, **params: Any) -> list[Item]:
    page = await api.get(f"/v1/projects/{project}/items", limit=1000, **params)
    assert page["has_more"] is False
    items: list[Item] = page["data"]
    return items


class TestFilters:
    async def test_the_project_has_something_of_everything(self, api: Api, project: str) -> None:
        """Else a filter could be wrong and nobody would see it."""
        items = await listed(api, project)
        for query, holds in FILTERS:
            if holds not in {every, none}:
                assert 0 < sum(map(holds, items)) < len(items), query

    @pytest.mark.parametrize(
        ("query", "holds"), FILTERS, ids=[str(query)[:60] for query, _ in FILTERS]
    )
    async def test_find_exactly_what_they_say(
        self, api: Api, project: str, query: dict[str, str], holds: Callable[[Item], bool]
    ) -> None:
        everything = await listed(api, project)
        found = await listed(api, project, **query)
        assert found == [item for item in everything if holds(item)]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("state", "done"),
            ("state", ""),
            ("state", "PENDING"),
            ("route", "audit!"),
            ("label", "a\0b"),
            ("label", "x" * 2001),
            ("final_label", "\0"),
            ("external_id", "\0"),
            ("min_confidence", "nan"),
            ("min_confidence", "inf"),
            ("min_confidence", "1e999"),
            ("min_confidence", "-0.1"),
            ("max_confidence", "1.1"),
            ("max_confidence", "high"),
            ("max_confidence", ""),
            ("confidence_unknown", "perhaps"),
            ("metadata", "{"),
            ("metadata", "[]"),
            ("metadata", '"lang"'),
            ("metadata", "null"),
            ("metadata", '{"a": NaN}'),
            ("metadata", '{"a": 1e999}'),
            ("metadata", '{"a": "\\u0000"}'),
            ("metadata", '{"a": "\\ud800"}'),
            ("metadata", '{"\\u0000": 1}'),
            ("metadata", "[" * 3000),
            ("metadata", '{"a":' * 500 + "1" + "}" * 500),
            ("metadata", '{"a": "' + "x" * 4000 + '"}'),
            ("limit", "1001"),
        ],
    )
    async def test_a_bad_one_is_refused_and_named(
        self, api: Api, project: str, name: str, value: str
    ) -> None:
        answer = await api.http.get(f"/v1/projects/{project}/items", params={name: value})
        assert list(faults(answer)) == [name]

    @pytest.mark.parametrize("name", ["order", "offset", "q", "State", "confidence", "filters"])
    async def test_an_unknown_one_is_refused(self, api: Api, project: str, name: str) -> None:
        answer = await api.http.get(f"/v1/projects/{project}/items", params={name: "1"})
        assert faults(answer) == {name: "unknown parameter"}

    @pytest.mark.parametrize(
        "text",
        ["' OR '1'='1", "%", "_", "ham'; DROP TABLE items; --", "%(project_id)s", "$1", "\\", "*"],
    )
    async def test_text_is_never_a_pattern_or_sql(self, api: Api, project: str, text: str) -> None:
        for name in ("label", "final_label", "external_id"):
            assert await listed(api, project, **{name: text}) == []
        assert await listed(api, project, metadata=json.dumps({"lang": text})) == []


class TestPages:
    async def walk(self, api: Api, project: str, limit: int, **params: Any) -> list[str]:
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await api.get(f"/v1/projects/{project}/items", limit=limit, **params, **cursor)
            found += [item["id"] for item in page["data"]]
            assert page["has_more"] == (page["next_cursor"] is not None)
            assert len(page["data"]) == limit or not page["has_more"]
            if not page["has_more"]:
                return found
            cursor = {"cursor": page["next_cursor"]}

    @pytest.mark.parametrize("limit", [7, 29, 57, 58, 59])
    async def test_together_are_the_whole_in_order(
        self, api: Api, project: str, limit: int
    ) -> None:
        everything = [item["id"] for item in await listed(api, project)]
        assert len(everything) == 58
        assert await self.walk(api, project, limit) == everything

    async def test_keep_to_their_filters(self, api: Api, project: str) -> None:
        wanted = [item["id"] for item in await listed(api, project, state="in_review")]
        assert await self.walk(api, project, 4, state="in_review") == wanted

    async def test_stay_whole_while_items_come_in(self, api: Api) -> None:
        project = await api.make_project()
        there = await api.send_items(project, ["x"] * 50)
        found: list[str] = []
        cursor: dict[str, str] = {}
        added: list[str] = []
        while True:
            page = await api.get(f"/v1/projects/{project}/items", limit=7, **cursor)
            found += [item["id"] for item in page["data"]]
            if not page["has_more"]:
                break
            cursor = {"cursor": page["next_cursor"]}
            if len(added) < 30:
                added += await api.send_items(project, ["y"] * 3)
        assert found == there + added

    async def test_an_empty_one_is_a_page_too(self, api: Api) -> None:
        project = await api.make_project()
        page = await api.get(f"/v1/projects/{project}/items")
        assert page == {"data": [], "has_more": False, "next_cursor": None}

    async def test_the_default_is_100(self, api: Api) -> None:
        project = await api.make_project()
        await api.send_items(project, ["x"] * 101)
        page = await api.get(f"/v1/projects/{project}/items")
        assert len(page["data"]) == 100
        assert page["has_more"] is True

    async def test_a_cursor_of_another_project_shows_nothing_of_it(self, api: Api) -> None:
        one, other = [await api.make_project() for _ in range(2)]
        await api.send_items(one, ["x"] * 3)
        mine = await api.send_items(other, ["y"] * 2)
        page = await api.get(f"/v1/projects/{one}/items", limit=1)
        page = await api.get(f"/v1/projects/{other}/items", cursor=page["next_cursor"])
        assert [item["id"] for item in page["data"]] == mine

    async def test_a_project_that_is_not_there(self, api: Api) -> None:
        project = await api.make_project()
        await api.http.delete(f"/v1/projects/{project}")
        problem(await api.http.get(f"/v1/projects/{project}/items"), 404, "not_found")
