"""The API application: `uvicorn app.main:create_app --factory`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

import app.access.routes
import app.items.routes
import app.labeling.routes
import app.projects.routes
import app.reports.routes
import app.review.routes
from app.access.secured import REVIEWER_HEADER
from app.infra.db import is_unavailable
from app.infra.logging import configure_logging
from app.services import Services, build_services
from app.settings import Settings, load_settings
from app.web import openapi, problems
from app.web.body_limit import BodyLimitMiddleware
from app.web.request_id import RequestIdMiddleware

_DESCRIPTION = """\
A language model labels your items, keeps each label with its confidence, and people get only what
needs a second look. Send a key as `Authorization: Bearer slk_…`.
"""
_FEATURES = (
    app.projects.routes,
    app.items.routes,
    app.labeling.routes,
    app.review.routes,
    app.reports.routes,
    app.access.routes,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application of one process; reads the environment where no settings are given."""
    settings = settings or load_settings()
    configure_logging(settings.log_level, process="api")
    services = build_services(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await services.open()
        yield
        await services.close()

    api = FastAPI(
        title="Secondlook",
        version=version("secondlook"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        # a redirect would be built from the caller's Host header
        redirect_slashes=False,
        # their pages load scripts from elsewhere; the document itself is at /openapi.json
        docs_url=None,
        redoc_url=None,
    )
    api.state.services = services
    problems.install(api)
    api.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    api.add_middleware(RequestIdMiddleware)
    for feature in _FEATURES:
        api.include_router(feature.router)
    _add_health(api, services)
    openapi.install(api, reviewer_header=REVIEWER_HEADER)
    return api


def _add_health(api: FastAPI, services: Services) -> None:
    @api.get("/livez", tags=["health"], operation_id="livez")
    async def livez() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "ok"}

    @api.get(
        "/readyz",
        tags=["health"],
        operation_id="readyz",
        response_model=None,
        responses={503: {"description": "Not now; Retry-After says when to ask again."}},
    )
    async def readyz(_request: Request, verbose: Annotated[str | None, Query()] = None) -> Response:
        """Whether it can serve: the database answers. Redis only quickens, so it never counts."""
        ready = await _database_answers(services)
        answer: dict[str, Any] = {"status": "ok" if ready else "unavailable"}
        if verbose is not None:
            answer["dependencies"] = {
                "database": "ok" if ready else "unavailable",
                "wake_ups": "ok" if services.wake_ups.healthy else "unavailable",
            }
        headers = {} if ready else {"Retry-After": "2"}
        return JSONResponse(answer, status_code=200 if ready else 503, headers=headers)

    @api.get("/version", tags=["health"], operation_id="version")
    async def get_version() -> dict[str, str]:
        """Which version serves."""
        return {"version": api.version}


async def _database_answers(services: Services) -> bool:
    try:
        return await services.database.fetch_one("SELECT 1 AS one", {}) is not None
    except Exception as error:
        if is_unavailable(error):
            return False
        raise
