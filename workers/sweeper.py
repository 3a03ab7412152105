"""The sweeper: what a lost message, a dead worker or a closed laptop left lying, it picks up.

A small process of its own rather than Celery's beat, which needs the broker. Any number may run;
an advisory lock lets one be active. Run with `python -m workers.sweeper`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias

import psycopg
from psycopg.rows import TupleRow

from app.infra.db import CONNECTION_LIMITS, Database, is_unavailable
from app.infra.jobs import SWEEPER_LOCK
from app.infra.logging import LIFECYCLE, configure_logging, log_uncaught
from app.infra.metrics_exposition import serve_metrics
from app.infra.telemetry import start_tracing, stop_tracing
from app.labeling.assembly import open_labeling
from app.labeling.sweep import LabelingSweep
from app.ledger import counters
from app.review.service import ReviewService
from app.settings import Settings, load_settings

Step: TypeAlias = Callable[[], Awaitable[object]]
# how long what is under way may take once we are told to stop
_STOP_SECONDS = 5.0
_log = logging.getLogger(__name__)


async def sweep_forever(settings: Settings, stop: asyncio.Event) -> None:
    """Sweeps until told to stop, whenever the lock is ours and the database is there."""
    labeling = await open_labeling(settings, application_name="secondlook-sweeper")
    review = ReviewService(labeling.database)
    sweep = LabelingSweep(labeling.database, labeling.wake_ups, labeling.drainer)
    steps: tuple[Step, ...] = (
        lambda: sweep.once(stopping=stop.is_set),
        review.expire,
        lambda: fold_counters(labeling.database),
    )
    logging.getLogger(LIFECYCLE).info("sweeper ready")
    try:
        while not stop.is_set():
            try:
                async with active(settings.database_url) as lock:
                    while not stop.is_set():
                        await _round(steps, stop)
                        await _pause(stop, settings.sweep_seconds)
                        # the lock goes with its connection, and another may be active by now
                        await lock.execute("SELECT 1")
            except (psycopg.Error, OSError) as error:
                _log.warning("the database is away: %s", type(error).__name__)
            except NotActiveError:
                _log.debug("another sweeper is active")
            await _pause(stop, settings.sweep_seconds)
    finally:
        await sweep.close()
        await labeling.close()


async def _round(steps: Sequence[Step], stop: asyncio.Event) -> None:
    """Every step once, until told to stop; one that fails keeps no other from its work.

    Raises:
        psycopg.Error: the database is away.
    """
    for step in steps:
        if stop.is_set():
            return
        try:
            await _unless_stopped(step(), stop)
        except Exception as error:
            if is_unavailable(error):
                raise
            _log.exception("a part of the sweep failed")


async def _unless_stopped(step: Awaitable[object], stop: asyncio.Event) -> None:
    """Ends a step, or breaks it off soon after the wish to stop: its transactions are whole."""
    running = asyncio.ensure_future(step)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({running}, timeout=_STOP_SECONDS)
    finally:
        stopped.cancel()
        running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


class NotActiveError(Exception):
    """Another sweeper is active."""


@contextlib.asynccontextmanager
async def active(database_url: str) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
    """Holds the lock that makes this sweeper the active one.

    The lock lives as long as its connection, which is kept outside the pool; the server frees it
    when the process dies, however it dies.

    Raises:
        NotActiveError: another sweeper has it.
    """
    connection = await psycopg.AsyncConnection.connect(
        database_url,
        autocommit=True,
        application_name="secondlook-sweeper-lock",
        **CONNECTION_LIMITS,
    )
    async with connection:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (SWEEPER_LOCK,))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            raise NotActiveError
        yield connection


async def fold_counters(database: Database) -> None:
    """Folds the counters of every project that moved."""
    for project_id in await counters.unfolded_projects(database):
        await counters.fold(database, project_id)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _main() -> None:
    settings = load_settings()
    configure_logging(settings.log_level, process="sweeper")
    log_uncaught()
    serve_metrics(settings)
    start_tracing("sweeper")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await sweep_forever(settings, stop)
    stop_tracing()


if __name__ == "__main__":
    asyncio.run(_main())
