"""What is seen of a worker from outside: its children's metrics as one, their spans."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.infra.metrics_directory import given_directory, own_directory
from app.infra.metrics_exposition import serve_metrics, share_in
from app.infra.telemetry import load_extra
from app.settings import Settings


class Watch:
    """Kept by the parent, which answers for its children: they come and go."""

    def __init__(self) -> None:
        self._directory: Path | None = None

    def begin(self, settings: Settings) -> None:
        """Before the first child is forked."""
        load_extra()
        if settings.metrics_port is not None and given_directory() is None:
            self._directory = own_directory()
            share_in(self._directory)
        serve_metrics(settings)

    def end(self) -> None:
        """After the last child has gone."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
