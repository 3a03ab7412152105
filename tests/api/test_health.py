"""What is told without a key: health, version, metrics, and the id of a request."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Sequence

import httpx2
import pytest
from fastapi.responses import StreamingResponse

from app.infra.db import Database
from app.main import create_app
from app.reports.facts import Facts, ServiceFacts
from app.settings import Settings
from tests.seeing.support import labels, samples
from tests.support.api import Api, serve_api, serve_app
from tests.support.labeling import LabelingSide
from tests.support.sql import Sql
from workers.sweeper import active


class TestMetrics:
    async def test_need_no_key(self, api: Api) -> None:
        async with api.client(None) as http:
            answer = await http.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert samples(answer.text)["secondlook_database_up"][labels()] == 1

    async def test_count_a_request_once_by_its_template(self, api: Api) -> None:
        async def counted() -> dict[frozenset[tuple[str, str]], float]:
            told = samples((await api.http.get("/metrics")).text)
            return told.get("secondlook_http_request_seconds_count", {})

        project = await api.make_project()
        before = await counted()
        await api.get(f"/v1/projects/{project}")
        await api.http.get("/v1/projects/prj_nobody")
        await api.http.get("/v1/nothing/at/all")
        after = await counted()
        new = {key: n - before.get(key, 0) for key, n in after.items() if n != before.get(key)}
        route = "/v1/projects/{project_id}"
        assert new == {
            labels(method="GET", route=route, status="200"): 1,
            labels(method="GET", route=route, status="404"): 1,
            labels(method="GET", route="none", status="404"): 1,
            labels(method="GET", route="/metrics", status="200"): 1,
        }


class TestFacts:
    @pytest.fixture
    async def facts(self, database_url: str) -> AsyncIterator[ServiceFacts]:
        """Those of this database, looked up anew each time."""
        database = Database(database_url, pool_size=2, application_name="secondlook-test")
        await database.open()
        yield ServiceFacts(database, seconds=0)
        await database.close()

    async def now(self, facts: ServiceFacts) -> Facts:
        found = await facts.get()
        assert found is not None
        return found

    async def test_a_deleted_project_takes_its_items_and_not_what_was_done(
        self, api: Api, labeling: LabelingSide, facts: ServiceFacts
    ) -> None:
        kept, deleted = await api.make_project(), await api.make_project()
        before = await self.now(facts)
        for project, count in ((kept, 2), (deleted, 3)):
            await api.send_items(project, [f"text {n}" for n in range(count)])
            await labeling.drain(project)
        both = await self.now(facts)
        assert both.labeled == before.labeled + 5
        assert both.queue_depth == before.queue_depth + 5
        assert (await api.http.delete(f"/v1/projects/{deleted}")).status_code == 204
        after = await self.now(facts)
        assert after.labeled == both.labeled
        assert after.queue_depth == both.queue_depth - 3

    async def test_what_waits_has_an_age(
        self, api: Api, facts: ServiceFacts, sql: Sql, labeling: LabelingSide
    ) -> None:
        project = await api.make_project()
        (item,) = await api.send_items(project, ["text"])
        await sql.rows(
            "UPDATE items SET created_at = now() - interval '1 hour' WHERE state = 'pending'"
        )
        found = await self.now(facts)
        assert 3600 <= found.oldest_pending_seconds < 7200
        await labeling.drain(project)
        found = await self.now(facts)
        assert found.oldest_pending_seconds == 0
        assert 3600 <= found.oldest_in_review_seconds < 7200
        assert (await api.get(f"/v1/items/{item}"))["state"] == "in_review"

    async def test_a_leased_slot_waits_for_nobody(self, api: Api, facts: ServiceFacts) -> None:
        before = await self.now(facts)
        projects = (await api.get("/v1/projects"))["data"]
        claimed = [each for project in projects for each in await api.claim(project["id"])]
        assert claimed
        after = await self.now(facts)
        assert after.leased == before.leased + len(claimed)
        assert after.queue_depth == before.queue_depth - len(claimed)

    async def test_a_sweeper_is_seen(self, facts: ServiceFacts, database_url: str) -> None:
        assert not (await self.now(facts)).sweeping
        async with active(database_url):
            assert (await self.now(facts)).sweeping
        assert not (await self.now(facts)).sweeping

    async def test_are_looked_up_once_for_all_who_ask_within_some_seconds(
        self, api: Api, database_url: str
    ) -> None:
        database = Database(database_url, pool_size=2, application_name="secondlook-test")
        await database.open()
        facts = ServiceFacts(database, seconds=3600)
        first = await facts.get()
        await api.send_items(await api.make_project(), ["one more"])
        assert await facts.get() is first
        await database.close()


class TestRequestIds:
    """Told by the access log, which is off unless it is asked for."""

    async def lines(
        self,
        api: Api,
        settings: Settings,
        capsys: pytest.CaptureFixture[str],
        ids: Sequence[str | None],
    ) -> list[dict[str, object]]:
        """The access log of requests with these ids of the caller's, on one connection."""
        logged = settings.model_copy(update={"access_log": True})
        async with serve_api(logged, admin_key=api.admin_key) as loud:
            capsys.readouterr()
            for each in ids:
                headers = {} if each is None else {b"X-Request-Id": each.encode("latin-1")}
                await loud.http.get("/version", headers=headers)
            said = capsys.readouterr().err
        return [json.loads(line) for line in said.splitlines() if "secondlook.access" in line]

    async def test_a_callers_sane_word_stands_beside_ours(
        self, api: Api, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = await self.lines(api, settings, capsys, ["trace-1:a.b_C", None])
        assert lines[0]["caller_request_id"] == "trace-1:a.b_C"
        # and on the request's lines only
        assert "caller_request_id" not in lines[1]
        assert all(str(line["request_id"]).startswith("req_") for line in lines)
        assert lines[0]["request_id"] != lines[1]["request_id"]
        assert lines[0].items() >= {"route": "/version", "method": "GET", "status": 200}.items()

    @pytest.mark.parametrize("word", ["", "a b", 'a"b', "x" * 129, "\u00e9", "a\tb", "{}"])
    async def test_of_no_other_word_is_anything_logged(
        self, api: Api, settings: Settings, capsys: pytest.CaptureFixture[str], word: str
    ) -> None:
        (line,) = await self.lines(api, settings, capsys, [word])
        assert "caller_request_id" not in line

    async def test_nothing_is_logged_unless_it_is_asked_for(
        self, api: Api, capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        await api.http.get("/version")
        assert "/version" not in capsys.readouterr().err


class TestACrashAfterTheAnswerBegan:
    async def test_is_one_line_of_the_server_and_ends_the_connection(
        self, api: Api, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = create_app(settings)

        async def answer() -> StreamingResponse:
            async def body() -> AsyncIterator[bytes]:
                yield b"begun"
                raise ValueError("s3cret")

            return StreamingResponse(body())

        app.add_api_route("/breaks", answer)
        logging.getLogger().addHandler(caplog.handler)
        async with serve_app(app, admin_key=api.admin_key) as breaking:
            with pytest.raises(httpx2.HTTPError):
                await breaking.http.get("/breaks")
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert [record.name for record in errors] == ["uvicorn.error"]
