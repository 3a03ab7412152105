"""The Celery application: `celery -A workers.app worker`."""

from __future__ import annotations

import logging
from typing import Any

from celery import signals

from app.infra.jobs import DRAIN_TASK, make_celery
from app.infra.logging import LIFECYCLE, configure_logging, log_uncaught
from app.infra.telemetry import start_tracing, stop_tracing
from app.settings import load_settings
from workers import labeling, process
from workers.watched import Watch

_settings = load_settings()
_watch = Watch()
app = make_celery(_settings.redis_url)
app.task(name=DRAIN_TASK, bind=True)(labeling.drain)


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    configure_logging(_settings.log_level, process="worker")
    log_uncaught()


@signals.worker_init.connect
def _begin_watch(**_: Any) -> None:
    _watch.begin(_settings)


@signals.worker_process_init.connect
def _trace(**_: Any) -> None:
    start_tracing("worker")


@signals.worker_ready.connect
def _say_ready(**_: Any) -> None:
    logging.getLogger(LIFECYCLE).info("worker ready")


@signals.worker_shutting_down.connect
def _tell_children(**_: Any) -> None:
    process.stop()


@signals.worker_process_shutdown.connect
def _close(**_: Any) -> None:
    process.close_current()
    stop_tracing()


@signals.worker_shutdown.connect
def _end_watch(**_: Any) -> None:
    _watch.end()
