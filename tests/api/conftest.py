"""One API, database and model server a test module; tests keep apart by their projects.

The invariants are checked when a module's tests are over. What a test needs for itself (other
settings, a database to take away) it builds itself.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx2
import psycopg
import pytest

from app.access.bootstrap import ensure_first_key
from app.reports.invariants import check_invariants
from app.settings import Settings
from tests.support.api import Api, serve_api
from tests.support.labeling import LabelingSide
from tests.support.model_plays import FAULTS, seeded
from tests.support.model_server import ModelServer
from tests.support.openapi_snapshot import require_documented
from tests.support.sql import Sql

_TOLD = re.compile(r"(?P<label>[a-z ]+) at (?P<p>[01]\.?\d*)\b")
_otherwise = seeded()


def told(item: str, labels: Sequence[str]) -> Mapping[str, float]:
    """An item says itself what the model answers: `ham at 0.73` is ham, with that confidence."""
    found = _TOLD.search(item)
    if found is None:
        return _otherwise(item, labels)
    p = float(found["p"])
    rest = (1 - p) / (len(labels) - 1)
    return {label: p if label == found["label"] else rest for label in labels}


@pytest.fixture(scope="module")
async def database_url(
    new_database: Callable[[], AbstractContextManager[str]],
) -> AsyncIterator[str]:
    with new_database() as url:
        yield url
        assert await check_invariants(url) == []


@pytest.fixture(scope="module")
def model_server() -> Iterator[ModelServer]:
    """Answers as `told`; `unsure` in a text: without logprobs; `refused`: without a label."""
    with ModelServer(distribution=told) as server:
        server.rules = {
            "unsure": [FAULTS["null_logprobs"]],
            "refused": [FAULTS["refusal"]],
        }
        yield server


@pytest.fixture(scope="module")
def settings(
    database_url: str, model_server: ModelServer, make_settings: Callable[..., Settings]
) -> Settings:
    return make_settings(database_url=database_url, openai_base_url=model_server.url)


@dataclass(frozen=True)
class DocumentedApi(Api):
    """Holds every answer that a test gets against the OpenAPI document."""

    @asynccontextmanager
    async def client(self, key: str | None, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
        async with Api.client(self, key, **headers) as http:
            http.event_hooks["response"].append(require_documented)
            yield http


@pytest.fixture(scope="module")
async def api(settings: Settings) -> AsyncIterator[Api]:
    key = await ensure_first_key(settings.database_url)
    assert key is not None
    async with serve_api(settings, admin_key=key) as running:
        running.http.event_hooks["response"].append(require_documented)
        yield DocumentedApi(running.base_url, running.admin_key, running.http)


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
