"""Structured logs: one JSON object a line, with the request's id, never a payload or a key."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

import structlog

LIFECYCLE = "secondlook.lifecycle"
"""The logger of starts and stops, heard at every level: who supervises a process waits for it."""

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def current_request_id() -> str | None:
    """The id of the request being answered on this task, None outside one."""
    return _request_id.get()


def set_request_id(request_id: str) -> None:
    """Names the request that the current task answers."""
    _request_id.set(request_id)


def _add_request_id(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    request_id = current_request_id()
    if request_id is not None:
        event["request_id"] = request_id
    return event


def configure_logging(level: str, *, process: str) -> None:
    """Sends every logger of this process to standard error as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda _logger, _name, event: {"process": process, **event},
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger(LIFECYCLE).setLevel(logging.INFO)
    # these tell every request and every pool move at INFO
    for noisy in ("httpx2", "httpcore2", "openai", "psycopg.pool", "alembic", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
