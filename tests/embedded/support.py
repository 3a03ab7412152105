"""Small real programs to supervise, and ways to look at real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from app.infra.supervisor import Part, RestartPolicy

ROOT = Path(__file__).resolve().parents[2]
QUICK = RestartPolicy(first_pause=0.01, longest_pause=0.02, give_up_after=3)

# Says that it is up, and notes in a file that it was told to stop.
OBEDIENT = """
import signal, sys
name, notes = sys.argv[1:]
def stop(*_):
    open(notes, "a").write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
while True:
    signal.pause()
"""

# Will not stop by being asked.
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""

# Like a prefork worker: a child in its process group that must not get the parent's SIGTERM.
# Its own end is noted by the parent, a SIGTERM by the child.
PREFORK = """
import os, signal, sys
name, notes = sys.argv[1:]
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.close(writing)
    signal.signal(signal.SIGTERM, lambda *_: open(notes, "a").write("child got SIGTERM\\n"))
    os.read(reading, 1)
    os._exit(0)
def stop(*_):
    os.close(writing)
    os.waitpid(child, 0)
    open(notes, "a").write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", child, flush=True)
while True:
    signal.pause()
"""

# Serves 200 on every path.
API = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def python(script: str, *arguments: str) -> tuple[str, ...]:
    """A Python program of the standard library alone, which starts quickly."""
    return (sys.executable, "-I", "-S", "-c", script, *arguments)


def part(directory: Path, name: str, argv: tuple[str, ...], **more: Any) -> Part:
    """A part that is ready when it says that it is up, unless told otherwise."""
    defaults = {"env": dict(os.environ), "ready": lambda process: "up" in process.log_text()}
    return Part(name=name, argv=argv, directory=directory, **{**defaults, **more})


@contextmanager
def running(script: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process with this script; nothing of it survives the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, **more
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def eventually(is_so: Callable[[], bool]) -> None:
    """Waits for something another process does. The limit is only for a test that fails."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether the process lives; one that ended and that nobody has reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_of(pid: int) -> list[int]:
    """The process and everything below it."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]
