"""Errors: one form, whatever went wrong, and nothing in them that is nobody's business."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.infra.ids import Kind, new_id, to_wire
from app.settings import Settings
from tests.support.api import Api, serve_api
from tests.support.problems import faults, problem
from tests.support.raw import raw_get, send_raw
from tests.support.sql import Sql, spoilt_project

JSON = {"Content-Type": "application/json"}
GOOD: dict[str, Any] = {
    "name": "x",
    "label_schema": {"kind": "single_choice", "labels": ["a", "b"]},
}


class TestEveryError:
    async def test_has_an_id_of_its_own(self, api: Api) -> None:
        ids = {
            problem(await api.http.get("/nowhere"), 404, "not_found")["request_id"]
            for _ in range(3)
        }
        assert len(ids) == 3

    async def test_a_good_answer_has_an_id_too(self, api: Api) -> None:
        answer = await api.http.get("/v1/projects")
        assert answer.headers["x-request-id"].startswith("req_")

    async def test_the_id_is_not_the_callers_to_choose(self, api: Api) -> None:
        answer = await api.http.get("/nowhere", headers={"X-Request-Id": "mine"})
        assert problem(answer, 404, "not_found")["request_id"] != "mine"

    async def test_the_instance_is_the_path_as_it_was_asked_for(self, api: Api) -> None:
        document = problem(await api.http.get("/v1/it%20is/%C3%A9?key=1"), 404, "not_found")
        assert document["instance"] == "/v1/it%20is/%C3%A9"

    async def test_the_host_header_has_no_part_in_it(self, api: Api) -> None:
        for host in ("evil.test/path?", "[", "a b", "evil.test:port"):
            request = raw_get("/v1/nowhere", key=None).replace(b"secondlook.test", host.encode())
            answer = await send_raw(api, request)
            assert answer.status in {400, 404}, host
            assert b"evil" not in answer.body
            if answer.status == 404:
                assert answer.problem(404, "not_found")["instance"] == "/v1/nowhere"


class TestRouting:
    async def test_an_unknown_path(self, api: Api) -> None:
        problem(await api.http.get("/v1/nothing"), 404, "not_found")

    async def test_no_redirect_is_made_of_a_slash_too_many(self, api: Api) -> None:
        answer = await api.http.get("/v1/projects/")
        problem(answer, 404, "not_found")
        assert "location" not in answer.headers

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PUT", "/v1/projects"),
            ("PATCH", "/v1/projects/prj_x"),
            ("POST", "/v1/projects/prj_x"),
            ("DELETE", "/v1/projects/prj_x/items"),
            ("GET", "/v1/projects/prj_x/claims"),
            ("OPTIONS", "/v1/projects"),
            ("HEAD", "/v1/projects"),
            ("TRACE", "/v1/projects"),
        ],
    )
    async def test_a_wrong_method(self, api: Api, method: str, path: str) -> None:
        answer = await api.http.request(method, path)
        if method == "HEAD":
            assert answer.status_code == 405
            return
        document = problem(answer, 405, "method_not_allowed")
        assert document["title"] == "Method not allowed"
        assert answer.headers["allow"]

    @pytest.mark.parametrize(
        "text",
        [
            "1",
            "prj_",
            "itm_01h455vb4pex5vsknk084sn02q",  # of another kind
            "01h455vb4pex5vsknk084sn02q",
            "prj_01h455vb4pex5vsknk084sn02",  # a character short
            "prj_01h455vb4pex5vsknk084sn02qq",
            "prj_81h455vb4pex5vsknk084sn02q",  # beyond 128 bits
            "prj_zzzzzzzzzzzzzzzzzzzzzzzzzz",
            "PRJ_01H455VB4PEX5VSKNK084SN02Q",
            "prj_01h455vb4pex5vsknk084sn0iq",  # i is no digit of this base 32
            "prj_\u0660\u0661h455vb4pex5vsknk084sn02q",  # digits, but not those
            "prj__01h455vb4pex5vsknk084sn02q",
            "00000000-0000-0000-0000-000000000000",
            "' OR '1'='1",
            "%00",
            "%ff%fe",
            "%ed%a0%80",  # a lone surrogate
            "..",
            "x" * 5000,
            "null",
        ],
    )
    async def test_what_can_not_be_an_id_is_not_found(self, api: Api, text: str) -> None:
        target = "".join(c if c.isascii() and c not in " '" else _percent(c) for c in text)
        answer = await send_raw(api, raw_get(f"/v1/projects/{target}", key=api.admin_key))
        assert answer.problem(404, "not_found")["detail"] in {
            "no such project",
            "there is nothing at this path",
        }

    async def test_an_id_of_nobody_is_not_found(self, api: Api) -> None:
        project = to_wire(Kind.PROJECT, new_id())
        problem(await api.http.get(f"/v1/projects/{project}"), 404, "not_found")


def _percent(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode())


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b"{", "not JSON"),
            (b"{'name': 1}", "not JSON"),
            (b'{"name": "x",}', "not JSON"),
            (b'{"name": "a\nb"}', "not JSON"),
            (b'{"name": "\\ud83"}', "not JSON"),
            (b"<project/>", "not JSON"),
            (b"\x00", "not JSON"),
            (b'{"name": "\xff"}', "not UTF-8"),
            (b"[" * 100_000, "nested too deep"),
            (b'{"a":' * 100_000, "nested too deep"),
            (b'{"name": ' + b"9" * 5000 + b"}", "can't be read"),  # longer than any number
        ],
        ids=lambda value: value if isinstance(value, str) else value[:12],
    )
    async def test_what_is_not_json_is_400(self, api: Api, body: bytes, said: str) -> None:
        answer = await api.http.post("/v1/projects", content=body, headers=JSON)
        assert said in problem(answer, 400, "bad_request")["detail"]

    @pytest.mark.parametrize(
        "content_type",
        [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/xml",
            "application/octet-stream",
            "application/jsonl",
            "json",
            "",
            None,
        ],
    )
    async def test_another_content_type_is_415(self, api: Api, content_type: str | None) -> None:
        # a type that browsers send across origins unasked must never be read as JSON
        body = json.dumps({"name": "x"}).encode()
        headers = {} if content_type is None else {"Content-Type": content_type}
        answer = await api.http.post("/v1/projects", content=body, headers=headers)
        problem(answer, 415, "unsupported_media_type")

    @pytest.mark.parametrize(
        "content_type",
        ["application/json", "Application/JSON; charset=utf-8", "application/vnd.own+json"],
    )
    async def test_kinds_of_json_are_read(self, api: Api, content_type: str) -> None:
        answer = await api.http.post(
            "/v1/projects", content=b'{"name": 1}', headers={"Content-Type": content_type}
        )
        assert "/name" in faults(answer)

    @pytest.mark.parametrize("body", [b"null", b"1", b'"x"', b"[]", b"true", b'[{"name": "x"}]'])
    async def test_json_that_is_no_object(self, api: Api, body: bytes) -> None:
        answer = await api.http.post("/v1/projects", content=body, headers=JSON)
        assert list(faults(answer)) == [""]

    async def test_no_body(self, api: Api) -> None:
        assert faults(await api.http.post("/v1/projects")) == {"": "required"}

    async def test_of_two_fields_of_one_name_the_last_counts(self, api: Api) -> None:
        # as RFC 8259 lets a reader do; what matters is that only one is ever looked at
        body = b'{"name": 1, "name": "x", "scopes": ["read"], "scopes": []}'
        answer = await api.http.post("/v1/keys", content=body, headers=JSON)
        assert list(faults(answer)) == ["/scopes"]


class TestPointers:
    """Each fault is named by its place in what was sent, in the caller's spelling."""

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            # missing at the top, below, and in the member of a union
            ({}, {"/name": "required", "/label_schema": "required"}),
            (
                {"name": "x", "label_schema": {"labels": ["a", "b"]}},
                {"/label_schema/kind": "required"},
            ),
            (
                {"policy": {"kind": "fixed_threshold"}},
                {"/policy/threshold": "required"},
            ),
            ({"policy": {}}, {"/policy/kind": "required"}),
            ({"policy": []}, {"/policy": "must be an object"}),
            # wrong inside a list of either this or that
            (
                {"label_schema": {"kind": "single_choice", "labels": [1, "b"]}},
                {"/label_schema/labels/0": "must be an object or a name"},
            ),
            (
                {"label_schema": {"kind": "single_choice", "labels": [{"name": 1}, "b"]}},
                {"/label_schema/labels/0/name": "must be a string"},
            ),
            (
                {"label_schema": {"kind": "single_choice", "labels": [{}, "b"]}},
                {"/label_schema/labels/0/name": "required"},
            ),
            # names that need escaping, that are long, that no text could hold
            ({"a/b~c": 1}, {"/a~1b~0c": "unknown field"}),
            ({"x" * 5000: 1}, {"/" + "x" * 100 + "…": "unknown field"}),
            ({"\ud800": 1}, {"": "has a lone surrogate"}),
            ({"": 1}, {"/": "unknown field"}),
        ],
    )
    async def test_name_the_field(
        self, api: Api, body: dict[str, Any], expected: dict[str, str]
    ) -> None:
        sent = {**GOOD, **body} if body else body
        answer = await api.http.post("/v1/projects", content=json.dumps(sent), headers=JSON)
        assert faults(answer) == expected

    async def test_many_faults_are_cut(self, api: Api) -> None:
        body = json.dumps({f"field_{n}": 1 for n in range(90)})
        answer = await api.http.post("/v1/projects", content=body, headers=JSON)
        document = problem(answer, 422, "invalid")
        assert len(document["errors"]) == 50

    async def test_a_flood_of_fields_is_one_fault(self, api: Api) -> None:
        body = json.dumps({f"field_{n}": 1 for n in range(100_000)})
        answer = await api.http.post("/v1/projects", content=body, headers=JSON)
        assert faults(answer) == {"": "has too many fields"}

    async def test_what_was_sent_is_not_sent_back(self, api: Api) -> None:
        secret = "sk-live-canary"
        bodies: list[dict[str, Any]] = [
            {"name": 1, "labeler": {"temperature": secret}},
            {"policy": {"kind": secret}},
            {"policy": {"kind": "fixed_threshold", "threshold": secret}},
            {"label_schema": {"kind": secret, "labels": [secret, secret]}},
            {"labeler": {"base_url": f"ftp://{secret}"}},
            {"review_lease_seconds": secret},
        ]
        for body in bodies:
            answer = await api.http.post("/v1/projects", json={**GOOD, **body})
            problem(answer, 422, "invalid")
            assert secret not in answer.text


class TestQueryParameters:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/projects",
            "/v1/keys",
            "/v1/projects/{project}",
            "/v1/projects/{project}/items",
            "/v1/projects/{project}/queue",
            "/v1/projects/{project}/stats",
        ],
    )
    async def test_an_unknown_one_is_refused(self, api: Api, path: str) -> None:
        # a misspelt filter that is not noticed lists everything
        project = await api.make_project()
        answer = await api.http.get(path.format(project=project), params={"limt": 5})
        assert faults(answer) == {"limt": "unknown parameter"}

    async def test_its_name_is_cut_and_spelled_out(self, api: Api) -> None:
        answer = await api.http.get("/v1/projects", params={"x" * 3000: "1"})
        assert list(faults(answer)) == ["x" * 100 + "…"]

    @pytest.mark.parametrize(
        "limit",
        ["0", "-1", "1001", "1e3", "1.5", "abc", "", "99999999999999999999999", "9" * 5000,
         "\u0663", "\uff15", "0x10", "true", "%00", "1;2", "null"],
    )  # fmt: skip
    async def test_a_limit_that_is_none(self, api: Api, limit: str) -> None:
        answer = await send_raw(
            api, raw_get(f"/v1/projects?limit={_quoted(limit)}", key=api.admin_key)
        )
        errors = answer.problem(422, "invalid")["errors"]
        assert [(error["in"], error["pointer"]) for error in errors] == [("query", "limit")]

    @pytest.mark.parametrize(
        "cursor",
        ["", "x", "AAAA", "%00", "é", "AAAAAAAAAAAAAAAAAAAAAA=", "../../etc/passwd",
         "AAAAAAAAAAAAAAAAAAAAA!", "' OR 1=1"],
    )  # fmt: skip
    async def test_a_cursor_that_is_none(self, api: Api, cursor: str) -> None:
        project = await api.make_project()
        for path in ("/v1/projects", f"/v1/projects/{project}/items"):
            target = f"{path}?cursor={_quoted(cursor)}"
            answer = await send_raw(api, raw_get(target, key=api.admin_key))
            answer.problem(400, "bad_cursor")


def _quoted(text: str) -> str:
    return "".join(c if c.isascii() and c not in " '" else _percent(c) for c in text)


@pytest.fixture(scope="module")
async def small(settings: Settings, api: Api) -> AsyncIterator[Api]:
    """The same service with room for small bodies only."""
    small = settings.model_copy(update={"max_body_bytes": 10_000})
    async with serve_api(small, admin_key=api.admin_key) as running:
        yield running


class TestLargeBodies:
    @staticmethod
    def body(size: int) -> bytes:
        body = json.dumps({"name": ""}).encode()
        return body.replace(b'""', b'"' + b"x" * (size - len(body)) + b'"')

    async def test_up_to_the_limit_it_is_read(self, small: Api) -> None:
        answer = await small.http.post("/v1/projects", content=self.body(10_000), headers=JSON)
        assert "/name" in faults(answer)

    async def test_beyond_it_is_413(self, small: Api) -> None:
        answer = await small.http.post("/v1/projects", content=self.body(10_001), headers=JSON)
        problem(answer, 413, "content_too_large")

    async def test_an_announcement_is_enough(self, small: Api) -> None:
        # and no "100 Continue" asks for the rest
        head = (
            f"POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.admin_key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 99999999999\r\n"
            "Expect: 100-continue\r\n\r\n"
        )
        (await send_raw(small, head.encode())).problem(413, "content_too_large")

    async def test_it_is_found_while_it_streams(self, small: Api) -> None:
        """No length is announced and the body never ends: the answer comes all the same."""
        head = (
            f"POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.admin_key}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
        answer = await send_raw(small, head.encode() + 3 * chunk)
        answer.problem(413, "content_too_large")

    async def test_a_client_that_streams_is_answered(self, small: Api) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 1000

        answer = await small.http.post("/v1/projects", content=chunks(), headers=JSON)
        problem(answer, 413, "content_too_large")

    async def test_a_length_too_small_gets_nothing_through(self, small: Api) -> None:
        request = (
            f"POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.admin_key}\r\n"
            'Content-Type: application/json\r\nContent-Length: 5\r\n\r\n{"name": "x"}'
        )
        assert (await send_raw(small, request.encode())).status == 400

    @pytest.mark.parametrize("length", ["-1", "5, 6", "0x10", "1e3", "five"])
    async def test_a_length_that_is_none_is_400(self, small: Api, length: str) -> None:
        request = (
            f"POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.admin_key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{{}}"
        )
        # the HTTP parser's own answer, before there is a request
        assert (await send_raw(small, request.encode())).status == 400

    async def test_length_and_chunks_together_are_not_believed(self, small: Api) -> None:
        # the way requests are smuggled past a proxy
        request = (
            f"POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.admin_key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 4\r\n"
            "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        )
        assert (await send_raw(small, request.encode())).status == 400

    async def test_without_a_key_it_is_401_however_large(self, small: Api) -> None:
        async with small.client(None) as http:
            answer = await http.post("/v1/projects", content=self.body(50_000), headers=JSON)
        problem(answer, 401, "unauthenticated")

    async def test_the_service_goes_on(self, small: Api) -> None:
        async def refused() -> int:
            body = self.body(500_000)
            answer = await small.http.post("/v1/projects", content=body, headers=JSON)
            return answer.status_code

        assert set(await asyncio.gather(*(refused() for _ in range(10)))) == {413}
        assert (await small.http.get("/v1/projects")).status_code == 200


class TestOurOwnMistakes:
    async def test_a_crash_tells_nothing_but_its_id(
        self, api: Api, sql: Sql, caplog: pytest.LogCaptureFixture
    ) -> None:
        project = await api.make_project()
        async with spoilt_project(sql, project):
            answer = await api.http.get(f"/v1/projects/{project}/agreement")
        document = problem(answer, 500, "internal_error")
        assert "labels" not in str(document)  # what the crash is about
        assert "SchemaError" in caplog.text

    async def test_neither_does_a_fault_in_the_database(self, api: Api, sql: Sql) -> None:
        await sql.rows("ALTER TABLE policies RENAME TO policies_away")
        try:
            answer = await api.http.get("/v1/projects")
        finally:
            await sql.rows("ALTER TABLE policies_away RENAME TO policies")
        problem(answer, 500, "internal_error")
        assert "policies" not in answer.text
        assert (await api.http.get("/v1/projects")).status_code == 200
