"""Every error as application/problem+json (RFC 9457), with no trace and no echo of the body."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as OrmPoolTimeout
from starlette.exceptions import HTTPException

from app.errors import FieldError, InvalidError, ProblemError, UnavailableError
from app.infra.db import describe, is_contended, is_full, is_too_slow, is_unavailable
from app.infra.logging import current_request_id
from app.web.faults import field_errors

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:secondlook:problem:"
_log = logging.getLogger(__name__)

# What the framework refuses by itself, in words that stay the same whatever its version says.
FRAMEWORK = {
    400: ("Bad request", "bad_request", "the body can't be read"),
    404: ("Not found", "not_found", "there is nothing at this path"),
    405: ("Method not allowed", "method_not_allowed", "this path does not answer this method"),
    413: ("Content too large", "content_too_large", "the body is larger than is accepted here"),
    415: (
        "Unsupported media type",
        "unsupported_media_type",
        "send the body as Content-Type: application/json",
    ),
}
_UNREADABLE: dict[type[object], str] = {
    RecursionError: "the body is nested too deep",
    UnicodeDecodeError: "the body is not UTF-8",
}


def respond(
    request: Request,
    *,
    status: int,
    title: str,
    detail: str,
    code: str,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """An error as its answer; `errors` only where fields are to blame."""
    document: dict[str, Any] = {
        "type": f"{TYPE_PREFIX}{code}",
        "title": title,
        "status": status,
        "detail": detail,
        # not request.url, which a Host header of the caller's making goes into
        "instance": quote(request.scope["path"]),
        "code": code,
        "request_id": current_request_id(),
    }
    if errors:
        document["errors"] = [
            {"in": error.where, "pointer": error.pointer, "detail": error.detail}
            for error in errors
        ]
    return Response(
        json.dumps(document), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )


def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="secondlook"'
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return respond(
        request,
        status=error.status,
        title=error.title,
        detail=error.detail,
        code=error.code,
        errors=error.errors,
        headers=headers,
    )


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if problems[0]["type"] == "json_invalid":
        where = f"character {problems[0]['loc'][-1]}"
        return respond(
            request,
            status=400,
            title="Bad request",
            detail=f"the body is not JSON: {problems[0]['ctx']['error']} at {where}",
            code="bad_request",
        )
    if isinstance(error.body, bytes):
        return _on_http(request, HTTPException(415))
    return _on_problem(request, InvalidError.about(field_errors(problems, body=error.body)))


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    title, code, detail = FRAMEWORK.get(
        error.status_code, (phrase, phrase.lower().replace(" ", "_"), phrase)
    )
    return respond(
        request,
        status=error.status_code,
        title=title,
        detail=_UNREADABLE.get(type(error.__cause__), detail),
        code=code,
        headers=dict(error.headers) if error.headers else None,
    )


def _on_database(request: Request, error: Exception) -> Response:
    if is_full(error):
        _log.error("the database's disk is full: %s", describe(error))
        return _try_again(
            request,
            detail="the database has no room to write; nothing was changed, and reading goes on",
            code="storage_full",
            seconds=30,
        )
    if isinstance(error, OrmPoolTimeout) or is_unavailable(error):
        _log.warning("the database is away: %s", type(error).__name__)
        return _try_again(
            request,
            detail="the database can't be reached; nothing was changed by a failed request, "
            "or it can be repeated safely with the same external ids",
            code="database_unavailable",
            seconds=2,
        )
    if is_too_slow(error):
        _log.error("a statement took too long: %s", type(error).__name__)
        return _try_again(
            request,
            detail="this took longer than is allowed; try it with less at once",
            code="too_slow",
            seconds=5,
        )
    if is_contended(error):
        _log.warning("two requests were in each other's way: %s", describe(error))
        return _try_again(
            request,
            detail="another request was in the way; nothing was changed",
            code="busy",
            seconds=1,
        )
    # never its detail, which quotes the row that was refused
    _log.error("unhandled database error: %s", describe(error), stack_info=True)
    return _sorry(request)


def _try_again(request: Request, *, detail: str, code: str, seconds: int) -> Response:
    return _on_problem(request, UnavailableError(detail, code=code, retry_after=seconds))


def answer_crash(request: Request, error: Exception) -> Response:
    """What is answered to a request that crashed, and the one line in the log about it."""
    _log.error("unhandled error", exc_info=error)
    return _sorry(request)


def _sorry(request: Request) -> Response:
    return respond(
        request,
        status=500,
        title="Internal error",
        detail="this is our mistake; the request id finds it in the logs",
        code="internal_error",
    )


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem document; crashes: `answer_crash`."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    for kind in (psycopg.Error, DBAPIError, PoolTimeout, OrmPoolTimeout):
        app.add_exception_handler(kind, _on_database)
