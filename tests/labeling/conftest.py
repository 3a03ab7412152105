"""One API, database and model server a test module; tests keep apart by their projects.

The invariants are checked when a module's tests are over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest

from app.access.bootstrap import ensure_first_key
from app.reports.invariants import check_invariants
from app.settings import Settings
from tests.labeling.support import Stage
from tests.support.api import Api, serve_api
from tests.support.labeling import LabelingSide
from tests.support.model_plays import Answer, seeded
from tests.support.model_server import ModelServer
from tests.support.model_wires import CHAT
from tests.support.sql import Sql


@pytest.fixture(scope="module")
async def database_url(
    new_database: Callable[[], AbstractContextManager[str]],
) -> AsyncIterator[str]:
    with new_database() as url:
        yield url
        assert await check_invariants(url) == []


@pytest.fixture(scope="module")
def running_model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def model_server(running_model_server: ModelServer) -> ModelServer:
    """The module's server with nothing remembered, which answers well unless told otherwise."""
    server = running_model_server
    server.accept()
    server.latency = 0
    server.script = []
    server.rules = {}
    server.default = [Answer()]
    server.distribution = seeded()
    server.interfaces = (CHAT,)
    server.labels = None
    server.calls.clear()
    server.calls_per_item.clear()
    server.bad_requests.clear()
    server.count = 0
    server.max_in_flight = 0
    return server


@pytest.fixture(scope="module")
def settings(
    database_url: str,
    running_model_server: ModelServer,
    make_settings: Callable[..., Settings],
) -> Settings:
    """Deadlines that only a broken test meets: a busy machine is no fault."""
    return make_settings(
        database_url=database_url,
        openai_base_url=running_model_server.url,
        call_deadline_seconds=60.0,
        label_lease_seconds=90.0,
    )


@pytest.fixture(scope="module")
async def api(settings: Settings) -> AsyncIterator[Api]:
    key = await ensure_first_key(settings.database_url)
    assert key is not None
    async with serve_api(settings, admin_key=key) as running:
        yield running


@pytest.fixture(scope="module")
async def labeling(settings: Settings) -> AsyncIterator[LabelingSide]:
    async with LabelingSide.open(settings) as side:
        yield side


@pytest.fixture(scope="module")
async def sql(database_url: str) -> AsyncIterator[Sql]:
    """The database itself, to see what is stored and to turn its hands of time."""
    connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
    async with connection:
        yield Sql(connection)


@pytest.fixture
def stage(api: Api, labeling: LabelingSide, model_server: ModelServer, sql: Sql) -> Stage:
    return Stage(api, labeling, model_server, sql)
