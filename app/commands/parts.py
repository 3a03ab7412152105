"""`secondlook worker`, `secondlook sweep`: the other parts of the service, each alone.

Each checks the settings, so that a wrong one is a clear line, and then becomes the program: the
same process, so whoever supervises it signals the program itself.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from app.settings import load_settings


def worker(
    *,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="that label; none: one a core, four at most")
    ] = None,
) -> None:
    """Run a worker alone: labels what wake-ups point at. SIGTERM stops it, and leaves no lease."""
    number = processes or min(4, os.cpu_count() or 1)
    _become(
        *("celery", "-A", "workers.app", "worker", "--concurrency", str(number)),
        *("--without-gossip", "--without-mingle", "--loglevel", "INFO"),
    )


def sweep() -> None:
    """Run a sweeper alone: frees what the dead held. Any number may run; one is active."""
    _become("workers.sweeper")


def _become(module: str, *arguments: str) -> NoReturn:
    load_settings()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606  no shell wanted
