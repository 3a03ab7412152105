"""The URLs an operator may write mean the same to every library that reads them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import redis
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, text

from app.infra.db import Database, sqlalchemy_url
from app.infra.embedded.valkey import bundled_server
from app.infra.jobs import LABELING_QUEUE, make_celery
from tests.embedded.support import eventually


def connect_arguments(url: str) -> dict[str, object]:
    """What SQLAlchemy would give to the driver."""
    engine = create_engine(sqlalchemy_url(url))
    arguments = dict(engine.dialect.create_connect_args(engine.url)[1])
    arguments.pop("context", None)  # SQLAlchemy's own types, not for libpq
    return arguments


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///db?host=/socket",
        "postgresql://me@/db?host=%2Fa%20socket&port=5433",
        "postgresql://me:p%40ss%25%2F@host:5433/db%20x?sslmode=require&options=-c%20jit%3Doff",
        "postgresql://me@one,two/db",
        "postgresql://me@one:1,two:2/db?target_session_attrs=any",
        "postgresql://me@[::1]:5433/db",
        "postgresql://me@[::1]:1,[::2]:2/db",
        "postgresql://?service=secondlook",
        "postgres://me@host?dbname=db",
    ],
)
def test_sqlalchemy_connects_to_what_libpq_reads(url: str) -> None:
    assert connect_arguments(url) == conninfo_to_dict(url)


def test_one_port_for_several_hosts() -> None:
    arguments = connect_arguments("postgresql://me@one,two/db?port=5433")
    assert (arguments["host"], arguments["port"]) == ("one,two", "5433,5433")


async def test_a_socket_with_nothing_between_the_slashes(database_url: str) -> None:
    parts = urlsplit(database_url)
    url = f"postgresql://{parts.path}?{parts.query}&user={parts.username}"
    assert url.startswith("postgresql:///")
    engine = create_engine(sqlalchemy_url(url))
    with engine.connect() as connection:
        named = connection.execute(text("SELECT current_database()")).scalar_one()
    engine.dispose()
    assert named == parts.path.removeprefix("/")
    database = Database(url, pool_size=1, application_name="test")
    await database.open()
    async with database.session() as session:
        assert (await session.execute(text("SELECT current_database()"))).scalar_one() == named
    assert await database.fetch_one("SELECT current_database() AS name", {}) == {"name": named}
    await database.close()


class TestBroker:
    PASSWORD = "p@ss:w/o?#%41 "

    @pytest.fixture
    def url(self, tmp_path: Path) -> Iterator[str]:
        socket = tmp_path / "a socket"
        options = ("--port", "0", "--unixsocket", str(socket), "--save", "")
        command = [str(bundled_server()), *options, "--requirepass", self.PASSWORD]
        server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        try:
            eventually(socket.exists)
            yield f"unix://:{quote(self.PASSWORD, safe='')}@{quote(str(socket))}?db=2"
        finally:
            server.kill()
            server.wait()

    def test_a_socket_with_a_password(self, url: str) -> None:
        celery = make_celery(url)
        celery.send_task("nothing", queue=LABELING_QUEUE)
        celery.close()
        with redis.Redis.from_url(url) as client:
            assert client.llen(LABELING_QUEUE) == 1
