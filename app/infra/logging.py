"""Structured logs: a JSON object a line, with the ids of what it is about, never a payload or key.

What can carry a payload is kept out where lines are made. The message of an exception quotes
whatever was wrong (a row, a field, a prompt), so a crash is logged by its types and places alone,
whoever logs it. Libraries that tell what passes through them are heard from WARNING on.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

import structlog
from structlog.contextvars import bind_contextvars, get_contextvars, merge_contextvars

from app.infra.ids import Kind, to_wire
from app.infra.telemetry import tracing

LIFECYCLE = "secondlook.lifecycle"
"""The logger of starts and stops, heard at every level: who supervises a process waits for it."""

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_IDS = {"item_id": Kind.ITEM, "project_id": Kind.PROJECT}
_MAX_FRAMES = 40
# these tell every request, every row or every pool move
_QUIET = (
    "httpx2",
    "httpcore2",
    "openai",
    "psycopg",
    "sqlalchemy",
    "alembic",
    "amqp",
    "kombu",
    "urllib3",
    "uvicorn.access",
)


def current_request_id() -> str | None:
    """The id of the request being answered on this task, None outside one."""
    return _request_id.get()


def set_request_id(request_id: str, *, of_caller: str | None = None) -> None:
    """Names the request that the current task answers, and what its caller calls it."""
    _request_id.set(request_id)
    if of_caller is not None:
        bind_contextvars(caller_request_id=of_caller)


def log_about(**ids: uuid.UUID) -> None:
    """Says what the current task is about: `item_id`, `project_id`; all its lines carry it."""
    bind_contextvars(**ids)


def ids_at_hand() -> dict[str, str]:
    """What the current task is about, in the spelling of the wire."""
    known = get_contextvars()
    return {name: to_wire(kind, known[name]) for name, kind in _IDS.items() if name in known}


def write_request_line(process: str, **fields: object) -> None:
    """A line about a request that was answered, written past the loggers.

    A tenth of what they take (100 microseconds, a quarter of a request), for there is one a
    request. It looks like every other line.
    """
    line: structlog.typing.EventDict = {
        "process": process,
        "event": "answered",
        "level": "info",
        "logger": "secondlook.access",
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        **get_contextvars(),
        **fields,
    }
    sys.stderr.write(json.dumps(_add_ids(None, "", line)) + "\n")


def configure_logging(level: str, *, process: str) -> None:
    """Sends every logger of this process to standard error as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        merge_contextvars,
        structlog.stdlib.ExtraAdder(),
        _add_ids,
        _keep_exceptions_silent,
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
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # it has given them handlers of its own by now, which would print what exceptions say
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def _add_ids(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    request_id = current_request_id()
    if request_id is not None:
        event["request_id"] = request_id
    for name, kind in _IDS.items():
        if isinstance(event.get(name), uuid.UUID):
            event[name] = to_wire(kind, event[name])
    traces = tracing()
    under = None if traces is None else traces.current()
    if under is not None:
        event["trace_id"], event["span_id"] = under
    return event


def _keep_exceptions_silent(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    found = event.pop("exc_info", None)
    if found:
        error = sys.exc_info()[1] if found is True else found
        error = error[1] if isinstance(error, tuple) else error
        if isinstance(error, BaseException):
            event["exception"] = describe_places(error)
    if event.get("logger") == "asyncio":
        # what follows shows the exception of a task, or a whole call with its arguments
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def describe_places(error: BaseException) -> str:
    """A traceback without a value: what was raised where, the causes first."""
    return "\n".join(_places(error, set()))


def _places(error: BaseException, told: set[int]) -> Iterator[str]:
    told.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in told:
        yield from _places(before, told)
        yield "which led to"
    frames = traceback.extract_tb(error.__traceback__)
    if len(frames) > _MAX_FRAMES:
        yield f"  ({len(frames) - _MAX_FRAMES} frames before)"
    for frame in frames[-_MAX_FRAMES:]:
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    yield f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield "in a group:"
        yield from _places(inner, told)


def log_uncaught() -> None:
    """Sends what nobody caught, in any thread of this process, the same way.

    For the entry point of a program: there is one hook a process.
    """
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(LIFECYCLE).critical("ended by an error", exc_info=error)


def _log_uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None:
        logging.getLogger(LIFECYCLE).error("a thread ended by an error", exc_info=told.exc_value)
