"""What a process counts and times, told at /metrics; docs/observability.md lists every metric.

Labels are bounded by the code: route templates, methods, statuses, words of enums. No project,
item, model or reviewer is a label. Their number is the customers' to choose, each would be a series
kept for ever, and /metrics needs no key. A project's figures are at `/v1/projects/{id}/stats`, and
a span names the model.

Where the environment names PROMETHEUS_MULTIPROC_DIR the values lie in files there, and all who
share the directory are told as one (`app/infra/metrics_directory.py`).
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

_HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
# what a caller invents must not become series
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "other"


class Instruments:
    """Everything a process counts itself. What the database knows is told from there."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.http_seconds = Histogram(
            "secondlook_http_request_seconds",
            "From a request's first byte to the last of its answer.",
            ("method", "route", "status"),
            buckets=_HTTP_BUCKETS,
            registry=registry,
        )
        self.items_received = Counter(
            "secondlook_items_received_total",
            "Rows of ingest that were answered, by what became of them.",
            ("status",),
            registry=registry,
        )
        self.reviews = Counter(
            "secondlook_reviews_total",
            "Verdicts of people, by whether the model had said the same.",
            ("agreed",),
            registry=registry,
        )
        self.call_seconds = Histogram(
            "secondlook_llm_request_seconds",
            "Requests to model servers, by how they ended.",
            ("outcome",),
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        self.calls_in_flight = Gauge(
            "secondlook_llm_requests_in_flight",
            "Requests to model servers under way.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.tokens = Counter(
            "secondlook_llm_tokens_total",
            "Tokens as model servers counted them.",
            ("direction",),
            registry=registry,
        )
        self.attempts = Counter(
            "secondlook_label_attempts_total",
            "Turns of items with a model, by how they ended and what was wrong.",
            ("outcome", "fault"),
            registry=registry,
        )
        self.results_lost = Counter(
            "secondlook_label_results_lost_total",
            "Results that were not stored: their lease was over, or the database refused them.",
            ("reason",),
            registry=registry,
        )
        self.leases_expired = Counter(
            "secondlook_leases_expired_total",
            "Leases that ran out: of workers that were lost, of reviewers who let go.",
            ("kind",),
            registry=registry,
        )
        self.wake_ups = Counter(
            "secondlook_wake_ups_total",
            "Wake-ups for workers; for a lost one the sweeper makes up.",
            ("outcome",),
            registry=registry,
        )
        self.pool_connections = Gauge(
            "secondlook_database_pool_connections",
            "Connections for plain SQL, looked at every two seconds.",
            ("process", "state"),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.pool_waiting = Gauge(
            "secondlook_database_pool_waiting",
            "Who waits for a connection, looked at every two seconds.",
            ("process",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.pool_wait_seconds = Counter(
            "secondlook_database_pool_wait_seconds_total",
            "Time spent waiting for a connection.",
            ("process",),
            registry=registry,
        )
        self.pool_errors = Counter(
            "secondlook_database_pool_errors_total",
            "Connections that could not be made, were lost, or not had in time.",
            ("process",),
            registry=registry,
        )
        self._http: dict[tuple[str, str, int], Histogram] = {}
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Makes what is alerted on be there before it first happens: a rate needs two values."""
        for counter, words in (
            (self.tokens, ("input", "output")),
            (self.results_lost, ("late", "refused")),
            (self.leases_expired, ("label", "review")),
            (self.wake_ups, ("sent", "lost")),
        ):
            for word in words:
                counter.labels(word)
        self.call_seconds.labels("answered")

    def http(self, method: str, route: str, status: int) -> Histogram:
        """The series of a route; looked up once."""
        key = (method if method in _METHODS else _OTHER, route, status)
        found = self._http.get(key)
        if found is None:
            found = self._http[key] = self.http_seconds.labels(key[0], route, str(status))
        return found


@cache
def instruments() -> Instruments:
    """This process's instruments, made at first use: after it is known who shares them."""
    # a second series beside each counter, which Prometheus' text form has no use for
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return Instruments()


def request_answered(method: str, route: str, status: int, seconds: float) -> None:
    """A request was answered, on the route of this template."""
    instruments().http(method, route, status).observe(seconds)


def items_received(statuses: Iterable[str]) -> None:
    """Rows of ingest were answered: what became of each."""
    for status, count in Tally(statuses).items():
        instruments().items_received.labels(status).inc(count)


def review_recorded(*, agreed: bool | None) -> None:
    """A verdict was stored; None: there was no label to agree with."""
    word = "unknown" if agreed is None else "yes" if agreed else "no"
    instruments().reviews.labels(word).inc()


def call_begun() -> None:
    """A request to a model server begins."""
    instruments().calls_in_flight.inc()


def call_ended(outcome: str, seconds: float) -> None:
    """A request to a model server ended, whichever way."""
    known = instruments()
    known.calls_in_flight.dec()
    known.call_seconds.labels(outcome).observe(seconds)


def tokens_used(prompt: int | None, completion: int | None) -> None:
    """What a model server counted; None where it did not say."""
    counter = instruments().tokens
    counter.labels("input").inc(prompt or 0)
    counter.labels("output").inc(completion or 0)


def attempt_ended(outcome: str, fault: str | None) -> None:
    """An item's turn with the model is over."""
    instruments().attempts.labels(outcome, fault or "none").inc()


def results_lost(reason: str, count: int) -> None:
    """Results of calls were not stored."""
    if count:
        instruments().results_lost.labels(reason).inc(count)


def leases_expired(kind: str, count: int) -> None:
    """Leases were taken back."""
    if count:
        instruments().leases_expired.labels(kind).inc(count)


def wake_up(outcome: str) -> None:
    """A wake-up was sent, or lost."""
    instruments().wake_ups.labels(outcome).inc()


def pool_looked_at(process: str, stats: dict[str, int]) -> None:
    """The figures of a connection pool, its counts since it was last looked at.

    Args:
        process: api, worker or sweeper.
        stats: as `psycopg_pool.ConnectionPool.pop_stats` gives them.
    """
    known = instruments()
    idle = stats.get("pool_available", 0)
    known.pool_connections.labels(process, "idle").set(idle)
    known.pool_connections.labels(process, "in_use").set(stats.get("pool_size", 0) - idle)
    known.pool_waiting.labels(process).set(stats.get("requests_waiting", 0))
    known.pool_wait_seconds.labels(process).inc(stats.get("requests_wait_ms", 0) / 1000)
    failed = ("requests_errors", "connections_errors", "connections_lost")
    known.pool_errors.labels(process).inc(sum(stats.get(name, 0) for name in failed))
