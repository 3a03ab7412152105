"""One door to PostgreSQL: plain SQL on the hot routes, the ORM for ordinary work.

Both commit in one place each: `transaction()` and `session()` commit when their block ends and
roll back when it raises. Nothing else in the project commits. Plain SQL outside a transaction is
one statement that commits by itself: one round trip.
"""

from __future__ import annotations

import asyncio
import json
import select
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy import URL, MetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from app.infra import metrics

Connection = psycopg.AsyncConnection[DictRow]

# A transaction that idles holds the snapshot that kills the queue (1,434 claims/s fell to 197
# beside one idle transaction), so the server ends it; so with statements and lock waits that
# outlive any request.
SERVER_LIMITS = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    # A prepared statement keeps the plan it got while its tables were small, until they are
    # analysed again. Every hot statement has its index, so reading a whole table is never right.
    "enable_seqscan": "off",
    # Nor is planning anew for each call: it costs a claim 1.0 ms of 1.4, and every hot statement
    # is written so that one plan is right for all its arguments.
    "plan_cache_mode": "force_generic_plan",
    # compiling costs more than any of our statements
    "jit": "off",
}


# A server that vanished without a word (its host died, the network parted) is noticed by us: how
# long a connection may take to be made, and how long it may stay unanswered once made.
CONNECTION_LIMITS: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class Base(DeclarativeBase):
    """The tables. Names of constraints are fixed, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


_WRITE_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

# serialization failure, deadlock, lock not available
_CONTENDED = frozenset({"40001", "40P01", "55P03"})
# admin shutdown, crash shutdown, cannot connect now, database dropped
_STOPPING = frozenset({"57P01", "57P02", "57P03", "57P04"})
_TOO_SLOW = "57014"
_DISK_FULL = "53100"
# "invalid input syntax for type integer: …": the class whose messages quote what was sent
_DATA_EXCEPTION = "22"
_POOL_LOOK_SECONDS = 2.0


def sqlalchemy_url(database_url: str) -> URL:
    """The same database for SQLAlchemy, on the one driver the project uses.

    libpq itself reads the URL, so that both understand the same by it: sockets, several hosts, a
    service file, whatever is percent-encoded.
    """
    parameters = {name: str(value) for name, value in conninfo_to_dict(database_url).items()}
    several = parameters.get("host", "").count(",") + 1
    if "," not in parameters.get("port", ","):
        # libpq takes one port for all hosts, SQLAlchemy wants one for each
        parameters["port"] = ",".join([parameters["port"]] * several)
    return URL.create(
        "postgresql+psycopg",
        username=parameters.pop("user", None),
        password=parameters.pop("password", None),
        database=parameters.pop("dbname", None),
        query=parameters,
    )


def is_unavailable(error: BaseException) -> bool:
    """Whether the database could not be reached or dropped the connection: try again soon."""
    if isinstance(error, PoolTimeout):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (
            error.orig is not None and is_unavailable(error.orig)
        )
    if isinstance(error, psycopg.OperationalError):
        # no resources, connection exceptions, or a server that is stopping or starting; None: the
        # connection broke before the server could say anything. A statement that was cancelled
        # for its time (57014) found the server there.
        state = error.sqlstate
        return state is None or state[:2] in {"53", "08"} or state in _STOPPING
    return isinstance(error, psycopg.InterfaceError)


def is_contended(error: BaseException) -> bool:
    """Whether a transaction lost against another (deadlock, lock not had in time): try again."""
    if isinstance(error, DBAPIError):
        return error.orig is not None and is_contended(error.orig)
    return isinstance(error, psycopg.OperationalError) and error.sqlstate in _CONTENDED


def is_too_slow(error: BaseException) -> bool:
    """Whether the server ended a statement because it took too long."""
    if isinstance(error, DBAPIError):
        return error.orig is not None and is_too_slow(error.orig)
    return isinstance(error, psycopg.OperationalError) and error.sqlstate == _TOO_SLOW


def is_full(error: BaseException) -> bool:
    """Whether the server's disk has no room for what was to be written."""
    if isinstance(error, DBAPIError):
        return error.orig is not None and is_full(error.orig)
    return isinstance(error, psycopg.OperationalError) and error.sqlstate == _DISK_FULL


def describe(error: BaseException) -> str:
    """An error for the log: never its detail, which quotes the row that was refused."""
    name = type(error).__name__
    if not isinstance(error, psycopg.Error) or error.diag.message_primary is None:
        return name
    quotes = (error.sqlstate or "").startswith(_DATA_EXCEPTION)
    return name if quotes else f"{name}: {error.diag.message_primary}"


def json_rows(rows: Iterable[Mapping[str, Any]]) -> Jsonb:
    """The rows of a statement that reads them by jsonb_to_recordset.

    An array a column would need each element written out and escaped by itself.

    Raises:
        ValueError: a number is not finite.
    """
    return Jsonb(list(rows), dumps=_WRITE_JSON)


class Database:
    """The connections of one process; opened and closed on its event loop."""

    def __init__(
        self,
        database_url: str,
        *,
        pool_size: int,
        application_name: str,
        server_settings: Mapping[str, str] | None = None,
    ) -> None:
        """Connects to nothing before `open`.

        Args:
            database_url: of the database.
            pool_size: connections for plain SQL, at most.
            application_name: what the server's views call them.
            server_settings: of the server, for these connections, beside `SERVER_LIMITS`.
        """
        chosen = {**SERVER_LIMITS, **(server_settings or {})}
        options = " ".join(f"-c {name}={value}" for name, value in chosen.items())
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            database_url,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "prepare_threshold": 2,
                "options": options,
                "application_name": application_name,
                **CONNECTION_LIMITS,
            },
            connection_class=psycopg.AsyncConnection[DictRow],
            min_size=1,
            max_size=pool_size,
            timeout=5.0,
            max_lifetime=1800.0,
            # how long a pool tries before it says that the server is away; it goes on trying
            # with the next request
            reconnect_timeout=10.0,
            open=False,
        )
        self._engine = create_async_engine(
            sqlalchemy_url(database_url),
            pool_size=2,
            max_overflow=3,
            pool_timeout=5.0,
            pool_pre_ping=True,
            # its errors quote them
            hide_parameters=True,
            connect_args={
                "options": options,
                "application_name": f"{application_name}-orm",
                **CONNECTION_LIMITS,
            },
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._process = application_name.removeprefix("secondlook-")
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Starts the pool without waiting for the server: the process may be up before it."""
        await self._pool.open(wait=False)
        self._watch = asyncio.create_task(self._watch_pool())

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await self._pool.close()
        await self._engine.dispose()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection on which every statement commits by itself."""
        connection = await self._working_connection()
        try:
            async with connection:
                yield connection
        finally:
            await self._pool.putconn(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection whose statements commit together when the block ends."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """An ORM session that commits when the block ends."""
        async with self._sessions.begin() as session:
            yield session

    async def fetch_all(self, sql: str, parameters: dict[str, Any]) -> list[DictRow]:
        """Runs one statement that commits by itself; all its rows."""
        async with self.connection() as connection:
            cursor = await connection.execute(sql, parameters, prepare=True)
            return await cursor.fetchall()

    async def fetch_one(self, sql: str, parameters: dict[str, Any]) -> DictRow | None:
        """Runs one statement that commits by itself; its first row."""
        async with self.connection() as connection:
            cursor = await connection.execute(sql, parameters, prepare=True)
            return await cursor.fetchone()

    async def execute(self, sql: str, parameters: dict[str, Any]) -> None:
        """Runs one statement that commits by itself and gives back nothing."""
        async with self.connection() as connection:
            await connection.execute(sql, parameters, prepare=True)

    async def _watch_pool(self) -> None:
        while True:
            metrics.pool_looked_at(self._process, self._pool.pop_stats())
            await asyncio.sleep(_POOL_LOOK_SECONDS)

    async def _working_connection(self) -> Connection:
        """A connection that has not broken while it idled, however many have.

        The pool's own check would ask the server each time, and wait longer with each broken one.
        """
        while True:
            connection = await self._pool.getconn()
            try:
                if _was_told_something(connection):
                    await AsyncConnectionPool.check_connection(connection)
            except psycopg.Error:
                # the pool throws it away and makes another
                await self._pool.putconn(connection)
            except BaseException:
                await self._pool.putconn(connection)
                raise
            else:
                return connection


def _was_told_something(connection: Connection) -> bool:
    """Whether there is something to read on an idle connection: mostly that the server ends it."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
