"""The labelling task: a thin bridge to the same service everybody calls."""

from __future__ import annotations

import logging
import uuid

from celery import Task

from app.infra.db import is_unavailable
from app.infra.telemetry import message_received
from workers.process import at_work, current_process, is_stopping

_log = logging.getLogger(__name__)


def drain(task: Task, project_id: str, wake_up: str) -> None:
    """Labels what is due in a project; the sweeper wakes it again where this fails."""
    process = current_process()
    project = uuid.UUID(project_id)
    if not process.labeling.wake_ups.arrived(project, wake_up):
        return
    with at_work(), message_received("drain", task.request.headers or {}):
        try:
            process.run(process.labeling.drainer.drain(project, stopping=is_stopping))
        except Exception as error:  # noqa: BLE001  # Celery would log what the error says
            about = {"project_id": project}
            if is_unavailable(error):
                _log.warning("a drain ended early: the database is away", extra=about)
            else:
                _log.exception("a drain failed", extra=about)
