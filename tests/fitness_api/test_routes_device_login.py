"""The device grant, from the watch's side and the user's."""

import asyncio
import secrets
from base64 import b64encode
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app
from fitness_api.identity.authorization import clients, device_grants
from fitness_api.identity.authorization.clients import Client
from fitness_api.limits.policies import FLOWS
from fitness_api.settings import Settings
from tests.fitness_api.client import Json, bearer, registered
from tests.fitness_api.oauth import ISSUER, administrator, basic, client
from tests.fitness_api.pages_client import log_in, send
from tests.fitness_api.serving import serving

Database = AsyncDatabase[dict[str, Any]]

DEVICE = "/v1/oauth/device"
DECISION = "/v1/oauth/device/decision"


async def begun(api: httpx.AsyncClient, **form: str) -> Json:
    answer = await api.post(
        "/v1/oauth/device_authorization", data={"client_id": "app", **form}, headers={"User-Agent": "Watch 7 <b>"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    device: Json = answer.json()
    return device


async def polled(api: httpx.AsyncClient, device: Json, **form: str) -> httpx.Response:
    body = {"grant_type": clients.DEVICE_CODE, "device_code": device["device_code"], **form}
    return await api.post("/v1/oauth/token", data=body)


async def rested(database: Database) -> None:
    """Let the time between two polls pass."""
    await database["device_grants"].update_many({}, {"$set": {"polled_at": None}})


async def decided(api: httpx.AsyncClient, pair: Json, user_code: str, **body: Any) -> httpx.Response:
    return await api.post(DEVICE, json={"user_code": user_code, **body}, headers=bearer(pair))


async def test_a_watch_is_logged_in(api: httpx.AsyncClient, database: Database) -> None:
    device = await begun(api)
    assert device.keys() == {
        "device_code",
        "user_code",
        "verification_uri",
        "verification_uri_complete",
        "expires_in",
        "interval",
    }
    assert (device["expires_in"], device["interval"]) == (600, 5)
    assert (len(device["user_code"]), device["user_code"][4]) == (9, "-")
    assert device["verification_uri"] == f"{ISSUER}{DEVICE}"
    assert dict(parse_qsl(urlsplit(device["verification_uri_complete"]).query)) == {"user_code": device["user_code"]}
    assert (await polled(api, device)).json()["error"] == "authorization_pending"
    pair = await registered(api)  # our own app on a watch is no other client: nothing has to be verified
    typed = device["user_code"].lower().replace("-", " ")
    asked = (await decided(api, pair, typed)).json()
    assert (asked["client_id"], asked["user_agent"], asked["place"]) == ("app", "Watch 7 <b>", "127.0.0.0/24")
    assert "account" not in {one["scope"] for one in asked["scopes"]}
    assert (await decided(api, pair, typed, approve=True)).status_code == 204
    await rested(database)
    tokens = await polled(api, device)
    assert tokens.status_code == 200
    theirs = tokens.json()
    assert set(theirs["scope"].split()) == set(pair["scope"].split()) - {"account"}
    assert (await api.get("/v1/sync/schema", headers=bearer(theirs))).status_code == 200
    assert (await api.get("/v1/me", headers=bearer(theirs))).status_code == 403
    await rested(database)
    assert (await polled(api, device)).json()["error"] == "invalid_grant"
    assert (await api.get("/v1/sync/schema", headers=bearer(theirs))).status_code == 200
    # A watch is ours and may not let others in.
    answer = await decided(api, theirs, (await begun(api))["user_code"], approve=True)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")


async def test_an_administrators_watch_administers_nothing(api: httpx.AsyncClient, database: Database) -> None:
    device = await begun(api)
    headers = await administrator(api, database)
    answer = await api.post(DEVICE, json={"user_code": device["user_code"], "approve": True}, headers=headers)
    assert answer.status_code == 204
    tokens = (await polled(api, device)).json()
    assert "admin" not in tokens["scope"]
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert "admin" not in (await api.post("/v1/oauth/token", data=form)).json()["scope"]


async def test_fifty_parallel_polls_give_one_pair(api: httpx.AsyncClient, database: Database) -> None:
    device = await begun(api)
    await decided(api, await registered(api), device["user_code"], approve=True)
    answers = await asyncio.gather(*(polled(api, device) for _ in range(50)))
    errors = sorted(answer.json().get("error", "") for answer in answers)
    assert errors[0] == ""
    assert set(errors[1:]) <= {"slow_down", "invalid_grant"}
    assert sum(answer.status_code == 200 for answer in answers) == 1


async def test_slow_down_is_kept(api: httpx.AsyncClient, database: Database) -> None:
    device = await begun(api)
    errors = [(await polled(api, device)).json()["error"] for _ in range(4)]
    assert errors == ["authorization_pending", "slow_down", "slow_down", "slow_down"]
    found = await database["device_grants"].find_one({})
    assert found is not None
    assert found["interval_s"] == 20


@pytest.mark.parametrize("approve", [True, False])
async def test_what_was_decided_stands(api: httpx.AsyncClient, database: Database, approve: bool) -> None:
    device = await begun(api)
    ada, bob = await registered(api), await registered(api, "bob@example.org")
    assert (await decided(api, ada, device["user_code"], approve=approve)).status_code == 204
    for pair in (ada, bob):
        assert (await decided(api, pair, device["user_code"], approve=not approve)).status_code == 404
        assert (await decided(api, pair, device["user_code"])).status_code == 404
    answer = await polled(api, device)
    if not approve:
        assert answer.json()["error"] == "access_denied"
        return
    sessions = (await api.get("/v1/auth/sessions", headers=bearer(ada))).json()["sessions"]
    assert len(sessions) == 2


async def test_a_code_that_has_expired_is_over(api: httpx.AsyncClient, database: Database) -> None:
    device = await begun(api)
    past = device_grants.LIFETIME_MS
    found = await database["device_grants"].find_one({})
    assert found is not None
    await database["device_grants"].update_one({}, [{"$set": {"expires_at": {"$subtract": ["$expires_at", past]}}}])
    assert (await polled(api, device)).json()["error"] == "expired_token"
    assert (await decided(api, await registered(api), device["user_code"], approve=True)).status_code == 404


async def test_a_device_code_is_its_clients(api: httpx.AsyncClient, database: Database) -> None:
    tv = await client(database, grant_types=(clients.DEVICE_CODE,))
    device = await begun(api, client_id=tv.client_id, scope="workouts:read")
    assert (await polled(api, device)).json()["error"] == "invalid_grant"
    name, _, _ = device["device_code"].partition(".")
    for wrong in ("x", name, f"{name}.x", "x." * 300, ""):
        error = (await polled(api, {"device_code": wrong}, client_id=tv.client_id)).json()["error"]
        assert error == ("invalid_request" if wrong == "" else "invalid_grant")
    pair = await registered(api)
    answer = await decided(api, pair, device["user_code"], approve=True)
    assert (answer.status_code, answer.json()["code"]) == (403, "email_unverified")
    await database["accounts"].update_many({}, {"$set": {"email_verified": True}})
    assert (await decided(api, pair, device["user_code"], approve=True)).status_code == 204
    tokens = (await polled(api, device, client_id=tv.client_id)).json()
    assert tokens.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert tokens["scope"] == "workouts:read"


async def test_it_ends_with_the_login_that_allowed_it(api: httpx.AsyncClient, database: Database) -> None:
    device = await begun(api)
    pair = await registered(api)
    await decided(api, pair, device["user_code"], approve=True)
    await api.post("/v1/auth/logout", headers=bearer(pair))
    assert (await polled(api, device)).json()["error"] == "invalid_grant"


async def test_what_a_device_may_ask_for(api: httpx.AsyncClient, database: Database) -> None:
    async def refused(who: Client | None, headers: dict[str, str] | None = None, **form: str) -> str:
        body = form if who is None else {"client_id": who.client_id, **form}
        answer = await api.post("/v1/oauth/device_authorization", data=body, headers=headers)
        error: str = answer.json()["error"]
        return error

    assert await refused(None, scope="account") == "invalid_scope"
    assert await refused(None, scope="admin") == "invalid_scope"
    assert await refused(await client(database, scopes=("account",))) == "invalid_scope"
    assert await refused(await client(database, grant_types=(clients.AUTHORIZATION_CODE,))) == "unauthorized_client"
    secret = await client(database, confidential=True)
    assert await refused(secret) == "invalid_client"
    assert await refused(secret, basic(secret, "wrong")) == "invalid_client"
    answer = await api.post("/v1/oauth/device_authorization", data={"scope": "sync"}, headers=basic(secret))
    assert answer.status_code == 200


async def test_a_code_that_no_device_shows_is_not_found(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    for typed in ["", "BCDF-GHJ", "BCDF-GHJKL", "AEIO-UAEI", "BCDF-GHJK", "12345678", "é" * 8]:
        assert (await decided(api, pair, typed, approve=True)).status_code == 404


# ------------------------------------------------------------------------------------------------------------- pages


async def test_the_page_shows_what_asks_and_whether_one_started_it(api: httpx.AsyncClient, database: Database) -> None:
    device = await begun(api)
    await registered(api)
    page = await log_in(api, await api.get(DEVICE))
    assert "Code that the device shows" in page.text
    page = await api.get(DEVICE, params={"user_code": device["user_code"].lower()})
    for shown in (device["user_code"], "Did you start this", "Watch 7 &lt;b&gt;", "127.0.0.0/24", "Fitness"):
        assert shown in page.text
    answer = await send(api, page, DECISION, decision="allow")
    assert "The device is logged in" in answer.text
    assert (await polled(api, device)).status_code == 200
    again = await send(api, page, DECISION, decision="allow")
    assert (again.status_code, "has expired, or was used" in again.text) == (404, True)


async def test_the_complete_address_asks_all_the_same(api: httpx.AsyncClient, database: Database) -> None:
    device = await begun(api)
    await registered(api)
    page = await log_in(api, await api.get(device["verification_uri_complete"]))
    assert "Did you start this" in page.text
    answer = await send(api, page, DECISION, decision="deny")
    assert "The device is not logged in" in answer.text
    assert (await polled(api, device)).json()["error"] == "access_denied"


async def test_a_wrong_code_is_told_beside_its_field(api: httpx.AsyncClient, database: Database) -> None:
    await registered(api)
    page = await log_in(api, await api.get(DEVICE, params={"user_code": "BCDF-GHJK"}))
    assert page.status_code == 404
    assert 'aria-describedby="user_code-hint user_code-error"' in page.text
    page = await api.get(DEVICE, params={"user_code": "<script>" * 20})
    assert (page.status_code, "<script" in page.text) == (404, False)


async def test_a_decision_is_not_forged(api: httpx.AsyncClient, database: Database) -> None:
    device = await begun(api)
    await registered(api)
    await log_in(api, await api.get(DEVICE))
    answer = await api.post(DECISION, data={"user_code": device["user_code"], "decision": "allow"})
    assert answer.status_code == 403
    assert (await polled(api, device)).json()["error"] == "authorization_pending"


async def test_an_unverified_account_lets_no_other_client_in(api: httpx.AsyncClient, database: Database) -> None:
    tv = await client(database)
    device = await begun(api, client_id=tv.client_id)
    await registered(api)
    page = await log_in(api, await api.get(device["verification_uri_complete"]))
    answer = await send(api, page, DECISION, decision="allow")
    assert (answer.status_code, "is not verified" in answer.text) == (403, True)


# ----------------------------------------------------------------------------------------------------------- guesses


async def test_guesses_are_bounded(settings: Settings) -> None:
    # Under a key of its own, whose counts no other test shares.
    key = b64encode(secrets.token_bytes(32)).decode()
    async with serving(app.build(replace(settings, unlimited_networks="", master_key=key))) as api:
        pair = await registered(api)
        device = await begun(api)
        answers = [await decided(api, pair, "BCDF-GHJK", approve=True) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [404] * 5
        # The right one is not looked at any more either.
        answer = await decided(api, pair, device["user_code"], approve=True)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        assert int(answer.headers["retry-after"]) >= 1
        # Nor on the page, where the same account is the same guesser, whatever its address.
        page = await log_in(api, await api.get(device["verification_uri_complete"]))
        assert page.status_code == 429
        assert page.headers["content-type"].startswith("text/html")


def test_the_bound_is_what_the_page_says() -> None:
    """docs/protocols/identity.md, which shows the arithmetic."""
    guesses = {policy.by: policy for policy in FLOWS["user_code"]}
    everyone = guesses["everyone"]
    assert everyone.without_redis == guesses["account"].without_redis == "refuse"
    lifetime_s = device_grants.LIFETIME_MS / 1_000
    most = everyone.quota * (1 + lifetime_s / everyone.window_s)
    assert most / len(device_grants.ALPHABET) ** device_grants.LETTERS < 1e-6
