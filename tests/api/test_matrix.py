"""Every route x every scope x another's project. A route that is not in the table fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import httpx2
import pytest
from fastapi.routing import iter_route_contexts

from app.access.secured import SecuredRoute, secured_router
from app.infra.ids import Kind, new_id, to_wire
from app.main import create_app
from app.settings import Settings
from tests.support.api import Api
from tests.support.labeling import LabelingSide
from tests.support.problems import problem

SCOPES = ("admin", "ingest", "reviewer", "read")
# answered without a key
OPEN = {"/livez", "/metrics", "/readyz", "/version", "/openapi.json"}


class Foreign(Enum):
    """What a key meets that is bound to another project."""

    NOT_FOUND = auto()
    # concerns the whole service: no bound key at all
    REFUSED = auto()
    # a list that shows the key's own projects only
    OWN_ONLY = auto()


@dataclass(frozen=True)
class Case:
    """An operation as it must be guarded; `body` is a good one."""

    scope: str
    foreign: Foreign = Foreign.NOT_FOUND
    body: Mapping[str, Any] | None = None


_LABELS = {"kind": "single_choice", "labels": ["spam", "ham"]}
# the lease token is filled in
_LEASE: dict[str, Any] = {"lease_token": ...}

TABLE = {
    "create_project": Case("admin", Foreign.REFUSED, {"name": "matrix", "label_schema": _LABELS}),
    "list_projects": Case("read", Foreign.OWN_ONLY),
    "get_project": Case("read"),
    "get_label_schema": Case("reviewer"),
    "delete_project": Case("admin"),
    "set_policy": Case("admin", body={"kind": "accept_all"}),
    "list_policies": Case("read"),
    "set_label_schema": Case("admin", body={"label_schema": _LABELS}),
    "list_label_schemas": Case("read"),
    "set_labeler": Case("admin", body={"source": "logprobs"}),
    "list_labelers": Case("read"),
    "preview_labeler": Case("read", body={"item": {"text": "x"}}),
    "probe_labeler": Case("admin"),
    "create_item": Case("ingest", body={"text": "x"}),
    "create_items": Case("ingest", body={"items": [{"text": "x"}]}),
    "list_items": Case("read"),
    "get_item": Case("read"),
    "list_predictions": Case("read"),
    "create_predictions": Case(
        "ingest", body={"producer": "p", "predictions": [{"external_id": "x", "label": "ham"}]}
    ),
    "set_budget": Case("admin", body={"monthly_limit": None}),
    "get_budget": Case("read"),
    "peek_queue": Case("reviewer"),
    "claim_items": Case("reviewer", body={"limit": 1}),
    "list_held_assignments": Case("reviewer"),
    "get_assignment": Case("reviewer"),
    "renew_assignment": Case("reviewer", body=_LEASE),
    "release_assignment": Case("reviewer", body=_LEASE),
    "skip_assignment": Case("reviewer", body=_LEASE),
    "submit_review": Case("reviewer", body={**_LEASE, "label": "ham"}),
    "get_agreement": Case("read"),
    "get_stats": Case("read"),
    "create_key": Case("admin", Foreign.REFUSED, {"name": "matrix", "scopes": ["read"]}),
    "list_keys": Case("admin", Foreign.REFUSED),
    "revoke_key": Case("admin", Foreign.REFUSED),
}


@dataclass
class World:
    """A project with items in review, and another whose keys must see none of it."""

    api: Api
    routes: Mapping[str, tuple[str, str]]
    project: str
    item: str
    foreign: str
    keys: dict[str, str] = field(default_factory=dict)

    async def send(
        self, operation: str, http: httpx2.AsyncClient, *, nowhere: bool = False
    ) -> httpx2.Response:
        """Sends a good request; `nowhere`: about things that nobody has."""
        method, path = self.routes[operation]
        ids = NOWHERE if nowhere else await self._ids(operation, path, http)
        body = TABLE[operation].body
        if body is not None and "lease_token" in body:
            body = {**body, "lease_token": ids["lease_token"]}
        return await http.request(method, path.format(**ids), json=body)

    async def _ids(self, operation: str, path: str, http: httpx2.AsyncClient) -> dict[str, str]:
        ids = {"project_id": self.project, "item_id": self.item}
        if operation == "delete_project":
            ids["project_id"] = await self.api.make_project()
        if "{key_id}" in path:
            answer = await self.api.http.post("/v1/keys", json=TABLE["create_key"].body)
            ids["key_id"] = answer.json()["id"]
        if "{labeler_id}" in path:
            project = await self.api.get(f"/v1/projects/{self.project}")
            ids["labeler_id"] = project["labeler"]["id"]
        if "{assignment_id}" in path:
            ids |= await self._assignment(http)
        return ids

    async def _assignment(self, http: httpx2.AsyncClient) -> dict[str, str]:
        """One of the caller's own where it may claim, else somebody's."""
        path, body = f"/v1/projects/{self.project}/claims", {"limit": 1}
        answer = await http.post(path, json=body)
        if answer.status_code != 200:
            answer = await self.api.http.post(path, json=body)
        (claimed,) = answer.json()["data"]
        return {"assignment_id": claimed["id"], "lease_token": claimed["lease_token"]}


NOWHERE = {
    "project_id": to_wire(Kind.PROJECT, new_id()),
    "item_id": to_wire(Kind.ITEM, new_id()),
    "assignment_id": to_wire(Kind.ASSIGNMENT, new_id()),
    "labeler_id": to_wire(Kind.LABELER, new_id()),
    "key_id": to_wire(Kind.API_KEY, new_id()),
    "lease_token": "0" * 32,
}


def secured_routes(settings: Settings) -> dict[str, tuple[str, str, SecuredRoute]]:
    """The application's routes by operation id: method, path, route."""
    found = {}
    for context in iter_route_contexts(create_app(settings).routes):
        route = context.original_route
        if isinstance(route, SecuredRoute):
            assert context.methods is not None
            (method,) = context.methods
            found[str(route.operation_id)] = (method, str(context.path), route)
    return found


@pytest.fixture(scope="module")
async def world(api: Api, labeling: LabelingSide, settings: Settings) -> World:
    routes = {name: route[:2] for name, route in secured_routes(settings).items()}
    project, foreign = await api.make_project(), await api.make_project()
    ids = await api.send_items(project, [f"ham at 0.{n}" for n in range(10, 99)])
    await labeling.drain(project)
    return World(api, routes, project, ids[0], foreign)


class TestTheTable:
    def test_has_every_route_and_no_other(self, settings: Settings) -> None:
        assert secured_routes(settings).keys() == TABLE.keys()

    def test_says_what_the_routes_declare(self, settings: Settings) -> None:
        declared = {
            name: route.required_scope.value
            for name, (_, _, route) in secured_routes(settings).items()
        }
        assert declared == {name: case.scope for name, case in TABLE.items()}

    def test_no_route_is_open_but_the_known_ones(self, settings: Settings) -> None:
        unsecured = {
            str(context.path)
            for context in iter_route_contexts(create_app(settings).routes)
            if not isinstance(context.original_route, SecuredRoute)
        }
        assert unsecured == OPEN

    def test_a_route_without_a_scope_can_not_be_made(self) -> None:
        router = secured_router("new")
        with pytest.raises(TypeError, match="/v1/forgotten: a route must declare the scope"):
            router.get("/forgotten")(lambda: None)
        with pytest.raises(ValueError, match="'everybody' is not a valid Scope"):
            router.get("/x", openapi_extra={"x-required-scope": "everybody"})(lambda: None)


@pytest.mark.parametrize("operation", TABLE)
class TestEveryRoute:
    async def test_needs_a_key(self, world: World, operation: str) -> None:
        async with world.api.client(None) as http:
            problem(await world.send(operation, http), 401, "unauthenticated")

    async def test_needs_its_scope(self, world: World, operation: str) -> None:
        for scope in SCOPES:
            async with world.api.client(await world.api.make_key(scope)) as http:
                answer = await world.send(operation, http)
            if scope in {"admin", TABLE[operation].scope}:
                assert answer.is_success, (scope, answer.text)
            else:
                problem(answer, 403, "missing_scope")

    async def test_shows_nothing_of_anothers_project(self, world: World, operation: str) -> None:
        foreign = TABLE[operation].foreign
        for scope in {"admin", TABLE[operation].scope}:
            key = await world.api.make_key(scope, projects=[world.foreign])
            async with world.api.client(key) as http:
                answer = await world.send(operation, http)
                if foreign is Foreign.REFUSED:
                    problem(answer, 403, "missing_scope")
                elif foreign is Foreign.OWN_ONLY:
                    assert [each["id"] for each in answer.json()["data"]] == [world.foreign]
                else:
                    # in no way different from what nobody has
                    found = problem(answer, 404, "not_found")
                    nothing = await world.send(operation, http, nowhere=True)
                    absent = problem(nothing, 404, "not_found")
                    for document in (found, absent):
                        del document["request_id"], document["instance"]
                    assert found == absent


class TestEveryRouteWithAnId:
    @pytest.mark.parametrize(
        "operation",
        [*(n for n, case in TABLE.items() if case.foreign is Foreign.NOT_FOUND), "revoke_key"],
    )
    async def test_what_nobody_has_is_not_found(self, world: World, operation: str) -> None:
        problem(await world.send(operation, world.api.http, nowhere=True), 404, "not_found")
