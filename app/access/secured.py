"""Routes that deny by default: who calls is settled before a byte of the body is read.

A route names the scope it needs where it is declared; one without a scope can't be created, so
that a new route is closed until somebody says who may use it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIRouter
from pydantic import BaseModel

from app.access.keys import Caller, Scope
from app.access.service import AccessService
from app.errors import FieldError, InvalidError, invalid_field
from app.web.faults import MAX_FAULTS, pointer

_SCOPE = "x-required-scope"
REVIEWER_HEADER = "Secondlook-Reviewer"


def needs(scope: Scope) -> dict[str, Any]:
    """The declaration of a route's scope: `@router.get(…, openapi_extra=needs(Scope.READ))`."""
    return {_SCOPE: scope.value, "security": [{"apiKey": []}]}


class SecuredRoute(APIRoute):
    """A route that answers only a key with its scope.

    Raises:
        TypeError: at import, where a route is declared without `needs(…)`.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        extra = options.get("openapi_extra") or {}
        if _SCOPE not in extra:
            raise TypeError(f"{path}: a route must declare the scope it needs")
        self.required_scope = Scope(extra[_SCOPE])
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        scope, known = self.required_scope, _query_names(self.dependant)

        async def authenticated(request: Request) -> Response:
            access: AccessService = request.app.state.services.access
            request.state.caller = await access.authenticate(
                request.headers.get("authorization"), scope=scope, reviewer=_reviewer(request)
            )
            if request.scope["query_string"] and (unknown := request.query_params.keys() - known):
                names = [pointer([name]).removeprefix("/") for name in sorted(unknown)]
                raise InvalidError.about(
                    [FieldError(name, "unknown parameter", "query") for name in names[:MAX_FAULTS]]
                )
            return await answer(request)

        return authenticated


def _query_names(dependant: Dependant) -> frozenset[str]:
    """The query parameters that a route knows: a misspelt filter must not list everything."""
    names: set[str] = set()
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names |= kind.model_fields.keys()
        else:
            names.add(field.alias)
    return frozenset(names)


def _reviewer(request: Request) -> str | None:
    """Whom the caller names. The server reads headers as Latin-1; names are sent in UTF-8."""
    named = request.headers.get(REVIEWER_HEADER)
    if named is None:
        return None
    try:
        return named.encode("latin-1").decode()
    except UnicodeDecodeError as error:
        raise invalid_field(REVIEWER_HEADER, "must be UTF-8", where="header") from error


def secured_router(tag: str) -> APIRouter:
    """A router whose routes are all secured, under one tag."""
    return APIRouter(prefix="/v1", tags=[tag], route_class=SecuredRoute)


async def current_caller(request: Request) -> Caller:
    """Who calls, as the secured route found out; async, since others run on a thread each time."""
    caller: Caller = request.state.caller
    return caller


CurrentCaller = Annotated[Caller, Depends(current_caller)]
