"""The sweeper: what a lost message, a dead worker or a closed laptop left lying, it picks up.

A small process of its own rather than Celery's beat, which needs the broker. Any number may run;
an advisory lock lets one be active. Run with `python -m workers.sweeper`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

import psycopg

from app.infra.db import Database, is_unavailable
from app.infra.logging import configure_logging
from app.labeling.assembly import open_labeling
from app.labeling.sweep import LabelingSweep
from app.ledger import counters
from app.review.service import ReviewService
from app.settings import Settings, load_settings

_log = logging.getLogger(__name__)
# any number that nobody else uses
_LOCK = 7_405_103_222


async def sweep_forever(settings: Settings, stop: asyncio.Event) -> None:
    """Sweeps until told to stop, whenever the lock is ours and the database is there."""
    labeling = await open_labeling(settings, application_name="secondlook-sweeper")
    review = ReviewService(labeling.database)
    sweep = LabelingSweep(labeling.database, labeling.wake_ups, labeling.drainer)
    try:
        while not stop.is_set():
            try:
                async with active(settings.database_url):
                    while not stop.is_set():
                        await sweep.once(stopping=stop.is_set)
                        await review.expire()
                        await fold_counters(labeling.database)
                        await _pause(stop, settings.sweep_seconds)
            except (psycopg.Error, OSError) as error:
                if not is_unavailable(error):
                    _log.exception("a sweep failed")
                else:
                    _log.warning("the database is away: %s", type(error).__name__)
                await _pause(stop, settings.sweep_seconds)
            except NotActiveError:
                await _pause(stop, settings.sweep_seconds)
    finally:
        await sweep.close()
        await labeling.close()


class NotActiveError(Exception):
    """Another sweeper is active."""


@contextlib.asynccontextmanager
async def active(database_url: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Holds the lock that makes this sweeper the active one.

    The lock lives as long as its connection, which is kept outside the pool; the server frees it
    when the process dies, however it dies.
    """
    connection = await psycopg.AsyncConnection.connect(
        database_url, autocommit=True, application_name="secondlook-sweeper-lock"
    )
    async with connection:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
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
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await sweep_forever(settings, stop)


if __name__ == "__main__":
    asyncio.run(_main())
