"""Draining a project: claim, ask with many calls in flight, record in micro-batches, claim more.

No transaction is open while a model thinks. A drain ends when nothing is due, when its time slice
is over (projects take turns) or when the process is asked to stop; it then wakes a successor if
work remains, since the message that woke it is gone.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable

from app.domain.budget import Prices
from app.infra.db import Database
from app.infra.jobs import WakeUps
from app.infra.logging import log_about
from app.labeling.endpoint import ModelClients
from app.labeling.load import LoadedProject, load_project
from app.labeling.rates import SharedRates
from app.labeling.reckoning import Reckoning
from app.labeling.record import Recorder
from app.labeling.run import DrainLimits, DrainResult, Run, Tools

__all__ = ["DrainLimits", "DrainResult", "Drainer"]

_MOST_RECKONINGS = 1000


class Drainer:
    """Labels due items of one project at a time; used by workers and, at need, by the sweeper."""

    def __init__(
        self,
        database: Database,
        clients: ModelClients,
        wake_ups: WakeUps,
        *,
        limits: DrainLimits,
        rng: random.Random,
        rates: SharedRates,
    ) -> None:
        self._clients = clients
        self._tools = Tools(database, Recorder(database), wake_ups, limits, rng, rates)
        self._reckonings: dict[uuid.UUID, Reckoning] = {}

    async def drain(
        self, project_id: uuid.UUID, *, stopping: Callable[[], bool] = lambda: False
    ) -> DrainResult:
        """Labels what is due in a project until nothing is, time is up, or `stopping` says so."""
        log_about(project_id=project_id)
        project = await load_project(
            self._tools.database, self._clients, project_id, stopping=stopping
        )
        if project is None:
            return DrainResult(0, work_remains=False)
        reckoning = self._reckoning(project)
        result = await Run(self._tools, project, reckoning, stopping).drain()
        if result.work_remains:
            self._tools.wake_ups.request(project_id)
        return result

    def _reckoning(self, project: LoadedProject) -> Reckoning:
        """The labeler's, which has learned from what this process has asked for it."""
        labeler_id, question = project.source.labeler_id, project.question
        found = self._reckonings.get(labeler_id)
        if found is None:
            if len(self._reckonings) >= _MOST_RECKONINGS:
                self._reckonings.pop(next(iter(self._reckonings)))
            found = self._reckonings[labeler_id] = Reckoning(
                system=question.system,
                template=question.template,
                calls=question.votes,
                max_tokens=question.parameters.get("max_tokens"),
                prices=Prices.from_json(project.prices),
            )
        return found
