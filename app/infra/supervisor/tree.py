"""The supervisor: one thread that starts, watches, restarts and stops the parts.

One thread does all of it, for two reasons. The kernel ties a child's death signal to the *thread*
that forked it, so that thread must live as long as the supervisor. And the caller's thread stays
free to run a demo or to sleep until a signal comes. The two talk through plain attributes and a
deque, never through a lock: a signal handler may interrupt the caller while it holds one. That
goes for `Thread.join` too: interrupted in Python 3.11, it takes the thread for ended.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from app.infra.supervisor.datadir import DataDir
from app.infra.supervisor.parts import (
    Announce,
    InterruptedStartError,
    Part,
    PartFailedError,
    RestartPolicy,
    StartError,
)
from app.infra.supervisor.process import PartProcess, described

BUSY_TICK = 0.05
IDLE_TICK = 0.2
FORCED_SECONDS = 10.0


class _Child:
    """What the supervisor knows of a part; written by its thread only."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.process: PartProcess | None = None
        self.ready_at: float | None = None
        self.start_at: float | None = 0.0  # None: not to be started
        self.crashes = 0
        self.held = False
        self.finished = False
        self.gave_up = False

    @property
    def is_settled(self) -> bool:
        """Whether who started it need not wait any longer."""
        if self.part.once:
            return self.finished
        return self.ready_at is not None or self.gave_up


class Supervisor:
    """Keeps parts running in a data directory until told to stop, or until one can't be kept.

    A context manager; leaving it stops everything, the highest stage first.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        announce: Announce = lambda _line: None,
        restart: RestartPolicy | None = None,
    ) -> None:
        """Take the data directory and begin to watch; nothing is started yet.

        Args:
            data_dir: made if missing; logs go to `logs/` in it.
            announce: gets one line for a person whenever a part becomes ready or ends unasked;
                called from the supervisor's thread.
            restart: how a crashed part comes back.

        Raises:
            StartError: the directory can't be used, or a running instance has it.
        """
        self.dir = DataDir(data_dir)
        self.failure: StartError | None = None
        self._announce_to = announce
        self._restart = restart or RestartPolicy()
        self._children: dict[str, _Child] = {}
        self._commands: deque[Callable[[], None]] = deque()
        self._afterwards: list[Callable[[], None]] = []
        self._stop_asked = False
        self._hurry_asked = False
        self._ended = False
        threading.Thread(target=self._live, name="supervisor").start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # Called from other threads

    def start(self, *parts: Part) -> None:
        """Start the parts together and return when all are ready (or, once-parts, have ended well).

        Raises:
            PartFailedError: one of them, or any other part meanwhile, can't be kept running;
                everything is being stopped.
            InterruptedStartError: the supervisor was told to stop.
        """
        children = [_Child(part) for part in parts]

        def add() -> None:
            self._children.update({child.part.name: child for child in children})

        self._commands.append(add)
        self._wait_until(lambda: all(child.is_settled for child in children))

    def hold(self, name: str, number: signal.Signals | None = None) -> None:
        """End one part, with its own stop signal or this one, and keep it ended until resumed."""
        child = self._children[name]

        def end() -> None:
            child.held = True
            child.start_at = None
            if child.process is not None:
                child.process.send(number or child.part.stop_signal)

        self._commands.append(end)
        self._wait_until(lambda: child.held and child.process is None)

    def resume(self, name: str) -> None:
        """Start a held part again and return when it is ready; raises as `start` does."""
        child = self._children[name]

        def begin() -> None:
            child.held = False
            child.gave_up = False
            child.crashes = 0
            child.start_at = 0.0

        self._commands.append(begin)
        self._wait_until(lambda: not child.held and child.is_settled)

    def pid(self, name: str) -> int | None:
        """The part's process id at this moment, None while it is down."""
        process = self._children[name].process
        return process.pid if process else None

    def afterwards(self, tidy: Callable[[], None]) -> None:
        """Call this when everything has stopped, however that came; it may raise OSError."""
        self._afterwards.append(tidy)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop, or stops because a part could not be kept."""
        return self._stop_asked

    def ask_stop(self) -> None:
        """Begin to stop and return at once; safe in a signal handler."""
        self._stop_asked = True

    def ask_hurry(self) -> None:
        """Begin to stop, with no grace; safe in a signal handler."""
        self._hurry_asked = True
        self._stop_asked = True

    def stop(self) -> None:
        """Stop everything and return when nothing is left."""
        self.ask_stop()
        while not self._ended:
            time.sleep(BUSY_TICK / 2)

    def wait(self) -> None:
        """Return when everything has stopped.

        Raises:
            StartError: it stopped because a part could not be kept running.
        """
        while not self._ended:
            time.sleep(BUSY_TICK)
        if self.failure is not None:
            raise self.failure

    def _wait_until(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            if self._stop_asked:
                self.wait()
                raise InterruptedStartError("Told to stop.")
            time.sleep(BUSY_TICK / 2)

    # The supervisor's own thread

    def _live(self) -> None:
        main = threading.main_thread()
        try:
            while not self._stop_asked and main.is_alive():
                busy = self._look_round()
                time.sleep(BUSY_TICK if busy else IDLE_TICK)
        except StartError as error:
            self.failure = error
        except OSError as error:
            self.failure = StartError(f"Can't go on: {error}.")
        except BaseException as error:
            self.failure = StartError(f"The supervisor itself failed: {error!r}.")
            raise
        finally:
            self._stop_asked = True
            self._stop_all()
            for tidy in self._afterwards:
                with suppress(OSError):
                    tidy()
            self.dir.close()
            self._ended = True

    def _look_round(self) -> bool:
        """One look at everything; true if something is expected soon."""
        while self._commands:
            self._commands.popleft()()
        children = list(self._children.values())
        for child in children:
            if child.process is None:
                if child.start_at is not None and time.monotonic() >= child.start_at:
                    self._begin(child)
            elif (status := child.process.poll()) is not None:
                self._has_ended(child, child.process, status)
            elif child.ready_at is None:
                self._check_ready(child, child.process)
            elif time.monotonic() - child.ready_at > self._restart.settled_seconds:
                child.crashes = 0
        return any(child.held or not child.is_settled for child in children)

    def _begin(self, child: _Child) -> None:
        child.ready_at = None
        child.start_at = None
        child.process = PartProcess(child.part, self.dir.logs / f"{child.part.name}.log")
        self.dir.remember(child.process)

    def _check_ready(self, child: _Child, process: PartProcess) -> None:
        if child.part.once:
            return
        if child.part.ready(process):
            child.ready_at = time.monotonic()
            child.gave_up = False
            self._announce(f"{child.part.name} is ready")
        elif process.seconds > child.part.ready_seconds:
            process.end_group()
            word = f"was not ready within {child.part.ready_seconds:g} s"
            raise PartFailedError(_farewell(process, f"{child.part.name} {word}."))

    def _has_ended(self, child: _Child, process: PartProcess, status: int) -> None:
        self._clear(child, process)
        if child.held:
            return
        if child.part.once and status == 0:
            child.finished = True
            return
        child.crashes += 1
        name, word = child.part.name, described(status)
        last = child.part.once or child.crashes >= self._restart.give_up_after
        if last and child.part.essential:
            times = f" {child.crashes} times in a row" if child.crashes > 1 else ""
            raise PartFailedError(_farewell(process, f"{name} ended{times} ({word})."))
        child.start_at = time.monotonic() + self._restart.pause(child.crashes)
        if not last:
            self._announce(f"{name} ended ({word}); starting it again")
        elif not child.gave_up:
            child.gave_up = True
            self._announce(f"{name} keeps ending ({word}); going on without it, trying again")

    def _clear(self, child: _Child, process: PartProcess) -> None:
        # Its id was given free a moment ago and can't be another group's yet: ids are handed out in
        # a circle.
        process.end_group()
        self.dir.forget(child.part)
        child.process = None
        child.ready_at = None

    def _stop_all(self) -> None:
        if self.failure is None and any(child.process for child in self._children.values()):
            self._announce("stopping")
        for stage in sorted({child.part.stage for child in self._children.values()}, reverse=True):
            self._stop_stage(stage)

    def _stop_stage(self, stage: int) -> None:
        running = [
            (child, child.process)
            for child in self._children.values()
            if child.part.stage == stage and child.process is not None
        ]
        began = time.monotonic()
        forced: dict[str, float] = {}
        for _, process in running:
            process.send(process.part.stop_signal)
        while running:
            now = time.monotonic()
            for child, process in running:
                name = child.part.name
                if process.poll() is not None:
                    self._clear(child, process)
                elif name in forced:
                    if now - forced[name] > FORCED_SECONDS:
                        process.send(signal.SIGKILL)
                elif self._hurry_asked or now - began > child.part.grace_seconds:
                    forced[name] = now
                    process.send(child.part.force_signal)
            running = [(child, process) for child, process in running if child.process is not None]
            time.sleep(BUSY_TICK / 2)

    def _announce(self, line: str) -> None:
        with suppress(OSError):  # the terminal may have gone; the parts have not
            self._announce_to(line)


def _farewell(process: PartProcess, sentence: str) -> str:
    lines = process.tail()
    if not lines:
        return f"{sentence} It wrote nothing to its log ({process.log})."
    return f"{sentence} The end of {process.log}:{os.linesep}{lines}"
