"""Outcomes of calls, gathered for a moment and written together, come what may."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from app.domain.backoff import Backoff
from app.infra.db import describe, is_contended, is_unavailable
from app.infra.metrics import results_lost
from app.labeling.call import Answered, Failed, Outcome
from app.labeling.plan import EndpointNews, Plan, plan
from app.labeling.reckoning import Reckoning
from app.labeling.record import Recorder, Source

_BATCH = 100
_BATCH_SECONDS = 0.02
_log = logging.getLogger(__name__)


class BatchWriter:
    """Writes the outcomes of one drain in micro-batches, in a task of its own.

    Attributes:
        settled: how many items have left labelling so far.
    """

    def __init__(
        self,
        recorder: Recorder,
        source: Source,
        *,
        reckoning: Reckoning,
        backoff: Backoff,
        rng: random.Random,
        patience: Callable[[], float],
    ) -> None:
        """Nothing is written before `run`.

        Args:
            recorder: writes a batch.
            source: whose outcomes these are.
            reckoning: of what they cost.
            backoff: delays after failures.
            rng: of their jitter.
            patience: for how many seconds a batch may be tried, asked each time it fails.
        """
        self.settled = 0
        self._recorder = recorder
        self._source = source
        self._reckoning = reckoning
        self._backoff = backoff
        self._rng = rng
        self._patience = patience
        self._outcomes: asyncio.Queue[Outcome | EndpointNews | None] = asyncio.Queue()

    def put(self, outcome: Outcome | EndpointNews) -> None:
        """Hands over an outcome, or what it says of the endpoint; returns at once."""
        self._outcomes.put_nowait(outcome)

    async def written(self) -> None:
        """Returns when everything handed over so far is written, or given up on."""
        await self._outcomes.join()

    def finish(self) -> None:
        """No outcome follows: `run` ends when all are written."""
        self._outcomes.put_nowait(None)

    async def run(self) -> None:
        """Writes whatever comes, until the end."""
        while batch := await self._next():
            await self._write(batch)
            for _ in batch:
                self._outcomes.task_done()

    async def _next(self) -> list[Outcome | EndpointNews]:
        """What came in within a moment of the first; empty at the end."""
        first = await self._outcomes.get()
        if first is None:
            return []
        await asyncio.sleep(_BATCH_SECONDS)
        batch = [first]
        while len(batch) < _BATCH and not self._outcomes.empty():
            outcome = self._outcomes.get_nowait()
            if outcome is None:
                # the end: this batch first, then the same answer again
                self._outcomes.put_nowait(None)
                break
            batch.append(outcome)
        return batch

    async def _write(self, batch: list[Outcome | EndpointNews]) -> None:
        """Writes a batch; where one of it can't be stored, the others are stored without it.

        What is not stored has a lease that runs out; after three such losses it goes to people.
        """
        try:
            decided = plan(batch, backoff=self._backoff, rng=self._rng)
            self.settled += await self._write_patiently(decided)
        except Exception as error:  # noqa: BLE001  # one bad row must not cost its batch
            if len(batch) == 1 or is_unavailable(error) or is_contended(error):
                results_lost("refused", len(batch))
                for outcome in batch:
                    if isinstance(outcome, Answered | Failed):
                        _log.error(
                            "a label could not be stored: %s",
                            describe(error),
                            extra={"item_id": outcome.job.item_id},
                        )
                return
            for outcome in batch:
                await self._write([outcome])

    async def _write_patiently(self, decided: Plan) -> int:
        """Writes again and again while the database is away or its locks are held.

        Writing twice is harmless: a batch that did commit holds no lease any more.
        """
        began = time.monotonic()
        while True:
            try:
                return await self._recorder.write(self._source, decided, reckoning=self._reckoning)
            except Exception as error:
                passes = is_unavailable(error) or is_contended(error)
                if not passes or time.monotonic() > began + self._patience():
                    raise
                _log.warning("labels wait for the database: %s", describe(error))
                await asyncio.sleep(0.2 + self._rng.random() * 0.3)
