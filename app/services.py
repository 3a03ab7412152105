"""What an API process is made of: built once from the settings, handed down from there.

The model's SDK is not among it: it takes a second to import and only workers call models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from app.access.service import AccessService
from app.infra.db import Database
from app.infra.jobs import RedisWakeUps
from app.items.service import ItemService
from app.labeling.budgets import BudgetService
from app.labeling.external import ExternalPredictions
from app.labeling.labelers import LabelerService
from app.labeling.predictions import PredictionService
from app.projects.labelers import Endpoint
from app.projects.schema_cache import SchemaCache
from app.projects.service import ProjectService
from app.projects.versions import VersionService
from app.reports.facts import ServiceFacts
from app.reports.service import ReportService
from app.review.service import ReviewService
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """The services behind the API."""

    database: Database
    wake_ups: RedisWakeUps
    access: AccessService
    projects: ProjectService
    versions: VersionService
    items: ItemService
    predictions: PredictionService
    labelers: LabelerService
    external: ExternalPredictions
    budgets: BudgetService
    review: ReviewService
    reports: ReportService
    facts: ServiceFacts

    async def open(self) -> None:
        await self.database.open()

    async def close(self) -> None:
        await self.labelers.close()
        await self.database.close()
        self.wake_ups.close()


def build_services(settings: Settings) -> Services:
    """The services of an API process; `open` them on its event loop."""
    database = Database(
        settings.database_url,
        pool_size=settings.database_pool_size,
        application_name="secondlook-api",
    )
    wake_ups = RedisWakeUps(settings.redis_url)
    own = Endpoint(settings.model, settings.openai_base_url)
    schemas = SchemaCache(database)
    items = ItemService(database, wake_ups, schemas, rng=random.SystemRandom())
    return Services(
        database=database,
        wake_ups=wake_ups,
        access=AccessService(database),
        projects=ProjectService(database, own=own),
        versions=VersionService(database, own=own),
        items=items,
        labelers=LabelerService(
            database,
            base_url=settings.openai_base_url,
            api_key=None
            if settings.openai_api_key is None
            else settings.openai_api_key.get_secret_value(),
        ),
        external=ExternalPredictions(database, schemas),
        predictions=PredictionService(database, items, schemas),
        review=ReviewService(database, schemas),
        budgets=BudgetService(database, wake_ups),
        reports=ReportService(database),
        facts=ServiceFacts(database),
    )
