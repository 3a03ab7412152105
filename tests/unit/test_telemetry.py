"""Tracing is on where the standard variables ask for it, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from app.infra.telemetry import is_wanted
from app.infra.telemetry_sdk import WithoutContent
from tests.support.processes import ROOT

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}

START = """
import logging, sys
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
if "without the extra" in sys.argv:
    sys.modules["opentelemetry.sdk"] = None
from app.infra import telemetry
print(telemetry.start_tracing("api"))
from app.main import create_app
from app.settings import Settings
create_app(Settings(database_url="postgresql://nowhere/x", redis_url="redis://nowhere"))
print("opentelemetry.sdk.trace" in sys.modules)
"""


def start(*arguments: str, **variables: str) -> tuple[list[str], str]:
    """What a process that starts to trace prints, and what it logs."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", START, *arguments],
        env={**known, **variables},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split(), done.stderr


class TestWanted:
    @pytest.mark.parametrize(
        ("variables", "wanted"),
        [
            ({}, False),
            # what a platform sets for everybody asks for nothing
            ({"OTEL_SERVICE_NAME": "x", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}, False),
            (ENDPOINT, True),
            ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
            ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9/v1/metrics"}, False),
            ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
            ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
            ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
            ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, True),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ],
    )
    def test_by_the_standard_variables(self, variables: dict[str, str], wanted: bool) -> None:  # noqa: FBT001  # a row
        assert is_wanted(variables) is wanted


class TestStart:
    def test_imports_nothing_where_nobody_asks(self) -> None:
        assert start() == (["False", "False"], "")

    def test_traces_where_somebody_asks(self) -> None:
        printed, _ = start(**ENDPOINT)
        assert printed == ["True", "True"]

    def test_without_the_extra_says_so_and_goes_on(self) -> None:
        printed, logged = start("without the extra", **ENDPOINT)
        assert printed == ["False", "False"]
        assert "WARNING OTEL_" in logged
        assert "pip install 'secondlook[otel]'" in logged

    @pytest.mark.parametrize(
        "variables",
        [{"OTEL_TRACES_EXPORTER": "zipkin"}, {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}],
    )
    def test_with_another_exporter_says_so_and_goes_on(self, variables: dict[str, str]) -> None:
        printed, logged = start(**variables)
        assert printed[0] == "False"
        assert "going on without traces" in logged


class TestWithoutContent:
    def test_nothing_that_quotes_leaves(self) -> None:
        kept = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(WithoutContent(kept)))
        tracer = provider.get_tracer("test")
        with (
            pytest.raises(ValueError, match="s3cret"),
            tracer.start_as_current_span(
                "outer", attributes={"url.query": "b=s3cret&a=&b=other", "url.path": "/v1"}
            ),
            tracer.start_as_current_span("inner"),
        ):
            raise ValueError("s3cret")
        inner, outer = kept.get_finished_spans()
        assert "s3cret" not in inner.to_json() + outer.to_json()
        assert outer.attributes == {"url.query": "a&b", "url.path": "/v1"}
        assert outer.status.status_code is StatusCode.ERROR
        assert inner.parent is not None
        assert outer.context is not None
        assert inner.parent.span_id == outer.context.span_id
        assert (inner.events, inner.status.description) == ((), None)
