"""The whole service as processes on engines of its own, to be broken part by part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from app.access.bootstrap import ensure_first_key
from app.infra import migrate
from app.infra.embedded import EmbeddedEngines
from app.settings import Settings
from tests.support import processes
from tests.support.api import Api
from tests.support.model_server import ModelServer
from tests.support.processes import Program


@dataclass(frozen=True)
class Service:
    """Everything that runs.

    Attributes:
        directory: of its logs; the engines' data is in `engines` of it.
        engines: PostgreSQL and Valkey, of this service alone.
        settings: what the programs were started with.
        model: the scripted model server.
        server, worker, sweeper: the programs.
        api: a client of the server.
    """

    directory: Path
    engines: EmbeddedEngines
    settings: Settings
    model: ModelServer
    server: Program
    worker: Program
    sweeper: Program
    api: Api
    _connections: list[psycopg.AsyncConnection[DictRow]] = field(default_factory=list)

    async def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """What the database says, on a connection that is made anew where it was broken."""
        if self._connections and not self._connections[-1].broken:
            with suppress(psycopg.OperationalError):
                return await self._ask(statement, parameters)
        self._connections.append(
            await psycopg.AsyncConnection.connect(
                self.settings.database_url,
                autocommit=True,
                application_name="test",
                row_factory=dict_row,
            )
        )
        return await self._ask(statement, parameters)

    async def _ask(self, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        cursor = await self._connections[-1].execute(statement.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    async def close(self) -> None:
        """Leaves the database."""
        for connection in self._connections:
            await connection.close()
        self._connections.clear()

    async def value(self, statement: str, **parameters: Any) -> Any:
        """The one value of a query."""
        (row,) = await self.rows(statement, **parameters)
        (found,) = row.values()
        return found

    async def break_connections(self) -> None:
        """Terminates every backend of the service, as a restart of PostgreSQL does."""
        await self.rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name LIKE 'secondlook-%%'"
        )

    async def until_value(
        self,
        statement: str,
        expected: Any,
        *,
        patience: float = processes.PATIENCE,
        **parameters: Any,
    ) -> None:
        """Until a query says so; a statement's parameters by name."""
        async with asyncio.timeout(patience):
            while (found := await self.value(statement, **parameters)) != expected:  # noqa: ASYNC110  # polled
                await asyncio.sleep(0.05)
        assert found == expected


@asynccontextmanager
async def running_service(
    directory: Path,
    *,
    settings: Mapping[str, Any],
    worker_processes: int = 2,
    broker: bool = True,
) -> AsyncIterator[Service]:
    """A service whose API answers; worker and sweeper are for the test to start.

    Args:
        directory: for engines and logs.
        settings: beside those that name the engines and the model.
        worker_processes: children of the worker.
        broker: False: nobody has ever listened where it should be.
    """
    async with AsyncExitStack() as stack:
        engines = stack.enter_context(
            EmbeddedEngines(
                directory / "engines",
                valkey=broker,
                # nothing here cuts the power
                postgres_settings={"fsync": "off"},
            )
        )
        migrate.upgrade(engines.database_url)
        key = await ensure_first_key(engines.database_url)
        assert key is not None
        model = stack.enter_context(ModelServer())
        chosen = Settings(
            database_url=engines.database_url,
            redis_url=engines.redis_url if broker else f"unix://{directory}/nobody.socket",
            openai_base_url=model.url,
            openai_api_key="sk-test-canary",
            model="scripted-test-model",
            **settings,
        )
        port = processes.free_port()
        server = processes.api_server(chosen, directory, port=port)
        worker = processes.worker(chosen, directory, processes=worker_processes)
        sweeper = processes.sweeper(chosen, directory)
        for each in (server, worker, sweeper):
            stack.callback(each.kill)
        base_url = f"http://127.0.0.1:{port}"
        server.start()
        await processes.until_answered(f"{base_url}/readyz")
        http = await stack.enter_async_context(
            processes.client(base_url, {"Authorization": f"Bearer {key}"})
        )
        api = Api(base_url, key, http)
        service = Service(directory, engines, chosen, model, server, worker, sweeper, api)
        stack.push_async_callback(service.close)
        yield service
