"""Keys: who is let in, for what, and until when."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import string
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.access.keys import make_key
from tests.support.api import Api
from tests.support.problems import faults, problem
from tests.support.raw import raw_get, send_raw
from tests.support.sql import Sql, spoilt_project
from tests.support.waiting import until

GOOD_BUT_UNKNOWN = make_key(bytes(range(60)))


async def create_key(api: Api, **fields: Any) -> dict[str, Any]:
    body = {"name": "a key", "scopes": ["read"], **fields}
    answer = await api.http.post("/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def status_with(api: Api, key: str) -> int:
    async with api.client(key) as http:
        return (await http.get("/v1/projects")).status_code


def mistyped(key: str) -> str:
    last = string.ascii_letters.index(key[-1]) if key[-1].isalpha() else 0
    return key[:-1] + string.ascii_letters[(last + 1) % 52]


class TestAuthentication:
    @pytest.mark.parametrize(
        "header",
        [
            # no key at all
            None,
            "",
            "Bearer",
            "Bearer ",
            # the key without its scheme, or with another
            GOOD_BUT_UNKNOWN,
            f"Basic {GOOD_BUT_UNKNOWN}",
            f"Token {GOOD_BUT_UNKNOWN}",
            # shaped like no key of ours
            "Bearer hello",
            "Bearer slk_",
            f"Bearer {GOOD_BUT_UNKNOWN}x",
            f"Bearer {GOOD_BUT_UNKNOWN[:-1]}",
            f"Bearer sk_{GOOD_BUT_UNKNOWN[4:]}x",
            f"Bearer {GOOD_BUT_UNKNOWN.upper()}",
            f"Bearer {GOOD_BUT_UNKNOWN} {GOOD_BUT_UNKNOWN}",
            # SQL where the key should be
            "Bearer ' OR 1=1 --",
            # a byte beyond ASCII
            "Bearer slk_\xe9" + "a" * 35,
            # as long as headers may be
            "Bearer " + "a" * 30_000,
            # well-formed, and nobody's
            f"Bearer {GOOD_BUT_UNKNOWN}",
        ],
    )
    async def test_is_refused_without_a_good_key(self, api: Api, header: str | None) -> None:
        headers = {} if header is None else {"Authorization": header}
        answer = await send_raw(api, raw_get("/v1/projects", key=None, **headers))
        document = answer.problem(401, "unauthenticated")
        assert answer.headers["www-authenticate"] == 'Bearer realm="secondlook"'
        assert GOOD_BUT_UNKNOWN not in str(document)

    async def test_a_mistyped_key_is_known_by_its_check_digits(self, api: Api) -> None:
        key = await api.make_key("read")
        async with api.client(mistyped(key)) as http:
            document = problem(await http.get("/v1/projects"), 401, "unauthenticated")
        assert "check digits" in document["detail"]

    async def test_the_scheme_is_read_in_any_case(self, api: Api) -> None:
        async with api.client(None, Authorization=f"bEaReR   {api.admin_key}") as http:
            assert (await http.get("/v1/projects")).status_code == 200

    async def test_a_key_in_the_query_string_opens_nothing(self, api: Api) -> None:
        async with api.client(None) as http:
            answer = await http.get("/v1/projects", params={"access_token": api.admin_key})
        problem(answer, 401, "unauthenticated")
        assert api.admin_key not in answer.text

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"[" * 100_000,
            b'{"name": "' + b"x" * 20_000_000 + b'"}',
        ],
        ids=["broken", "deep", "huge"],
    )
    async def test_it_is_settled_before_the_body_is_read(self, api: Api, body: bytes) -> None:
        async with api.client(None) as http:
            answer = await http.post("/v1/projects", content=body)
            problem(answer, 401, "unauthenticated")
        async with api.client(await api.make_key("read")) as http:
            problem(await http.post("/v1/projects", content=body), 403, "missing_scope")

    async def test_a_body_that_never_ends_is_not_waited_for(self, api: Api) -> None:
        head = b"POST /v1/projects HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await send_raw(api, head + b'8\r\n{"name":\r\n')
        answer.problem(401, "unauthenticated")


class TestScopes:
    async def test_admin_may_do_everything(self, api: Api) -> None:
        project = await api.make_project()
        async with api.client(await api.make_key("admin")) as http:
            path = f"/v1/projects/{project}"
            assert (await http.get(path)).status_code == 200
            assert (await http.get(f"{path}/queue")).status_code == 200
            assert (await http.post(f"{path}/items", json={"text": "x"})).status_code == 201

    async def test_a_key_may_have_several(self, api: Api) -> None:
        project = await api.make_project()
        async with api.client(await api.make_key("ingest", "read")) as http:
            path = f"/v1/projects/{project}"
            assert (await http.post(f"{path}/items", json={"text": "x"})).status_code == 201
            assert (await http.get(f"{path}/items")).status_code == 200
            problem(await http.get(f"{path}/queue"), 403, "missing_scope")

    async def test_what_concerns_the_whole_service_needs_an_unbound_key(self, api: Api) -> None:
        project = await api.make_project()
        key = await api.make_key("admin", projects=[project])
        async with api.client(key) as http:
            new = {"name": "k", "scopes": ["admin"]}
            problem(await http.post("/v1/keys", json=new), 403, "missing_scope")
            problem(await http.get("/v1/keys"), 403, "missing_scope")

    async def test_a_bound_key_sees_its_projects_and_no_others(self, api: Api) -> None:
        mine, also_mine, foreign = [await api.make_project() for _ in range(3)]
        async with api.client(await api.make_key("read", projects=[mine, also_mine])) as http:
            listed = (await http.get("/v1/projects")).json()["data"]
            assert [project["id"] for project in listed] == [mine, also_mine]
            problem(await http.get(f"/v1/projects/{foreign}"), 404, "not_found")


class TestCreatingKeys:
    async def test_the_key_is_shown_once(self, api: Api) -> None:
        made = await create_key(api, name="shown once")
        assert made["key"].startswith("slk_")
        assert len(made["key"]) == 40
        listed = await api.get("/v1/keys")
        (mine,) = [key for key in listed["data"] if key["id"] == made["id"]]
        assert mine == {name: value for name, value in made.items() if name != "key"}
        assert made["key"] not in str(listed)

    async def test_only_its_digest_is_stored(self, api: Api, sql: Sql) -> None:
        key = (await create_key(api))["key"]
        rows = await sql.rows("SELECT row_to_json(k)::text AS row, digest FROM api_keys k")
        assert all(key not in row["row"] for row in rows)
        assert hashlib.sha256(key.encode()).digest() in [row["digest"] for row in rows]

    async def test_every_key_differs(self, api: Api) -> None:
        keys = {(await create_key(api))["key"] for _ in range(5)}
        assert len(keys) == 5

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"name": ""}, "/name"),
            ({"name": "x" * 201}, "/name"),
            ({"name": "a\0b"}, "/name"),
            ({"name": 1}, "/name"),
            ({"scopes": []}, "/scopes"),
            ({"scopes": ["root"]}, "/scopes/0"),
            ({"scopes": "admin"}, "/scopes"),
            ({"projects": []}, "/projects"),
            ({"projects": ["itm_01h455vb4pex5vsknk084sn02q"]}, "/projects/0"),
            ({"projects": ["*"]}, "/projects/0"),
            ({"may_name_reviewer": 1}, "/may_name_reviewer"),
            ({"may_name_reviewer": "true"}, "/may_name_reviewer"),
            # it may not review at all
            ({"may_name_reviewer": True}, "/may_name_reviewer"),
            # times that are none, or without a zone, or that can't be read back
            ({"expires_at": 1_893_456_000}, "/expires_at"),
            ({"expires_at": "1893456000"}, "/expires_at"),
            ({"expires_at": "tomorrow"}, "/expires_at"),
            ({"expires_at": "2030-01-01T00:00:00"}, "/expires_at"),
            ({"expires_at": "9999-12-31T23:59:59-23:59"}, "/expires_at"),
            ({"expires_at": "0001-01-01T00:00:00+23:59"}, "/expires_at"),
            ({"expires_at": "2030-02-30T00:00:00Z"}, "/expires_at"),
            # a key that could never be used
            ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
            ({"projects": ["prj_01h455vb4pex5vsknk084sn02q"]}, "/projects/0"),
            # the digest is not the caller's to choose
            ({"digest": "00"}, "/digest"),
            ({"key": GOOD_BUT_UNKNOWN}, "/key"),
        ],
    )
    async def test_bad_input_is_named(self, api: Api, fields: dict[str, Any], pointer: str) -> None:
        body = {"name": "a key", "scopes": ["read"], **fields}
        assert list(faults(await api.http.post("/v1/keys", json=body))) == [pointer]

    async def test_living_keys_are_listed_in_pages(self, api: Api) -> None:
        made = {(await create_key(api, name=f"page {n}"))["id"] for n in range(5)}
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await api.get("/v1/keys", limit=2, **cursor)
            found += [key["id"] for key in page["data"]]
            assert len(page["data"]) <= 2
            if not page["has_more"]:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert found == sorted(set(found))
        assert made <= set(found)


class TestTheEndOfAKey:
    async def test_a_revoked_key_ends_at_once(self, api: Api) -> None:
        made = await create_key(api)
        # in use, so that it is remembered
        assert await status_with(api, made["key"]) == 200
        answer = await api.http.delete(f"/v1/keys/{made['id']}")
        assert answer.status_code == 204
        assert answer.content == b""
        async with api.client(made["key"]) as http:
            problem(await http.get("/v1/projects"), 401, "unauthenticated")

    async def test_requests_under_way_do_not_keep_it_alive(self, api: Api) -> None:
        made = await create_key(api)
        async with api.client(made["key"]) as http:
            polling = [asyncio.create_task(http.get("/v1/projects")) for _ in range(20)]
            await api.http.delete(f"/v1/keys/{made['id']}")
            assert (await http.get("/v1/projects")).status_code == 401
            assert {(await poll).status_code for poll in polling} <= {200, 401}
            assert (await http.get("/v1/projects")).status_code == 401

    async def test_it_is_listed_no_more_and_can_end_only_once(self, api: Api) -> None:
        made = await create_key(api)
        await api.http.delete(f"/v1/keys/{made['id']}")
        assert made["id"] not in str(await api.get("/v1/keys"))
        problem(await api.http.delete(f"/v1/keys/{made['id']}"), 404, "not_found")

    async def test_two_keys_live_side_by_side_for_rotation(self, api: Api) -> None:
        old, new = await create_key(api, name="app"), await create_key(api, name="app")
        assert [await status_with(api, key["key"]) for key in (old, new)] == [200, 200]
        await api.http.delete(f"/v1/keys/{old['id']}")
        assert [await status_with(api, key["key"]) for key in (old, new)] == [401, 200]

    async def test_a_key_lives_until_it_expires_by_the_database_clock(
        self, api: Api, sql: Sql
    ) -> None:
        future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        made = await create_key(api, expires_at=future)
        assert await status_with(api, made["key"]) == 200
        await sql.rows(
            "UPDATE api_keys SET expires_at = now() - interval '1 second' "
            "WHERE digest = %(digest)s",
            digest=hashlib.sha256(made["key"].encode()).digest(),
        )

        async def refused() -> bool:
            return await status_with(api, made["key"]) == 401

        # a look-up is remembered for a quarter of a second
        await until(refused)

    async def test_last_use_is_kept(self, api: Api) -> None:
        made = await create_key(api)
        assert made["last_used_at"] is None
        await status_with(api, made["key"])
        listed = {key["id"]: key for key in (await api.get("/v1/keys"))["data"]}
        assert listed[made["id"]]["last_used_at"] is not None


class TestNamingTheReviewer:
    async def test_a_key_is_one_reviewer_by_itself(self, api: Api) -> None:
        project = await api.make_project()
        made = await create_key(api, scopes=["reviewer"])
        async with api.client(made["key"]) as http:
            answer = await http.get(f"/v1/projects/{project}/assignments")
        assert answer.json() == {"data": []}

    async def test_a_key_that_may_not_is_refused(self, api: Api) -> None:
        project = await api.make_project()
        key = await api.make_key("reviewer")
        async with api.client(key, **{"Secondlook-Reviewer": "ann"}) as http:
            problem(await http.get(f"/v1/projects/{project}/queue"), 403, "missing_scope")

    @pytest.mark.parametrize(
        "name",
        [
            # nobody
            b"",
            # longer than any name
            b"x" * 201,
            # a tab is no part of a name
            b"ann\tbob",
            # not UTF-8
            b"ann\xff",
            # characters that can't be seen: a right-to-left override, a no-break space
            "ann\u202ebob".encode(),
            "ann\u00a0bob".encode(),
        ],
    )
    async def test_a_name_that_can_not_be_shown_is_refused(self, api: Api, name: bytes) -> None:
        project = await api.make_project()
        key = await api.make_key("reviewer", may_name_reviewer=True)
        async with api.client(key) as http:
            answer = await http.get(
                f"/v1/projects/{project}/queue", headers={b"Secondlook-Reviewer": name}
            )
        assert list(faults(answer)) == ["Secondlook-Reviewer"]


class TestDefaultDeny:
    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/v1",
            "/v1/",
            "/v2/projects",
            "/v1/nothing",
            "/docs",
            "/redoc",
            "/.env",
            "/v1/projects/",
            "//v1/projects",
            "/V1/PROJECTS",
            # dots climb nowhere
            "/v1/projects/../keys",
            "/v1/projects/%2e%2e/keys",
            "/v1/keys;x=1",
            "/v1%2fkeys%2f",
        ],
    )
    async def test_unknown_paths_answer_nothing(self, api: Api, path: str) -> None:
        for key in (None, api.admin_key):
            answer = await send_raw(api, raw_get(path, key=key))
            answer.problem(404, "not_found")

    async def test_only_health_and_the_document_need_no_key(self, api: Api) -> None:
        async with api.client(None) as http:
            for path in ("/livez", "/readyz", "/version", "/openapi.json"):
                assert (await http.get(path)).status_code == 200, path


class TestSecretsInLogs:
    async def test_no_key_reaches_a_log_not_even_in_a_crash(
        self, api: Api, sql: Sql, caplog: pytest.LogCaptureFixture
    ) -> None:
        project = await api.make_project()
        made = await create_key(api)
        keys = [made["key"], GOOD_BUT_UNKNOWN, mistyped(made["key"])]
        caplog.clear()
        async with spoilt_project(sql, project):
            caplog.set_level(logging.DEBUG)
            for key in keys:
                async with api.client(key) as http:
                    await http.get(f"/v1/projects/{project}/agreement")
                    await http.post("/v1/projects", json={"name": key})
                    await http.get("/v1/projects", params={"cursor": key})
        # the lines of the client that asks are not ours
        ours = [record for record in caplog.records if not record.name.startswith("http")]
        lines = [logging.Formatter().format(record) for record in ours]
        assert any("Traceback" in line for line in lines)
        assert not [line for line in lines for key in keys if key[4:] in line]
