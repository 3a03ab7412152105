"""The service while its database is away, and after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from app.access.bootstrap import ensure_first_key
from app.access.keys import make_key
from app.infra import migrate
from app.infra.embedded import EmbeddedEngines
from app.settings import Settings
from tests.support.api import Api, serve_api
from tests.support.problems import problem
from tests.support.waiting import until


def unavailable(answer: httpx2.Response) -> None:
    problem(answer, 503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0


@pytest.fixture(scope="module")
async def nowhere(
    make_settings: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Api]:
    """A service that was started before its database."""
    directory: Path = tmp_path_factory.mktemp("nowhere")
    settings = make_settings(
        database_url=f"postgresql://nobody@/nothing?host={directory}",
        openai_base_url="http://127.0.0.1:9/v1",
    )
    async with serve_api(settings, admin_key=make_key(bytes(60))) as running:
        yield running


class TestBeforeItIsThere:
    async def test_it_is_alive_and_says_when_to_try_again(self, nowhere: Api) -> None:
        # both wait for a connection, so they wait together
        answer, ready = await asyncio.gather(
            nowhere.http.get("/v1/projects"),
            nowhere.http.get("/readyz", params={"verbose": ""}),
        )
        unavailable(answer)
        assert ready.status_code == 503
        assert int(ready.headers["retry-after"]) > 0
        assert ready.json()["status"] == "unavailable"
        assert ready.json()["dependencies"]["database"] == "unavailable"

    async def test_what_needs_no_database_is_answered(self, nowhere: Api) -> None:
        async with nowhere.client(None) as http:
            assert (await http.get("/livez")).json() == {"status": "ok"}
            assert (await http.get("/version")).status_code == 200
            problem(await http.get("/v1/projects"), 401, "unauthenticated")
            problem(await http.get("/v1/nothing"), 404, "not_found")


class TestWhileItServes:
    async def test_it_answers_503_and_heals(
        self, make_settings: Callable[..., Settings], tmp_path: Path
    ) -> None:
        with EmbeddedEngines(tmp_path, valkey=False, postgres_settings={"fsync": "off"}) as engines:
            migrate.upgrade(engines.database_url)
            settings = make_settings(
                database_url=engines.database_url, openai_base_url="http://127.0.0.1:9/v1"
            )
            key = await ensure_first_key(settings.database_url)
            assert key is not None
            async with serve_api(settings, admin_key=key) as api:
                project = await api.make_project()
                path = f"/v1/projects/{project}"
                body = {"external_id": "1", "text": "kept"}
                kept = (await api.http.post(f"{path}/items", json=body)).json()["id"]

                await asyncio.to_thread(engines.postgres.kill)
                for answer in await asyncio.gather(
                    # plain SQL, the ORM, a transaction
                    api.http.get(f"{path}/queue"),
                    api.http.get(path),
                    api.http.post(f"{path}/items", json={"text": "lost"}),
                ):
                    unavailable(answer)

                await asyncio.to_thread(engines.postgres.start)

                async def healed() -> bool:
                    return (await api.http.get(path)).status_code == 200

                await until(healed)
                items = await api.get(f"{path}/items")
                assert [item["id"] for item in items["data"]] == [kept]
                assert (await api.http.post(f"{path}/items", json=body)).status_code == 200
