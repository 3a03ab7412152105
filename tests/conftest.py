"""Real engines for every test that needs them: one PostgreSQL and one Valkey a test process.

A test that asks for `database_url` gets a database of its own, made from a migrated template; when
the test is over, every invariant is checked on it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from xdist.scheduler import LoadFileScheduling

from app.access.bootstrap import ensure_first_key
from app.infra import migrate
from app.infra.embedded import EmbeddedEngines
from app.reports.invariants import check_invariants
from app.settings import Settings
from tests.support.api import Api, serve_api
from tests.support.labeling import LabelingSide
from tests.support.model_server import ModelServer

_TEMPLATE = "secondlook_template"
_numbers = itertools.count(1)


def _named(url: str, database: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngines]:
    """This test process's engines: no test cuts the power, or waits for plans to change."""
    directory = tmp_path_factory.mktemp("engines")
    with EmbeddedEngines(
        directory, postgres_settings={"fsync": "off", "autovacuum": "off"}
    ) as running:
        migrate.upgrade(running.database_url)
        with psycopg.connect(_named(running.database_url, "postgres"), autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE secondlook RENAME TO {_TEMPLATE}")
        yield running


NewDatabase = Callable[[], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def new_database(engines: EmbeddedEngines) -> NewDatabase:
    """Makes fresh, migrated databases; each is there for the length of a `with` block."""

    @contextmanager
    def new() -> Iterator[str]:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(_named(engines.database_url, "postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
            yield _named(engines.database_url, name)
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    return new


@pytest.fixture
def make_database(new_database: NewDatabase) -> Iterator[str]:
    """The URL of a fresh, migrated database of the test's own."""
    with new_database() as url:
        yield url


@pytest.fixture
async def database_url(make_database: str) -> AsyncIterator[str]:
    """A fresh database whose invariants are checked when the test is over."""
    yield make_database
    violations = await check_invariants(make_database)
    assert violations == []


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A scripted model server on loopback."""
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="session")
def make_settings(engines: EmbeddedEngines) -> Callable[..., Settings]:
    """Settings as production has them, but quick: short leases, short delays."""

    def make(*, database_url: str, openai_base_url: str, **others: Any) -> Settings:
        quick: dict[str, Any] = {
            "redis_url": engines.redis_url,
            "openai_api_key": "sk-test-canary",
            "model": "scripted-test-model",
            "call_deadline_seconds": 2.0,
            "label_lease_seconds": 4.0,
            "retry_base_seconds": 0.02,
            "sweep_seconds": 0.2,
            "log_level": "WARNING",
        }
        return Settings(
            database_url=database_url, openai_base_url=openai_base_url, **(quick | others)
        )

    return make


@pytest.fixture
def settings(
    database_url: str, model_server: ModelServer, make_settings: Callable[..., Settings]
) -> Settings:
    """This test's settings."""
    return make_settings(database_url=database_url, openai_base_url=model_server.url)


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    """The API served by uvicorn on loopback, with an admin key."""
    key = await ensure_first_key(settings.database_url)
    assert key is not None
    async with serve_api(settings, admin_key=key) as running:
        yield running


@pytest.fixture
async def labeling(settings: Settings) -> AsyncIterator[LabelingSide]:
    """The labelling side of a worker, in this process: drains and sweeps on demand."""
    async with LabelingSide.open(settings) as side:
        yield side


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public data beside the checkout; tests that need it skip where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the shared data is not beside this checkout")
    return path


class _ByFile(LoadFileScheduling):  # type: ignore[misc]  # it ships no types
    """A file's tests run in one process; a folder's, whose files share what takes long to make."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "tests/seeing" if file.startswith("tests/seeing/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """How the tests are spread over processes, whatever `--dist` says."""
    return _ByFile(config, log)
