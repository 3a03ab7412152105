"""One start of one part: the process, its log, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from app.infra.supervisor.parts import Part

LAUNCH = Path(__file__).with_name("launch.py")
ROTATE_BYTES = 16 * 1024 * 1024
TAIL_LINES = 20
TAIL_BYTES = 16 * 1024


class PartProcess:
    """A started part.

    It leads a session of its own, so that Ctrl-C in a terminal reaches only the supervisor, and
    writes to its log directly, so that no line depends on the supervisor.
    """

    def __init__(self, part: Part, log: Path) -> None:
        self.part = part
        self.log = log
        self._began = time.monotonic()
        with suppress(FileNotFoundError):
            if log.stat().st_size > ROTATE_BYTES:
                log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as sink:
            when = datetime.now(UTC).isoformat(timespec="seconds")
            sink.write(f"--- {part.name} started {when}\n".encode())
            sink.flush()
            self._offset = sink.tell()
            self._popen = subprocess.Popen(  # noqa: S603  the parts' own argument lists, no shell
                [sys.executable, "-I", "-S", str(LAUNCH), *_launch_arguments(part)],
                env=dict(part.env),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, which is also that of its session and group."""
        return self._popen.pid

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._began

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that ended it), None while it runs."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        """Signal the process alone; SIGCONT follows, since a stopped process can't obey."""
        self._popen.send_signal(number)
        self._popen.send_signal(signal.SIGCONT)

    def end_group(self) -> None:
        """Kill what is left of its process group, such as the pool of a worker that died."""
        end_group(self.pid)

    def log_text(self) -> str:
        """What it has written since this start, the last few kilobytes of it."""
        with self.log.open("rb") as source:
            end = source.seek(0, os.SEEK_END)
            source.seek(max(self._offset, end - TAIL_BYTES))
            return source.read().decode(errors="replace")

    def tail(self) -> str:
        """The last lines of this start, each behind the part's name; empty if it wrote none."""
        return _prefixed(self.part.name, self.log_text().splitlines()[-TAIL_LINES:])


def end_group(leader: int) -> None:
    """Kill every member of the process group that `leader` led; no member is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def described(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


def _launch_arguments(part: Part) -> list[str]:
    account = part.account
    return [
        str(int(part.death_signal)),
        str(os.getpid()),
        str(part.directory),
        str(account.uid) if account else "-",
        str(account.gid) if account else "-",
        *part.argv,
    ]


def _prefixed(name: str, lines: Iterable[str]) -> str:
    return "\n".join(f"  {name} | {line}" for line in lines)
