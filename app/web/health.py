"""Whether the service is well, and what it counts. No key is asked for and nothing secret told."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, FastAPI, Query, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import Metric

from app.infra.db import Database, is_unavailable
from app.infra.jobs import RedisWakeUps
from app.infra.metrics_exposition import MEDIA_TYPE, ProcessMetrics, exposition
from app.web.leaving import Leaving

_LATER = {"Retry-After": "2"}


class _Facts(Protocol):
    async def metrics(self) -> list[Metric]: ...


def install(
    api: FastAPI, *, database: Database, wake_ups: RedisWakeUps, facts: _Facts, leaving: Leaving
) -> None:
    """Adds `/livez`, `/readyz`, `/version` and `/metrics`.

    Args:
        api: where to.
        database: without it nothing can be served.
        wake_ups: only quicken, so they are told of and never count.
        facts: what the database knows, for /metrics.
        leaving: a process that is on its way out is not ready.
    """
    router = APIRouter(tags=["health"])
    processes = ProcessMetrics()

    @router.get("/livez", operation_id="livez")
    async def livez() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "ok"}

    @router.get(
        "/readyz",
        operation_id="readyz",
        response_model=None,
        responses={503: {"description": "Not now; Retry-After says when to ask again."}},
    )
    async def readyz(verbose: Annotated[str | None, Query()] = None) -> Response:
        """Whether it can serve: the database answers. Redis only quickens, so it never counts."""
        if leaving.unready:
            return JSONResponse({"status": "draining"}, status_code=503, headers=_LATER)
        ready = await _answers(database)
        answer: dict[str, Any] = {"status": "ok" if ready else "unavailable"}
        if verbose is not None:
            answer["dependencies"] = {
                "database": "ok" if ready else "unavailable",
                "wake_ups": "ok" if wake_ups.healthy else "unavailable",
            }
        return JSONResponse(
            answer, status_code=200 if ready else 503, headers={} if ready else _LATER
        )

    @router.get("/version", operation_id="version")
    async def get_version() -> dict[str, str]:
        """Which version serves."""
        return {"version": api.version}

    @router.get("/metrics", operation_id="metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """What Prometheus reads: processes of this host, and the whole service by its database."""
        text = exposition(processes, await facts.metrics())
        return Response(text, headers={"Content-Type": MEDIA_TYPE})

    api.include_router(router)


async def _answers(database: Database) -> bool:
    try:
        return await database.fetch_one("SELECT 1 AS one", {}) is not None
    except Exception as error:
        if is_unavailable(error):
            return False
        raise
