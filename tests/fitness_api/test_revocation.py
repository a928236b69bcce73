"""What ended is refused by every gateway at once, and without Redis within RECHECK_MS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from msgspec.structs import replace

from fitness_api import app
from fitness_api.identity import sessions as module
from fitness_api.resources import Resources, open_resources
from fitness_api.settings import Settings
from tests.fitness_api.client import CREDENTIALS, Json, bearer, registered
from tests.fitness_api.serving import serving

NOWHERE = "redis://127.0.0.1:9/0"


@asynccontextmanager
async def hearing(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that is linked with the others."""
    opened: list[Resources] = []

    @asynccontextmanager
    async def kept(settings: Settings) -> AsyncIterator[Resources]:
        async with open_resources(settings) as resources:
            opened.append(resources)
            yield resources

    async with serving(app.build(settings, kept)) as api:
        async with asyncio.timeout(20):
            while not opened[0]["revocations"].hears:
                await asyncio.sleep(0.01)
        yield api


async def until_refused(api: httpx.AsyncClient, pair: Json) -> httpx.Response:
    async with asyncio.timeout(20):
        while (answer := await api.get("/v1/me", headers=bearer(pair))).status_code == 200:
            await asyncio.sleep(0.02)
    return answer


async def replayed(api: httpx.AsyncClient, pair: Json) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    newer = (await api.post("/v1/oauth/token", data=form)).json()
    await api.post("/v1/oauth/token", data={**form, "refresh_token": newer["refresh_token"]})
    assert (await api.post("/v1/oauth/token", data=form)).status_code == 400


@pytest.mark.parametrize("way", ["logout", "listed", "all", "revoke", "replay", "erasure"])
async def test_a_gateway_that_had_let_it_in_refuses_what_ended_at_another(
    settings: Settings, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody asks the database again by himself.
    monkeypatch.setattr(module, "RECHECK_MS", 3_600_000)
    async with hearing(settings) as here, hearing(settings) as there:
        ended = await registered(here)
        stays = (await here.post("/v1/auth/login", json=CREDENTIALS)).json()
        for pair in (ended, stays):
            assert (await there.get("/v1/me", headers=bearer(pair))).status_code == 200
        headers = bearer(ended)
        match way:
            case "logout":
                await here.post("/v1/auth/logout", headers=headers)
            case "listed":
                listed = (await here.get("/v1/auth/sessions", headers=headers)).json()["sessions"]
                [mine] = [session["id"] for session in listed if session["current"]]
                await here.delete(f"/v1/auth/sessions/{mine}", headers=bearer(stays))
            case "all":
                await here.delete("/v1/auth/sessions", headers=headers)
            case "revoke":
                await here.post("/v1/oauth/revoke", data={"token": ended["access_token"]})
            case "replay":
                await replayed(here, ended)
            case "erasure":
                assert (await here.delete("/v1/me", headers=headers)).status_code == 204
        answer = await until_refused(there, ended)
        assert answer.status_code == (410 if way == "erasure" else 401)
        if way in {"all", "erasure"}:
            await until_refused(there, stays)
        else:
            assert (await there.get("/v1/me", headers=bearer(stays))).status_code == 200


async def test_without_redis_it_is_found_out_by_asking_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECHECK_MS", 300)
    settings = replace(settings, redis_url=NOWHERE)
    async with serving(app.build(settings)) as here, serving(app.build(settings)) as there:
        pair = await registered(here)
        assert (await there.get("/v1/me", headers=bearer(pair))).status_code == 200
        await here.post("/v1/auth/logout", headers=bearer(pair))
        assert (await until_refused(there, pair)).status_code == 401


async def test_what_is_sensitive_asks_every_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without Redis, and long before what is remembered is old."""
    monkeypatch.setattr(module, "RECHECK_MS", 3_600_000)
    settings = replace(settings, redis_url=NOWHERE)
    async with serving(app.build(settings)) as here, serving(app.build(settings)) as there:
        pair = await registered(here)
        assert (await there.get("/v1/me", headers=bearer(pair))).status_code == 200
        await here.post("/v1/auth/logout", headers=bearer(pair))
        assert (await there.get("/v1/me", headers=bearer(pair))).status_code == 200
        assert (await there.patch("/v1/me", headers=bearer(pair), json={"units": "metric"})).status_code == 401
        # And what it learned, it knows from then on.
        assert (await there.get("/v1/me", headers=bearer(pair))).status_code == 401


async def test_it_is_on_record_who_ended_what(settings: Settings, api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    await replayed(api, pair)
    pair = (await api.post("/v1/auth/login", json=CREDENTIALS)).json()
    await api.post("/v1/auth/logout", headers={**bearer(pair), "User-Agent": "watch/1"})
    async with open_resources(settings) as resources:
        account = await resources["accounts"].credentials("ada@example.org")
        assert account is not None
        events = await resources["audit"].of(account.user_id, limit=10)
    assert [event.kind for event in events] == [
        "session_ended",
        "logged_in",
        "refresh_token_replayed",
        "logged_in",
        "registered",
    ]
    assert events[0].origin.user_agent == "watch/1"
