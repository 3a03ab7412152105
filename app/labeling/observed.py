"""What is seen of labelling from outside: figures and spans. Nothing of an item but its ids."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.domain.backoff import FailureClass
from app.domain.unknown import UnknownReason
from app.infra import metrics
from app.infra.logging import ids_at_hand
from app.infra.telemetry import CallSpan, tracing
from app.labeling.answer import Reading, Served
from app.labeling.endpoint import CallError


@dataclass(slots=True)
class ObservedCall:
    """A request to a model server; `served` is set when its answer has been read."""

    served: Served | None = None


@contextmanager
def observed_call(model: str) -> Iterator[ObservedCall]:
    """Times a request, counts its tokens and draws its span."""
    traces = tracing()
    span = None if traces is None else traces.call(model, ids_at_hand())
    metrics.call_begun()
    began = time.monotonic()
    call, outcome = ObservedCall(), "crashed"
    try:
        yield call
        outcome = "answered"
    except CallError as error:
        outcome = error.failure.value
        raise
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        metrics.call_ended(outcome, time.monotonic() - began)
        _tell(call.served, span, None if outcome == "answered" else outcome)


def _tell(served: Served | None, span: CallSpan | None, error_type: str | None) -> None:
    if served is not None:
        metrics.tokens_used(served.prompt_tokens, served.completion_tokens)
    if span is None:
        return
    if served is not None:
        span.answered(
            model=served.model,
            finish_reason=served.finish_reason,
            input_tokens=served.prompt_tokens,
            output_tokens=served.completion_tokens,
        )
    span.ended(error_type)


def attempt_answered(reading: Reading) -> None:
    """An item's turn brought an answer, usable or not."""
    fault = None if reading.unknown is None else reading.unknown.reason.value
    metrics.attempt_ended("unusable" if reading.label is None else "labeled", fault)


def attempt_failed(failure: FailureClass, reason: UnknownReason) -> None:
    """An item's turn brought no answer."""
    limited = failure is FailureClass.RATE_LIMITED
    metrics.attempt_ended("failed", failure.value if limited else reason.value)
