"""The description: valid OpenAPI 3.1, and exactly what is served."""

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from starlette.routing import Route

from fitness_api.app import OPERATIONS, FixedRoutes, routes
from fitness_api.openapi import SCOPES, document, operation_id
from fitness_api.operation import Media, Operation
from fitness_api.problems import CATALOGUE


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(OPERATIONS, public_url="https://api.example/")


def test_it_is_valid(described: dict[str, Any]) -> None:
    validate(described, cls=OpenAPIV31SpecValidator)


def test_what_is_served_is_described_and_the_other_way_round(described: dict[str, Any]) -> None:
    served = {(operation.path, operation.method.lower()) for operation in OPERATIONS}
    published = {(path, method) for path, item in described["paths"].items() for method in item}
    assert published == served
    fixed, *others = routes(OPERATIONS)
    assert isinstance(fixed, FixedRoutes)
    paths = {route.path for route in others if isinstance(route, Route)}
    assert fixed.routes.keys() | paths == set(described["paths"])
    assert len(paths) == len(others)


def test_operation_ids_are_unique_and_made_of_method_and_path() -> None:
    assert len({operation_id(operation) for operation in OPERATIONS}) == len(OPERATIONS)
    row = Operation(method="GET", path="/v1/rides/{ride_id}/laps", handler=_nothing, tag="x", summary="x")
    assert operation_id(row) == "get_rides_by_ride_id_laps"


async def _nothing() -> Any: ...


@pytest.mark.parametrize("operation", OPERATIONS, ids=operation_id)
def test_an_operation_tells_who_may_and_what_may_go_wrong(described: dict[str, Any], operation: Operation) -> None:
    published = described["paths"][operation.path][operation.method.lower()]
    assert published["security"] == (
        [{"bearer": [operation.scope] if operation.scope else []}] if operation.login else []
    )
    codes = {
        code
        for response in published["responses"].values()
        for code in response.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }
    assert codes >= {*operation.problems, "internal_error"}
    assert codes <= set(CATALOGUE)
    assert ("unauthenticated" in codes) >= operation.login
    assert ("insufficient_scope" in codes) == bool(operation.scope)
    if operation.body is not None:
        assert "body_too_large" in codes
        if not isinstance(operation.body, Media):
            assert set(published["requestBody"]["content"]) == {"application/json", "application/msgpack"}


def test_every_get_may_be_asked_again_by_its_etag(described: dict[str, Any]) -> None:
    answers = {path: item["get"]["responses"] for path, item in described["paths"].items() if "get" in item}
    # What only sends a browser on says nothing that could be the same.
    gets = {path: responses for path, responses in answers.items() if "200" in responses}
    assert [path for path, responses in gets.items() if "304" not in responses] == []
    assert all("ETag" in responses[status]["headers"] for responses in gets.values() for status in ("200", "304"))


def test_every_scope_is_one_of_the_contract() -> None:
    assert {operation.scope for operation in OPERATIONS if operation.scope} <= set(SCOPES)
    assert all(operation.login for operation in OPERATIONS if operation.scope)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    for reference in references(described):
        target: Any = described
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    assert references(described)
