from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest

from app.infra.embedded import EmbeddedEngines
from app.infra.supervisor import PartFailedError, StartError, Supervisor, answers_http
from app.settings import SettingsError
from app.up import (
    Program,
    Service,
    ServicePlan,
    UpOptions,
    default_data_dir,
    loopback_of,
    running_service,
    secondlook_program,
    up,
    usable_port,
)
from tests.embedded.support import (
    API,
    OBEDIENT,
    PREFORK,
    STUBBORN,
    eventually,
    is_running,
    part,
    processes_of,
    python,
    running,
)

MIGRATE = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS keys (made int)")
"""
# one worker for them all: they share one data directory, one instance at a time

NO_ENGINES = {"DATABASE_URL": "postgresql://nowhere/x", "REDIS_URL": "redis://nowhere"}


def small_program(plan: ServicePlan) -> Program:
    """The shape of Secondlook, made of parts that start at once."""
    notes = str(plan.directory / "notes")
    migration = (sys.executable, "-c", MIGRATE)
    migrate = part(plan.directory, "migrate", migration, once=True, env=plan.env)
    ready = answers_http("127.0.0.1", plan.port, "/readyz")
    api = part(plan.directory, "api", python(API, str(plan.port)), ready=ready, stage=3)
    worker = part(plan.directory, "worker", python(PREFORK, "worker", notes), stage=2)
    sweeper = part(plan.directory, "sweeper", python(OBEDIENT, "sweeper", notes), stage=3)
    return Program(prepare=(migrate,), parts=(api, worker, sweeper))


def only_a_sweeper(plan: ServicePlan) -> Program:
    notes = str(plan.directory / "notes")
    return Program(
        prepare=(), parts=(part(plan.directory, "sweeper", python(OBEDIENT, "sweeper", notes)),)
    )


async def first_key(database_url: str) -> str | None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute("SELECT count(*) FROM keys")
        if await cursor.fetchone() != (0,):
            return None
        await connection.execute("INSERT INTO keys VALUES (1)")
    return "slk_the_first"


async def no_key(_database_url: str) -> str | None:
    return None


def an_up(data: Path) -> AbstractContextManager[Process]:
    """`secondlook up` as a process of its own, leading a group as a terminal's command does."""
    script = f"""
import sys
from pathlib import Path
from app.up import UpOptions, up
from tests.embedded import test_up
options = UpOptions(port=0, data_dir=Path({str(data)!r}))
sys.exit(up(options, first_key=test_up.first_key, program=test_up.small_program))
"""
    absent = {*NO_ENGINES, "SECONDLOOK_MODEL"}
    environ = {key: value for key, value in os.environ.items() if key not in absent}
    return running(script, env=environ, stderr=subprocess.PIPE, process_group=0)


Process = subprocess.Popen[str]


def lines_until_served(process: Process) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("Data and logs"):
            return lines
    pytest.fail(f"it did not come up: {lines} {process.communicate()}")


def a_service(data: Path, **more: object) -> AbstractContextManager[Service]:
    """A service without engines, within this process."""
    arguments = {
        "announce": lambda _line: None,
        "first_key": no_key,
        "program": only_a_sweeper,
        "environ": {**os.environ, **NO_ENGINES},
        **more,
    }
    return running_service(UpOptions(port=0, data_dir=data), **arguments)  # type: ignore[arg-type]


def an_embedded_service(
    data: Path, announce: Callable[[str], None] = lambda _line: None
) -> AbstractContextManager[Service]:
    environ = {key: value for key, value in os.environ.items() if key not in NO_ENGINES}
    options = UpOptions(port=0, data_dir=data)
    return running_service(
        options, announce=announce, first_key=first_key, program=small_program, environ=environ
    )


@dataclass(frozen=True)
class Instance:
    """A data directory whose first start is over, and what that start announced."""

    data: Path
    lines: list[str]
    admin_key: str | None


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    data = tmp_path_factory.mktemp("up") / "data"
    lines: list[str] = []
    with an_embedded_service(data, announce=lines.append) as service:
        key = service.admin_key
    return Instance(data, lines, key)


@pytest.fixture
def data(instance: Instance) -> Path:
    """One data directory for the instances of this file, which live one after the other."""
    (instance.data / "notes").unlink(missing_ok=True)
    return instance.data


class TestUp:
    def test_first_start_says_what_is_ready_and_shows_the_key_once(
        self, instance: Instance
    ) -> None:
        names = sorted(line.split()[0] for line in instance.lines if line.endswith(" is ready"))
        assert names == ["api", "postgres", "sweeper", "valkey", "worker"]
        assert instance.lines.count("Admin key, shown this once: slk_the_first") == 1
        assert instance.admin_key == "slk_the_first"

    def test_serves_and_ctrl_c_stops_everything(self, data: Path) -> None:
        with an_up(data) as process:
            lines = lines_until_served(process)
            assert "Admin key" not in " ".join(lines), "the second start found its data"
            assert "SECONDLOOK_MODEL is not set" in " ".join(lines)
            address = next(line.split()[3] for line in lines if line.startswith("Secondlook is"))
            with urlopen(address) as answer:
                assert answer.status == 200
            everything = processes_of(process.pid)
            # as a terminal does it: to the whole foreground group
            os.killpg(process.pid, signal.SIGINT)
            rest, complaints = process.communicate()
            assert (process.returncode, rest, complaints) == (0, "stopping\n", "")
        assert [pid for pid in everything if is_running(pid)] == []
        assert (data / "notes").read_text().split() == ["sweeper", "worker"]

    def test_sigterm_stops_everything(self, data: Path) -> None:
        with an_up(data) as process:
            lines_until_served(process)
            with pytest.raises(StartError, match=f"{data} is in use by process {process.pid}"):
                a_service(data).__enter__()
            everything = processes_of(process.pid)
            process.terminate()
            assert process.wait() == 0
        assert [pid for pid in everything if is_running(pid)] == []
        assert (data / "notes").read_text().split() == ["sweeper", "worker"]

    def test_kill_9_leaves_nothing_running_and_the_next_start_works(self, data: Path) -> None:
        with an_up(data) as process:
            lines_until_served(process)
            everything = processes_of(process.pid)
        eventually(lambda: not any(is_running(pid) for pid in everything))
        with an_embedded_service(data) as service:
            assert service.admin_key is None

    def test_a_second_signal_hurries(self, tmp_path: Path) -> None:
        def program(plan: ServicePlan) -> Program:
            mule = part(plan.directory, "mule", python(STUBBORN), grace_seconds=3600.0)
            return Program(prepare=(), parts=(mule,))

        def announce(line: str) -> None:
            if line == "stopping":
                os.kill(os.getpid(), signal.SIGTERM)

        def block() -> None:
            with a_service(tmp_path, program=program, announce=announce):
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            block()

    def test_a_signal_while_it_starts(self, data: Path) -> None:
        seen: list[str] = []

        def announce(line: str) -> None:
            seen.append(line)
            if line == "postgres is ready":
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(KeyboardInterrupt):
            an_embedded_service(data, announce=announce).__enter__()
        assert "api is ready" not in seen
        Supervisor(data).stop()  # nobody has it any longer

    def test_a_lost_part_ends_it_with_a_word_and_status_1(
        self, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def program(plan: ServicePlan) -> Program:
            gone = part(plan.directory, "worker", python("import sys; sys.exit('no broker')"))
            return Program(prepare=(), parts=(gone,))

        options = UpOptions(port=0, data_dir=data)
        with pytest.MonkeyPatch.context() as patch:
            for name in NO_ENGINES:
                patch.delenv(name, raising=False)
            assert up(options, first_key=no_key, program=program) == 1
        complaint = capsys.readouterr().err
        assert complaint.startswith("secondlook: worker ended 5 times in a row (exit status 1)")
        assert complaint.endswith("  worker | no broker\n")


class TestRunningService:
    def test_own_servers_take_the_place_of_each_engine_by_itself(self, tmp_path: Path) -> None:
        lines: list[str] = []
        environ = {"REDIS_URL": "redis://elsewhere"}
        with EmbeddedEngines(tmp_path / "own", valkey=False) as own:
            environ["DATABASE_URL"] = own.database_url
            with a_service(tmp_path / "a", announce=lines.append, environ=environ) as service:
                assert service.database_url == own.database_url
                assert service.redis_url == "redis://elsewhere"
        del environ["REDIS_URL"]
        with a_service(tmp_path / "b", announce=lines.append, environ=environ) as service:
            assert service.redis_url.startswith("unix://")
        assert lines == [
            *("sweeper is ready", "stopping"),
            *("valkey is ready", "sweeper is ready", "stopping"),
        ]

    def test_parts_do_not_run_where_a_foreign_app_could_be_imported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        plan = ServicePlan(host="::1", port=1, workers=1, directory=tmp_path / "data", env={})
        program = secondlook_program(plan)
        assert {part.directory for part in (*program.prepare, *program.parts)} == {plan.directory}

    def test_a_part_lost_in_the_block_is_what_is_told(self, tmp_path: Path) -> None:
        def program(plan: ServicePlan) -> Program:
            script = f"import os, sys; os.path.exists('x') and sys.exit('gone')\n{OBEDIENT}"
            argv = python(script, "api", "notes")
            return Program(prepare=(), parts=(part(plan.directory, "api", argv),))

        def block() -> None:
            with a_service(tmp_path, program=program) as service:
                (tmp_path / "x").touch()
                api = service.supervisor.pid("api")
                assert api is not None
                os.kill(api, signal.SIGKILL)
                eventually(lambda: service.supervisor.stopping)
                raise ConnectionError("what the block sees of it")

        with pytest.raises(PartFailedError, match=r"(?s)api ended .* api \| gone") as caught:
            block()
        assert isinstance(caught.value.__cause__, ConnectionError)

    def test_an_error_of_the_block_stays_itself(self, tmp_path: Path) -> None:
        sweepers: list[int | None] = []

        def block() -> None:
            with a_service(tmp_path) as service:
                sweepers.append(service.supervisor.pid("sweeper"))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            block()
        assert sweepers[0] is not None
        assert not is_running(sweepers[0])

    def test_a_signal_interrupts_the_block_and_old_handlers_come_back(self, tmp_path: Path) -> None:
        before = signal.getsignal(signal.SIGTERM)

        def block() -> None:
            with a_service(tmp_path):
                os.kill(os.getpid(), signal.SIGTERM)
                pytest.fail("the signal did not interrupt the block")

        with pytest.raises(KeyboardInterrupt):
            block()
        assert signal.getsignal(signal.SIGTERM) == before

    def test_a_signal_ends_the_wait(self, tmp_path: Path) -> None:
        def block() -> None:
            with a_service(tmp_path) as service:
                sweeper = service.supervisor.pid("sweeper")
                pulse = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
                pulse.start()
                service.wait()
                pytest.fail(f"the signal did not interrupt the wait for {sweeper}")

        with pytest.raises(KeyboardInterrupt):
            block()
        assert (tmp_path / "notes").read_text() == "sweeper\n", "stopped, not killed"

    def test_a_wrong_setting_is_named_before_anything_starts(self, tmp_path: Path) -> None:
        environ = {**NO_ENGINES, "DATABASE_URL": "mysql://x"}
        with pytest.raises(SettingsError, match="must begin with postgresql://"):
            a_service(tmp_path, environ=environ).__enter__()
        assert list((tmp_path / "logs").iterdir()) == []


class TestPort:
    @pytest.fixture
    def taken(self) -> Iterator[int]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield server.getsockname()[1]

    def test_a_taken_port_is_told_before_anything_is_touched(
        self, taken: int, tmp_path: Path
    ) -> None:
        options = UpOptions(port=taken, data_dir=tmp_path / "data")
        word = f"Can't listen on 127.0.0.1, port {taken}: Address already in use"
        with pytest.raises(StartError, match=word):
            running_service(options).__enter__()
        assert not (tmp_path / "data").exists()

    def test_zero_is_any_free_port(self) -> None:
        port = usable_port("127.0.0.1", 0)
        assert usable_port("127.0.0.1", port) == port

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(StartError, match=r"Can't listen on 192\.0\.2\.1"):
            usable_port("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("127.0.0.2", "127.0.0.2"), ("box", "box")],
)
def test_an_address_to_reach_it_by(host: str, expected: str) -> None:
    assert loopback_of(host) == expected


class TestDataDir:
    def test_named_in_the_environment(self) -> None:
        assert default_data_dir({"SECONDLOOK_DATA_DIR": "/x/y"}) == Path("/x/y")

    def test_of_a_checkout_wherever_one_stands(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert default_data_dir({}) == Path(__file__).resolve().parents[2] / ".data"

    def test_a_relative_one_is_taken_from_here(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with Supervisor(Path("here")) as supervisor:
            assert supervisor.dir.path == tmp_path / "here"
