"""`GET /v1/sync/live` on gateways as they are run: real sockets, MongoDB and Valkey."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from fitness_api import app, live_sockets, routes_live, synthetic_ride
from fitness_api.identity import access_tokens
from fitness_api.server_uvicorn import allow_many_connections
from fitness_api.settings import Settings
from sync import clock
from tests.fitness_api.client import Json, bearer, device_of, registered
from tests.fitness_api.gateway import Gateway, closed, gateway
from tests.sync.test_hints_redis import Server

PATH = "/v1/sync/live"
CHANGED = '{"type":"changed"}'


class Served:
    def __init__(self, gateway: Gateway, api: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.api = api

    @asynccontextmanager
    async def live(self, pair: Json) -> AsyncIterator[ClientConnection]:
        """A connection that has had its first hint."""
        async with self.gateway.connect(PATH, bearer(pair)) as client:
            await changed(client)
            yield client


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[Served]:
    async with (
        gateway(app.build(settings)) as one,
        httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=30) as api,
    ):
        yield Served(one, api)


@pytest.fixture
async def here(settings: Settings) -> AsyncIterator[Served]:
    async with served(settings) as one:
        yield one


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "valkey")
    await server.start()
    yield server
    await server.stop()


async def changed(client: ClientConnection) -> None:
    async with asyncio.timeout(20):
        assert await client.recv() == CHANGED


async def quiet(client: ClientConnection) -> None:
    """Nothing more comes."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            pytest.fail(f"{await client.recv()!r} came")


async def upload(api: httpx.AsyncClient, pair: Json, device: Json) -> None:
    change = {
        "id": str(uuid4()),
        "collection": "workouts",
        "doc": str(uuid4()),
        "stamp": clock.to_wire(clock.Stamp(1 << 40)),
        "set": {"title": "Leg day"},
    }
    body = {"device_id": device["device_id"], "cursor": "", "changes": [change]}
    answer = await api.post("/v1/sync", json=body, headers=bearer(pair))
    assert answer.json()["results"][0]["status"] == "applied", answer.text


async def test_whatever_lands_is_told_on_every_gateway_to_that_account_only(here: Served, settings: Settings) -> None:
    ada = await registered(here.api)
    eve = await registered(here.api, "eve@example.org")
    device = await device_of(here.api, bearer(ada))
    async with (
        served(settings) as there,
        here.live(ada) as near,
        there.live(ada) as far,
        there.live(eve) as stranger,
    ):
        await upload(here.api, ada, device)
        await changed(near)
        await changed(far)
        await upload(there.api, ada, device)
        await changed(near)
        await changed(far)
        chunk = {"start": "2026-03-01T07:30:00.000Z", "offsets_ms": [0], "values": [120]}
        path = f"/v1/workouts/{uuid4()}/tracks/heart_rate/{uuid4()}"
        answer = await there.api.put(path, json=chunk, headers=bearer(ada))
        assert answer.status_code in {200, 201}, answer.text
        await changed(near)
        await changed(far)
        answer = await there.api.post(
            "/v1/imports", content=synthetic_ride.encode(started_at_ms=1_750_000_000_000), headers=bearer(ada)
        )
        assert answer.status_code == 201, answer.text
        await changed(near)
        await changed(far)
        # A sync without changes is no news.
        body = {"device_id": device["device_id"], "cursor": ""}
        assert (await here.api.post("/v1/sync", json=body, headers=bearer(ada))).status_code == 200
        await quiet(near)
        await quiet(stranger)


async def refusal(served: Served, path: str, headers: dict[str, str]) -> tuple[int, Json]:
    with pytest.raises(InvalidStatus) as refused:
        await served.gateway.connect(path, headers)
    response = refused.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    body: Json = json.loads(response.body or b"")
    assert body["request_id"] == response.headers["X-Request-Id"]
    return response.status_code, body


async def test_a_refused_upgrade_is_a_problem(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = await registered(here.api)
    assert (await refusal(here, PATH, {}))[1]["code"] == "unauthenticated"
    status, body = await refusal(here, PATH, {"Authorization": "Bearer " + "x" * 7000})
    assert (status, body["code"]) == (401, "unauthenticated")
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], "scope": "account"}
    narrow = (await here.api.post("/v1/oauth/token", data=form)).json()
    status, body = await refusal(here, PATH, bearer(narrow))
    assert (status, body["code"], body["scope"]) == (403, "insufficient_scope", "sync")
    for path in ("/v1/sync", "/nowhere", "/"):
        status, body = await refusal(here, path, bearer(pair))
        assert (status, body["code"]) == (404, "not_found")
    monkeypatch.setattr(live_sockets, "MAX_SOCKETS", 0)
    status, body = await refusal(here, PATH, bearer(pair))
    assert (status, body["code"]) == (503, "too_many_connections")


async def test_without_an_upgrade_it_says_so(here: Served) -> None:
    answer = await here.api.get(PATH)
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"
    assert (await here.api.post(PATH)).status_code == 405


async def test_a_newer_token_makes_it_last_and_an_expired_one_ends_it(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_tokens, "LIFETIME_S", 3)
    short = await registered(here.api)
    async with here.live(short) as kept, here.live(short) as left:
        monkeypatch.setattr(access_tokens, "LIFETIME_S", 600)
        form = {"grant_type": "refresh_token", "refresh_token": short["refresh_token"]}
        longer = (await here.api.post("/v1/oauth/token", data=form)).json()
        await kept.send(json.dumps({"type": "token", "access_token": longer["access_token"]}))
        accepted = json.loads(await kept.recv())
        assert accepted["type"] == "token_accepted"
        assert 590 <= accepted["expires_in"] <= 600
        assert await closed(left) == (4401, "token_expired")
        await quiet(kept)


async def test_a_message_that_is_refused_leaves_the_connection(here: Served) -> None:
    ada, eve = await registered(here.api), await registered(here.api, "eve@example.org")
    async with here.live(ada) as client:
        for message, code in (
            ({"type": "token", "access_token": eve["access_token"]}, "unauthenticated"),
            ({"type": "token", "access_token": "x"}, "unauthenticated"),
            ({"type": "token", "access_token": ""}, "unauthenticated"),
            ({"type": "watch", "session": "x"}, "unknown_message"),
        ):
            await client.send(json.dumps(message))
            refused = json.loads(await client.recv())
            assert (refused["type"], refused["code"]) == ("error", code)
            assert refused["detail"]
        await quiet(client)


@pytest.mark.parametrize(
    "message", ["", "x", "[]", "{}", '{"type":1}', '{"type":"token"}', "[" * 9000, b'{"type":"token"}', b""]
)
async def test_what_is_no_message_ends_it(here: Served, message: str | bytes) -> None:
    pair = await registered(here.api)
    async with here.live(pair) as client:
        await client.send(message)
        assert (await closed(client))[0] == 4400


@pytest.mark.parametrize("way", ["logout", "replay", "erasure"])
async def test_an_ended_session_s_connections_close_on_every_gateway(
    here: Served, settings: Settings, way: str
) -> None:
    ended = await registered(here.api)
    login = {"email": "ada@example.org", "password": "correct horse"}
    other = (await here.api.post("/v1/auth/login", json=login)).json()
    async with (
        served(settings) as there,
        here.live(ended) as near,
        there.live(ended) as far,
        there.live(other) as stays,
    ):
        if way == "logout":
            assert (await here.api.post("/v1/auth/logout", headers=bearer(ended))).status_code == 204
        elif way == "erasure":
            assert (await here.api.delete("/v1/me", headers=bearer(ended))).status_code == 204
        else:
            form = {"grant_type": "refresh_token", "refresh_token": ended["refresh_token"]}
            newer = (await here.api.post("/v1/oauth/token", data=form)).json()
            await here.api.post("/v1/oauth/token", data={**form, "refresh_token": newer["refresh_token"]})
            assert (await here.api.post("/v1/oauth/token", data=form)).status_code == 400
        assert await closed(near) == (4401, "session_ended")
        assert await closed(far) == (4401, "session_ended")
        if way == "erasure":
            assert await closed(stays) == (4401, "session_ended")
            assert (await refusal(here, PATH, bearer(other)))[1]["code"] == "account_deleted"
        else:
            await changed(stays)  # an announcement says no more
            await quiet(stays)


async def test_without_redis_ended_sessions_still_close(settings: Settings) -> None:
    async with served(replace(settings, redis_url="redis://127.0.0.1:9/0")) as here:
        pair = await registered(here.api)
        async with served(replace(settings, redis_url="redis://127.0.0.1:9/0")) as there, there.live(pair) as client:
            assert (await here.api.post("/v1/auth/logout", headers=bearer(pair))).status_code == 204
            assert await closed(client) == (4401, "session_ended")


async def test_redis_may_go_and_come_back(settings: Settings, server: Server) -> None:
    settings = replace(settings, redis_url=server.url)
    async with served(settings) as here, served(settings) as there:
        pair = await registered(here.api)
        device = await device_of(here.api, bearer(pair))
        async with here.live(pair) as near, there.live(pair) as far:
            await server.stop()
            await upload(here.api, pair, device)
            await changed(near)  # where it was uploaded it needs no Redis
            await upload(there.api, pair, device)
            await changed(far)
            async with there.live(pair):
                pass
            await server.start()
            await changed(near)
            await changed(far)
            await asyncio.sleep(1)
            for client in (near, far):
                while True:
                    try:
                        await asyncio.wait_for(client.recv(), 0.3)
                    except TimeoutError:
                        break
            await upload(here.api, pair, device)
            await changed(near)
            await changed(far)


async def test_many_hints_become_few(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_live, "HINT_EVERY_S", 0.1)
    pair = await registered(here.api)
    device = await device_of(here.api, bearer(pair))
    async with here.live(pair) as client:
        begun = asyncio.get_running_loop().time()
        for _ in range(5):
            await asyncio.gather(*(upload(here.api, pair, device) for _ in range(4)))
        took_s = asyncio.get_running_loop().time() - begun
        count = 0
        try:
            while True:
                await asyncio.wait_for(client.recv(), 0.5)
                count += 1
        except TimeoutError:
            pass
        assert 1 <= count <= took_s / 0.1 + 2


async def test_of_too_many_connections_of_an_account_the_oldest_gives_way(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_sockets, "MAX_OF_ACCOUNT", 3)
    ada, eve = await registered(here.api), await registered(here.api, "eve@example.org")
    async with AsyncExitStack() as open_ones:
        stranger = await open_ones.enter_async_context(here.live(eve))
        clients = [await open_ones.enter_async_context(here.live(ada)) for _ in range(5)]
        for oldest in clients[:2]:
            assert (await closed(oldest))[0] == 4429
        device = await device_of(here.api, bearer(ada))
        await upload(here.api, ada, device)
        for client in clients[2:]:
            await changed(client)
        await quiet(stranger)


async def test_a_gateway_that_stops_sends_its_clients_away(settings: Settings) -> None:
    async with served(settings) as here:
        pair = await registered(here.api)
        async with here.live(pair) as client:
            here.gateway.server.should_exit = True
            code, reason = await closed(client)
            assert code == 4503
            assert reason is not None
            assert reason.startswith("after_ms=")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_many_connections()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_descriptors")
async def test_hundreds_at_once(here: Served) -> None:
    pairs = [await registered(here.api, f"user{number}@example.org") for number in range(5)]
    devices = [await device_of(here.api, bearer(pair)) for pair in pairs]
    crowd = 500
    live_sockets_of = here.gateway.server.lifespan.state["live_sockets"]

    async def member(number: int, stack: AsyncExitStack) -> ClientConnection:
        return await stack.enter_async_context(here.live(pairs[number % len(pairs)]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_sockets, "MAX_OF_ACCOUNT", crowd)
        async with AsyncExitStack() as stack:
            clients = await asyncio.gather(*(member(number, stack) for number in range(crowd)))
            assert len(live_sockets_of) == crowd
            for pair, device in zip(pairs, devices, strict=True):
                await upload(here.api, pair, device)
            await asyncio.gather(*map(changed, clients))
    async with asyncio.timeout(20):
        while len(live_sockets_of):
            await asyncio.sleep(0.01)


async def test_asyncapi_is_served(here: Served) -> None:
    answer = await here.api.get("/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    document: dict[str, Any] = answer.json()
    assert document["asyncapi"] == "3.0.0"
