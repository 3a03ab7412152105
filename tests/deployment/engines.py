"""The engines of docker-compose.yml, started by its own commands from the wheels' programs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.infra.embedded.postgres import Postgres
from app.infra.embedded.valkey import bundled_server
from tests.deployment.support import ROOT, interpolated, services
from tests.embedded.support import eventually
from tests.support.processes import free_port


@dataclass(frozen=True)
class ComposeEngines:
    """What runs, and what stands here for the names that the compose file uses.

    Attributes:
        postgres_port: on loopback.
        valkey_port: on loopback.
        programs: of PostgreSQL.
        replaced: texts of the compose file and what stands for them here.
    """

    postgres_port: int
    valkey_port: int
    programs: Path
    replaced: Mapping[str, str]


@contextmanager
def compose_engines(root: Path, secrets: Path) -> Iterator[ComposeEngines]:
    """PostgreSQL as its image makes it from the compose file, and Valkey.

    Args:
        root: a directory that everybody may enter.
        secrets: the folder that is /run/secrets in a container.
    """
    data = root / "engines"
    data.mkdir(mode=0o755)
    postgres = Postgres(data)
    account: dict[str, Any] = {}
    if postgres.account is not None:
        account = {"user": postgres.account.uid, "group": postgres.account.gid, "extra_groups": []}
    sockets = data / "sockets"
    for folder in (postgres.cluster, sockets):
        folder.mkdir(mode=0o700)
        if postgres.account is not None:
            os.chown(folder, postgres.account.uid, postgres.account.gid)
    running: list[subprocess.Popen[bytes]] = []
    ports = free_port(), free_port()
    try:
        _initialise(postgres, secrets, account)
        running.append(_serve_postgres(postgres, sockets, ports[0], data, account))
        _prepare_database(postgres, sockets, ports[0], secrets, account)
        running.append(_serve_valkey(secrets, ports[1], data))
        replaced = {
            "@postgres/": f"@127.0.0.1:{ports[0]}/",
            "valkey:6379": f"127.0.0.1:{ports[1]}",
            "/run/secrets": str(secrets),
        }
        yield ComposeEngines(*ports, postgres._programs, replaced)
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown, as its image asks
            process.wait()


def _initialise(postgres: Postgres, secrets: Path, account: Mapping[str, Any]) -> None:
    # as the image's own entry point does it: trust on the socket, a password over TCP
    initdb = [str(postgres._programs / "initdb"), "-D", str(postgres.cluster), "-U", "postgres"]
    how = ("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--no-instructions")
    password = f"--pwfile={secrets / 'database_password'}"
    subprocess.run(
        [*initdb, *how, password], check=True, stdout=subprocess.DEVNULL, cwd="/", **account
    )


def _serve_postgres(
    postgres: Postgres, sockets: Path, port: int, data: Path, account: Mapping[str, Any]
) -> subprocess.Popen[bytes]:
    _, *settings = services()["postgres"]["command"]
    place = (str(postgres._programs / "postgres"), "-D", str(postgres.cluster))
    here = (f"-p{port}", "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={sockets}")
    with (data / "postgres.log").open("wb") as log:
        return subprocess.Popen(
            [*place, *settings, *here, "-cfsync=off"],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            **account,
        )


def _prepare_database(
    postgres: Postgres, sockets: Path, port: int, secrets: Path, account: Mapping[str, Any]
) -> None:
    """What the image's entry point does on a new volume: the database, then the mounted script."""
    psql = [str(postgres._programs / "psql"), "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "--quiet"]
    there = ("-h", str(sockets), "-p", str(port), "-U", "postgres")

    def runs(*arguments: str) -> bool:
        password = (secrets / "database_password").read_text()
        done = subprocess.run(
            [*psql, *there, *arguments],
            env={"POSTGRES_PASSWORD": password},
            capture_output=True,
            check=False,
            cwd="/",
            **account,
        )
        return done.returncode == 0

    name = services()["postgres"]["environment"]["POSTGRES_DB"]
    eventually(lambda: runs("-d", "postgres", "-c", "SELECT 1"))
    assert runs("-d", "postgres", "-c", f"CREATE DATABASE {name}")
    # in a place that its account can read, wherever the checkout is
    script = sockets.parent / "role.sql"
    script.write_bytes((ROOT / "migrations" / "role.sql").read_bytes())
    script.chmod(0o644)
    assert runs("-d", name, "-f", str(script))


def _serve_valkey(secrets: Path, port: int, data: Path) -> subprocess.Popen[bytes]:
    shell, option, script = services()["valkey"]["command"]
    script = interpolated(script, {}).replace("/run/secrets", str(secrets))
    # the image's server listens on 6379
    script = script.replace("appendonly no\n", f"appendonly no\nport {port}\nbind 127.0.0.1\n")
    with (data / "valkey.log").open("wb") as log:
        return subprocess.Popen(
            [shell, option, script],
            env={"PATH": f"{bundled_server().parent}:{os.defpath}"},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=data,
        )
