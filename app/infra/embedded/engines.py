"""The embedded engines as one thing: a PostgreSQL and a Valkey that a data directory owns."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from app.infra.embedded.postgres import Postgres
from app.infra.embedded.runtime import Runtime
from app.infra.embedded.valkey import Valkey
from app.infra.supervisor import StartError, Supervisor


class Engine:
    """One running engine, to be taken away and given back by itself."""

    def __init__(self, supervisor: Supervisor, name: str) -> None:
        self._supervisor = supervisor
        self._name = name

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it is down."""
        return self._supervisor.pid(self._name)

    def stop(self) -> None:
        """Shut it down properly and leave it down."""
        self._supervisor.hold(self._name)

    def kill(self) -> None:
        """End it with SIGKILL and leave it down."""
        self._supervisor.hold(self._name, signal.SIGKILL)

    def start(self) -> None:
        """Start it after stop or kill; returns when it answers."""
        self._supervisor.resume(self._name)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Keep its connections open and answer nothing, until thawed."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after freeze."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is None:
            raise ProcessLookupError(f"{self._name} is down")
        os.kill(pid, number)


class EmbeddedEngines:
    """PostgreSQL and Valkey in a data directory, under a supervisor given or one of their own.

    A context manager. The URLs are known before the start. A crashed engine is started again.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres: bool = True,
        valkey: bool = True,
        postgres_programs: Path | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Decide everything, start nothing.

        Args:
            data_dir: made if missing; with a supervisor, the one that it has.
            postgres: whether to have a PostgreSQL.
            valkey: whether to have a Valkey.
            postgres_programs: a bin directory of another PostgreSQL than the wheel's.
            postgres_settings: server settings beside or instead of ours.
            supervisor: who is to look after the engines; none makes its own, ended by `stop`.

        Raises:
            StartError: the directory can't be used or is in use, or an engine is not installed.
        """
        self._own = supervisor is None
        self._supervisor = supervisor or Supervisor(data_dir)
        directory = self._supervisor.dir.path
        try:
            self._postgres = (
                Postgres(directory, programs=postgres_programs, settings=postgres_settings)
                if postgres
                else None
            )
            self._runtime = self._postgres.runtime if self._postgres else Runtime(directory, None)
            self._valkey = Valkey(directory, self._runtime) if valkey else None
        except BaseException:
            if self._own:
                self._supervisor.stop()
            raise

    @property
    def database_url(self) -> str:
        """The libpq URL of the service's database; not without a PostgreSQL."""
        if self._postgres is None:
            raise AttributeError("these engines have no PostgreSQL")
        return self._postgres.url()

    @property
    def redis_url(self) -> str:
        """The redis-py URL of the Valkey; not without one."""
        if self._valkey is None:
            raise AttributeError("these engines have no Valkey")
        return self._valkey.url

    @property
    def postgres(self) -> Engine:
        """The started PostgreSQL, for tests that take it away."""
        return Engine(self._supervisor, "postgres")

    @property
    def valkey(self) -> Engine:
        """The started Valkey, for tests that take it away."""
        return Engine(self._supervisor, "valkey")

    def start(self) -> None:
        """Start what was asked for; return when it answers and the database exists.

        Raises:
            StartError: with what is wrong and, if a program said so, its last lines.
        """
        try:
            self._start()
        except (OSError, psycopg.Error) as error:
            raise StartError(f"The embedded engines can't be started: {error}") from error

    def _start(self) -> None:
        if self._postgres:
            initdb = self._postgres.new_cluster()
            if initdb:
                self._supervisor.start(initdb)
                self._postgres.adopt_cluster()
        self._runtime.make()
        self._supervisor.afterwards(self._runtime.remove)
        servers = [engine.server() for engine in (self._postgres, self._valkey) if engine]
        self._supervisor.start(*servers)
        if self._postgres:
            self._postgres.create_database()

    def stop(self) -> None:
        """Stop the engines; a supervisor that was given stops them when it stops."""
        if self._own:
            self._supervisor.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
