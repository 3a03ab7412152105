from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import psutil
import psycopg
import pytest
import redis

from app.infra.embedded import EmbeddedEngines
from app.infra.embedded.account import PROGRAM_CACHE
from app.infra.embedded.postgres import bundled_programs
from app.infra.supervisor import PartFailedError, StartError
from tests.embedded.support import ROOT, eventually, is_running, processes_of, running

# one worker for them all: they share a started pair of engines

OTHER_POSTGRES = Path("/usr/lib/postgresql/15/bin")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has other accounts to use")


def value(engines: EmbeddedEngines, query: str) -> object:
    with psycopg.connect(engines.database_url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def remember(engines: EmbeddedEngines, word: str) -> None:
    with psycopg.connect(engines.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS memory (word text)")
        connection.execute("INSERT INTO memory VALUES (%s)", (word,))


def remembered(engines: EmbeddedEngines) -> object:
    return value(engines, "SELECT string_agg(word, ' ' ORDER BY word) FROM memory")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEngines]:
    with EmbeddedEngines(tmp_path_factory.mktemp("shared")) as started:
        yield started


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a cluster that remembers `before`, its engines stopped."""
    path = tmp_path_factory.mktemp("made")
    with EmbeddedEngines(path, valkey=False) as engines:
        remember(engines, "before")
    return path


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    path = tmp_path / "data"
    subprocess.run(["cp", "-a", made, path], check=True)
    return path


class TestStarted:
    def test_postgres_has_our_settings_and_our_database(self, engines: EmbeddedEngines) -> None:
        assert value(engines, "SELECT current_database()") == "secondlook"
        assert value(engines, "SELECT current_setting('server_version_num')::int / 10000") == 18
        assert value(engines, "SELECT current_setting('fsync')") == "on"
        assert value(engines, "SELECT current_setting('autovacuum_naptime')") == "5s"
        assert value(engines, "SELECT current_setting('server_encoding')") == "UTF8"
        assert value(engines, "SELECT upper('é')") == "É"

    def test_postgres_has_pgvector(self, engines: EmbeddedEngines) -> None:
        query = "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"
        assert value(engines, query) == 1

    def test_valkey_answers_and_writes_nothing_to_disk(self, engines: EmbeddedEngines) -> None:
        with redis.Redis.from_url(engines.redis_url) as client:
            assert client.ping()
            assert client.config_get("save") == {"save": ""}

    def test_nothing_listens_on_the_network(self, engines: EmbeddedEngines) -> None:
        for engine in (engines.postgres, engines.valkey):
            assert engine.pid is not None
            assert psutil.Process(engine.pid).net_connections("inet") == []

    def test_nobody_else_may_open_the_sockets(self, engines: EmbeddedEngines) -> None:
        valkey = Path(unquote(engines.redis_url.removeprefix("unix://")))
        postgres = Path(unquote(engines.database_url.partition("host=")[2]))
        for path in (valkey, postgres, *postgres.glob(".s.PGSQL.*[0-9]")):
            assert path.stat().st_mode & 0o077 == 0

    @as_root
    def test_root_starts_postgres_as_an_ordinary_account(self, engines: EmbeddedEngines) -> None:
        assert engines.postgres.pid is not None
        server = psutil.Process(engines.postgres.pid)
        assert 0 not in server.uids()
        assert 0 not in server.gids()


class TestTakenAway:
    def test_valkey_killed_and_started(self, engines: EmbeddedEngines) -> None:
        with redis.Redis.from_url(engines.redis_url) as client:
            client.set("held", "by nobody")
            engines.valkey.kill()
            with pytest.raises(redis.ConnectionError):
                client.ping()
            engines.valkey.start()
            assert client.get("held") is None

    def test_valkey_frozen_and_thawed(self, engines: EmbeddedEngines) -> None:
        with redis.Redis.from_url(engines.redis_url, socket_timeout=0.1, retry=None) as client:
            engines.valkey.freeze()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            engines.valkey.thaw()
        with redis.Redis.from_url(engines.redis_url) as client:
            assert client.ping()

    def test_valkey_that_crashes_comes_back(self, engines: EmbeddedEngines) -> None:
        pid = engines.valkey.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: engines.valkey.pid not in (None, pid))
        with redis.Redis.from_url(engines.redis_url) as client:
            eventually(lambda: _answers(client.ping))

    def test_postgres_killed_and_started_has_its_data(self, engines: EmbeddedEngines) -> None:
        remember(engines, "kept")
        engines.postgres.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(engines.database_url)
        engines.postgres.start()
        assert remembered(engines) == "kept"

    def test_postgres_restarted(self, engines: EmbeddedEngines) -> None:
        before = engines.postgres.pid
        engines.postgres.restart()
        assert engines.postgres.pid not in (None, before)
        assert value(engines, "SELECT 1") == 1


class TestLife:
    def test_a_second_start_finds_its_data_and_a_stop_leaves_nothing(self, copied: Path) -> None:
        with EmbeddedEngines(copied) as engines:
            assert remembered(engines) == "before"
            assert engines.postgres.pid is not None
            running = processes_of(engines.postgres.pid)
            runtime = Path(unquote(engines.redis_url.removeprefix("unix://"))).parent
        assert [pid for pid in running if is_running(pid)] == []
        assert not runtime.exists()

    def test_two_data_directories_side_by_side(
        self, engines: EmbeddedEngines, copied: Path
    ) -> None:
        with EmbeddedEngines(copied) as other:
            remember(other, "there")
            assert remembered(other) == "before there"
            assert value(engines, "SELECT to_regclass('other')") is None
            assert engines.redis_url != other.redis_url

    def test_a_long_path_with_every_odd_character(self, made: Path, tmp_path: Path) -> None:
        path = tmp_path / ("long " * 30) / "a,b" / '50% "ü" \'&?#'
        path.parent.mkdir(parents=True)
        subprocess.run(["cp", "-a", made, path], check=True)
        with EmbeddedEngines(path) as engines:
            assert remembered(engines) == "before"
            with redis.Redis.from_url(engines.redis_url) as client:
                assert client.ping()

    @pytest.mark.parametrize("odd", ['5% "ü" \'&?#', "a,b"])
    def test_odd_characters_in_the_path_of_the_sockets(self, made: Path, odd: str) -> None:
        # short enough for the sockets to be in it, where the account is our own
        path = Path("/tmp") / f"{odd}{os.getpid()}"
        try:
            subprocess.run(["cp", "-a", made, path], check=True)
            with EmbeddedEngines(path) as engines:
                assert remembered(engines) == "before"
                with redis.Redis.from_url(engines.redis_url) as client:
                    assert client.ping()
        finally:
            shutil.rmtree(path)

    def test_after_kill_9_of_everything_all_that_was_committed_is_there(self, copied: Path) -> None:
        script = f"""
import time
from pathlib import Path
from app.infra.embedded import EmbeddedEngines
from tests.embedded.test_engines import remember
engines = EmbeddedEngines(Path({str(copied)!r}))
engines.start()
remember(engines, "committed")
print("ready", flush=True)
time.sleep(3600)
"""
        with running(script) as instance:
            assert instance.stdout is not None
            assert instance.stdout.readline() == "ready\n"
            everything = processes_of(instance.pid)
            for number in (signal.SIGSTOP, signal.SIGKILL):  # none may mend or end another first
                for pid in everything:
                    with suppress(ProcessLookupError):  # a backend ends by itself
                        os.kill(pid, number)
        assert (copied / "postgres" / "postmaster.pid").exists()
        with EmbeddedEngines(copied) as engines:
            assert remembered(engines) == "before committed"

    def test_a_stale_note_with_the_id_of_a_living_stranger(self, copied: Path) -> None:
        note = copied / "postgres" / "postmaster.pid"
        note.write_text(f"{os.getpid()}\n{copied / 'postgres'}\n0\n5432\n\n\n  0  0\nready\n")
        with EmbeddedEngines(copied, valkey=False) as engines:
            assert remembered(engines) == "before"

    def test_an_interrupted_first_start_is_done_again(self, tmp_path: Path) -> None:
        unfinished = tmp_path / "data" / "postgres.unfinished"
        unfinished.mkdir(parents=True)
        (unfinished / "PG_VERSION").write_text("18\n")
        with EmbeddedEngines(tmp_path / "data", valkey=False) as engines:
            assert value(engines, "SELECT 1") == 1
        assert not unfinished.exists()


class TestRefused:
    def test_a_directory_in_use(self, engines: EmbeddedEngines) -> None:
        directory = engines._supervisor.dir.path
        with pytest.raises(StartError, match=f"in use by process {os.getpid()}"):
            EmbeddedEngines(directory)

    def test_a_cluster_that_somebody_serves_by_hand(self, copied: Path, tmp_path: Path) -> None:
        # as another name of the same cluster, so that no lock is in the way
        link = tmp_path / "other"
        link.mkdir()
        with EmbeddedEngines(copied, valkey=False) as engines:
            (link / "postgres").symlink_to(copied / "postgres")
            pid = engines.postgres.pid
            with pytest.raises(StartError, match=f"in use by process {pid}, a PostgreSQL server"):
                EmbeddedEngines(link).__enter__()
            assert remembered(engines) == "before"

    def test_a_cluster_of_another_major_version(self, copied: Path) -> None:
        (copied / "postgres" / "PG_VERSION").write_text("17\n")
        with pytest.raises(StartError, match="made by PostgreSQL 17 and this is 18"):
            EmbeddedEngines(copied).__enter__()

    def test_a_directory_of_that_name_that_is_no_cluster(self, tmp_path: Path) -> None:
        (tmp_path / "postgres").mkdir()
        with pytest.raises(StartError, match="is no PostgreSQL cluster"):
            EmbeddedEngines(tmp_path).__enter__()

    def test_a_cluster_that_is_broken_shows_what_postgres_said(self, copied: Path) -> None:
        (copied / "postgres" / "global" / "pg_control").unlink()
        with pytest.raises(PartFailedError, match=r"(?s)postgres ended .*postgres \| .*pg_control"):
            EmbeddedEngines(copied, valkey=False).__enter__()

    def test_programs_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match=r"nowhere/bin/postgres: .*No such file"):
            EmbeddedEngines(tmp_path / "data", postgres_programs=Path("/nowhere/bin"))
        EmbeddedEngines(tmp_path / "data").stop()  # and the directory is free again

    @as_root
    def test_a_full_disk(self, tmp_path: Path) -> None:
        mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(tmp_path)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("this machine lets no small file system be mounted")
        try:
            with pytest.raises(StartError, match=r"needs 200 MB and .* has \d+ MB free"):
                EmbeddedEngines(tmp_path).__enter__()
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(not OTHER_POSTGRES.exists(), reason="no PostgreSQL 15 on this machine")
class TestOtherPostgres:
    def test_serves_and_is_kept_apart_from_ours(self, tmp_path: Path) -> None:
        settings = {"fsync": "off"}
        with EmbeddedEngines(
            tmp_path, valkey=False, postgres_programs=OTHER_POSTGRES, postgres_settings=settings
        ) as engines:
            version = value(engines, "SELECT current_setting('server_version_num')::int / 10000")
            assert version == 15
            assert value(engines, "SELECT current_setting('fsync')") == "off"
        with pytest.raises(StartError, match="made by PostgreSQL 15 and this is 18"):
            EmbeddedEngines(tmp_path).__enter__()


@as_root
class TestAccounts:
    def test_directories_that_only_root_may_enter_keep_their_modes(
        self, tmp_path: Path, made: Path
    ) -> None:
        site = tmp_path / "private" / "site"
        site.mkdir(parents=True)
        tmp_path.chmod(0o700)
        wheel = bundled_programs().parents[1]
        for folder in (wheel / "pginstall18", wheel.with_name(f"{wheel.name}.libs")):
            shutil.copytree(folder, site / folder.relative_to(wheel.parent), symlinks=True)
        data = tmp_path / "private" / "data"
        subprocess.run(["cp", "-a", made, data], check=True)
        cached = set(PROGRAM_CACHE.glob("*"))
        try:
            programs = site / wheel.name / "pginstall18" / "bin"
            with EmbeddedEngines(data, valkey=False, postgres_programs=programs) as engines:
                assert remembered(engines) == "before"
        finally:
            for copy in set(PROGRAM_CACHE.glob("*")) - cached:
                shutil.rmtree(copy)
        assert tmp_path.stat().st_mode & 0o777 == 0o700
        assert data.stat().st_mode & 0o777 == made.stat().st_mode & 0o777

    def test_an_ordinary_account_needs_nobody_else(self) -> None:
        python = python_for_nobody()
        if python is None:
            pytest.skip("no other account can read this checkout, its environment and its Python")
        home = Path(tempfile.mkdtemp())  # pytest's own directories are closed to others
        os.chown(home, 65534, 65534)
        script = f"""
import os, psutil, psycopg
from pathlib import Path
from app.infra.embedded import EmbeddedEngines
with EmbeddedEngines(Path({str(home / "data")!r})) as engines:
    assert psutil.Process(engines.postgres.pid).uids().real == os.getuid() == 65534
    with psycopg.connect(engines.database_url) as connection:
        print(*connection.execute("SELECT 'served'").fetchone())
"""
        done = as_nobody(python, script)
        shutil.rmtree(home)
        assert (done.stdout, done.stderr) == ("served\n", "")


def as_nobody(python: str, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", python, "-c", script],
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )


def python_for_nobody() -> str | None:
    """An interpreter of this version that any account may run: ours, or else the system's."""
    trial = """
import subprocess, sys
import app.infra.embedded
subprocess.run([sys.executable, "-c", ""], check=True)
"""
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    found = [path for path in (sys.executable, system) if Path(path).exists()]
    if not shutil.which("setpriv"):
        return None
    return next((path for path in found if as_nobody(path, trial).returncode == 0), None)


def _answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except redis.ConnectionError:
        return False
    return True
