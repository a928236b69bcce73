"""The description: well-formed AsyncAPI 3, and exactly what is encoded and decoded."""

from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError
from starlette.routing import WebSocketRoute

from fitness_api import routes_live
from fitness_api.asyncapi import document
from fitness_api.close_codes import CloseCode
from fitness_api.hint_messages import FROM_CLIENT, FROM_SERVER, Changed, Refused, TokenAccepted, decode, encode


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(public_url="https://api.example/base/")


def validator(described: dict[str, Any], message: str) -> Draft202012Validator:
    payload = described["components"]["messages"][message]["payload"]
    return Draft202012Validator({**payload, "components": described["components"]})


def test_its_parts_are_those_of_asyncapi(described: dict[str, Any]) -> None:
    assert described["asyncapi"] == "3.0.0"
    assert set(described) <= {
        "asyncapi",
        "info",
        "defaultContentType",
        "servers",
        "channels",
        "operations",
        "components",
    }
    assert described["servers"]["gateway"]["protocol"] == "wss"
    assert described["servers"]["gateway"]["host"] == "api.example"
    assert described["servers"]["gateway"]["pathname"] == "/base"
    assert {operation["action"] for operation in described["operations"].values()} == {"send", "receive"}
    assert "pathname" not in document(public_url="http://127.0.0.1:8080")["servers"]["gateway"]


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    assert references(described)
    for reference in references(described):
        target: Any = described
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_its_address_is_the_one_that_is_served(described: dict[str, Any]) -> None:
    served = {route.path for route in routes_live.ROUTES if isinstance(route, WebSocketRoute)}
    assert {channel["address"] for channel in described["channels"].values()} == served - {"/{path:path}"}


def test_every_message_is_described_and_no_other(described: dict[str, Any]) -> None:
    tags = {str(one.__struct_config__.tag) for one in (*FROM_SERVER, *FROM_CLIENT)}
    assert set(described["components"]["messages"]) == tags
    [channel] = described["channels"].values()
    assert set(channel["messages"]) == tags
    said = {one["$ref"].rsplit("/", 1)[1] for one in described["operations"]["hear"]["messages"]}
    assert said == {str(one.__struct_config__.tag) for one in FROM_SERVER}


@pytest.mark.parametrize("message", [Changed(), TokenAccepted(1), Refused("unavailable", "x")], ids=repr)
def test_what_is_sent_is_as_described(described: dict[str, Any], message: Changed | TokenAccepted | Refused) -> None:
    sent = msgspec.json.decode(encode(message))
    validator(described, sent["type"]).validate(sent)
    with pytest.raises(ValidationError):
        validator(described, sent["type"]).validate({**sent, "type": "another"})


def test_what_is_described_is_taken(described: dict[str, Any]) -> None:
    validator(described, "token").validate({"type": "token", "access_token": "a"})
    assert decode('{"type":"token","access_token":"a"}') is not None


def test_every_close_code_that_is_used_is_described(described: dict[str, Any]) -> None:
    [channel] = described["channels"].values()
    unused = {CloseCode.NOT_ALLOWED, CloseCode.REPLACED}
    assert all(str(code.value) in channel["description"] for code in set(CloseCode) - unused)
