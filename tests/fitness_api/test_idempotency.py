import asyncio
import gzip
from base64 import b64encode
from collections.abc import AsyncIterator
from secrets import token_bytes
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from msgspec import Struct
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import app, bodies
from fitness_api.embedded.data_directory import free_port
from fitness_api.errors import IdempotencyKeyInvalid, NotFound
from fitness_api.idempotency import MAX_ANSWER_BYTES, MAX_KEY, key_of
from fitness_api.identity.authorization.clients import CLIENT_CREDENTIALS
from fitness_api.operation import Media, Operation
from fitness_api.settings import Settings
from tests.fitness_api.client import CREDENTIALS, bearer, device_of, installation, registered
from tests.fitness_api.oauth import basic, client
from tests.fitness_api.serving import serving


class Order(Struct):
    what: str
    bytes: int = 0


class Kitchen:
    """Operations that are not to be done twice."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def cook(self, request: Request[Any]) -> Response:
        order = await bodies.read(request, Order)
        await self.may_go_on.wait()
        if order.what == "refused":
            raise NotFound("dish")
        self.done.append(order.what)
        if order.what == "burnt":
            raise RuntimeError("burnt")
        answer = bodies.respond(
            request,
            {"dish": order.what, "number": len(self.done), "with": "x" * order.bytes},
            status=201,
            headers={"Location": f"/v1/dishes/{len(self.done)}"},
        )
        answer.set_cookie("a", "1")
        answer.set_cookie("b", "2")
        return answer

    async def stir(self, _: Request[Any]) -> Response:
        self.done.append("stirred")
        return Response(status_code=204)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(method="POST", path="/v1/dishes", handler=self.cook, tag="x", summary="x", body=Order,
                      answers={201: Media(types=("application/json",))}),
            Operation(method="POST", path="/v1/soups", handler=self.cook, tag="x", summary="x", body=Order,
                      answers={201: Media(types=("application/json",))}, is_repeatable=True),
            Operation(method="POST", path="/v1/stir", handler=self.stir, tag="x", summary="x", answers={204: None}),
        )  # fmt: skip


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(
        settings, master_key=b64encode(token_bytes(32)).decode(), trusted_proxies="127.0.0.0/8"
    )


@pytest.fixture
async def api(settings: Settings, kitchen: Kitchen) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app.build(settings, operations=(*app.OPERATIONS, *kitchen.operations))) as client:
        yield client


@pytest.fixture
async def away(settings: Settings, kitchen: Kitchen) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway whose Redis is down."""
    settings = msgspec.structs.replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    async with serving(app.build(settings, operations=(*app.OPERATIONS, *kitchen.operations))) as client:
        yield client


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


async def test_what_is_sent_again_is_answered_again_and_not_done(api: httpx.AsyncClient, kitchen: Kitchen) -> None:
    mine = key()
    first = await api.post("/v1/dishes", json={"what": "soup"}, headers=mine)
    again = await api.post("/v1/dishes", json={"what": "soup"}, headers=mine)
    assert kitchen.done == ["soup"]
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    for name in ("location", "content-type", "cache-control", "vary"):
        assert again.headers[name] == first.headers[name]
    assert again.headers.get_list("set-cookie") == first.headers.get_list("set-cookie")
    assert len(first.headers.get_list("set-cookie")) == 2
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


async def test_a_body_that_is_compressed_anew_is_the_same_body(api: httpx.AsyncClient, kitchen: Kitchen) -> None:
    mine = {**key(), "Content-Encoding": "gzip", "Content-Type": "application/json"}
    for level in (1, 9):
        body = gzip.compress(b'{"what": "soup"}', level, mtime=level)
        assert (await api.post("/v1/dishes", content=body, headers=mine)).status_code == 201
    assert kitchen.done == ["soup"]


async def test_another_body_under_the_key_is_refused(api: httpx.AsyncClient, kitchen: Kitchen) -> None:
    mine = key()
    for what in ("soup", "refused", "tea"):
        mine = key()
        await api.post("/v1/dishes", json={"what": what}, headers=mine)
        refused = await api.post("/v1/dishes", json={"what": "cake"}, headers=mine)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert kitchen.done == ["soup", "tea"]


async def test_what_was_refused_was_not_done_and_may_be_sent_again(api: httpx.AsyncClient, kitchen: Kitchen) -> None:
    mine = key()
    for _ in range(2):
        answer = await api.post("/v1/dishes", json={"what": "refused"}, headers=mine)
        assert answer.status_code == 404
        assert "idempotency-replayed" not in answer.headers
    mine = key()
    for _ in range(2):
        assert (await api.post("/v1/dishes", json={"what": "burnt"}, headers=mine)).status_code == 500
    assert kitchen.done == ["burnt", "burnt"]


async def test_a_body_that_was_not_read_leaves_its_key_free(api: httpx.AsyncClient, kitchen: Kitchen) -> None:
    mine = key()
    assert (await api.post("/v1/dishes", json={"what": "x" * 300_000}, headers=mine)).status_code == 413
    assert (await api.post("/v1/dishes", content="x", headers=mine)).status_code == 415
    assert (await api.post("/v1/dishes", json={"what": "soup"}, headers=mine)).status_code == 201
    assert kitchen.done == ["soup"]


async def test_while_the_first_is_under_way_others_are_told_to_wait(api: httpx.AsyncClient, kitchen: Kitchen) -> None:
    kitchen.may_go_on.clear()
    mine = key()
    asked = [asyncio.create_task(api.post("/v1/dishes", json={"what": "soup"}, headers=mine)) for _ in range(50)]
    done, _ = await asyncio.wait(asked, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 49:
        more, _ = await asyncio.wait(set(asked) - done, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert more
        done |= more
    other = await api.post("/v1/dishes", json={"what": "tea"}, headers=mine)
    assert other.status_code == 422
    kitchen.may_go_on.set()
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 49
    waiting = next(answer for answer in answers if answer.status_code == 409)
    assert (waiting.json()["code"], waiting.headers["retry-after"]) == ("request_in_progress", "1")
    assert (await api.post("/v1/dishes", json={"what": "soup"}, headers=mine)).json()["number"] == 1
    assert kitchen.done == ["soup"]


async def test_an_operation_without_a_body_is_done_once_too(api: httpx.AsyncClient, kitchen: Kitchen) -> None:
    mine = key()
    answers = [await api.post("/v1/stir", headers=mine) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [204] * 3
    assert kitchen.done == ["stirred"]


async def test_a_key_belongs_to_who_sent_it_and_to_what_it_was_sent_to(
    api: httpx.AsyncClient, kitchen: Kitchen
) -> None:
    mine = key()
    for path, headers in (
        ("/v1/dishes", {}),
        ("/v1/dishes?for=two", {}),
        ("/v1/dishes", {"X-Forwarded-For": "203.0.113.9"}),
        ("/v1/dishes", {"X-Forwarded-For": "2001:db8:0:1::1"}),
    ):
        answer = await api.post(path, json={"what": "soup"}, headers={**mine, **headers})
        assert "idempotency-replayed" not in answer.headers
    assert len(kitchen.done) == 4
    # One household's /64.
    answer = await api.post("/v1/dishes", json={"what": "soup"}, headers={**mine, "X-Forwarded-For": "2001:db8:0:1::2"})
    assert answer.headers["idempotency-replayed"] == "true"
    ada, bob = await registered(api), await registered(api, "bob@example.org")
    for pair in (ada, bob):
        answer = await api.post("/v1/devices", json=installation(), headers={**bearer(pair), **mine})
        assert answer.status_code == 201


async def test_what_may_be_repeated_is_done_again_and_held_to_its_body(
    api: httpx.AsyncClient, kitchen: Kitchen
) -> None:
    mine = key()
    for _ in range(2):
        answer = await api.post("/v1/soups", json={"what": "soup"}, headers=mine)
        assert answer.status_code == 201
        assert "idempotency-replayed" not in answer.headers
    refused = await api.post("/v1/soups", json={"what": "tea"}, headers=mine)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert kitchen.done == ["soup", "soup"]


async def test_a_round_trip_takes_a_key(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    device = await device_of(api, bearer(pair))
    body = {"device_id": device["device_id"], "cursor": "", "limit": 10, "changes": []}
    mine = {**bearer(pair), **key()}
    assert (await api.post("/v1/sync", json=body, headers=mine)).status_code == 200
    assert (await api.post("/v1/sync", json=body, headers=mine)).status_code == 200
    assert (await api.post("/v1/sync", json={**body, "limit": 11}, headers=mine)).status_code == 422


async def test_a_lost_registration_is_made_good(api: httpx.AsyncClient, redis: Redis) -> None:
    mine = key()
    first = await api.post("/v1/auth/register", json=CREDENTIALS, headers=mine)
    again = await api.post("/v1/auth/register", json=CREDENTIALS, headers=mine)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert (await api.get("/v1/me", headers=bearer(again.json()))).status_code == 200
    # No token lies readable in Redis, nor the key that it could be read by.
    kept = [await redis.get(name) async for name in redis.scan_iter("idempotency:*", count=10_000)]
    everything = repr(kept)
    for secret in (
        first.json()["access_token"],
        first.json()["refresh_token"],
        mine["Idempotency-Key"],
        "correct horse",
    ):
        assert secret not in everything
    assert kept


async def test_an_answer_too_large_to_keep_is_not_given_twice(api: httpx.AsyncClient, kitchen: Kitchen) -> None:
    mine, order = key(), {"what": "feast", "bytes": MAX_ANSWER_BYTES}
    assert (await api.post("/v1/dishes", json=order, headers=mine)).status_code == 201
    again = await api.post("/v1/dishes", json=order, headers=mine)
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_answer_lost")
    assert kitchen.done == ["feast"]


async def test_without_redis_what_must_not_be_done_twice_is_not_begun(
    away: httpx.AsyncClient, kitchen: Kitchen
) -> None:
    refused = await away.post("/v1/dishes", json={"what": "soup"}, headers=key())
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert refused.headers["retry-after"]
    assert kitchen.done == []
    assert (await away.post("/v1/dishes", json={"what": "soup"})).status_code == 201
    assert (await away.post("/v1/soups", json={"what": "tea"}, headers=key())).status_code == 201
    assert kitchen.done == ["soup", "tea"]


async def test_other_methods_have_no_use_for_a_key(api: httpx.AsyncClient) -> None:
    pair, mine = await registered(api), key()
    for name in ("Ada", "Ada L."):
        answer = await api.patch("/v1/me", json={"display_name": name}, headers={**bearer(pair), **mine})
        assert answer.json()["display_name"] == name


@pytest.mark.parametrize("sent", ["abc", '"abc"', " abc ", "x" * MAX_KEY, str(uuid4())])
def test_a_key_may_be_quoted(sent: str) -> None:
    assert key_of([sent]) == sent.strip().strip('"')


@pytest.mark.parametrize("sent", ["", '""', "x" * (MAX_KEY + 1), "a\tb", "é", '"a"b"', "a\\b", '"'])
async def test_a_key_that_is_none_is_refused(sent: str) -> None:
    with pytest.raises(IdempotencyKeyInvalid):
        key_of([sent])


async def test_keys_are_refused_in_answers_too(api: httpx.AsyncClient, kitchen: Kitchen) -> None:
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    for headers in (twice, [("Idempotency-Key", "")]):
        refused = await api.post("/v1/dishes", json={"what": "soup"}, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (400, "idempotency_key_invalid")
    assert kitchen.done == []


async def test_an_answer_to_one_client_is_given_to_no_other(
    api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    """A client that proves itself in a header sends the body that any other sends: from one network, under one key."""
    service = await client(database, confidential=True, grant_types=(CLIENT_CREDENTIALS,), scopes=("analytics:read",))
    form, headers = {"grant_type": CLIENT_CREDENTIALS}, key()
    first = await api.post("/v1/oauth/token", data=form, headers={**headers, **basic(service)})
    again = await api.post("/v1/oauth/token", data=form, headers={**headers, **basic(service)})
    assert (first.status_code, again.json()) == (200, first.json())
    for other in ({}, basic(service, "x" * 43)):
        refused = await api.post("/v1/oauth/token", data=form, headers={**headers, **other})
        assert refused.status_code in {400, 401}, refused.text
