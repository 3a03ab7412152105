"""The labelling side of a worker, driven by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.infra.ids import Kind, from_wire
from app.labeling.assembly import Labeling, open_labeling
from app.labeling.drain import DrainResult
from app.labeling.sweep import LabelingSweep
from app.settings import Settings


@dataclass(frozen=True)
class LabelingSide:
    """What a worker and the sweeper do, on demand.

    Attributes:
        parts: the same parts a worker process has.
        sweep: the labelling part of the sweeper.
    """

    parts: Labeling
    sweep: LabelingSweep

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[LabelingSide]:
        parts = await open_labeling(settings, application_name="secondlook-test")
        sweep = LabelingSweep(parts.database, parts.wake_ups, parts.drainer)
        try:
            yield cls(parts, sweep)
        finally:
            await sweep.close()
            await parts.close()

    async def drain(
        self, project: str, *, stopping: Callable[[], bool] = lambda: False
    ) -> DrainResult:
        """Drains a project once, as a worker that was woken does."""
        return await self.parts.drainer.drain(from_wire(Kind.PROJECT, project), stopping=stopping)
