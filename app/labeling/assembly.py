"""What labels, built once a process: used by workers and by the sweeper."""

from __future__ import annotations

import random
from dataclasses import dataclass

from app.domain.backoff import Backoff
from app.domain.breaker import BreakerRules
from app.infra.db import Database
from app.infra.jobs import RedisWakeUps
from app.labeling.client import OpenAIClients
from app.labeling.drain import Drainer, DrainLimits
from app.labeling.rates import SharedRates
from app.settings import Settings

# A claim takes items in the order of an index. Just after an import, when nothing has been
# analysed, the planner would rather list all that is due and sort it: 300 ms against 8 at 300,000
# items. Nothing here wants a sort that an index can spare.
SERVER_SETTINGS = {"enable_sort": "off"}


@dataclass(frozen=True, slots=True)
class Labeling:
    """The labelling side of a process."""

    database: Database
    wake_ups: RedisWakeUps
    clients: OpenAIClients
    rates: SharedRates
    drainer: Drainer

    async def close(self) -> None:
        await self.clients.close()
        await self.rates.close()
        await self.database.close()
        self.wake_ups.close()


async def open_labeling(settings: Settings, *, application_name: str) -> Labeling:
    """The labelling side of a process, on the running event loop."""
    database = Database(
        settings.database_url,
        pool_size=4,
        application_name=application_name,
        server_settings=SERVER_SETTINGS,
    )
    await database.open()
    wake_ups = RedisWakeUps(settings.redis_url)
    key = settings.openai_api_key
    clients = OpenAIClients(
        base_url=settings.openai_base_url,
        api_key=None if key is None else key.get_secret_value(),
        calls_in_flight=settings.calls_in_flight,
    )
    limits = DrainLimits(
        calls_in_flight=settings.calls_in_flight,
        deadline_seconds=settings.call_deadline_seconds,
        lease_seconds=settings.label_lease_seconds,
        slice_seconds=settings.time_slice_seconds,
        backoff=Backoff(base=settings.retry_base_seconds, max_attempts=settings.max_attempts),
        breaker=BreakerRules(failures=settings.breaker_failures),
    )
    rates = SharedRates(database, settings.redis_url)
    drainer = Drainer(
        database, clients, wake_ups, limits=limits, rng=random.SystemRandom(), rates=rates
    )
    return Labeling(database, wake_ups, clients, rates, drainer)
