"""The service's own programs as real processes, to be stopped, killed and started again."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx2
import psutil
import uvicorn

from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
# only for a test that fails: nothing is measured
PATIENCE = 90.0


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """What a process needs to run with these settings."""
    names = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "OPENAI_BASE_URL": settings.openai_base_url,
        "OPENAI_API_KEY": (
            settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
        ),
        "SECONDLOOK_MODEL": settings.model,
        "SECONDLOOK_CALLS_IN_FLIGHT": settings.calls_in_flight,
        "SECONDLOOK_CALL_DEADLINE_SECONDS": settings.call_deadline_seconds,
        "SECONDLOOK_LABEL_LEASE_SECONDS": settings.label_lease_seconds,
        "SECONDLOOK_TIME_SLICE_SECONDS": settings.time_slice_seconds,
        "SECONDLOOK_RETRY_BASE_SECONDS": settings.retry_base_seconds,
        "SECONDLOOK_SWEEP_SECONDS": settings.sweep_seconds,
        "SECONDLOOK_BREAKER_FAILURES": settings.breaker_failures,
        "SECONDLOOK_LOG_LEVEL": "INFO",
        "PYTHONUNBUFFERED": "1",
    }
    known = {name: str(value) for name, value in names.items() if value is not None}
    return {"PATH": os.environ["PATH"], **known, **more}


class Program:
    """A program that leads a process group of its own, with everything it writes in a log."""

    def __init__(self, *arguments: str, env: Mapping[str, str], log: Path) -> None:
        self._argv = [sys.executable, *arguments]
        self._env = dict(env)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def children(self) -> list[int]:
        """The ids of the processes it has forked."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        return []

    def said(self) -> str:
        """What it has written since it was last started."""
        return self._log.read_text(errors="replace")[self._said_before :]

    def start(self) -> None:
        if self._log.exists():
            self._said_before = len(self._log.read_text(errors="replace"))
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                self._argv,
                env=self._env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9 of the program and all it has forked, as a host that dies does it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM to the program alone."""
        os.kill(self.pid, signal.SIGTERM)

    async def ended(self) -> int:
        """Its exit status, once it has ended by itself."""
        assert self._process is not None
        process = self._process
        await until(lambda: process.poll() is not None)
        assert process.returncode is not None
        return process.returncode

    async def until_it_says(self, word: str) -> None:
        """Until a word is in its log since its last start."""
        await until(lambda: word in self.said() or not self.alive)
        assert word in self.said(), self.said()[-2000:]


@contextmanager
def program(*arguments: str, env: Mapping[str, str], log: Path) -> Iterator[Program]:
    """A program that is not started yet; nothing of it is left after the block."""
    made = Program(*arguments, env=env, log=log)
    try:
        yield made
    finally:
        made.kill()


def worker(
    settings: Settings,
    directory: Path,
    *,
    processes: int = 1,
    name: str = "worker",
    more: Mapping[str, str] | None = None,
) -> Program:
    """A Celery worker as `secondlook up` starts it; ready when its log says ` ready.`"""
    return Program(
        *("-m", "celery", "-A", "workers.app", "worker", "--concurrency", str(processes)),
        *("--hostname", f"{name}-{os.getpid()}@test", "--without-gossip", "--without-mingle"),
        *("--loglevel", "INFO"),
        env=environment(settings, **(more or {})),
        log=directory / f"{name}.log",
    )


def sweeper(
    settings: Settings,
    directory: Path,
    *,
    name: str = "sweeper",
    more: Mapping[str, str] | None = None,
) -> Program:
    """A sweeper."""
    return Program(
        *("-m", "workers.sweeper"),
        env=environment(settings, **(more or {})),
        log=directory / f"{name}.log",
    )


def api_server(
    settings: Settings, directory: Path, *, port: int, name: str = "api", **more: str
) -> Program:
    """The API on a port of loopback; ready when it answers."""
    return Program(
        *("-m", "uvicorn", "app.main:create_app", "--factory", "--no-access-log"),
        *("--host", "127.0.0.1", "--port", str(port)),
        env=environment(settings, **more),
        log=directory / f"{name}.log",
    )


class ForkedServer:
    """The API on a port of loopback, forked from a process that has imported its code already.

    The application is made anew in each, as in a program of its own, for a fifth of the CPU: what
    is to be killed a thousand times can be started as often.
    """

    def __init__(self, settings: Settings, directory: Path, *, port: int) -> None:
        self._settings = settings
        self._log = directory / f"api-{port}.log"
        self._port = port
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        self._process = _FORKS.Process(
            target=_serve, args=(self._settings, self._port, str(self._log)), daemon=True
        )
        self._process.start()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.join()


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["uvicorn", "app.main"])


def _serve(settings: Settings, port: int, log: str) -> None:
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(sink, number)
    uvicorn.run(create_app(settings), host="127.0.0.1", port=port, access_log=False)


def client(base_url: str, headers: dict[str, str]) -> httpx2.AsyncClient:
    """A patient client of the API."""
    # plain HTTP: reading the system's certificates would cost 60 ms a client
    return httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=60, verify=False)


def free_port() -> int:
    """A port nobody has now; a program that is killed and started again keeps it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def until(happened: Callable[[], bool]) -> None:
    """Waits for something another process does."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.02)


async def until_answered(url: str) -> None:
    """Until somebody answers 200 there."""
    deadline = time.monotonic() + PATIENCE
    async with httpx2.AsyncClient(timeout=2, verify=False) as http:
        while True:
            with suppress(httpx2.HTTPError):
                if (await http.get(url)).status_code == 200:
                    return
            assert time.monotonic() < deadline, f"nobody answers at {url}"
            await asyncio.sleep(0.05)
