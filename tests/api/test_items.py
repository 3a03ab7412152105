"""Taking items in: one or a thousand, once each, nothing half-way, nothing lost to a bad row."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import numpy as np
import pytest

from app.infra.ids import Kind, from_wire
from tests.support.api import Api
from tests.support.problems import faults, problem
from tests.support.sql import Sql
from tests.support.waiting import until

JSON = {"Content-Type": "application/json"}
USER = {"role": "user", "content": "hello"}


async def create(api: Api, project: str, row: Any) -> httpx2.Response:
    # as text, since NaN and lone surrogates are what a hostile client writes and ours can not
    path = f"/v1/projects/{project}/items"
    return await api.http.post(path, content=json.dumps(row), headers=JSON)


async def create_many(api: Api, project: str, rows: list[Any]) -> httpx2.Response:
    path = f"/v1/projects/{project}/items/bulk"
    return await api.http.post(path, content=json.dumps({"items": rows}), headers=JSON)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# (what is sent, where the fault is, how what is said of it begins)
BAD_ROWS: list[tuple[Any, str, str]] = [
    # not an object
    (None, "", "must be an object"),
    (1, "", "must be an object"),
    ("hello", "", "must be an object"),
    ([{"text": "hello"}], "", "must be an object"),
    # neither, both, empty
    ({}, "", "must have one of `text`, `messages`"),
    ({"metadata": {"a": 1}}, "", "must have one of `text`, `messages`"),
    ({"text": None}, "", "must have one of `text`, `messages`"),
    ({"text": "hello", "messages": [USER]}, "", "must have one of `text`, `messages`"),
    ({"text": ""}, "/text", "must have at least 1 character"),
    ({"messages": []}, "/messages", "must have at least 1 item"),
    # of another type
    ({"text": False}, "/text", "must be a string"),
    ({"text": 1}, "/text", "must be a string"),
    ({"text": ["hello"]}, "/text", "must be a string"),
    ({"text": {"hello": 1}}, "/text", "must be a string"),
    ({"messages": "hello"}, "/messages", "must be a list"),
    ({"messages": {"0": USER}}, "/messages", "must be a list"),
    ({"messages": ["hello"]}, "/messages/0", "must be an object"),
    ({"text": "hello", "external_id": 1}, "/external_id", "must be a string"),
    ({"text": "hello", "external_id": False}, "/external_id", "must be a string"),
    ({"text": "hello", "metadata": []}, "/metadata", "must be an object"),
    ({"text": "hello", "metadata": "a"}, "/metadata", "must be an object"),
    ({"text": "hello", "metadata": 0}, "/metadata", "must be an object"),
    # fields that nobody knows, here and below
    ({"text": "hello", "label": "ham"}, "/label", "unknown field"),
    ({"text": "hello", "Text": "hello"}, "/Text", "unknown field"),
    ({"text": "hello", "": 1}, "/", "unknown field"),
    ({"messages": [{**USER, "name": "x"}]}, "/messages/0/name", "unknown field"),
    ({"messages": [USER, {"role": "user"}]}, "/messages/1/content", "required"),
    ({"messages": [{"content": "hello"}]}, "/messages/0/role", "required"),
    ({"messages": [{"role": "", "content": "x"}]}, "/messages/0/role", "must have at least 1"),
    ({"messages": [{"role": "user", "content": None}]}, "/messages/0/content", "must be a string"),
    ({"messages": [USER] * 1001}, "/messages", "must have at most 1000 items"),
    # NUL
    ({"text": "hel\0lo"}, "/text", "has a NUL character at position 3"),
    ({"text": "x", "external_id": "\0"}, "/external_id", "has a NUL character at position 0"),
    ({"messages": [{**USER, "content": "a\0"}]}, "/messages/0/content", "has a NUL character"),
    ({"messages": [{**USER, "role": "\0"}]}, "/messages/0/role", "has a NUL character"),
    ({"text": "x", "metadata": {"a": ["b\0"]}}, "/metadata", "/a/0 has a NUL character"),
    ({"text": "x", "metadata": {"a": {"b\0": 1}}}, "/metadata", "a key at /a has a NUL"),
    # lone surrogates, high and low, alone and in the wrong order
    ({"text": "\ud800"}, "/text", "has a lone surrogate"),
    ({"text": "hello \udfff"}, "/text", "has a lone surrogate"),
    ({"text": "\udc00\ud800"}, "/text", "has a lone surrogate"),
    ({"text": "x", "external_id": "\ud800"}, "/external_id", "has a lone surrogate"),
    ({"messages": [{**USER, "content": "\ud800"}]}, "/messages/0/content", "has a lone surrogate"),
    ({"text": "x", "metadata": {"a": "\ud800"}}, "/metadata", "/a has a lone surrogate"),
    ({"text": "x", "metadata": {"a": {"\ud800": 1}}}, "/metadata", "a key at /a has a lone"),
    ({"text": "x", "metadata": {"\ud800": 1}}, "/metadata", "a key at the top has a lone"),
    ({"text": "x", "\ud800": 1}, "", "has a lone surrogate"),
    # no numbers
    ({"text": "x", "metadata": {"a": float("nan")}}, "/metadata", "/a is not a finite number"),
    ({"text": "x", "metadata": {"a": float("inf")}}, "/metadata", "/a is not a finite number"),
    ({"text": "x", "metadata": {"a": [-float("inf")]}}, "/metadata", "/a/0 is not a finite"),
    # beyond the first 500 values nobody looks for the place
    (
        {"text": "x", "metadata": {"a": [0] * 600 + [float("nan")]}},
        "/metadata",
        "has a NUL character, a lone surrogate or a number that is not finite",
    ),
    # too much
    ({"text": "x" * 2_000_000}, "/text", "has 2000000 bytes, at most 1048576 fit"),
    ({"text": "é" * 600_000}, "/text", "has 1200000 bytes, at most 1048576 fit"),
    (
        {"messages": [{**USER, "content": "x" * 600_000}] * 2},
        "/messages",
        "has 1200000 bytes, at most 1048576 fit",
    ),
    ({"text": "x", "external_id": "x" * 201}, "/external_id", "must have at most 200 characters"),
    ({"text": "x", "external_id": ""}, "/external_id", "must have at least 1 character"),
    ({"messages": [{"role": "x" * 51, "content": "x"}]}, "/messages/0/role", "must have"),
    ({"text": "x", "metadata": {"a": "x" * 65_536}}, "/metadata", "has 65545 bytes, at most 65536"),
    ({"text": "x", "metadata": {"a": deep(60)}}, "/metadata", "is nested more than 50 deep"),
]  # fmt: skip


@pytest.fixture(scope="module")
async def empty(api: Api) -> str:
    """A project that must stay empty."""
    return await api.make_project()


class TestOneItem:
    async def test_is_answered_as_it_is_stored(self, api: Api) -> None:
        project = await api.make_project()
        row = {"external_id": "42", "text": "hello", "metadata": {"lang": "en"}}
        answer = await create(api, project, row)
        assert answer.status_code == 201
        item = answer.json()
        assert item["project_id"] == project
        assert item["external_id"] == "42"
        assert item["state"] == "pending"
        assert item["content"] == {"text": "hello"}
        assert item["metadata"] == {"lang": "en"}
        assert item["attempts"] == 0
        undecided = (
            "label", "confidence", "route", "route_reason", "final_label", "prediction_id",
            "policy_id", "last_error", "labeled_at", "completed_at",
        )  # fmt: skip
        assert {item[name] for name in undecided} == {None}
        assert item["next_attempt_at"] is not None
        assert await api.get(f"/v1/items/{item['id']}") == item

    async def test_may_be_a_chat(self, api: Api) -> None:
        project = await api.make_project()
        messages = [{"role": "system", "content": ""}, USER, {"role": "assistant", "content": "?"}]
        answer = await create(api, project, {"messages": messages})
        assert answer.json()["content"] == {"messages": messages}
        assert answer.json()["metadata"] is None
        assert answer.json()["external_id"] is None

    @pytest.mark.parametrize(
        "text",
        [
            " ",
            "line\r\nbreak\ttab",
            "日本語 🧑‍🚀 مرحبا \u202e",
            "\x01\x1b[31m\x7f\u0085",  # controls other than NUL
            "\ufffe\uffff\U0010ffff",  # noncharacters
            "e\u0301 \u00e9",  # two forms of one character, each kept
            "'; DROP TABLE items; --",
            "%s %(x)s {x} $1 \\x00 \\u0000",
            "<item></item></item>",
            "x" * 1_048_576,
        ],
        ids=lambda text: ascii(text[:12]),
    )
    async def test_text_comes_back_as_it_was(self, api: Api, text: str) -> None:
        project = await api.make_project()
        item = (await create(api, project, {"text": text})).json()
        assert item["content"] == {"text": text}

    async def test_metadata_comes_back_as_it_was(self, api: Api) -> None:
        project = await api.make_project()
        metadata = {
            "many": [["\\u0000"]] * 100, "\\": "\\\\u0000",
            "": [], "a": {}, "b": [None, True, False, "\\u0000", "é"], "c": 2**53 + 1, "d": 10**40,
            "e": 0.1, "f": 1e-7, "g": -1, "h": {"i": {"j": [[["k"]]]}}, "null": None, "a/b~c": "~",
        }  # fmt: skip
        item = (await create(api, project, {"text": "x", "metadata": metadata})).json()
        assert item["metadata"] == metadata
        assert type(item["metadata"]["b"][1]) is bool

    async def test_no_metadata_and_empty_metadata_differ(self, api: Api) -> None:
        project = await api.make_project()
        assert (await create(api, project, {"text": "x"})).json()["metadata"] is None
        empty = (await create(api, project, {"text": "x", "metadata": {}})).json()
        assert empty["metadata"] == {}

    @pytest.mark.parametrize(("row", "pointer", "said"), BAD_ROWS)
    async def test_a_bad_one_is_refused_and_named(
        self, api: Api, empty: str, row: Any, pointer: str, said: str
    ) -> None:
        found = faults(await create(api, empty, row))
        assert list(found) == [pointer]
        assert found[pointer].startswith(said)
        assert (await api.get(f"/v1/projects/{empty}/items"))["data"] == []

    async def test_a_number_too_large_for_any_is_refused(self, api: Api) -> None:
        project = await api.make_project()
        answer = await api.http.post(
            f"/v1/projects/{project}/items",
            content=b'{"text": "x", "metadata": {"a": 1e999}}',
            headers=JSON,
        )
        assert faults(answer) == {"/metadata": "/a is not a finite number"}


class TestManyItems:
    async def test_are_answered_row_by_row_in_order(self, api: Api) -> None:
        project = await api.make_project()
        answer = await create_many(api, project, [{"text": f"{n}"} for n in range(1000)])
        assert answer.status_code == 200
        result = answer.json()
        assert (result["created"], result["existing"], result["failed"]) == (1000, 0, 0)
        assert [row["index"] for row in result["results"]] == list(range(1000))
        assert {row["status"] for row in result["results"]} == {"created"}
        ids = [row["id"] for row in result["results"]]
        assert len(set(ids)) == 1000
        listed = await api.get(f"/v1/projects/{project}/items", limit=1000)
        assert [(item["id"], item["content"]["text"]) for item in listed["data"]] == [
            (item_id, f"{n}") for n, item_id in enumerate(ids)
        ]

    async def test_a_bad_row_loses_no_other(self, api: Api) -> None:
        project = await api.make_project()
        rows = [row for bad, _, _ in BAD_ROWS for row in ({"text": "good"}, bad)]
        answer = await create_many(api, project, rows)
        assert answer.status_code == 207
        result = answer.json()
        assert (result["created"], result["failed"]) == (len(BAD_ROWS), len(BAD_ROWS))
        for index, row in enumerate(result["results"]):
            assert row["index"] == index
            if index % 2 == 0:
                assert row["status"] == "created"
                assert row["error"] is None
                continue
            _, pointer, said = BAD_ROWS[index // 2]
            assert row["status"] == "invalid"
            assert row["id"] is None
            assert row["error"]["code"] == "invalid"
            (fault,) = row["error"]["errors"]
            assert fault["pointer"] == f"/items/{index}{pointer}"
            assert fault["detail"].startswith(said)
            assert row["error"]["detail"].startswith(f"items/{index}{pointer}: {said}")
        stats = await api.get(f"/v1/projects/{project}/stats")
        assert stats["total"] == len(BAD_ROWS)

    async def test_rows_that_are_all_bad_store_nothing(self, api: Api) -> None:
        project = await api.make_project()
        answer = await create_many(api, project, [{}, {"text": 1}])
        assert answer.status_code == 207
        assert answer.json()["failed"] == 2

    async def test_a_row_with_many_faults_names_some(self, api: Api, empty: str) -> None:
        answer = await create_many(api, empty, [{f"field {n}": 1 for n in range(90)}])
        assert answer.status_code == 207
        assert len(answer.json()["results"][0]["error"]["errors"]) == 50

    async def test_a_row_with_a_flood_of_fields_has_one_fault(self, api: Api, empty: str) -> None:
        answer = await create_many(api, empty, [{f"field {n}": 1 for n in range(100_000)}])
        (fault,) = answer.json()["results"][0]["error"]["errors"]
        assert fault == {"pointer": "/items/0", "detail": "has too many fields"}

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"items": []}, "/items"),
            ({"items": [{"text": "x"}] * 1001}, "/items"),
            ({"items": {"0": {"text": "x"}}}, "/items"),
            ({"items": "x"}, "/items"),
            ({"items": None}, "/items"),
            ({}, "/items"),
            ({"items": [{"text": "x"}], "dry_run": True}, "/dry_run"),
        ],
    )
    async def test_a_call_that_is_wrong_itself_stores_nothing(
        self, api: Api, empty: str, body: dict[str, Any], pointer: str
    ) -> None:
        answer = await api.http.post(f"/v1/projects/{empty}/items/bulk", json=body)
        assert list(faults(answer)) == [pointer]
        assert (await api.get(f"/v1/projects/{empty}/items"))["data"] == []

    @pytest.mark.parametrize("rows", [[{"text": "x"}], [{}]])
    async def test_a_project_that_is_not_there_is_404_whatever_the_rows(
        self, api: Api, rows: list[Any]
    ) -> None:
        project = await api.make_project()
        await api.http.delete(f"/v1/projects/{project}")
        problem(await create_many(api, project, rows), 404, "not_found")


class TestExternalIds:
    async def test_the_same_item_twice_is_one(self, api: Api) -> None:
        project = await api.make_project()
        first = await create(
            api, project, {"external_id": "1", "text": "x", "metadata": {"a": 1, "b": 2}}
        )
        again = await create(
            api, project, {"metadata": {"b": 2, "a": 1}, "text": "x", "external_id": "1"}
        )
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json() == first.json()

    @pytest.mark.parametrize(
        "other",
        [
            {"text": "y"},
            {"text": "x", "metadata": {}},
            {"messages": [{"role": "user", "content": "x"}]},
        ],
    )
    async def test_one_that_says_something_else_is_a_conflict(
        self, api: Api, other: dict[str, Any]
    ) -> None:
        project = await api.make_project()
        first = (await create(api, project, {"external_id": "1", "text": "x"})).json()
        answer = await create(api, project, {"external_id": "1", **other})
        problem(answer, 409, "external_id_conflict")
        assert await api.get(f"/v1/items/{first['id']}") == first

        bulk = await create_many(api, project, [{"external_id": "1", **other}, {"text": "z"}])
        assert bulk.status_code == 207
        conflict, created = bulk.json()["results"]
        assert (conflict["status"], conflict["id"]) == ("conflict", first["id"])
        assert conflict["error"]["code"] == "external_id_conflict"
        assert created["status"] == "created"

    async def test_they_are_compared_to_the_letter(self, api: Api) -> None:
        project = await api.make_project()
        names = ["a", "A", "a ", " a", "\u00e9", "e\u0301", "\uff41"]
        rows = [{"external_id": name, "text": "x"} for name in names]
        assert (await create_many(api, project, rows)).json()["created"] == len(names)

    async def test_each_project_has_its_own(self, api: Api) -> None:
        row = {"external_id": "1", "text": "x"}
        for project in [await api.make_project() for _ in range(2)]:
            assert (await create(api, project, row)).status_code == 201

    async def test_items_without_one_are_all_new(self, api: Api) -> None:
        project = await api.make_project()
        answer = await create_many(api, project, [{"text": "x"}] * 3)
        assert answer.json()["created"] == 3

    async def test_twice_in_one_call_the_first_counts(self, api: Api) -> None:
        project = await api.make_project()
        rows = [
            {"external_id": "b", "text": "first"},
            {"external_id": "a", "text": "other"},
            {"external_id": "b", "text": "first"},
            {"external_id": "b", "text": "second"},
        ]
        answer = await create_many(api, project, rows)
        assert answer.status_code == 207
        first, other, same, differs = answer.json()["results"]
        statuses = [row["status"] for row in (first, other, same, differs)]
        assert statuses == ["created", "created", "existing", "conflict"]
        assert first["id"] == same["id"] == differs["id"] != other["id"]

    async def test_a_call_sent_again_changes_nothing(self, api: Api) -> None:
        project = await api.make_project()
        rows = [{"external_id": f"{n}", "text": f"{n}"} for n in range(50)]
        first = (await create_many(api, project, rows)).json()
        again = await create_many(api, project, list(reversed(rows)))
        assert again.status_code == 200
        assert (again.json()["created"], again.json()["existing"]) == (0, 50)
        ids = [row["id"] for row in again.json()["results"]]
        assert ids == [row["id"] for row in reversed(first["results"])]
        assert (await api.get(f"/v1/projects/{project}/stats"))["total"] == 50

    async def test_calls_that_race_on_the_same_ids_make_each_once(self, api: Api, sql: Sql) -> None:
        """In opposite orders: a deadlock, if rows are locked in the order they come in."""
        project = await api.make_project()
        rows = [{"external_id": f"{n}", "text": f"{n}"} for n in range(1000)]
        calls = (rows, rows[::-1], rows[500:] + rows[:500], rows[::2] + rows[1::2])

        async def all_wait() -> bool:
            return await sql.waiting() == len(calls)

        # held back until all are there, then let go at once
        async with sql.connection.transaction():
            await sql.rows("LOCK TABLE items IN SHARE MODE")
            sent = [asyncio.create_task(create_many(api, project, each)) for each in calls]
            await until(all_wait)
        answers = await asyncio.gather(*sent)

        assert [answer.status_code for answer in answers] == [200] * len(calls)
        results = [answer.json() for answer in answers]
        assert sum(result["created"] for result in results) == len(rows)
        ids: dict[str, set[str]] = {}
        for call, result in zip(calls, results, strict=True):
            for row, outcome in zip(call, result["results"], strict=True):
                ids.setdefault(row["external_id"], set()).add(outcome["id"])
        # whoever lost a race was told the winner's item
        assert [len(each) for each in ids.values()] == [1] * len(rows)

    async def test_single_items_that_race_are_one(self, api: Api) -> None:
        project = await api.make_project()
        row = {"external_id": "1", "text": "x"}
        answers = await asyncio.gather(*(create(api, project, row) for _ in range(12)))
        assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
        assert len({answer.json()["id"] for answer in answers}) == 1


class TestTheCoin:
    """Drawn at ingest, independent of anything (docs/guarantee.md). Bounds are 6 sigma."""

    ITEMS = 4000

    async def _drawn(self, api: Api, sql: Sql, rate: float) -> list[dict[str, Any]]:
        project = await api.make_project(audit_probability=rate)
        await api.send_items(project, ["x"] * self.ITEMS)
        return await sql.rows(
            "SELECT coin, rank, audit_probability, train_probability FROM items "
            "WHERE project_id = %(id)s ORDER BY id",
            id=from_wire(Kind.PROJECT, project),
        )

    async def test_faces_come_as_often_as_they_should(self, api: Api, sql: Sql) -> None:
        rows = await self._drawn(api, sql, 0.4)
        assert {(row["audit_probability"], row["train_probability"]) for row in rows} == {
            (0.4, 0.1)
        }
        for face, p in {"audit": 0.4, "train": 0.1, "none": 0.5}.items():
            share = np.mean([row["coin"] == face for row in rows])
            assert abs(share - p) < 6 * np.sqrt(p * (1 - p) / self.ITEMS)

    async def test_neither_coin_nor_rank_knows_the_order_of_arrival(
        self, api: Api, sql: Sql
    ) -> None:
        rows = await self._drawn(api, sql, 0.4)
        ranks = np.array([row["rank"] for row in rows])
        audited = np.array([row["coin"] == "audit" for row in rows], dtype=float)
        order = np.arange(self.ITEMS)
        bound = 6 / np.sqrt(self.ITEMS)
        for one, other in (
            (ranks, order),
            (audited, order),
            (ranks, audited),
            # nor the item before
            (ranks[1:], ranks[:-1]),
            (audited[1:], audited[:-1]),
        ):
            assert abs(np.corrcoef(one, other)[0, 1]) < bound

    async def test_ranks_are_uniform_and_distinct(self, api: Api, sql: Sql) -> None:
        rows = await self._drawn(api, sql, 0.1)
        ranks = np.sort([row["rank"] for row in rows])
        assert len(np.unique(ranks)) == self.ITEMS
        assert ranks[0] >= 0
        assert ranks[-1] < 1
        # Kolmogorov's distance from the uniform: P(beyond 3/sqrt(n)) is 3e-8
        steps = (np.arange(self.ITEMS) + 0.5) / self.ITEMS
        assert np.max(np.abs(ranks - steps)) < 3 / np.sqrt(self.ITEMS)

    @pytest.mark.parametrize(("rate", "face"), [(0.0, "none"), (1.0, "audit")])
    async def test_a_sure_thing_is_sure(self, api: Api, sql: Sql, rate: float, face: str) -> None:
        rows = await self._drawn(api, sql, rate)
        assert {row["coin"] for row in rows} == {face}

    async def test_the_api_does_not_tell_the_coin(self, api: Api) -> None:
        project = await api.make_project(audit_probability=1.0)
        item = (await create(api, project, {"text": "x"})).json()
        assert "coin" not in item
        assert "rank" not in item
