"""Nonces, the token exchange and identities over HTTP, against an issuer over real HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import httpx
import jwt
import msgspec
import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.settings import OidcProvider, Settings
from tests.fitness_api.client import CREDENTIALS, Json, bearer, device_of, registered
from tests.fitness_api.identity.federation.issuing import AUDIENCE, Issuing, claims_of, issuing, json, signed
from tests.fitness_api.oauth import verified

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"


@pytest.fixture(scope="module")
async def google() -> AsyncIterator[Issuing]:
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
def settings(settings: Settings, google: Issuing) -> Settings:
    known = OidcProvider(
        name="google",
        issuer=google.url,
        client_id=AUDIENCE,
        audiences={"ios": "ios-client"},
        verifies_addresses=True,
        authoritative_domains=("gmail.com",),
    )
    return replace(settings, oidc_providers=(known,))


async def nonce(api: httpx.AsyncClient) -> str:
    answer = await api.post("/v1/auth/nonce")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json().keys() == {"nonce", "expires_in"}
    assert answer.json()["expires_in"] == 300
    drawn: str = answer.json()["nonce"]
    return drawn


async def token(api: httpx.AsyncClient, google: Issuing, **changes: Any) -> str:
    said = claims_of(google.url, now_s=int(time.time()), **{"nonce": await nonce(api), **changes})
    return signed(said)


async def exchange(api: httpx.AsyncClient, id_token: str, **changes: str) -> httpx.Response:
    form = {"grant_type": EXCHANGE, "subject_token": id_token, "subject_token_type": ID_TOKEN, **changes}
    answer = await api.post("/v1/oauth/token", data={name: value for name, value in form.items() if value})
    assert answer.headers["cache-control"] == "no-store"
    return answer


async def signed_in(api: httpx.AsyncClient, google: Issuing, **changes: Any) -> Json:
    answer = await exchange(api, await token(api, google, **changes))
    assert answer.status_code == 200, answer.text
    pair: Json = answer.json()
    return pair


async def test_an_id_token_gives_our_pair(api: httpx.AsyncClient, google: Issuing) -> None:
    pair = await signed_in(api, google, name="Ada")
    assert pair.keys() == {
        "access_token", "token_type", "expires_in", "refresh_token", "scope", "issued_token_type",
    }  # fmt: skip
    assert pair["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    me = (await api.get("/v1/me", headers=bearer(pair))).json()
    assert (me["email"], me["email_verified"], me["display_name"]) == ("ada@example.org", True, "Ada")
    assert jwt.decode(pair["access_token"], options={"verify_signature": False})["amr"] == ["fed"]
    refreshed = await api.post(
        "/v1/oauth/token", data={"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    )
    assert refreshed.status_code == 200


async def test_of_fifty_exchanges_of_one_token_one_succeeds(api: httpx.AsyncClient, google: Issuing) -> None:
    drawn = await nonce(api)
    presented = await token(api, google, nonce=sha256(drawn.encode()).hexdigest(), aud="ios-client")
    answers = await asyncio.gather(*(exchange(api, presented) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 49
    refused = next(answer.json() for answer in answers if answer.status_code == 400)
    assert refused.keys() == {"error", "error_description"}
    assert refused["error"] == "invalid_request"


@pytest.mark.parametrize(
    "changes",
    [
        {"subject_token": ""},
        {"subject_token": "x"},
        {"subject_token_type": ""},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"requested_token_type": ID_TOKEN},
        {"actor_token": "x"},
    ],
)
async def test_an_exchange_that_cannot_be(api: httpx.AsyncClient, google: Issuing, changes: dict[str, str]) -> None:
    answer = await exchange(api, await token(api, google), **changes)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://accounts.google.com"},
        {"aud": "another app"},
        {"nonce": None},
        {"nonce": "made up"},
        {"exp": 1_000_000_000},
        {"iat": 4_000_000_000},
    ],
)
async def test_hostile_id_tokens(api: httpx.AsyncClient, google: Issuing, changes: Json) -> None:
    answer = await exchange(api, await token(api, google, **changes))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_another_client_does_not_exchange(api: httpx.AsyncClient, google: Issuing) -> None:
    answer = await exchange(api, await token(api, google), client_id="another")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_an_issuer_that_is_down_is_503(
    api: httpx.AsyncClient, google: Issuing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google, "answers", {"/jwks": json({}, status=500)})
    answer = await exchange(api, await token(api, google))
    assert (answer.status_code, answer.json()["code"]) == (503, "issuer_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_second_factor_is_asked_for_in_oauths_form(
    api: httpx.AsyncClient, google: Issuing, database: AsyncDatabase[dict[str, Any]]
) -> None:
    pair = await signed_in(api, google)
    # As it is stored once an app was confirmed: only that it is there matters here.
    user_id = jwt.decode(pair["access_token"], options={"verify_signature": False})["sub"]
    factor = {"sealed": b"s", "since_ms": 1, "last_step": 0}
    row = {"_id": user_id, "user_id": user_id, "totp": factor, "version": 1}
    await database["second_factors"].insert_one(row)
    answer = await exchange(api, await token(api, google))
    assert answer.status_code == 401
    body = answer.json()
    assert body.keys() == {"error", "error_description", "mfa_token", "ways"}
    assert (body["error"], "totp" in body["ways"]) == ("mfa_required", True)
    assert "www-authenticate" not in answer.headers


async def test_a_takeover_ends_all_that_was_there_and_the_data_stays(
    api: httpx.AsyncClient, google: Issuing, database: AsyncDatabase[dict[str, Any]]
) -> None:
    """Pre-hijacking over HTTP: the attacker registers first, with a device, and keeps a session."""
    attacker = await registered(api)
    headers = bearer(attacker)
    await api.patch("/v1/me", json={"sex": "other"}, headers=headers)
    await device_of(api, headers)
    victim = await signed_in(api, google)
    assert (await api.get("/v1/me", headers=headers)).status_code == 401
    assert (await api.post("/v1/auth/login", json=CREDENTIALS)).json()["code"] == "invalid_credentials"
    form = {"grant_type": "refresh_token", "refresh_token": attacker["refresh_token"]}
    assert (await api.post("/v1/oauth/token", data=form)).json()["error"] == "invalid_grant"
    me = (await api.get("/v1/me", headers=bearer(victim))).json()
    assert (me["email_verified"], me["sex"]) == (True, "other")
    assert (await api.get("/v1/devices", headers=bearer(victim))).json()["devices"] == []
    assert await database["accounts"].count_documents({}) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/auth/passkeys", {"credential": {}}),
        ("/v1/auth/totp/confirm", {"code": "000000"}),
        ("/v1/auth/password/change", {"current": CREDENTIALS["password"], "new": "a wholly other horse"}),
        ("/v1/auth/email/change", {"email": "attacker@example.org"}),
        ("/v1/auth/identities", {"id_token": "x"}),
    ],
)
async def test_a_request_whose_body_is_kept_back_outlives_no_takeover(
    api: httpx.AsyncClient, google: Issuing, database: AsyncDatabase[dict[str, Any]], path: str, body: Json
) -> None:
    """The attacker's session held when the request came, and the rest of it comes when the account is the victim's."""
    attacker = await registered(api)
    begun, taken = asyncio.Event(), asyncio.Event()

    async def kept_back() -> AsyncIterator[bytes]:
        yield b" "
        begun.set()
        await taken.wait()
        yield msgspec.json.encode(body)

    headers = {**bearer(attacker), "Content-Type": "application/json"}
    asking = asyncio.create_task(api.post(path, content=kept_back(), headers=headers))
    async with asyncio.timeout(20):
        await begun.wait()
    victim = await signed_in(api, google)
    row = await database["accounts"].find_one({})
    taken.set()
    answer = await asking
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), answer.text
    assert await database["accounts"].find_one({}) == row
    assert (await api.get("/v1/me", headers=bearer(victim))).status_code == 200


async def test_a_password_that_is_being_changed_meets_a_takeover(
    api: httpx.AsyncClient, google: Issuing, database: AsyncDatabase[dict[str, Any]]
) -> None:
    """While the attacker's new password is hashed, the account becomes the victim's."""
    for _ in range(3):
        await database["accounts"].delete_many({})
        for name in ("emails", "identities"):
            await database[name].delete_many({})
        attacker = await registered(api)
        body = {"current": CREDENTIALS["password"], "new": "a wholly other horse"}
        changing = asyncio.create_task(api.post("/v1/auth/password/change", json=body, headers=bearer(attacker)))
        await signed_in(api, google)
        await changing
        row = await database["accounts"].find_one({})
        assert row is not None
        assert (row["email_verified"], row["password_hash"]) == (True, None)


async def test_a_verified_account_is_joined_by_whoever_runs_the_mailbox_only(
    api: httpx.AsyncClient, google: Issuing, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada = await verified(api, database)
    answer = await exchange(api, await token(api, google))
    assert (answer.status_code, answer.json()["error"]) == (409, "link_required")
    assert (await api.get("/v1/me", headers=bearer(ada))).status_code == 200
    await verified(api, database, "ada@gmail.com")
    await signed_in(api, google, email="ada@gmail.com", sub="2")
    assert await database["accounts"].count_documents({}) == 2


async def test_identities_are_linked_listed_and_removed(
    api: httpx.AsyncClient, google: Issuing, database: AsyncDatabase[dict[str, Any]]
) -> None:
    headers = bearer(await verified(api, database))
    body = {"id_token": await token(api, google)}
    answer = await api.post("/v1/auth/identities", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    linked = answer.json()
    assert linked.keys() == {"id", "issuer", "subject", "email", "linked_at"}
    assert (linked["issuer"], linked["subject"]) == (google.url, "subject-1")
    again = await api.post("/v1/auth/identities", json={"id_token": await token(api, google)}, headers=headers)
    assert (again.status_code, again.json()) == (200, linked)
    replayed = await api.post("/v1/auth/identities", json=body, headers=headers)
    assert (replayed.status_code, replayed.json()["code"]) == (422, "invalid_id_token")
    listed = await api.get("/v1/auth/identities", headers=headers)
    assert listed.json() == {"identities": [linked]}
    bob = bearer(await verified(api, database, "bob@example.org"))
    taken = await api.post("/v1/auth/identities", json={"id_token": await token(api, google)}, headers=bob)
    assert (taken.status_code, taken.json()["code"]) == (409, "identity_taken")
    assert (await api.delete(f"/v1/auth/identities/{linked['id']}", headers=bob)).status_code == 404
    assert (await api.delete(f"/v1/auth/identities/{linked['id']}", headers=headers)).status_code == 204
    assert (await api.get("/v1/auth/identities", headers=headers)).json() == {"identities": []}


async def test_the_last_way_in_stays(api: httpx.AsyncClient, google: Issuing) -> None:
    headers = bearer(await signed_in(api, google))
    (only,) = (await api.get("/v1/auth/identities", headers=headers)).json()["identities"]
    answer = await api.delete(f"/v1/auth/identities/{only['id']}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "last_way_in")


async def test_an_account_that_may_be_anybodys_links_nothing(api: httpx.AsyncClient, google: Issuing) -> None:
    headers = bearer(await registered(api))
    answer = await api.post("/v1/auth/identities", json={"id_token": await token(api, google)}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "email_unverified")


async def test_linking_needs_a_recent_login(
    api: httpx.AsyncClient, google: Issuing, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = bearer(await signed_in(api, google))
    monkeypatch.setattr("fitness_api.identity.sessions.RECENT_LOGIN_S", 0)
    body = {"id_token": await token(api, google, sub="2")}
    for answer in (
        await api.post("/v1/auth/identities", json=body, headers=headers),
        await api.delete("/v1/auth/identities/00000000-0000-0000-0000-000000000000", headers=headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "reauthentication_required")


async def test_an_identity_of_an_erased_account_begins_anew(
    api: httpx.AsyncClient, google: Issuing, database: AsyncDatabase[dict[str, Any]]
) -> None:
    first = bearer(await signed_in(api, google))
    before = (await api.get("/v1/me", headers=first)).json()
    assert (await api.delete("/v1/me", headers=first)).status_code == 204
    assert await database["identities"].count_documents({}) == 0
    after = (await api.get("/v1/me", headers=bearer(await signed_in(api, google)))).json()
    assert after["user_id"] != before["user_id"]
