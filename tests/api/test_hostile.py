"""What a hostile client would try: nothing of it is a crash, and the service goes on."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gzip
import json
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx2
import pytest

from tests.api.test_matrix import TABLE
from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.problems import problem
from tests.support.raw import raw_get, send_raw

JSON = {"Content-Type": "application/json"}


class TestOnTheWire:
    @pytest.mark.parametrize(
        "request_line",
        [
            # targets that other servers have read as something else
            "GET http://evil.test/v1/projects HTTP/1.1",
            "GET //evil.test/v1/projects HTTP/1.1",
            "GET /v1/projects/%00 HTTP/1.1",
            "GET /v1/projects/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1",
            "GET /v1/projects/%0d%0aX-Injected:%201 HTTP/1.1",
            "GET /v1/projects/%E0%80%AF HTTP/1.1",
            "GET /v1/projects?limit=1%00 HTTP/1.1",
            "GET /v1/projects?cursor=%0d%0aSet-Cookie:%20a=b HTTP/1.1",
            "GET /v1/projects?%ff=%fe HTTP/1.1",
            "GET /v1/projects?" + "&" * 5000 + " HTTP/1.1",
            "GET /v1/projects?" + "a=1&" * 5000 + " HTTP/1.1",
            "GET /" + "a/" * 20_000 + " HTTP/1.1",
            # not quite HTTP
            "GET /v1/projects HTTP/1.0",
            "GET /v1/projects HTTP/9.9",
            "GET /v1/projects",
            "get /v1/projects HTTP/1.1",
            "CONNECT evil.test:443 HTTP/1.1",
            "PRI * HTTP/2.0",
            "OPTIONS * HTTP/1.1",
            "\x16\x03\x01\x02\x00\x01",
        ],
    )
    async def test_a_strange_request_is_refused(self, api: Api, request_line: str) -> None:
        head = f"{request_line}\r\nHost: x\r\nAuthorization: Bearer {api.admin_key}\r\n\r\n"
        answer = await send_raw(api, head.encode("latin-1"))
        assert answer.status < 500
        assert "x-injected" not in answer.headers
        assert "set-cookie" not in answer.headers
        assert b"root:" not in answer.body
        assert b"Traceback" not in answer.body

    @pytest.mark.parametrize(
        "headers",
        [
            "X-Large: " + "a" * 60_000,
            "\r\n".join(f"X-{n}: {n}" for n in range(2000)),
            "X-Nul: a\0b",
            "X-High: \xff\xfe",
            "X-Folded: a\r\n b",
            "X Space: 1",
            ": nameless",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked, chunked",
            "Content-Type: application/json; charset=\xff",
            "Cookie: " + "a=b; " * 5000,
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbQ==",
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
            "X-Forwarded-For: 1.2.3.4, ::1\r\nX-Forwarded-Host: evil.test\r\nForwarded: for=evil",
            "X-Original-URL: /v1/keys\r\nX-HTTP-Method-Override: DELETE",
            "Range: bytes=0-0,1-1,-1",
            "If-None-Match: " + '"a",' * 5000,
        ],
        ids=lambda headers: headers[:24],
    )
    async def test_strange_headers_open_nothing(self, api: Api, headers: str) -> None:
        head = f"GET /v1/keys HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n"
        answer = await send_raw(api, head.encode("latin-1"))
        assert answer.status in {400, 401, 431}
        assert b"evil" not in answer.body

    async def test_a_header_too_large_to_keep_ends_the_connection_only(self, api: Api) -> None:
        request = raw_get("/v1/projects", key=api.admin_key, X_Large="a" * 5_000_000)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            assert (await send_raw(api, request)).status < 500
        assert (await api.http.get("/v1/projects")).status_code == 200

    async def test_a_client_that_hangs_up_harms_nobody(self, api: Api) -> None:
        host, _, port = api.base_url.removeprefix("http://").partition(":")
        for beginning in (b"", b"POST /v1/projects HTTP/1.1\r\nHost: x\r\nContent-Le"):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(beginning)
            writer.transport.abort()
        assert (await api.http.get("/v1/projects")).status_code == 200

    async def test_a_compressed_body_is_never_unpacked(self, api: Api) -> None:
        bomb = gzip.compress(b'{"name": "' + b"x" * 30_000_000 + b'"}')
        answer = await api.http.post(
            "/v1/projects", content=bomb, headers={**JSON, "Content-Encoding": "gzip"}
        )
        problem(answer, 400, "bad_request")

    async def test_other_encodings_of_json_are_read_or_refused(self, api: Api) -> None:
        for encoding in ("utf-16", "utf-32", "utf-16-be", "utf-7", "cp037"):
            body = json.dumps({"name": 1}).encode(encoding)
            answer = await api.http.post("/v1/projects", content=body, headers=JSON)
            # as the standard library reads it, never as something that it is not
            assert answer.status_code in {400, 422}, encoding


class TestTextThatWouldBeCode:
    TEXTS = (
        "'; DROP TABLE items; --",
        '"; SELECT pg_sleep(10); --',
        "%s %(x)s %d %%",
        "{0.__class__} {x} ${jndi:ldap://evil}",
        "{{ 7 * 7 }} {% for %}",
        "<script>alert(1)</script>",
        "=cmd|'/c calc'!A0",
        "\u202e\u2066\ufeff\u200b",
        "\\\\ \\' \\x00 \\u0000 %00",
        "null",
    )

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    async def test_is_text_wherever_it_stands(
        self, api: Api, labeling: LabelingSide, text: str
    ) -> None:
        labels = {
            "kind": "single_choice",
            "labels": ["ham", text.strip("\u202e\u2066\ufeff\u200b") or "x"],
        }
        body = {"name": text, "label_schema": labels, "labeler": {"instructions": text}}
        answer = await api.http.post("/v1/projects", json=body)
        assert answer.status_code == 201, answer.text
        project = answer.json()
        assert project["name"] == text
        assert project["labeler"]["instructions"] == text
        path = f"/v1/projects/{project['id']}"
        row = {"external_id": text, "text": text, "metadata": {text: text}}
        item = (await api.http.post(f"{path}/items", json=row)).json()
        assert (item["external_id"], item["content"]["text"]) == (text, text)
        assert item["metadata"] == {text: text}
        await labeling.drain(project["id"])
        (held,) = (await api.http.post(f"{path}/claims", json={})).json()["data"]
        assert held["item"]["content"]["text"] == text
        verdict = {"lease_token": held["lease_token"], "label": "ham", "comment": text}
        answer = await api.http.post(f"/v1/assignments/{held['id']}/submit", json=verdict)
        assert answer.status_code == 200
        found = await api.get(f"{path}/items", external_id=text)
        assert [each["id"] for each in found["data"]] == [item["id"]]


HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, 5e-324,
    float("nan"), float("inf"), -float("inf"), "", " ", "\0", "\ud800", "\udfff\ud800", "0", "1e5",
    "x" * 300, "é" * 70_000, "../..", "' OR 1=1 --", "%s", "${x}", "\u202e", "\uffff", [], [[]],
    [None] * 2000, [[[[[[[[[[[[]]]]]]]]]]]], {}, {"": {}}, {"\ud800": 1}, {"kind": "review_all"},
    {"__proto__": {}}, {"$ref": "#"}, {"a" * 5000: 1},
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a JSON value."""
    yield path
    if isinstance(value, dict):
        keys: Iterable[Any] = value
    else:
        keys = range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from places(value[key], (*path, key))


def spoilt(body: Any, rng: random.Random) -> Any:
    """The body with something hostile in some place of it: instead, beside, or as a name."""
    body = copy.deepcopy(body)
    *way, last = rng.choice(list(places(body))) or ("",)
    parent = body
    for key in way:
        parent = parent[key]
    evil = rng.choice(HOSTILE)
    if last == "":
        return evil
    action = rng.choice(("instead", "beside", "gone"))
    if isinstance(parent, dict) and action == "beside":
        parent[rng.choice(("\ud800", "\0", "id", "x" * 300, "__class__"))] = evil
    elif action == "gone":
        del parent[last]
    else:
        parent[last] = evil
    return body


GOOD_BODIES: dict[str, Any] = {
    "/v1/projects": {
        "name": "x",
        "label_schema": {
            "kind": "single_choice",
            "labels": ["a", {"name": "b", "description": "c"}, "d"],
        },
        "labeler": {
            "model": "m", "base_url": "http://localhost/v1", "instructions": "i",
            "temperature": 0.0, "top_logprobs": 5, "max_tokens": 10,
        },
        "policy": {"kind": "fixed_threshold", "threshold": 0.5},
        "review_lease_seconds": 5,
        "audit_probability": 0.5,
    },
    "/v1/projects/{project}/policies": {"kind": "fixed_threshold", "threshold": 0.5},
    "/v1/projects/{project}/label-schemas": {
        "label_schema": {
            "kind": "single_choice",
            "labels": ["a", {"name": "b", "description": "c"}, "d"],
        }
    },
    "/v1/projects/{project}/labelers": {
        "model": "m", "source": "self_consistency", "api": "responses", "template": "{a}: {b}",
        "examples": [{"fields": {"a": 1, "b": None}, "label": "ham"}], "votes": 3,
        "reasoning_effort": "low", "limits": {"requests_per_minute": 5, "tokens_per_minute": 9},
        "prices": {"input_per_million": 1.5, "output_per_million": 0, "currency": "EUR"},
    },
    "/v1/projects/{project}/predictions": {
        "producer": "another model",
        "predictions": [
            {"item_id": "itm_01h455vb4pex5vsknk084sn02q", "label": "ham", "confidence": 0.5},
            {"external_id": "x", "label": "ham", "probabilities": {"ham": 0.5, "spam": 0.25}},
        ],
    },
    "/v1/projects/{project}/items": {
        "external_id": "x",
        "messages": [{"role": "user", "content": "x"}],
        "metadata": {"a": [1, {"b": None}]},
    },
    "/v1/projects/{project}/items/bulk": {
        "items": [{"text": "x", "metadata": {"a": 1}}, {"external_id": "y", "text": "y"}]
    },
    "/v1/projects/{project}/budget": {"monthly_limit": 2.5},
    "/v1/labelers/{labeler}/preview": {"item": {"fields": {"a": 1, "b": "x"}}},
    "/v1/projects/{project}/claims": {"limit": 1},
    "/v1/assignments/{assignment}/renew": {"lease_token": "0" * 32},
    "/v1/assignments/{assignment}/submit": {
        "lease_token": "0" * 32, "label": "ham", "comment": "c",
    },
    "/v1/keys": {
        "name": "x", "scopes": ["read", "reviewer"], "projects": ["prj_01h455vb4pex5vsknk084sn02q"],
        "may_name_reviewer": True, "expires_at": "2030-01-01T00:00:00Z",
    },
}  # fmt: skip


class TestFuzz:
    """Seeded, so that what is found is found again."""

    ROUNDS = 15

    async def _make(self, api: Api, labeling: LabelingSide) -> dict[str, str]:
        project = await api.make_project()
        (item,) = await api.send_items(project, ["ham at 0.5"])
        await labeling.drain(project)
        (held,) = await api.claim(project)
        labeler = (await api.get(f"/v1/projects/{project}"))["labeler"]["id"]
        return {
            "project": project, "item": item, "assignment": held["id"], "labeler": labeler
        }  # fmt: skip

    def test_every_route_with_a_body_is_fuzzed(self) -> None:
        with_body = [name for name, case in TABLE.items() if case.body is not None]
        # release and skip take what renew takes
        assert len(GOOD_BODIES) == len(with_body) - 2

    @pytest.mark.parametrize("path", GOOD_BODIES)
    async def test_no_body_is_a_crash(self, api: Api, labeling: LabelingSide, path: str) -> None:
        ids = await self._make(api, labeling)
        await self._fuzz(
            lambda rng: api.http.request(
                "PUT" if path.endswith("/budget") else "POST",
                path.format(**ids),
                content=json.dumps(spoilt(GOOD_BODIES[path], rng)),
                headers=JSON,
            ),
            seed=path,
        )

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/projects",
            "/v1/projects/{project}/items",
            "/v1/projects/{project}/queue",
            "/v1/items/{item}/predictions",
        ],
    )
    async def test_no_query_is_a_crash(self, api: Api, labeling: LabelingSide, path: str) -> None:
        ids = await self._make(api, labeling)
        names = (
            "limit", "cursor", "state", "route", "label", "final_label", "external_id", "include",
            "min_confidence", "max_confidence", "confidence_unknown", "metadata",
        )  # fmt: skip

        def ask(rng: random.Random) -> Any:
            texts = [value for value in HOSTILE if isinstance(value, str | int | float)]
            texts += [json.dumps(value) for value in HOSTILE]
            query = {rng.choice(names): self._text(rng.choice(texts)) for _ in range(2)}
            return api.http.get(path.format(**ids), params=query)

        await self._fuzz(ask, seed=path)

    @staticmethod
    def _text(value: Any) -> str:
        return str(value)[:3000].encode("utf-8", "replace").decode()

    async def _fuzz(self, ask: Callable[[random.Random], Any], *, seed: str) -> None:
        rng = random.Random(seed)
        statuses: set[int] = set()
        for _ in range(self.ROUNDS):
            answer: httpx2.Response = await ask(rng)
            assert answer.status_code < 500, (answer.request.url, answer.request.content[:500])
            statuses.add(answer.status_code)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
        # it has to reach what it fuzzes
        assert 422 in statuses
