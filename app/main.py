"""The API application: `uvicorn app.main:create_app --factory`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

import app.access.routes
import app.items.routes
import app.labeling.budget_routes
import app.labeling.external_routes
import app.labeling.labeler_routes
import app.labeling.routes
import app.projects.routes
import app.projects.version_routes
import app.reports.routes
import app.review.routes
from app.access.secured import REVIEWER_HEADER
from app.infra.logging import configure_logging
from app.infra.telemetry import start_tracing, stop_tracing
from app.services import build_services
from app.settings import Settings, load_settings
from app.web import health, openapi, problems
from app.web.body_limit import BodyLimitMiddleware
from app.web.leaving import Leaving
from app.web.requests import RequestMiddleware
from app.web.traces import of_requests

_DESCRIPTION = """\
A language model labels your items, keeps each label with its confidence, and people get only what
needs a second look. Send a key as `Authorization: Bearer slk_…`.
"""
_FEATURES = (
    app.projects.routes,
    app.projects.version_routes,
    app.items.routes,
    app.labeling.routes,
    app.labeling.external_routes,
    app.labeling.labeler_routes,
    app.labeling.budget_routes,
    app.review.routes,
    app.reports.routes,
    app.access.routes,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application of one process; reads the environment where no settings are given."""
    settings = settings or load_settings()
    configure_logging(settings.log_level, process="api")
    start_tracing("api")
    services = build_services(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await services.open()
        yield
        await services.close()
        # what is not sent yet goes over the network
        await asyncio.to_thread(stop_tracing)

    api = FastAPI(
        title="Secondlook",
        version=version("secondlook"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        telemetry=of_requests(),
        # a redirect would be built from the caller's Host header
        redirect_slashes=False,
        # their pages load scripts from elsewhere; the document itself is at /openapi.json
        docs_url=None,
        redoc_url=None,
    )
    api.state.services = services
    api.state.leaving = Leaving()
    problems.install(api)
    api.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    api.add_middleware(RequestMiddleware, access_log=settings.access_log)
    for feature in _FEATURES:
        api.include_router(feature.router)
    health.install(
        api,
        database=services.database,
        wake_ups=services.wake_ups,
        facts=services.facts,
        leaving=api.state.leaving,
    )
    openapi.install(api, reviewer_header=REVIEWER_HEADER)
    return api
