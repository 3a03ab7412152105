"""Programs told to stop, kindly and unkindly: what was begun is ended or given back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import psycopg
import pytest

from app.reports.invariants import check_invariants
from tests.faults.rolling import api_program
from tests.faults.support import Service, running_service
from tests.support import processes
from tests.support.model_plays import FAULTS, Answer
from tests.support.processes import Program

pytestmark = pytest.mark.timeout(300)

CALLS = 6
LABELLED = "SELECT count(*) FROM items WHERE state IN ('accepted', 'in_review')"


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One service for all tests here; none loses a lease, for no lease runs out."""
    settings: dict[str, Any] = {
        "calls_in_flight": CALLS,
        "call_deadline_seconds": 300.0,
        "label_lease_seconds": 600.0,
        "sweep_seconds": 0.2,
    }
    async with running_service(tmp_path_factory.mktemp("service"), settings=settings) as running:
        yield running
        assert await check_invariants(running.settings.database_url) == []


@asynccontextmanager
async def locked(service: Service, table: str) -> AsyncIterator[None]:
    """Whoever writes to a table waits until the block ends."""
    connection = await psycopg.AsyncConnection.connect(service.settings.database_url)
    async with connection:
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield


class TestAWorker:
    @pytest.fixture(autouse=True)
    async def _clean(self, service: Service) -> AsyncIterator[None]:
        service.model.default = [Answer()]
        service.model.latency = 0
        self.before = len(service.model.calls)
        yield
        await service.rows("DELETE FROM projects")

    @pytest.fixture
    def worker(self, service: Service, tmp_path: Path) -> Iterator[Program]:
        made = processes.worker(service.settings, tmp_path)
        made.start()
        yield made
        made.kill()

    async def in_calls(self, service: Service, worker: Program) -> None:
        """Until the worker waits for as many answers as it may; none comes."""
        service.model.default = [FAULTS["hang"]]
        await worker.until_it_says(" ready.")
        project = await service.api.make_project(policy={"kind": "accept_all"})
        await service.api.send_items(project, [f"text {n}" for n in range(3 * CALLS)])
        await service.model.wait_for_calls(self.before + CALLS)

    async def check_all_given_back(self, service: Service) -> None:
        (found,) = await service.rows(
            "SELECT count(*) AS items, count(*) FILTER (WHERE state = 'pending') AS pending, "
            "sum(losses)::int AS losses, sum(attempts)::int AS attempts FROM items"
        )
        assert found == {"items": 3 * CALLS, "pending": 3 * CALLS, "losses": 0, "attempts": 0}

    async def check_another_goes_on(self, service: Service, worker: Program) -> None:
        """By the wake-up that its predecessor left: no sweeper runs here."""
        service.model.default = [Answer()]
        worker.start()
        await service.until_value(LABELLED, 3 * CALLS)

    @pytest.mark.parametrize(
        "stop",
        [
            pytest.param(
                lambda pid: os.kill(pid, signal.SIGTERM), id="SIGTERM", marks=pytest.mark.long
            ),
            pytest.param(lambda pid: os.killpg(pid, signal.SIGTERM), id="SIGTERM to the group"),
            pytest.param(
                lambda pid: os.killpg(pid, signal.SIGINT), id="Ctrl-C", marks=pytest.mark.long
            ),
            pytest.param(
                lambda pid: os.kill(pid, signal.SIGQUIT), id="SIGQUIT", marks=pytest.mark.long
            ),
            pytest.param(
                lambda pid: os.killpg(pid, signal.SIGQUIT),
                id="SIGQUIT to the group",
                marks=pytest.mark.long,
            ),
        ],
    )
    async def test_stopped_in_calls_that_take_long_gives_them_back(
        self, service: Service, worker: Program, stop: Callable[[int], None]
    ) -> None:
        await self.in_calls(service, worker)
        stop(worker.pid)
        await worker.ended()
        await self.check_all_given_back(service)
        await self.check_another_goes_on(service, worker)

    @pytest.mark.long
    async def test_told_twice_does_not_mind(self, service: Service, worker: Program) -> None:
        await self.in_calls(service, worker)
        for _ in range(3):
            os.killpg(worker.pid, signal.SIGTERM)
            await asyncio.sleep(0.1)
        assert await worker.ended() == 0
        await self.check_all_given_back(service)
        await self.check_another_goes_on(service, worker)

    async def test_stopped_in_calls_that_end_soon_keeps_what_they_bring(
        self, service: Service, worker: Program
    ) -> None:
        service.model.latency = 1.5
        await worker.until_it_says(" ready.")
        project = await service.api.make_project(policy={"kind": "accept_all"})
        await service.api.send_items(project, [f"text {n}" for n in range(3 * CALLS)])
        await service.model.wait_for_calls(self.before + CALLS)
        worker.ask_to_stop()
        assert await worker.ended() == 0
        assert len(service.model.calls) == self.before + CALLS
        assert await service.value(LABELLED) == CALLS
        assert await service.value("SELECT count(*) FROM items WHERE state = 'labeling'") == 0

    @pytest.mark.long
    async def test_whose_child_alone_is_told_goes_on_with_another(
        self, service: Service, worker: Program
    ) -> None:
        await self.in_calls(service, worker)
        (child,) = worker.children()
        service.model.default = [Answer()]
        os.kill(child, signal.SIGTERM)
        await service.until_value(LABELLED, 3 * CALLS)
        assert worker.alive
        assert child not in worker.children()
        assert await service.value("SELECT sum(losses)::int + max(attempts) FROM items") == 1

    async def test_killed_leaves_no_child_behind(self, service: Service, worker: Program) -> None:
        await self.in_calls(service, worker)
        (child,) = worker.children()
        os.kill(worker.pid, signal.SIGKILL)
        await worker.ended()
        await processes.until(lambda: not psutil.pid_exists(child))


class TestASweeper:
    async def test_stopped_in_a_round_that_waits_for_a_lock_ends(
        self, service: Service, tmp_path: Path
    ) -> None:
        sweeper = processes.sweeper(service.settings, tmp_path)
        try:
            async with locked(service, "items"):
                sweeper.start()
                await service.until_value(
                    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                    "AND application_name = 'secondlook-sweeper'",
                    True,
                )
                sweeper.ask_to_stop()
                assert await sweeper.ended() == 0
        finally:
            sweeper.kill()


class InFlight:
    """A request of which the API has the head and waits for the rest."""

    BODY = b'{"text": "in flight"}'

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls, service: Service, port: int) -> InFlight:
        project = await service.api.make_project()
        head = (
            f"POST /v1/projects/{project}/items HTTP/1.1\r\nHost: secondlook.test\r\n"
            f"Authorization: Bearer {service.api.admin_key}\r\nExpect: 100-continue\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(cls.BODY)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer)

    async def end(self) -> str:
        """The head of the answer to the whole request; empty if none came."""
        with suppress(OSError):
            self._writer.write(self.BODY)
            await self._writer.drain()
        try:
            return (await self._reader.read()).decode().lower()
        except OSError:
            return ""
        finally:
            self._writer.close()


class TestTheApi:
    @pytest.fixture
    def made(self, service: Service, tmp_path: Path) -> Iterator[Callable[..., Program]]:
        """Makes API programs on a port of their own."""
        with ExitStack() as stack:

            def make(port: int, **more: Any) -> Program:
                program = api_program(service.settings, tmp_path, port=port, **more)
                stack.callback(program.kill)
                program.start()
                return program

            yield make

    @pytest.fixture
    def port(self) -> int:
        return processes.free_port()

    @pytest.fixture
    async def http(self, service: Service, port: int) -> AsyncIterator[httpx2.AsyncClient]:
        headers = {"Authorization": f"Bearer {service.api.admin_key}"}
        async with processes.client(f"http://127.0.0.1:{port}", headers) as client:
            yield client

    async def test_told_to_stop_says_so_serves_on_and_ends_what_is_in_flight(
        self, service: Service, made: Callable[..., Program], port: int, http: httpx2.AsyncClient
    ) -> None:
        api = made(port, drain_seconds=8.0)
        await processes.until_answered(f"{http.base_url}/readyz")
        kept = await http.get("/v1/projects")
        assert (kept.status_code, kept.headers.get("connection")) == (200, None)
        in_flight = await InFlight.begin(service, port)
        api.ask_to_stop()
        await processes.until(lambda: "draining" in api.said())
        # who comes on a connection that is kept, or on a new one, is answered, and leaves
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (ready.headers["connection"], "retry-after" in ready.headers) == ("close", True)
        answer = await http.get("/v1/projects")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        await processes.until(lambda: not self.accepts(port))
        answered = await in_flight.end()
        assert answered.startswith("http/1.1 201")
        assert "connection: close" in answered
        assert await api.ended() == 0

    def accepts(self, port: int) -> bool:
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", port)) == 0

    async def test_told_twice_ends_at_once(
        self, service: Service, made: Callable[..., Program], port: int, http: httpx2.AsyncClient
    ) -> None:
        api = made(port, drain_seconds=600.0)
        await processes.until_answered(f"{http.base_url}/readyz")
        in_flight = await InFlight.begin(service, port)
        api.ask_to_stop()
        await processes.until(lambda: "draining" in api.said())
        api.ask_to_stop()
        assert await api.ended() == 0
        assert not (await in_flight.end()).startswith("http/1.1 2")

    @pytest.mark.long
    async def test_ctrl_c_reaches_all_its_processes_and_is_one_wish(
        self, made: Callable[..., Program], port: int
    ) -> None:
        api = made(port, serving=2, drain_seconds=0.5)
        await processes.until(lambda: api.said().count(" serves") == 2)
        os.killpg(api.pid, signal.SIGINT)
        assert await api.ended() == 0
        assert api.said().count('"left"') == 2

    async def test_a_process_that_dies_is_replaced(
        self, made: Callable[..., Program], port: int, http: httpx2.AsyncClient
    ) -> None:
        api = made(port)
        await processes.until_answered(f"{http.base_url}/readyz")
        (first,) = api.children()
        assert (await http.get("/v1/projects")).status_code == 200
        os.kill(first, signal.SIGKILL)
        await processes.until(lambda: "ended unasked (killed by SIGKILL)" in api.said())
        # whoever comes meanwhile waits
        assert (await http.get("/v1/projects")).status_code == 200
        assert first not in api.children()
        # what the dead one has counted is told by those that live
        count = 'secondlook_http_request_seconds_count{method="GET",route="/v1/projects"'
        told = (await http.get("/metrics")).text.splitlines()
        assert [line.split()[-1] for line in told if line.startswith(count)] == ["2.0"]

    @pytest.mark.long
    async def test_processes_whose_parent_is_killed_give_its_address_free(
        self, made: Callable[..., Program], port: int, http: httpx2.AsyncClient
    ) -> None:
        first = made(port, drain_seconds=600.0)
        await processes.until_answered(f"{http.base_url}/readyz")
        (orphan,) = first.children()
        os.kill(first.pid, signal.SIGKILL)
        await first.ended()
        await processes.until(lambda: not psutil.pid_exists(orphan))
        made(port)
        await processes.until_answered(f"{http.base_url}/readyz")

    @pytest.mark.long
    async def test_a_new_one_that_does_not_start_leaves_the_old_ones_in_place(
        self, made: Callable[..., Program], port: int, http: httpx2.AsyncClient, tmp_path: Path
    ) -> None:
        spoilt = tmp_path / "spoilt"
        code = (
            "import os, sys\nif os.path.exists({!r}) and '--replaces' in sys.orig_argv: os._exit(3)"
        )
        (tmp_path / "sitecustomize.py").write_text(code.format(str(spoilt)))
        api = made(port, serving=2, PYTHONPATH=str(tmp_path))
        await processes.until(lambda: api.said().count(" serves") == 2)
        before = set(api.children())
        spoilt.touch()
        os.kill(api.pid, signal.SIGHUP)
        await processes.until(lambda: "the old ones stay" in api.said())
        assert set(api.children()) == before
        assert (await http.get("/readyz")).status_code == 200
        spoilt.unlink()
        os.kill(api.pid, signal.SIGHUP)
        await processes.until(lambda: "all processes are new" in api.said())
        assert before.isdisjoint(api.children())

    @pytest.mark.long
    async def test_a_new_one_that_is_not_ready_takes_nobodys_place(
        self, service: Service, made: Callable[..., Program], port: int, http: httpx2.AsyncClient
    ) -> None:
        api = made(port)
        await processes.until_answered(f"{http.base_url}/readyz")
        (first,) = api.children()
        await asyncio.to_thread(service.engines.postgres.stop)
        try:
            os.kill(api.pid, signal.SIGHUP)
            await processes.until(lambda: len(api.children()) == 2)
            await processes.until(lambda: api.said().count("Waiting for application startup") == 2)
            assert (await http.get("/livez")).status_code == 200
            assert first in api.children()
            assert "retiring" not in api.said()
        finally:
            await asyncio.to_thread(service.engines.postgres.start)
        await processes.until(lambda: "all processes are new" in api.said())
        assert first not in api.children()
        assert (await http.get("/readyz")).status_code == 200

    async def test_a_taken_port_is_a_clear_line(self, made: Callable[..., Program]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            api = made(port)
            assert await api.ended() == 1
        assert f"secondlook: Can't listen on 127.0.0.1, port {port}" in api.said()
