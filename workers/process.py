"""What a worker process has: one event loop on a thread of its own, for as long as it lives.

An `async def` task can't be one of Celery's; a task hands its coroutine to this loop and waits.
Everything here is made after the fork: a connection shared by two processes speaks to neither.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Coroutine
from ctypes import c_bool
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
    """Whether this worker was told to stop; called in the children."""
    return bool(_stopping.value)


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
