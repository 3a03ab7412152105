"""The commands' client: patient where a request may be repeated, plain about what it was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx2
import pytest

from app.client import ServiceClient, ServiceError
from app.commands.label_trouble import hinted

Script = Sequence[httpx2.Response | Exception]
AWAY = httpx2.Response(503, json={"detail": "later"}, headers={"Retry-After": "0"})
FINE = httpx2.Response(200, json={"fine": True})


class Server:
    """Answers from a script; the last answer stays."""

    def __init__(self, script: Script) -> None:
        self._script = list(script)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)


def client_of(
    server: Callable[[httpx2.Request], httpx2.Response], patience: float
) -> ServiceClient:
    transport = httpx2.MockTransport(server)
    http = httpx2.AsyncClient(base_url="http://service.test", transport=transport)
    return ServiceClient(http, patience=patience)


class TestPatience:
    @pytest.mark.parametrize("trouble", [AWAY, httpx2.ConnectError("refused")])
    async def test_what_may_be_repeated_is(self, trouble: httpx2.Response | Exception) -> None:
        server = Server([trouble, trouble, FINE])
        client = client_of(server, 60)
        assert await client.get("/x") == {"fine": True}
        assert len(server.requests) == 3
        server = Server([trouble, FINE])
        await client_of(server, 60).post("/x", b"[1]", repeatable=True)
        assert [request.content for request in server.requests] == [b"[1]", b"[1]"]

    async def test_what_may_not_is_sent_once(self) -> None:
        server = Server([AWAY, FINE])
        with pytest.raises(ServiceError, match="/x: later"):
            await client_of(server, 60).post("/x", {"a": 1})
        assert len(server.requests) == 1

    async def test_without_patience_everything_is(self) -> None:
        server = Server([httpx2.ConnectError("refused"), FINE])
        with pytest.raises(ServiceError, match=r"service at http://service.test can't be reached"):
            await client_of(server, 0).get("/x")

    async def test_a_refusal_stays_one(self) -> None:
        refusal = httpx2.Response(422, json={"detail": "labels: too many", "code": "invalid"})
        server = Server([refusal])
        with pytest.raises(ServiceError, match="/x: labels: too many") as caught:
            await client_of(server, 60).get("/x")
        assert (caught.value.status, caught.value.code, len(server.requests)) == (422, "invalid", 1)


class TestAnswers:
    @pytest.mark.parametrize("body", [b"<html>", b"[1]"])
    async def test_another_server_is_told_from_a_service(self, body: bytes) -> None:
        server = Server([httpx2.Response(200, content=body)])
        with pytest.raises(ServiceError, match="is no Secondlook service"):
            await client_of(server, 0).get("/x")

    async def test_a_page_that_is_no_problem_document(self) -> None:
        server = Server([httpx2.Response(404, content=b"<html>")])
        with pytest.raises(ServiceError, match="/x: status 404"):
            await client_of(server, 0).get("/x")

    async def test_pages_to_the_end(self) -> None:
        pages = [
            httpx2.Response(200, json={"data": [{"n": 1}], "has_more": True, "next_cursor": "c"}),
            httpx2.Response(200, json={"data": [{"n": 2}], "has_more": False, "next_cursor": None}),
        ]
        server = Server(pages)
        found = [page async for page in client_of(server, 0).pages("/x", limit=1)]
        assert found == [[{"n": 1}], [{"n": 2}]]
        assert str(server.requests[1].url.query, "ascii") == "limit=1&cursor=c"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "the model server answered 401",
            "the model server answered 401; is OPENAI_API_KEY right?",
        ),
        # what the server says itself is no mark
        (
            "the model server answered 503: try 404 or 401 later",
            "the model server answered 503: try 404 or 401 later.",
        ),
        ("the model server could not be reached: X", "X; is the base URL right, and does"),
        # a number that is no status is none
        ("it took 4010 ms", "it took 4010 ms."),
        ("The model refused to answer.", "The model refused to answer."),
    ],
)
def test_errors_come_with_what_they_mostly_mean(error: str, words: str) -> None:
    assert words in hinted(error)
