"""Every PostgreSQL of this machine: the wheel's, and whatever else is installed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from app.infra.embedded import EmbeddedEngines

WHEEL = "wheel"
OTHERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
SERVERS: list[str | Path] = [WHEEL, *OTHERS] if OTHERS else [WHEEL, "none other"]
_numbers = itertools.count(1)

EmptyDatabase = Callable[[], AbstractContextManager[str]]


@pytest.fixture(
    scope="module",
    params=SERVERS,
    ids=lambda programs: programs.parent.name if isinstance(programs, Path) else str(programs),
)
def server(
    request: pytest.FixtureRequest,
    engines: EmbeddedEngines,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of a server."""
    if request.param == WHEEL:
        yield engines.database_url
    elif not isinstance(request.param, Path):
        pytest.skip("no other PostgreSQL is installed in /usr/lib/postgresql")
    else:
        with EmbeddedEngines(
            tmp_path_factory.mktemp("other"),
            valkey=False,
            postgres_programs=request.param,
            postgres_settings={"fsync": "off"},
        ) as others:
            yield others.database_url


@pytest.fixture(scope="module")
def empty_database(server: str) -> EmptyDatabase:
    """Makes databases with nothing in them; each is there for the length of a `with` block."""

    @contextmanager
    def new() -> Iterator[str]:
        name = f"empty_{next(_numbers)}"
        parts = urlsplit(server)
        with psycopg.connect(
            urlunsplit(parts._replace(path="/postgres")), autocommit=True
        ) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
            yield urlunsplit(parts._replace(path=f"/{name}"))
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    return new
