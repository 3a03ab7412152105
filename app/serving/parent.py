"""The processes of the API on one host: started, watched, replaced one by one, stopped.

All accept on the same listening sockets, which belong to the parent: a connection that waits for
one of them is taken by another when that one leaves. (With sockets of their own, as SO_REUSEPORT
gives them, what waits at one that closes is reset.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.infra.logging import LIFECYCLE
from app.infra.metrics_directory import VARIABLE as METRICS_VARIABLE
from app.infra.metrics_directory import given_directory, own_directory
from app.infra.supervisor import RestartPolicy, StartError
from app.infra.supervisor.process import described
from app.serving.link import HURRY, READY, RETIRE, STOP_SECONDS

# a cold start on a busy machine takes a third of it
_READY_SECONDS = 180.0
# for what follows the last request: the pool, the last wake-ups
_CLOSE_SECONDS = 10.0
_HURRIED_SECONDS = 5.0
_log = logging.getLogger(LIFECYCLE)


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of `host`; a process that serves begins to listen.

    Raises:
        StartError: an address is taken, or is not of this machine.
    """
    sockets = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, _, _, address in dict.fromkeys(found):
            bound = socket.socket(family, kind)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((address[0], port, *address[2:]))
            port = bound.getsockname()[1]
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise StartError(f"Can't listen on {host}, port {port}: {error.strerror}.") from error
    return sockets


@dataclass(frozen=True, eq=False)
class _Server:
    """A process that serves, our end of the link to it, and its exit status to come."""

    process: asyncio.subprocess.Process
    link: socket.socket
    ended: asyncio.Task[int]

    def tell(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self.link.send(word)

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class Parent:
    """Keeps a number of processes serving until told to stop.

    SIGTERM and SIGINT stop it, a second one hurries; SIGHUP replaces the processes one by one, each
    new one ready before an old one retires. New processes run the code that is on the disk by then.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        *,
        processes: int,
        drain_seconds: float,
        env: Mapping[str, str],
        restart: RestartPolicy | None = None,
    ) -> None:
        self._listeners = listeners
        self._env = env
        self._leave_seconds = drain_seconds + STOP_SECONDS + _CLOSE_SECONDS
        self._restart = restart or RestartPolicy()
        self._serving: list[_Server | None] = [None] * processes
        # a lock a place: held while somebody is put there
        self._places = [asyncio.Lock() for _ in range(processes)]
        # with those that start and those that leave
        self._alive: set[_Server] = set()
        self._stop_asked = asyncio.Event()
        self._hurry_asked = asyncio.Event()
        self._roll_asked = asyncio.Event()
        self._failed = False

    async def run(self) -> int:
        """Serves; the exit status: 0 when told to stop, 1 when a process can't be kept running."""
        self._obey_signals()
        work = [asyncio.create_task(self._keep(place)) for place in range(len(self._places))]
        work.append(asyncio.create_task(self._roll_when_asked()))
        await self._stop_asked.wait()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await self._stop_all()
        return 1 if self._failed else 0

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_stop)
        # at a terminal it says that the terminal has gone
        attended = sys.stdin is not None and sys.stdin.isatty()
        loop.add_signal_handler(signal.SIGHUP, self._ask_stop if attended else self._roll_asked.set)

    def _ask_stop(self) -> None:
        if self._stop_asked.is_set():
            self._hurry_asked.set()
        self._stop_asked.set()

    async def _keep(self, place: int) -> None:
        """Keeps a place taken, whoever dies there."""
        crashes = 0
        while crashes < self._restart.give_up_after:
            async with self._places[place]:
                if self._serving[place] is None:
                    self._serving[place] = await self._start()
            server = self._serving[place]
            began = time.monotonic()
            if server is not None:
                status = await asyncio.shield(server.ended)
                if self._serving[place] is not server:
                    continue  # it had been replaced
                self._serving[place] = None
                _log.error("process %d ended unasked (%s)", server.pid, described(status))
            if time.monotonic() - began > self._restart.settled_seconds:
                crashes = 0
            crashes += 1
            await asyncio.sleep(self._restart.pause(crashes))
        _log.error("the API ended %d times in a row", crashes)
        self._failed = True
        self._stop_asked.set()

    async def _roll_when_asked(self) -> None:
        while True:
            await self._roll_asked.wait()
            self._roll_asked.clear()
            _log.info("replacing the processes")
            for place in range(len(self._places)):
                if not await self._replace(place):
                    _log.error("a new process did not become ready: the old ones stay")
                    break
            else:
                _log.info("all processes are new")

    async def _replace(self, place: int) -> bool:
        async with self._places[place]:
            new = await self._start("--replaces")
            if new is None:
                return False
            old, self._serving[place] = self._serving[place], new
        if old is not None:
            old.tell(RETIRE)
            await self._ended([old], within=self._leave_seconds)
        return True

    async def _start(self, *arguments: str) -> _Server | None:
        """A process that serves, or None if it did not get there."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        listeners = [str(each.fileno()) for each in self._listeners]
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    # -P: the working directory may have an `app` of its own
                    *(sys.executable, "-P", "-m", "app.serving.server"),
                    *(word for number in listeners for word in ("--listener", number)),
                    *("--link", str(theirs.fileno()), *arguments),
                    env=self._env,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *map(int, listeners)),
                )
        except BaseException:
            ours.close()
            raise
        server = _Server(process, ours, asyncio.create_task(process.wait()))
        self._alive.add(server)
        server.ended.add_done_callback(lambda _ended: self._bury(server))
        said = b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_READY_SECONDS):
                said = await asyncio.get_running_loop().sock_recv(ours, 1)
        if said == READY:
            _log.info("process %d serves", server.pid)
            return server
        server.signal(signal.SIGKILL)
        return None

    def _bury(self, server: _Server) -> None:
        self._alive.discard(server)
        server.link.close()

    async def _stop_all(self) -> None:
        for listener in self._listeners:
            listener.close()  # else who comes after the last process has left would wait in vain
        leaving = list(self._alive)
        for server in leaving:
            server.signal(signal.SIGTERM)
        hurry = asyncio.create_task(self._hurry(leaving))
        await self._ended(leaving, within=self._leave_seconds)
        hurry.cancel()

    async def _hurry(self, servers: Sequence[_Server]) -> None:
        await self._hurry_asked.wait()
        for server in servers:
            server.tell(HURRY)
        await asyncio.sleep(_HURRIED_SECONDS)
        for server in servers:
            server.signal(signal.SIGKILL)

    async def _ended(self, servers: Sequence[_Server], *, within: float) -> None:
        """Until they have ended; those that have not in time are killed."""
        if not servers:
            return
        ends = {server.ended: server for server in servers}
        _, late = await asyncio.wait(ends, timeout=within)
        for end in late:
            _log.error("process %d would not leave, and is killed", ends[end].pid)
            ends[end].signal(signal.SIGKILL)
            await end


def serve(host: str, port: int, *, processes: int, drain_seconds: float) -> int:
    """Serves the API until told to stop; the exit status.

    Raises:
        StartError: it can't listen there.
    """
    listeners = listen(host, port)
    for each in listeners:
        _log.info("serving at %s, port %d", *each.getsockname()[:2])
    env = dict(os.environ)
    counted = None if given_directory(env) else own_directory()
    if counted is not None:
        # whoever is asked for /metrics answers for all, and for those that have been replaced
        env[METRICS_VARIABLE] = str(counted)
    try:
        parent = Parent(listeners, processes=processes, drain_seconds=drain_seconds, env=env)
        return asyncio.run(parent.run())
    finally:
        if counted is not None:
            shutil.rmtree(counted, ignore_errors=True)
