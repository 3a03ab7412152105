"""Every error as application/problem+json (RFC 9457), with no trace and no echo of the body."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from app.errors import FieldError, ProblemError
from app.infra.db import is_unavailable
from app.infra.logging import current_request_id

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)


def problem_document(
    *, status: int, title: str, detail: str, code: str, errors: Sequence[FieldError] = ()
) -> dict[str, Any]:
    """The body of an error; `errors` only where fields are to blame."""
    document: dict[str, Any] = {
        "type": f"urn:secondlook:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": current_request_id(),
    }
    if errors:
        document["errors"] = [
            {"in": error.where, "pointer": error.pointer, "detail": error.detail}
            for error in errors
        ]
    return document


def _respond(
    request: Request,
    *,
    status: int,
    title: str,
    detail: str,
    code: str,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    document = problem_document(status=status, title=title, detail=detail, code=code, errors=errors)
    document["instance"] = request.url.path
    # ASCII: a lone surrogate from a key of the request must not break the answer that names it
    body = json.dumps(document, ensure_ascii=True).encode("ascii")
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def pointer(location: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) from the path of a validation error."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def field_errors(
    problems: Sequence[dict[str, Any]], *, where: str | None = None
) -> list[FieldError]:
    """Validation errors of pydantic as field errors.

    Args:
        problems: as `ValidationError.errors()` gives them.
        where: the part of the request, or None where each location begins with it.
    """
    found = []
    for problem in problems:
        location = list(problem["loc"])
        place = where
        if place is None:
            place = str(location.pop(0)) if location else "body"
        if problem["type"] == "json_invalid":
            reason = problem.get("ctx", {}).get("error", "not JSON")
            found.append(FieldError("", f"not JSON: {reason} at character {location[-1]}", place))
            continue
        # tags of unions are our own words, not fields of the caller
        location = [part for part in location if not str(part).startswith("function-")]
        found.append(FieldError(pointer(location), _sentence(problem), place))
    return found


def _sentence(problem: dict[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown field"
    if problem["type"] == "missing":
        return "required"
    message = str(problem["msg"])
    return message.removeprefix("Value error, ").removeprefix("Input ")


def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="secondlook"'
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return _respond(
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
    errors = field_errors(error.errors())
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    name = first.pointer.lstrip("/") or first.where
    status = 400 if first.pointer == "" and first.detail.startswith("not JSON") else 422
    return _respond(
        request,
        status=status,
        title="Bad request" if status == 400 else "Invalid request",
        detail=f"{name}: {first.detail}{more}",
        code="bad_request" if status == 400 else "invalid",
        errors=errors,
    )


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    return _respond(
        request,
        status=error.status_code,
        title=title,
        detail=str(error.detail),
        code=title.lower().replace(" ", "_"),
        headers=dict(error.headers) if error.headers else None,
    )


def _on_database(request: Request, error: Exception) -> Response:
    if is_unavailable(error):
        _log.warning("the database is away: %s", type(error).__name__)
        return _respond(
            request,
            status=503,
            title="Unavailable",
            detail="the database can't be reached; nothing was changed by a failed request, "
            "or it can be repeated safely with the same external ids",
            code="database_unavailable",
            headers={"Retry-After": "2"},
        )
    return _on_crash(request, error)


def _on_crash(request: Request, error: Exception) -> Response:
    _log.error("unhandled error", exc_info=error)
    return _respond(
        request,
        status=500,
        title="Internal error",
        detail="this is our mistake; the request id finds it in the logs",
        code="internal_error",
    )


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem document."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    for kind in (psycopg.Error, DBAPIError, PoolTimeout):
        app.add_exception_handler(kind, _on_database)
    app.add_exception_handler(Exception, _on_crash)
