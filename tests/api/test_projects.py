"""Projects: made whole, versioned, listed, removed without a trace."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from app.infra.ids import Kind, from_wire
from app.ledger import counters
from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.problems import faults, problem
from tests.support.review import Reviewer
from tests.support.sql import Sql
from tests.support.waiting import until

JSON = {"Content-Type": "application/json"}


def body(**fields: Any) -> dict[str, Any]:
    labels = {"kind": "single_choice", "labels": ["spam", "ham"]}
    return {"name": "a project", "label_schema": labels, **fields}


async def refused(api: Api, sent: dict[str, Any]) -> dict[str, str]:
    # as text, since NaN and lone surrogates are what a hostile client can write and ours can not
    answer = await api.http.post("/v1/projects", content=json.dumps(sent), headers=JSON)
    return faults(answer)


class TestCreating:
    async def test_answers_with_version_1_of_everything(self, api: Api) -> None:
        sent = body(
            label_schema={
                "kind": "single_choice",
                "labels": ["spam", {"name": "ham", "description": "what one wants\nto read"}],
            },
            labeler={"model": "m", "instructions": "Say what it is.", "top_logprobs": 5},
            policy={"kind": "fixed_threshold", "threshold": 0.9},
            review_lease_seconds=30,
            audit_probability=0.2,
        )
        answer = await api.http.post("/v1/projects", json=sent)
        assert answer.status_code == 201
        made = answer.json()
        assert made["name"] == "a project"
        assert made["label_schema"]["version"] == 1
        assert made["label_schema"]["labels"] == [
            {"name": "spam", "description": ""},
            {"name": "ham", "description": "what one wants\nto read"},
        ]
        assert made["labeler"]["revision"] == 1
        assert made["labeler"]["model"] == "m"
        assert made["labeler"]["parameters"] == {"temperature": 0.0, "top_logprobs": 5}
        assert len(made["labeler"]["prompt_hash"]) == hashlib.sha256().digest_size * 2
        assert made["policy"]["version"] == 1
        assert made["policy"]["policy"] == {"kind": "fixed_threshold", "threshold": 0.9}
        assert made["review_lease_seconds"] == 30
        assert made["audit_probability"] == 0.2
        assert made["train_probability"] == pytest.approx(0.05)
        assert await api.get(f"/v1/projects/{made['id']}") == made

    async def test_what_is_not_said_has_a_default(self, api: Api) -> None:
        made = (await api.http.post("/v1/projects", json=body())).json()
        assert made["policy"]["policy"] == {"kind": "review_all"}
        assert made["labeler"]["model"] == "scripted-test-model"
        assert made["labeler"]["base_url"] is None
        assert made["labeler"]["parameters"] == {"temperature": 0.0, "top_logprobs": 20}
        assert made["review_lease_seconds"] == 600

    async def test_the_prompt_hash_tells_prompts_apart(self, api: Api) -> None:
        async def prompt_hash(**fields: Any) -> str:
            made = (await api.http.post("/v1/projects", json=body(**fields))).json()
            return str(made["labeler"]["prompt_hash"])

        plain = await prompt_hash()
        assert await prompt_hash() == plain
        assert await prompt_hash(labeler={"instructions": "Think."}) != plain
        described = [{"name": "spam", "description": "unwanted"}, "ham"]
        labels = {"kind": "single_choice", "labels": described}
        assert await prompt_hash(label_schema=labels) != plain

    async def test_names_in_any_script_come_back_as_they_were(self, api: Api) -> None:
        name = "Prüfung 审核 🧪 مراجعة"
        labels = ["ja 👍🏽", "nein", "weiß nicht", "日本語"]
        project = await api.make_project(labels=labels)
        shown = await api.get(f"/v1/projects/{project}")
        assert [label["name"] for label in shown["label_schema"]["labels"]] == labels
        made = (await api.http.post("/v1/projects", json=body(name=name))).json()
        assert made["name"] == name

    async def test_500_labels_fit(self, api: Api) -> None:
        project = await api.make_project(labels=[f"label {n}" for n in range(500)])
        shown = await api.get(f"/v1/projects/{project}")
        assert len(shown["label_schema"]["labels"]) == 500


class TestLabelSets:
    @pytest.mark.parametrize(
        ("labels", "expected"),
        [
            ([], {"/label_schema/labels": "at least 2 labels are needed, 0 given"}),
            (["spam"], {"/label_schema/labels": "at least 2 labels are needed, 1 given"}),
            # the same but for case, space, invisible characters, Unicode form, width
            (["spam", "ham", "spam"], {"/label_schema/labels/2": "is the same as /0/name"}),
            (["spam", "SPAM"], {"/label_schema/labels/1": "is the same as /0/name"}),
            (["not spam", "not  spam"], {"/label_schema/labels/1": "is the same as /0/name"}),
            (["notspam", "not spam"], {"/label_schema/labels/1": "is the same as /0/name"}),
            (["sp\u200bam", "spam"], {"/label_schema/labels/1": "is the same as /0/name"}),
            (["caf\u00e9", "cafe\u0301"], {"/label_schema/labels/1": "is the same as /0/name"}),
            (["\uff53pam", "spam"], {"/label_schema/labels/1": "is the same as /0/name"}),
            (["stra\u00dfe", "STRASSE"], {"/label_schema/labels/1": "is the same as /0/name"}),
            # blank, or with space around
            (["", "ham"], {"/label_schema/labels/0": "must not be blank"}),
            (["spam", " \u3000"], {"/label_schema/labels/1": "must not be blank"}),
            ([" spam", "ham"], {"/label_schema/labels/0": "must not begin or end with"}),
            # characters that can't be stored or seen
            (["a\0b", "ham"], {"/label_schema/labels/0": "must not hold a control character"}),
            (["spam", "\ud800"], {"/label_schema/labels/1": "must not hold a lone surrogate"}),
            (
                ["spam", "\ud83d\ud83d"],
                {"/label_schema/labels/1": "must not hold a lone surrogate"},
            ),
            (["a\nb", "ham"], {"/label_schema/labels/0": "must not hold a control character"}),
            (["a\u2028b", "ham"], {"/label_schema/labels/0": "must not hold a line separator"}),
            # too long, too many
            (["x" * 201, "ham"], {"/label_schema/labels/0": "must have at most 200 characters"}),
            (
                [f"{n}" for n in range(501)],
                {"/label_schema/labels": "at most 500 labels are possible"},
            ),
            # not labels
            ([1, 2], {f"/label_schema/labels/{n}": "must be an object" for n in (0, 1)}),
            ([None, "ham"], {"/label_schema/labels/0": "must be an object"}),
            ([["spam"], "ham"], {"/label_schema/labels/0": "must be an object"}),
            ("spam", {"/label_schema/labels": "must be a list"}),
            (None, {"/label_schema/labels": "must be a list"}),
            # inside the long form
            ([{}, "ham"], {"/label_schema/labels/0/name": "required"}),
            ([{"name": "Ham"}, "ham"], {"/label_schema/labels/1": "is the same as /0/name"}),
            (["ham", {"name": "Ham"}], {"/label_schema/labels/1/name": "is the same as /0/name"}),
            ([{"name": False}, "ham"], {"/label_schema/labels/0/name": "must be a string"}),
            (
                [{"name": "spam", "description": "x" * 2001}, "ham"],
                {"/label_schema/labels/0/description": "must have at most 2000 characters"},
            ),
            (
                [{"name": "spam", "description": "a\0"}, "ham"],
                {"/label_schema/labels/0/description": "must not hold a control character"},
            ),
            (
                [{"name": "spam", "color": "red"}, "ham"],
                {"/label_schema/labels/0/color": "unknown field"},
            ),
            # several faults are all named
            (
                ["", "ham", "HAM", "x\0"],
                {
                    "/label_schema/labels/0": "must not be blank",
                    "/label_schema/labels/2": "is the same as /1/name",
                    "/label_schema/labels/3": "must not hold a control character",
                },
            ),
            (
                ["", "ham", "HAM"],
                {
                    "/label_schema/labels/0": "must not be blank",
                    "/label_schema/labels/2": "is the same as /1/name",
                },
            ),
        ],
    )
    async def test_that_can_not_be_chosen_from_are_refused(
        self, api: Api, labels: Any, expected: dict[str, str]
    ) -> None:
        sent = body(label_schema={"kind": "single_choice", "labels": labels})
        found = await refused(api, sent)
        assert found.keys() == expected.keys()
        for pointer, beginning in expected.items():
            assert found[pointer].startswith(beginning)

    @pytest.mark.parametrize(
        ("schema", "pointer"),
        [
            ({"kind": "guess", "labels": ["a", "b"]}, "/label_schema/kind"),
            ({"labels": ["a", "b"]}, "/label_schema/kind"),
            ({"kind": "single_choice"}, "/label_schema/labels"),
            (
                {"kind": "single_choice", "labels": ["a", "b"], "version": 2},
                "/label_schema/version",
            ),
            ("single_choice", "/label_schema"),
        ],
    )
    async def test_other_schemas_are_refused(self, api: Api, schema: Any, pointer: str) -> None:
        assert list(await refused(api, body(label_schema=schema))) == [pointer]


class TestFields:
    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"name": ""}, "/name"),
            ({"name": "x" * 201}, "/name"),
            ({"name": None}, "/name"),
            ({"name": "a\0b"}, "/name"),
            ({"name": "\udfff"}, "/name"),
            # numbers that are strings, booleans or fractions, or out of range
            ({"review_lease_seconds": "600"}, "/review_lease_seconds"),
            ({"review_lease_seconds": True}, "/review_lease_seconds"),
            ({"review_lease_seconds": 600.0}, "/review_lease_seconds"),
            ({"review_lease_seconds": 0}, "/review_lease_seconds"),
            ({"review_lease_seconds": 86_401}, "/review_lease_seconds"),
            ({"review_lease_seconds": 10**30}, "/review_lease_seconds"),
            ({"review_lease_seconds": None}, "/review_lease_seconds"),
            ({"audit_probability": "0.1"}, "/audit_probability"),
            ({"audit_probability": False}, "/audit_probability"),
            ({"audit_probability": -0.01}, "/audit_probability"),
            ({"audit_probability": 1.01}, "/audit_probability"),
            ({"audit_probability": float("nan")}, "/audit_probability"),
            ({"audit_probability": float("inf")}, "/audit_probability"),
            # the train face follows from the audit face
            ({"train_probability": 0.1}, "/train_probability"),
            ({"id": "prj_01h455vb4pex5vsknk084sn02q"}, "/id"),
            # the labeler
            ({"labeler": None}, "/labeler"),
            ({"labeler": {"model": ""}}, "/labeler/model"),
            ({"labeler": {"model": "x" * 201}}, "/labeler/model"),
            ({"labeler": {"model": 4}}, "/labeler/model"),
            ({"labeler": {"instructions": "a\0"}}, "/labeler/instructions"),
            ({"labeler": {"instructions": "x" * 20_001}}, "/labeler/instructions"),
            ({"labeler": {"temperature": 2.1}}, "/labeler/temperature"),
            ({"labeler": {"temperature": "0"}}, "/labeler/temperature"),
            ({"labeler": {"temperature": float("nan")}}, "/labeler/temperature"),
            ({"labeler": {"top_logprobs": 21}}, "/labeler/top_logprobs"),
            ({"labeler": {"top_logprobs": -1}}, "/labeler/top_logprobs"),
            ({"labeler": {"max_tokens": 0}}, "/labeler/max_tokens"),
            ({"labeler": {"api_key": "sk-x"}}, "/labeler/api_key"),
        ],
    )
    async def test_bad_ones_are_named(self, api: Api, fields: dict[str, Any], pointer: str) -> None:
        assert list(await refused(api, body(**fields))) == [pointer]

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "example.test/v1",
            "//example.test/v1",
            "ftp://example.test/v1",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "http://",
            "http:///v1",
            "http://:8000/v1",
            "http://host:port/v1",
            "http://host:99999/v1",
            "http://[::1/v1",
            # whatever is hidden in it would be shown to all who read the project
            "http://user@host/v1",
            "http://user:secret@host/v1",
            "http://:secret@host/v1",
            "http://@host/v1",
            "http://host/v1?key=secret",
            "http://host/v1?",
            "http://host/v1#x",
            "http://host/v1#",
            # what another reader would read in another way
            "http://ho st/v1",
            "http://host\\@other/v1",
            "http://host/v1\r\nX-Injected: 1",
            "http://host/\0",
            "http://\ud800/v1",
            "http://host\u2028/v1",
            "http://" + "x" * 500,
            " http://host/v1",
            "http://[::1]x/",
            "http://[v1.x]/",
            "http://\u2488com/",
            8000,
        ],
    )
    async def test_a_labelers_address_is_a_plain_url(self, api: Api, url: Any) -> None:
        found = await refused(api, body(labeler={"base_url": url}))
        assert list(found) == ["/labeler/base_url"]

    @pytest.mark.parametrize(
        "url",
        ["http://localhost:8000/v1", "https://api.example.test/v1/", "http://[::1]:8000/v1"],
    )
    async def test_a_plain_url_is_kept_as_it_is(self, api: Api, url: str) -> None:
        made = (await api.http.post("/v1/projects", json=body(labeler={"base_url": url}))).json()
        assert made["labeler"]["base_url"] == url


BAD_POLICIES: list[tuple[dict[str, Any], str]] = [
    ({"kind": "fixed_threshold"}, "/threshold"),
    ({"kind": "fixed_threshold", "threshold": float("nan")}, "/threshold"),
    ({"kind": "fixed_threshold", "threshold": float("inf")}, "/threshold"),
    ({"kind": "fixed_threshold", "threshold": float("-inf")}, "/threshold"),
    ({"kind": "fixed_threshold", "threshold": -0.1}, "/threshold"),
    ({"kind": "fixed_threshold", "threshold": 1.0000001}, "/threshold"),
    ({"kind": "fixed_threshold", "threshold": True}, "/threshold"),
    ({"kind": "fixed_threshold", "threshold": "0.9"}, "/threshold"),
    ({"kind": "fixed_threshold", "threshold": None}, "/threshold"),
    ({"kind": "fixed_threshold", "threshold": 0.9, "extra": 1}, "/extra"),
    ({"kind": "review_all", "threshold": 0.9}, "/threshold"),
    ({"kind": "unheard of"}, "/kind"),
    ({"kind": None}, "/kind"),
    ({"kind": ["review_all"]}, "/kind"),
    ({"threshold": 0.9}, "/kind"),
    ({}, "/kind"),
]


class TestPolicies:
    @pytest.mark.parametrize(("policy", "pointer"), BAD_POLICIES)
    async def test_bad_ones_are_named_in_a_new_project(
        self, api: Api, policy: dict[str, Any], pointer: str
    ) -> None:
        assert list(await refused(api, body(policy=policy))) == [f"/policy{pointer}"]

    @pytest.mark.parametrize(("policy", "pointer"), BAD_POLICIES)
    async def test_bad_ones_are_named_in_a_new_version(
        self, api: Api, policy: dict[str, Any], pointer: str
    ) -> None:
        project = await api.make_project()
        path = f"/v1/projects/{project}/policies"
        answer = await api.http.post(path, content=json.dumps(policy), headers=JSON)
        assert list(faults(answer)) == [pointer]
        assert len((await api.get(path))["data"]) == 1

    async def test_a_number_too_large_for_any_is_refused(self, api: Api) -> None:
        sent = json.dumps(body(policy={"kind": "fixed_threshold", "threshold": 9e9}))
        answer = await api.http.post(
            "/v1/projects", content=sent.replace("9000000000.0", "1e999"), headers=JSON
        )
        assert faults(answer) == {"/policy/threshold": "must be a finite number"}

    async def test_the_ends_of_the_range_and_whole_numbers_are_fine(self, api: Api) -> None:
        for threshold in (0, 1, 0.0, 1.0, 0.5):
            policy = {"kind": "fixed_threshold", "threshold": threshold}
            project = await api.make_project(policy=policy)
            shown = await api.get(f"/v1/projects/{project}")
            assert shown["policy"]["policy"] == policy

    async def test_versions_count_up_and_all_stay(self, api: Api) -> None:
        project = await api.make_project()
        path = f"/v1/projects/{project}/policies"
        for policy in ({"kind": "accept_all"}, {"kind": "fixed_threshold", "threshold": 0.5}):
            answer = await api.http.post(path, json=policy)
            assert answer.status_code == 201
            assert answer.json()["policy"] == policy
        versions = (await api.get(path))["data"]
        assert [(each["version"], each["policy"]["kind"]) for each in versions] == [
            (3, "fixed_threshold"),
            (2, "accept_all"),
            (1, "review_all"),
        ]
        assert (await api.get(f"/v1/projects/{project}"))["policy"] == versions[0]

    async def test_two_at_once_take_turns(self, api: Api) -> None:
        project = await api.make_project()
        path = f"/v1/projects/{project}/policies"
        answers = await asyncio.gather(
            *(api.http.post(path, json={"kind": "accept_all"}) for _ in range(5))
        )
        assert [answer.status_code for answer in answers] == [201] * 5
        assert sorted(answer.json()["version"] for answer in answers) == [2, 3, 4, 5, 6]
        shown = await api.get(f"/v1/projects/{project}")
        assert shown["policy"]["version"] == 6

    async def test_a_new_one_routes_what_is_labelled_from_now_on(
        self, api: Api, labeling: LabelingSide
    ) -> None:
        project = await api.make_project()
        (before,) = await api.send_items(project, ["ham at 0.9 before"])
        await labeling.drain(project)
        await api.http.post(f"/v1/projects/{project}/policies", json={"kind": "accept_all"})
        (after,) = await api.send_items(project, ["ham at 0.9 after"])
        await labeling.drain(project)
        routed = {
            item["id"]: item for item in (await api.get(f"/v1/projects/{project}/items"))["data"]
        }
        assert routed[before]["route_reason"] == "review_all"
        assert routed[after]["route_reason"] == "accept_all"
        versions = (await api.get(f"/v1/projects/{project}/policies"))["data"]
        assert routed[after]["policy_id"] == versions[0]["id"]
        assert routed[before]["policy_id"] == versions[1]["id"]
        newest = await api.get(f"/v1/projects/{project}/policies", limit=1)
        assert newest["data"] == versions[:1]
        assert newest["has_more"]
        rest = await api.get(
            f"/v1/projects/{project}/policies", limit=1, cursor=newest["next_cursor"]
        )
        assert rest["data"] == versions[1:2]
        assert not rest["has_more"]


class TestListing:
    async def test_pages_are_complete_and_in_order(self, api: Api) -> None:
        made = [await api.make_project() for _ in range(5)]
        key = await api.make_key("read", projects=made)
        async with api.client(key) as http:
            found: list[str] = []
            cursor = None
            while True:
                params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
                page = (await http.get("/v1/projects", params=params)).json()
                found += [project["id"] for project in page["data"]]
                cursor = page["next_cursor"]
                assert page["has_more"] == (cursor is not None)
                if cursor is None:
                    break
        assert found == made

    async def test_a_key_of_a_removed_project_lists_nothing(self, api: Api) -> None:
        project = await api.make_project()
        async with api.client(await api.make_key("read", projects=[project])) as http:
            await api.http.delete(f"/v1/projects/{project}")
            answer = await http.get("/v1/projects")
        assert answer.json() == {"data": [], "has_more": False, "next_cursor": None}


class TestRemoving:
    async def test_leaves_nothing_behind_in_any_table(
        self, api: Api, labeling: LabelingSide, sql: Sql
    ) -> None:
        policy = {"kind": "fixed_threshold", "threshold": 0.5}
        labeler = {"prices": {"input_per_million": 1.0, "output_per_million": 1.0}}
        project, other = [await api.make_project(policy=policy, labeler=labeler) for _ in range(2)]
        for each in (project, other):
            await self._live_through_everything(api, labeling, each)
        tables = [
            row["table_name"]
            for row in await sql.rows(
                "SELECT table_name FROM information_schema.columns "
                "WHERE table_schema = 'public' AND column_name = 'project_id' ORDER BY 1"
            )
        ]
        before = {table: await self._count(sql, table, project) for table in tables}
        # else the test would show nothing of that table
        assert not [table for table in tables if before[table] == 0]

        answer = await api.http.delete(f"/v1/projects/{project}")

        assert answer.status_code == 204
        assert {table: await self._count(sql, table, project) for table in tables} == (
            dict.fromkeys(tables, 0)
        )
        assert {table: await self._count(sql, table, other) for table in tables} == before
        problem(await api.http.get(f"/v1/projects/{project}"), 404, "not_found")
        problem(await api.http.delete(f"/v1/projects/{project}"), 404, "not_found")

    @staticmethod
    async def _count(sql: Sql, table: str, project: str) -> int:
        (row,) = await sql.rows(
            # a name from the catalogue
            f"SELECT count(*) AS n FROM {table} WHERE project_id = %(id)s",
            id=from_wire(Kind.PROJECT, project),
        )
        return int(row["n"])

    @staticmethod
    async def _live_through_everything(api: Api, labeling: LabelingSide, project: str) -> None:
        """Items in every state, a review, an open lease, an expired one, folded counters."""
        texts = ["ham at 0.9", "ham at 0.4 a", "ham at 0.4 b", "ham at 0.4 c", "unsure"]
        await api.send_items(project, texts)
        await labeling.drain(project)
        reviewer = Reviewer(api.http)
        first, second, *_ = await reviewer.claim(project, 3)
        assert (await reviewer.submit(first, "ham")).status_code == 200
        assert (await reviewer.act("skip", second)).status_code == 204
        await counters.fold(labeling.parts.database, from_wire(Kind.PROJECT, project))
        await api.http.post(f"/v1/projects/{project}/policies", json={"kind": "accept_all"})
        await api.send_items(project, ["waits"])
        # money is spent, and none is left
        await api.http.put(f"/v1/projects/{project}/budget", json={"monthly_limit": 0.0})
        await labeling.drain(project)

    async def test_it_begins_again_where_work_is_in_its_way(
        self, api: Api, labeling: LabelingSide, sql: Sql
    ) -> None:
        """A deadlock with somebody who has an assignment locked and wants its item."""
        project = await self._one_held(api, labeling)
        async with sql.connection.transaction():
            # whoever looks first is the one that has to begin again: not we
            await sql.rows("SET LOCAL deadlock_timeout = '30s'")
            held = await sql.rows(
                "SELECT item_id FROM assignments WHERE project_id = %(id)s FOR UPDATE",
                id=from_wire(Kind.PROJECT, project),
            )
            removing = asyncio.create_task(api.http.delete(f"/v1/projects/{project}"))
            await until(sql.somebody_waits)
            await sql.rows("SELECT 1 FROM items WHERE id = %(item_id)s FOR UPDATE", **held[0])
        assert (await removing).status_code == 204
        problem(await api.http.get(f"/v1/projects/{project}"), 404, "not_found")

    async def test_work_that_is_in_its_way_is_told_to_try_again(
        self, api: Api, labeling: LabelingSide, sql: Sql
    ) -> None:
        project = await self._one_held(api, labeling)
        answer = await api.http.get(f"/v1/projects/{project}/assignments")
        (held,) = answer.json()["data"]
        async with sql.connection.transaction():
            await sql.rows("SET LOCAL deadlock_timeout = '30s'")
            # as a removal does: the item first, then what hangs on it
            item = from_wire(Kind.ITEM, held["item"]["id"])
            await sql.rows("SELECT 1 FROM items WHERE id = %(item)s FOR UPDATE", item=item)
            submitting = asyncio.create_task(Reviewer(api.http).submit(held, "ham"))
            await until(sql.somebody_waits)
            await sql.rows("SELECT 1 FROM assignments WHERE item_id = %(id)s FOR UPDATE", id=item)
        busy = await submitting
        problem(busy, 503, "busy")
        assert int(busy.headers["retry-after"]) > 0
        assert (await Reviewer(api.http).submit(held, "ham")).status_code == 200

    @staticmethod
    async def _one_held(api: Api, labeling: LabelingSide) -> str:
        project = await api.make_project()
        await api.send_items(project, ["ham at 0.4"])
        await labeling.drain(project)
        await Reviewer(api.http).claim(project)
        return project

    async def test_work_under_way_meets_404(self, api: Api, labeling: LabelingSide) -> None:
        project = await api.make_project()
        (item,) = await api.send_items(project, ["ham at 0.4"])
        await labeling.drain(project)
        reviewer = Reviewer(api.http)
        (held,) = await reviewer.claim(project)
        await api.http.delete(f"/v1/projects/{project}")
        problem(await reviewer.submit(held, "ham"), 404, "not_found")
        problem(await api.http.get(f"/v1/items/{item}"), 404, "not_found")
        path = f"/v1/projects/{project}"
        problem(await api.http.post(f"{path}/items", json={"text": "x"}), 404, "not_found")
        problem(await api.http.post(f"{path}/claims", json={}), 404, "not_found")
        problem(await api.http.get(f"{path}/stats"), 404, "not_found")
