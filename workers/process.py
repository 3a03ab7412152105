"""What a worker process has: one event loop on a thread of its own, for as long as it lives.

An `async def` task can't be one of Celery's; a task hands its coroutine to this loop and waits.
Everything here is made after the fork: a connection shared by two processes speaks to neither.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from ctypes import c_bool
from types import FrameType
from typing import Any, TypeVar

from app.labeling.assembly import Labeling, open_labeling
from app.settings import Settings, load_settings

T = TypeVar("T")

# Made before the fork and set by the parent when it is told to stop: a child can't see the signal,
# and a warm shutdown would wait for the whole drain. Shared memory without a lock: a child that is
# killed while it looks would hold the lock of an Event for ever, and all others would stop there.
_stopping = multiprocessing.RawValue(c_bool, False)


def stop() -> None:
    """Tells all children of this worker to end their drains; called in the parent."""
    _stopping.value = True


def is_stopping() -> bool:
    """Whether this worker, or this child alone, was told to stop; called in the children."""
    return _leaving or bool(_stopping.value)


# A signal may reach the children too: from an init that passes it to the whole group, a service
# manager, a terminal that closes, the pool when it is stopped cold. Each then ends its drain, with
# nothing left leased, and afterwards itself.
_LEAVE = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
_leaving = False
_at_work = False


def _leave(_number: int, _frame: FrameType | None) -> None:
    global _leaving  # noqa: PLW0603  # a handler has nowhere else to put it
    _leaving = True
    if not _at_work:
        raise SystemExit(0)


@contextmanager
def at_work() -> Iterator[None]:
    """What is begun in it is ended, though the child be told to leave meanwhile."""
    global _at_work  # noqa: PLW0603  # see above
    for number in _LEAVE:
        # here, since the pool puts handlers of its own in place after the fork
        signal.signal(number, _leave)
    _at_work = True
    try:
        yield
    finally:
        _at_work = False
        if _leaving:
            raise SystemExit(0)


class WorkerProcess:
    """One child: its loop and its labelling side."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="worker-loop", daemon=True
        )
        self._thread.start()
        self.labeling: Labeling = self.run(
            open_labeling(settings, application_name="secondlook-worker")
        )

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the process's loop and waits for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self.run(self.labeling.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)


_process: WorkerProcess | None = None


def current_process() -> WorkerProcess:
    """This child's process, made at its first use."""
    global _process  # noqa: PLW0603  # one a process is the point
    if _process is None:
        _process = WorkerProcess(load_settings())
    return _process


def close_current() -> None:
    """Closes what this child opened, if it opened anything."""
    global _process  # noqa: PLW0603  # see above
    if _process is not None:
        _process.close()
        _process = None
