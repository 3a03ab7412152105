"""The directory an instance owns: its lock, its logs, the ids of the processes it started."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from app.infra.supervisor.parts import Part, StartError
from app.infra.supervisor.process import PartProcess, end_group

# A process is told from a later one with the same id by its start, as far as clocks agree.
CLOCK_SLACK_SECONDS = 2.0


class DataDir:
    """An open, locked data directory.

    The lock is the kernel's (flock): it goes with the process that holds it, however that ends.
    """

    def __init__(self, path: Path) -> None:
        """Make and lock the directory, and end what an instance killed earlier left running in it.

        Raises:
            StartError: it can't be written, or a running instance has it (its process id is named).
        """
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self._pids = self.path / "pids"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(_unusable(self.path, error)) from error
        try:
            self._take_lock()
            for folder in (self.logs, self._pids):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._end_leftovers()
        except OSError as error:
            os.close(self._lock)
            raise StartError(_unusable(self.path, error)) from error
        except StartError:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Give the directory free for the next instance."""
        os.close(self._lock)

    def remember(self, process: PartProcess) -> None:
        """Note a started process, so that the next start can end it if this one is killed."""
        with suppress(psutil.NoSuchProcess):  # it has ended already, and needs no note
            record = {
                "pid": process.pid,
                "created": psutil.Process(process.pid).create_time(),
                "stop_signal": int(process.part.stop_signal),
                "grace_seconds": process.part.grace_seconds,
            }
            self._record(process.part).write_text(json.dumps(record))

    def forget(self, part: Part) -> None:
        """The part's process has ended."""
        self._record(part).unlink(missing_ok=True)

    def _record(self, part: Part) -> Path:
        return self._pids / f"{part.name}.json"

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 20, 0).decode() or "of unknown id"
            raise StartError(
                f"{self.path} is in use by process {holder}. Stop that one, or name another data "
                "directory for this one."
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def _end_leftovers(self) -> None:
        waiting: list[tuple[psutil.Process, float]] = []
        for process, record in self._leftovers():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(int(record["stop_signal"]))
                process.send_signal(signal.SIGCONT)
            waiting.append((process, time.monotonic() + record["grace_seconds"]))
        for process, deadline in waiting:
            while is_alive(process) and time.monotonic() < deadline:
                time.sleep(0.05)
            end_group(process.pid)
            while is_alive(process):
                time.sleep(0.05)
        for path in self._pids.glob("*.json"):
            path.unlink()

    def _leftovers(self) -> Iterator[tuple[psutil.Process, dict[str, float]]]:
        for path in self._pids.glob("*.json"):
            # a record cut short by a crash names nobody
            with suppress(ValueError, KeyError, psutil.NoSuchProcess):
                record = json.loads(path.read_text())
                process = psutil.Process(record["pid"])
                if abs(process.create_time() - record["created"]) < CLOCK_SLACK_SECONDS:
                    yield process, record


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie that nobody has reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _unusable(path: Path, error: OSError) -> str:
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        who = f"uid {os.getuid()}"
    return f"The data directory {path} can't be used by {who}: {error.strerror} ({error.filename})."
