"""What a drain may ask of an endpoint with limits: taken a claim at a time, settled afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from app.domain.rates import Cost, Granted, Limits, RateHeaders, Settlement
from app.domain.usage import Usage
from app.labeling.call import Job
from app.labeling.rates import SharedRates
from app.labeling.reckoning import Reckoning


class Ration:
    """Of one drain. What came of earlier turns travels with the next taking.

    Attributes:
        wait: seconds after the last taking until more could be had; 0 where all was granted.
    """

    def __init__(
        self, rates: SharedRates, *, endpoint: str, limits: Limits, reckoning: Reckoning
    ) -> None:
        self.wait = 0.0
        self._rates = rates
        self._endpoint = endpoint
        self._limits = limits
        self._reckoning = reckoning
        self._taken: dict[uuid.UUID, Cost] = {}
        self._granted: list[Cost] = []
        self._unsettled = Settlement()

    async def take(self, wanted: int) -> int:
        """How many items may be claimed now, of so many wanted; before it is known which."""
        costs = [self._reckoning.cost_of_any()] * wanted
        granted = await self._ask(costs)
        self.wait = granted.wait
        self._granted = costs[: granted.count]
        return granted.count

    def claimed(self, jobs: Sequence[Job]) -> None:
        """Which they are: each is now reckoned by its own size, and the rest given back."""
        for cost in self._granted:
            self._settle(Settlement(-cost.requests, -cost.tokens))
        self._granted = []
        for job in jobs:
            cost = self._taken[job.item_id] = self._reckoning.cost(job.content)
            self._settle(Settlement(cost.requests, cost.tokens))

    def ended(self, job: Job, usage: Usage) -> None:
        """What a turn used."""
        taken = self._taken.pop(job.item_id, None)
        if taken is not None:
            self._settle(self._reckoning.settle(job.content, usage, taken=taken))

    def heard(self, told: RateHeaders) -> None:
        """What an answer said is left."""
        self._settle(told.settlement)

    async def close(self) -> None:
        """Settles what is not settled yet."""
        if self._unsettled != Settlement():
            await self._ask([])

    def _settle(self, settlement: Settlement) -> None:
        self._unsettled += settlement

    async def _ask(self, costs: Sequence[Cost]) -> Granted:
        settled, self._unsettled = self._unsettled, Settlement()
        return await self._rates.take(self._endpoint, costs, limits=self._limits, settled=settled)
