"""Tracing by the OpenTelemetry SDK; imported only where it is wanted (`app/infra/telemetry.py`).

Spans carry ids, names and figures, never content. Instrumentations note what an exception said,
which quotes rows and prompts, and a query string holds what callers filter by; so whatever is
exported goes through `WithoutContent`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from urllib.parse import parse_qsl

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

_QUERY = "url.query"


class UnsupportedError(Exception):
    """The environment asks for an exporter that is not in the extra."""


class SdkTracing:
    """Spans of one process, sent by OTLP over HTTP as the standard variables say.

    Attributes:
        provider: for instrumentations that want to be given one.
    """

    def __init__(self, process: str) -> None:
        """Begins to collect spans.

        Raises:
            UnsupportedError: OTEL_TRACES_EXPORTER or the protocol is another than ours.
        """
        _require_ours()
        named = Resource({"service.name": f"secondlook-{process}"})
        ours = Resource({"service.version": version("secondlook")})
        # what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before
        resource = Resource.create().merge(named).merge(ours).merge(OTELResourceDetector().detect())
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(WithoutContent(OTLPSpanExporter())))
        self._tracer = self.provider.get_tracer("secondlook", version("secondlook"))
        if process != "sweeper":
            # the sweeper asks the database all day: a root span every second
            PsycopgInstrumentor().instrument(tracer_provider=self.provider)

    def call(self, model: str, about: Mapping[str, str]) -> ModelCallSpan:
        """The span of a request to a model server, by OpenTelemetry's conventions for GenAI."""
        span = self._tracer.start_span(
            f"chat {model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": model,
                **{f"secondlook.{name}": value for name, value in about.items()},
            },
        )
        return ModelCallSpan(span)

    @contextmanager
    def received(self, what: str, headers: Mapping[str, str]) -> Iterator[None]:
        """The span of a message's work, under the span that its headers name."""
        context = propagate.extract(headers)
        with self._tracer.start_as_current_span(what, context=context, kind=SpanKind.CONSUMER):
            yield

    def headers(self) -> dict[str, str]:
        """What a message carries, so that its work stands under the current span."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    def current(self) -> tuple[str, str] | None:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)

    def close(self) -> None:
        self.provider.shutdown()


class ModelCallSpan:
    """A request to a model server under way."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def answered(
        self,
        *,
        model: str | None,
        finish_reason: str | None,
        input_tokens: int | None,
        output_tokens: int | None,
    ) -> None:
        said = {
            "gen_ai.response.model": model,
            "gen_ai.response.finish_reasons": None if finish_reason is None else [finish_reason],
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
        }
        self._span.set_attributes(
            {name: value for name, value in said.items() if value is not None}
        )

    def ended(self, error_type: str | None) -> None:
        if error_type is not None:
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class WithoutContent(SpanExporter):
    """Passes spans on without what may quote content: events, descriptions, values of a query."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_without_content(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _without_content(span: ReadableSpan) -> ReadableSpan:
    attributes = dict(span.attributes or {})
    if _QUERY in attributes:
        names = {name for name, _ in parse_qsl(str(attributes[_QUERY]), keep_blank_values=True)}
        attributes[_QUERY] = "&".join(sorted(names))
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _require_ours() -> None:
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    protocol = (
        os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if exporter != "otlp":
        raise UnsupportedError("OTEL_TRACES_EXPORTER may be otlp or none")
    if protocol != "http/protobuf":
        raise UnsupportedError("spans are sent by OTLP over http/protobuf and nothing else")
