"""A directory in which the processes of one program keep what they count, to be told as one.

A worker's children and the processes of an API come and go, and whoever is asked for /metrics must
answer for all. prometheus_client does it with a memory-mapped file a process, found by the variable
PROMETHEUS_MULTIPROC_DIR when it is imported; so the parent sets it for those it starts. What a
dead process counted stays counted; what it held at the moment of its death (`live…` gauges) is
dropped when the directory is next read (`app/infra/metrics_exposition.py`), after a kill -9 too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def given_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The directory that somebody has chosen for this process, who also keeps it clean."""
    return Path(environ[VARIABLE]) if environ.get(VARIABLE) else None


def clean_directory(path: Path) -> Path:
    """The directory, there and empty: nothing of an earlier start is told again."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700, parents=True)
    return path


def own_directory() -> Path:
    """A new directory for this process and its children; who made it removes it."""
    return Path(tempfile.mkdtemp(prefix="secondlook-metrics-"))
