"""Metrics as Prometheus reads them: of this process, or of all that share its directory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    Metric,
    ProcessCollector,
    generate_latest,
    start_http_server,
    values,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from app.infra.metrics import instruments
from app.infra.metrics_directory import VARIABLE, given_directory
from app.settings import Settings

_log = logging.getLogger(__name__)
MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def share_in(directory: Path) -> None:
    """Lets this process and its children keep their values in a directory, from now on.

    Raises:
        RuntimeError: something was counted already, and would not be told.
    """
    if instruments.cache_info().currsize:
        raise RuntimeError("what is counted must be shared before anything is counted")
    os.environ[VARIABLE] = str(directory)
    # what prometheus_client does when it is imported; by then nobody knew the directory
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]


class ProcessMetrics(Collector):
    """What this process counted, or all that share its directory, whichever of them is asked."""

    def __init__(self) -> None:
        self._directory = given_directory()
        # CPU, memory, open files: told of one process, never of many together
        self._process = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "secondlook_build_info", "Always 1; the label tells the version.", labels=["version"]
        )
        build.add_metric([version("secondlook")], 1)
        yield build
        if self._directory is not None:
            yield from _of_all(self._directory)
            return
        yield from self._process.collect()
        yield from instruments().registry.collect()


def _of_all(directory: Path) -> Iterable[Metric]:
    # one that was killed while it began has left an empty file
    files = [path for path in directory.glob("*.db") if path.stat().st_size]
    for pid in {int(path.stem.rpartition("_")[2]) for path in files}:
        if not _lives(pid):
            mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
    kept = [str(path) for path in files if path.exists()]
    merged: Iterable[Metric] = MultiProcessCollector.merge(kept)  # type: ignore[no-untyped-call]
    return merged


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Together(Collector):
    def __init__(self, *parts: Iterable[Metric]) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        return chain(*self._parts)


def exposition(metrics: ProcessMetrics, facts: Iterable[Metric] = ()) -> bytes:
    """The text of /metrics: what processes count, and facts that somebody else knows."""
    return generate_latest(_Together(metrics.collect(), facts))


def serve_metrics(settings: Settings) -> None:
    """Serves them where SECONDLOOK_METRICS_PORT says, on threads, as long as the process lives.

    Where that can't be it is said, and the process goes on: it is here to work, not to be seen.
    """
    if settings.metrics_port is None:
        return
    host, port = settings.metrics_host, settings.metrics_port
    try:
        start_http_server(port, host, registry=ProcessMetrics())
    except OSError as error:
        _log.error("no metrics on %s, port %d: %s", host, port, error.strerror)
