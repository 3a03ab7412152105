"""The labelling task: a thin bridge to the same service everybody calls."""

from __future__ import annotations

import logging
import uuid

from app.infra.db import is_unavailable
from workers.process import current_process, is_stopping

_log = logging.getLogger(__name__)


def drain(project_id: str, wake_up: str) -> None:
    """Labels what is due in a project; the sweeper wakes it again where this fails."""
    process = current_process()
    project = uuid.UUID(project_id)
    if not process.labeling.wake_ups.arrived(project, wake_up):
        return
    try:
        process.run(process.labeling.drainer.drain(project, stopping=is_stopping))
    except Exception as error:
        if not is_unavailable(error):
            raise
        _log.warning("a drain ended early: the database is away")
