"""Spans of requests: FastAPI's own, where tracing is on."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, cast

from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import TracerProvider

from app.infra.telemetry import tracing

_PROBES = frozenset({"/livez", "/readyz", "/version", "/metrics"})


def of_requests() -> TelemetryConfig:
    """What FastAPI is told of telemetry.

    Left to itself it looks for providers at each request (some 15 of the 100 microseconds that an
    empty route takes), counts what /metrics has already and logs what exceptions say.
    """
    traces = tracing()
    config: TelemetryConfig = {
        "tracing": traces is not None,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
        "exclude": _is_probe,
    }
    if traces is not None:
        config["tracer_provider"] = cast("TracerProvider", traces.provider)
    return config


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    return scope["path"] in _PROBES
