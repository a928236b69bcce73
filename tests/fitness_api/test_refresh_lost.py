"""Refreshing over a network that loses answers, on two gateways: the user is never logged out, and a thief always ends it."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from websockets.asyncio.client import ClientConnection

from fitness_api import app
from fitness_api.identity import refresh_tokens
from fitness_api.settings import Settings
from tests.fitness_api.client import Json, bearer, registered
from tests.fitness_api.gateway import Gateway, closed, gateway

LIVE = "/v1/sync/live"
TOKEN = "/v1/oauth/token"


class Proxy:
    """Carries each connection to a gateway drawn, and loses answers: the gateway has answered, and the client learns nothing.

    lose: so many of the next answers are lost, whole or from the middle on.
    """

    def __init__(self, ports: list[int], dice: random.Random) -> None:
        self.lose = 0
        self.lost = 0
        self.url = ""
        self._ports = ports
        self._dice = dice

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_gateway, gateway_writer = await asyncio.open_connection("127.0.0.1", self._dice.choice(self._ports))
        try:
            gateway_writer.write(await reader.readuntil(b"\r\n\r\n"))
            asking = asyncio.create_task(self._pass_on(reader, gateway_writer))
            answer = await to_gateway.read()  # each connection is for one request
            asking.cancel()
            if self.lose > 0:
                self.lose -= 1
                self.lost += 1
                answer = answer[: self._dice.choice((0, len(answer) // 2, len(answer) - 1))]
            writer.write(answer)
            await writer.drain()
        finally:
            gateway_writer.close()
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)


class Gateways:
    def __init__(self, one: Gateway, other: Gateway, proxy: Proxy, apis: list[httpx.AsyncClient]) -> None:
        self.one = one
        self.other = other
        self.proxy = proxy
        self.here, self.there, self.lossy = apis


@asynccontextmanager
async def two(settings: Settings, dice: random.Random) -> AsyncIterator[Gateways]:
    async with gateway(app.build(settings)) as one, gateway(app.build(settings)) as other:
        proxy = Proxy([one.port, other.port], dice)
        server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0)
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with (
            server,
            httpx.AsyncClient(base_url=one.url, trust_env=False) as here,
            httpx.AsyncClient(base_url=other.url, trust_env=False) as there,
            httpx.AsyncClient(
                base_url=proxy.url, trust_env=False, headers={"Connection": "close"}, timeout=60
            ) as lossy,
        ):
            yield Gateways(one, other, proxy, [here, there, lossy])


def form(token: str) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": token}


async def refresh_until_answered(api: httpx.AsyncClient, token: str) -> Json:
    """As an app does that knows nothing but the token it has stored."""
    while True:
        try:
            answer = await api.post(TOKEN, data=form(token))
        except httpx.TransportError:
            continue
        assert answer.status_code == 200, answer.text
        pair: Json = answer.json()
        return pair


@pytest.mark.parametrize("seed", range(4))
async def test_however_many_answers_are_lost_all_end_in_one_token(
    settings: Settings, database: AsyncDatabase[Json], seed: int
) -> None:
    dice = random.Random(seed)
    async with two(settings, dice) as gateways:
        pair = await registered(gateways.here)
        rounds, lost = 5, 0
        for _ in range(rounds):
            token = pair["refresh_token"]
            gateways.proxy.lose = dice.randint(1, 25)
            lost += gateways.proxy.lose
            at_once = dice.randint(2, 20)
            pairs = await asyncio.gather(*(refresh_until_answered(gateways.lossy, token) for _ in range(at_once)))
            if dice.random() < 0.5:
                # The app is ended before it has stored what it got, and comes again later.
                gateways.proxy.lose = dice.randint(0, 3)
                lost += gateways.proxy.lose
                pairs.append(await refresh_until_answered(gateways.lossy, token))
            assert len({pair["refresh_token"] for pair in pairs}) == 1
            pair = dice.choice(pairs)
            while gateways.proxy.lose:
                await refresh_until_answered(gateways.lossy, token)
            for api in (gateways.here, gateways.there):
                assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 200
        assert gateways.proxy.lost == lost
    # One branch: each round went on by one, however many asked.
    [session] = await database["sessions"].find({}).to_list()
    assert session["counter"] == 1 + rounds


class Holder:
    """Somebody who has a refresh token: its owner, or who stole it."""

    def __init__(self, api: httpx.AsyncClient, pair: Json) -> None:
        self.api = api
        self.pair = pair
        self.former: list[str] = []

    async def refresh(self, token: str | None = None) -> httpx.Response:
        answer = await self.api.post(TOKEN, data=form(token or self.pair["refresh_token"]))
        if answer.status_code == 200:
            self.former.append(self.pair["refresh_token"])
            self.pair = answer.json()
        return answer

    async def use(self) -> int:
        return (await self.api.get("/v1/me", headers=bearer(self.pair))).status_code


async def is_over(*holders: Holder, sockets: list[ClientConnection], database: AsyncDatabase[Any]) -> None:
    """For everybody, everywhere, at once."""
    for socket in sockets:
        assert await closed(socket) == (4401, "session_ended")
    for holder in holders:
        async with asyncio.timeout(4):
            while await holder.use() != 401:
                await asyncio.sleep(0.02)
        assert (await holder.refresh()).status_code == 400
    assert await database["sessions"].count_documents({}) == 0
    kinds = [event["kind"] async for event in database["audit"].find({})]
    assert "refresh_token_replayed" in kinds


@pytest.mark.parametrize("generations", [1, 5])
@pytest.mark.parametrize("within_the_window", [True, False])
async def test_a_token_from_before_the_last_one_ends_the_session(
    settings: Settings,
    database: AsyncDatabase[Any],
    generations: int,
    within_the_window: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not within_the_window:
        monkeypatch.setattr(refresh_tokens, "RETRY_WINDOW_MS", -1)
    async with two(settings, random.Random(0)) as gateways:
        owner = Holder(gateways.here, await registered(gateways.here))
        for _ in range(generations + 1):
            assert (await owner.refresh()).status_code == 200
        thief = Holder(gateways.there, owner.pair)
        async with (
            gateways.one.connect(LIVE, bearer(owner.pair)) as near,
            gateways.other.connect(LIVE, bearer(owner.pair)) as far,
        ):
            assert await owner.use() == await thief.use() == 200
            assert (await thief.refresh(owner.former[0])).status_code == 400
            await is_over(owner, thief, sockets=[near, far], database=database)


@pytest.mark.parametrize("seen_by", ["its access token", "the next refresh"])
@pytest.mark.parametrize("who_is_first", ["the owner", "the thief"])
async def test_of_two_who_use_one_token_the_second_ends_the_session(
    settings: Settings,
    database: AsyncDatabase[Any],
    who_is_first: str,
    seen_by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once what the first got was seen, and the time for retries is over."""
    monkeypatch.setattr(refresh_tokens, "RETRY_WINDOW_MS", -1)
    async with two(settings, random.Random(0)) as gateways:
        pair = await registered(gateways.here)
        first, second = Holder(gateways.here, pair), Holder(gateways.there, pair)
        assert (await first.refresh()).status_code == 200
        if who_is_first == "the owner":
            # The thief comes before anything was seen: he gets the same, and it is found out one round later.
            assert (await second.refresh()).status_code == 200
            assert second.pair["refresh_token"] == first.pair["refresh_token"]
            assert (await first.refresh()).status_code == 200
        if seen_by == "its access token":
            assert await first.use() == 200
        else:
            assert (await first.refresh()).status_code == 200
        async with gateways.one.connect(LIVE, bearer(first.pair)) as near:
            assert (await second.refresh()).status_code == 400
            await is_over(first, second, sockets=[near], database=database)
