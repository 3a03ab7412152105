"""Traces, where somebody wants them: OpenTelemetry by its own variables, and nothing without them.

The SDK is an extra (`secondlook[otel]`) and is not imported unless an OTEL_… variable says where
spans go. Everything else of the project knows this module only, which is cheap when tracing is off.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Protocol

# any of these says that somebody collects spans
_ASKS = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
_log = logging.getLogger(__name__)


class CallSpan(Protocol):
    """A request to a model server under way."""

    def answered(
        self,
        *,
        model: str | None,
        finish_reason: str | None,
        input_tokens: int | None,
        output_tokens: int | None,
    ) -> None:
        """What the answer says of itself; None is what it does not say."""

    def ended(self, error_type: str | None) -> None:
        """It is over; with a word for what went wrong, None for nothing."""


class Tracing(Protocol):
    """Spans of one process."""

    @property
    def provider(self) -> object:
        """OpenTelemetry's own, for those who want to be given one."""

    def call(self, model: str, about: Mapping[str, str]) -> CallSpan:
        """Begins the span of a request to a model server, with ids of what it is about."""

    def received(self, what: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """The span of a message's work, under the span that its headers name."""

    def headers(self) -> dict[str, str]:
        """What a message carries, so that its work stands under the current span."""

    def current(self) -> tuple[str, str] | None:
        """The ids of the trace and the span that the current task works under."""

    def close(self) -> None:
        """Sends what is not sent yet."""


class _State:
    tracing: Tracing | None = None


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard variables ask for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(environ.get(name) for name in _ASKS)


def load_extra() -> None:
    """Imports the SDK if it will be needed: in a parent, so that its children need not."""
    if is_wanted():
        with suppress(ModuleNotFoundError):
            import app.infra.telemetry_sdk  # noqa: F401, PLC0415  an extra


def start_tracing(process: str) -> bool:
    """Begins to trace this process if the environment asks for it; whether it does.

    A child that was forked calls it for itself: what sends spans is a thread. Without the extra,
    or with an exporter that is not in it, the process runs untraced and says so: telemetry is no
    reason not to serve.
    """
    if _State.tracing is not None or not is_wanted():
        return _State.tracing is not None
    try:
        from app.infra.telemetry_sdk import SdkTracing, UnsupportedError  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        _log.warning(
            "OTEL_… variables ask for traces, but the extra is not installed (no %s): "
            "pip install 'secondlook[otel]'; going on without traces",
            error.name,
        )
        return False
    try:
        _State.tracing = SdkTracing(process)
    except UnsupportedError as error:
        _log.warning("%s; going on without traces", error)
        return False
    return True


def tracing() -> Tracing | None:
    """The process's tracing; None where it is off."""
    return _State.tracing


def message_headers() -> dict[str, str]:
    """What a message carries to stand under the current span; nothing where tracing is off."""
    return {} if _State.tracing is None else _State.tracing.headers()


def message_received(what: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
    """The span of a message's work; nothing where tracing is off."""
    return nullcontext() if _State.tracing is None else _State.tracing.received(what, headers)


def stop_tracing() -> None:
    """Sends what is left."""
    if _State.tracing is not None:
        _State.tracing.close()
        _State.tracing = None
