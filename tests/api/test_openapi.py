"""The OpenAPI document: complete, true to the routes, and the one that is committed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from app.main import create_app
from app.settings import Settings
from app.web.wire import Answer, Wire
from tests.support.api import Api
from tests.support.openapi_snapshot import SNAPSHOT, as_text, document

DOCUMENT = document()
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: {"path": path, "method": method, **operation}
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
SECURED = [name for name, each in OPERATIONS.items() if each["path"].startswith("/v1/")]
PROBLEMS = re.compile(r"[45]\d\d")


def everything(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from everything(value)
    elif isinstance(node, list):
        for value in node:
            yield from everything(value)


def references(node: Any) -> set[str]:
    return {each["$ref"] for each in everything(node) if isinstance(each.get("$ref"), str)}


def resolve(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def models(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in kind.__subclasses__():
        yield model
        yield from models(model)


class TestTheDocument:
    def test_is_the_one_that_is_committed(self) -> None:
        # a change that breaks clients must be seen; renew it with
        # `python -m tests.support.openapi_snapshot` and read the difference
        assert SNAPSHOT.read_text(encoding="utf-8") == as_text(DOCUMENT)

    async def test_is_the_one_that_is_served(self, api: Api) -> None:
        async with api.client(None) as http:
            assert (await http.get("/openapi.json")).json() == DOCUMENT

    def test_is_the_same_whatever_the_settings(self, settings: Settings) -> None:
        assert create_app(settings).openapi() == DOCUMENT

    def test_is_openapi_3_1(self) -> None:
        assert DOCUMENT["openapi"] == "3.1.0"
        assert DOCUMENT["info"]["title"] == "Secondlook"
        assert DOCUMENT["info"]["version"]

    def test_points_at_nothing_that_is_not_there(self) -> None:
        for reference in references(DOCUMENT):
            assert resolve(reference), reference

    def test_has_no_part_that_nothing_points_at(self) -> None:
        used = references(DOCUMENT)
        for section, parts in DOCUMENT["components"].items():
            if section == "securitySchemes":
                continue
            for name in parts:
                assert f"#/components/{section}/{name}" in used, name

    def test_does_not_name_what_is_never_answered(self) -> None:
        text = as_text(DOCUMENT)
        assert "HTTPValidationError" not in text
        assert "postgresql" not in text


@pytest.mark.parametrize("name", OPERATIONS)
class TestEveryOperation:
    def test_has_a_snake_case_id_of_its_own(self, name: str) -> None:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        ids = Counter(
            operation["operationId"]
            for methods in DOCUMENT["paths"].values()
            for operation in methods.values()
        )
        assert ids[name] == 1

    def test_has_one_tag_and_says_what_it_does(self, name: str) -> None:
        assert len(OPERATIONS[name]["tags"]) == 1
        assert OPERATIONS[name]["description"]

    def test_documents_each_part_of_its_path(self, name: str) -> None:
        operation = OPERATIONS[name]
        in_path = {
            each["name"] for each in operation.get("parameters", []) if each.get("in") == "path"
        }
        assert in_path == set(re.findall(r"{(\w+)}", operation["path"]))

    def test_its_path_is_plural_kebab_case_and_shallow(self, name: str) -> None:
        path = OPERATIONS[name]["path"]
        words = [part for part in path.split("/")[1:] if not part.startswith("{")]
        assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", word) for word in words)
        # /v1, a thing, a thing of it, at most one more
        assert len(words) <= 4


@pytest.mark.parametrize("name", SECURED)
class TestEverySecuredOperation:
    def test_needs_a_key_and_names_the_scope(self, name: str) -> None:
        assert OPERATIONS[name]["security"] == [{"apiKey": []}]
        assert OPERATIONS[name]["x-required-scope"] in {"admin", "ingest", "reviewer", "read"}

    def test_documents_its_errors_as_problems(self, name: str) -> None:
        responses = OPERATIONS[name]["responses"]
        errors = {status: each for status, each in responses.items() if PROBLEMS.match(status)}
        for status, error in errors.items():
            whole = resolve(error["$ref"])
            (content,) = whole["content"].items()
            assert content[0] == "application/problem+json"
            assert content[1]["schema"] == {"$ref": "#/components/schemas/Problem"}
            example = content[1]["example"]
            assert example["status"] == int(status)
            required = DOCUMENT["components"]["schemas"]["Problem"]["required"]
            assert example.keys() - {"errors"} == set(required)
            assert "X-Request-Id" in whole["headers"]

    def test_documents_those_that_any_can_have(self, name: str) -> None:
        operation = OPERATIONS[name]
        expected = {"401", "403", "422", "503"}
        if "{" in operation["path"]:
            expected |= {"404"}
        if "requestBody" in operation:
            expected |= {"400", "413", "415"}
        assert expected <= operation["responses"].keys()

    def test_has_an_example_of_what_it_takes(self, name: str) -> None:
        body = OPERATIONS[name].get("requestBody")
        if body is None:
            assert OPERATIONS[name]["method"] in {"get", "delete"} or name == "probe_labeler"
            return
        schema = body["content"]["application/json"]["schema"]
        for option in schema.get("oneOf", [schema]):
            assert resolve(option["$ref"])["examples"], option


class TestAnswers:
    @pytest.mark.parametrize("name", SECURED)
    def test_have_an_example(self, name: str) -> None:
        for status, response in OPERATIONS[name]["responses"].items():
            if not status.startswith("2") or "content" not in response:
                continue
            schema = resolve(response["content"]["application/json"]["schema"]["$ref"])
            if "data" in schema["properties"]:
                schema = resolve(schema["properties"]["data"]["items"]["$ref"])
            assert schema["examples"], status


class TestExamples:
    @pytest.mark.parametrize(
        "model",
        [
            model
            for kind in (Wire, Answer)
            for model in models(kind)
            if "json_schema_extra" in model.model_config
        ],
        ids=lambda model: model.__name__,
    )
    def test_are_what_their_models_take(self, model: type[BaseModel]) -> None:
        (example,) = model.model_json_schema()["examples"]
        assert model.model_validate(example)
        # a field that an example lacks is one that may be left out
        if issubclass(model, Answer):
            missing = model.model_fields.keys() - example.keys()
            assert not missing
            # one that may have more fields is told apart by them
            open_ended = model.model_config.get("extra") == "allow"
            assert open_ended or example.keys() == model.model_fields.keys()

    async def test_of_requests_are_accepted_by_the_service(self, api: Api) -> None:
        examples = {
            name: schema["examples"][0]
            for name, schema in DOCUMENT["components"]["schemas"].items()
            if "examples" in schema
        }
        answer = await api.http.post("/v1/projects", json=examples["ProjectIn"])
        assert answer.status_code == 201
        path = f"/v1/projects/{answer.json()['id']}"
        for name in ("FixedThresholdIn", "ReviewAllIn", "AcceptAllIn"):
            answer = await api.http.post(f"{path}/policies", json=examples[name])
            assert answer.status_code == 201
        answer = await api.http.post(f"{path}/items", json=examples["ItemIn"])
        assert answer.status_code == 201
        answer = await api.http.post(f"{path}/items/bulk", json=examples["BulkIn"])
        assert answer.status_code in {200, 207}
        answer = await api.http.post(f"{path}/claims", json=examples["ClaimIn"])
        assert answer.status_code == 200
        assert (await api.http.post("/v1/keys", json=examples["KeyIn"])).status_code == 201
