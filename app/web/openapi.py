"""The OpenAPI document: what FastAPI derives from the routes, with the errors they answer.

Which errors an operation can answer follows from its shape; what does not (409, 410) the route
names with `refuses`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from app.errors import (
    BadRequestError,
    ConflictError,
    GoneError,
    InvalidError,
    MissingScopeError,
    NotFoundError,
    ProblemError,
    UnauthenticatedError,
    UnavailableError,
)
from app.web.problems import FRAMEWORK, MEDIA_TYPE, TYPE_PREFIX
from app.web.request_id import HEADER

_SCHEMA_REF = "#/components/schemas/Problem"
_REQUEST_ID = "req_01k2m3n4p5q6r7s8t9v0w1x2y3"
# FastAPI documents its own form of validation errors, which this service never answers; rows that
# are checked one by one stand within their list
_UNUSED = ("HTTPValidationError", "ValidationError", "ExternalPredictionIn")


@dataclass(frozen=True, slots=True)
class _Refusal:
    name: str
    title: str
    code: str
    detail: str
    headers: tuple[str, ...] = ()
    field: str | None = None


def _of(error: type[ProblemError], detail: str, **more: Any) -> _Refusal:
    name = error.__name__.removesuffix("Error")
    return _Refusal(name, error.title, more.pop("code", error.default_code), detail, **more)


def _of_framework(status: int, name: str) -> _Refusal:
    title, code, detail = FRAMEWORK[status]
    return _Refusal(name, title, code, detail)


_REFUSALS = {
    400: _of(BadRequestError, "the body is not JSON: Expecting value at character 0"),
    401: _of(
        UnauthenticatedError,
        "this key is unknown, expired or revoked",
        headers=("WWW-Authenticate",),
    ),
    403: _of(MissingScopeError, "this needs a key with the scope reviewer"),
    404: _of(NotFoundError, "no such project"),
    409: _of(ConflictError, "another holds this assignment", code="lease_held_by_another"),
    410: _of(GoneError, "the lease ran out", code="lease_expired"),
    413: _of_framework(413, "ContentTooLarge"),
    415: _of_framework(415, "UnsupportedMediaType"),
    422: _of(InvalidError, "metadta: unknown field", field="/metadta"),
    503: _of(
        UnavailableError,
        "the database can't be reached",
        code="database_unavailable",
        headers=("Retry-After",),
    ),
}
_HEADERS = {
    HEADER: "the id of this request, as it stands in the logs",
    "WWW-Authenticate": "how to authenticate",
    "Retry-After": "after how many seconds to try again",
}


def refuses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The declaration of errors that a route's shape does not tell: `responses=refuses(409)`."""
    return {status: {"description": _REFUSALS[status].title} for status in statuses}


def install(api: FastAPI, *, reviewer_header: str) -> None:
    """Makes the application serve the completed document."""
    make = api.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        if "Problem" not in document["components"]["schemas"]:
            _complete(document, reviewer_header=reviewer_header)
        return document

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _complete(document: dict[str, Any], *, reviewer_header: str) -> None:
    components = document["components"]
    for name in _UNUSED:
        components["schemas"].pop(name, None)
    components["schemas"]["Problem"] = _problem_schema()
    components["securitySchemes"] = {
        "apiKey": {"type": "http", "scheme": "bearer", "description": "slk_…"}
    }
    components["headers"] = {
        name.replace("-", ""): {"description": description, "schema": {"type": "string"}}
        for name, description in _HEADERS.items()
    }
    components["responses"] = {
        refusal.name: _response(status, refusal) for status, refusal in _REFUSALS.items()
    }
    components["parameters"] = {
        "Reviewer": {
            "name": reviewer_header,
            "in": "header",
            "description": "whom a key with may_name_reviewer acts for; none: itself",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200},
        }
    }
    for path in document["paths"].values():
        for operation in path.values():
            _complete_operation(operation)


def _complete_operation(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if "security" not in operation:
        responses.pop("422", None)
        return
    parameters = operation.setdefault("parameters", [])
    names = {parameter["name"] for parameter in parameters}
    in_path = any(parameter["in"] == "path" for parameter in parameters)
    statuses = {401, 403, 422, 503} | {int(code) for code in responses if int(code) in _REFUSALS}
    statuses |= {404} if in_path else set()
    statuses |= {400, 413, 415} if "requestBody" in operation else set()
    statuses |= {400} if "cursor" in names else set()
    for status in sorted(statuses):
        responses[str(status)] = {"$ref": f"#/components/responses/{_REFUSALS[status].name}"}
    if operation["x-required-scope"] == "reviewer":
        parameters.append({"$ref": "#/components/parameters/Reviewer"})


def _response(status: int, refusal: _Refusal) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": f"{TYPE_PREFIX}{refusal.code}",
        "title": refusal.title,
        "status": status,
        "detail": refusal.detail,
        "instance": "/v1/projects/prj_01k2m3n4p5q6r7s8t9v0w1x2y3/items",
        "code": refusal.code,
        "request_id": _REQUEST_ID,
    }
    if refusal.field is not None:
        fault = refusal.detail.partition(": ")[2]
        example["errors"] = [{"in": "body", "pointer": refusal.field, "detail": fault}]
    return {
        "description": refusal.title,
        "headers": {
            name: {"$ref": f"#/components/headers/{name.replace('-', '')}"}
            for name in (HEADER, *refusal.headers)
        },
        "content": {MEDIA_TYPE: {"schema": {"$ref": _SCHEMA_REF}, "example": example}},
    }


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "An error (RFC 9457).",
        "required": ["type", "title", "status", "detail", "instance", "code", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": {"type": "string", "format": "uri-reference"},
            "code": {"type": "string", "description": "a word that stays the same"},
            "request_id": text,
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["in", "pointer", "detail"],
                    "properties": {
                        "in": {"enum": ["body", "query", "header"]},
                        "pointer": {
                            "type": "string",
                            "description": "a JSON pointer into the body, or a parameter's name",
                        },
                        "detail": text,
                    },
                },
            },
        },
    }
