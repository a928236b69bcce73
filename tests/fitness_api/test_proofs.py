"""Tokens that are bound to their client's key (RFC 9449), on two gateways."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from websockets.exceptions import InvalidStatus

from fitness_api import app
from fitness_api.settings import Settings
from tests.fitness_api.client import CREDENTIALS, Json, bearer, registered
from tests.fitness_api.gateway import gateway
from tests.fitness_api.identity.proofs import Key
from tests.fitness_api.serving import serving
from tests.fitness_api.test_routes_factors import with_app

ORIGIN = "http://api.test"  # the settings' public URL
TOKEN = "/v1/oauth/token"


@pytest.fixture
async def there(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app.build(settings)) as client:
        yield client


class Client:
    """An app that proves its key with each request, and keeps the nonce that it was given last."""

    def __init__(self, api: httpx.AsyncClient, key: Key) -> None:
        self.api = api
        self.key = key
        self.nonce: str | None = None
        self.pair: Json = {}

    def proof(self, method: str, path: str, **changes: Any) -> str:
        return self.key.proof(method, ORIGIN + path, at_s=int(time.time()), **{"nonce": self.nonce, **changes})

    async def login(self, path: str = "/v1/auth/login") -> httpx.Response:
        """Asked for a nonce, it comes again with it."""
        for _ in range(2):
            answer = await self.api.post(path, json=CREDENTIALS, headers={"DPoP": self.proof("POST", path)})
            self.nonce = answer.headers.get("DPoP-Nonce", self.nonce)
        self.pair = answer.json()
        return answer

    async def refresh(self, token: str | None = None, *, proof: str | None = None) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token or self.pair["refresh_token"]}
        headers = {"DPoP": proof or self.proof("POST", TOKEN)}
        return await self.api.post(TOKEN, data=form, headers=headers)

    def headers(self, method: str = "GET", path: str = "/v1/me", **changes: Any) -> dict[str, str]:
        token = self.pair["access_token"]
        proof = self.proof(method, path, **{"access_token": token, **changes})
        return {"Authorization": f"DPoP {token}", "DPoP": proof}


@pytest.fixture
async def client(api: httpx.AsyncClient) -> Client:
    client = Client(api, Key())
    assert (await client.login("/v1/auth/register")).status_code == 201
    return client


def refused(answer: httpx.Response, code: str, error: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert f'error="{error}"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("alg", ["ES256", "EdDSA"])
async def test_who_logs_in_with_a_proof_gets_tokens_that_are_of_use_with_the_key(
    api: httpx.AsyncClient, client: Client, alg: str
) -> None:
    client = Client(api, Key(alg))
    answer = await client.login()
    assert answer.status_code == 200
    assert client.pair["token_type"] == "DPoP"
    me = await api.get("/v1/me", headers=client.headers())
    assert me.status_code == 200
    assert me.headers["DPoP-Nonce"] == client.nonce
    listed = (await api.get("/v1/auth/sessions", headers=client.headers(path="/v1/auth/sessions"))).json()["sessions"]
    assert [session["key_bound"] for session in listed] == [True, True]


async def test_a_login_needs_a_nonce(api: httpx.AsyncClient, client: Client) -> None:
    client.nonce = None
    answer = await api.post(
        "/v1/auth/login", json=CREDENTIALS, headers={"DPoP": client.proof("POST", "/v1/auth/login")}
    )
    refused(answer, "use_dpop_nonce", "use_dpop_nonce")
    assert answer.headers["WWW-Authenticate"].startswith("DPoP ")
    assert answer.headers["DPoP-Nonce"]


async def test_a_bound_token_is_nothing_without_its_proof(api: httpx.AsyncClient, client: Client) -> None:
    refused(await api.get("/v1/me", headers=bearer(client.pair)), "unauthenticated", "invalid_token")
    with_proof = {**client.headers(), **bearer(client.pair)}
    refused(await api.get("/v1/me", headers=with_proof), "unauthenticated", "invalid_token")
    only_scheme = {"Authorization": client.headers()["Authorization"]}
    refused(await api.get("/v1/me", headers=only_scheme), "invalid_dpop_proof", "invalid_dpop_proof")


async def test_a_thief_s_key_is_of_no_use(api: httpx.AsyncClient, client: Client) -> None:
    thief = Client(api, Key())
    thief.pair, thief.nonce = client.pair, client.nonce
    refused(await api.get("/v1/me", headers=thief.headers()), "invalid_dpop_proof", "invalid_dpop_proof")
    swapped = await thief.refresh()
    assert (swapped.status_code, swapped.json()["error"]) == (400, "invalid_grant")
    without = await api.post(TOKEN, data={"grant_type": "refresh_token", "refresh_token": client.pair["refresh_token"]})
    assert (without.status_code, without.json()["error"]) == (400, "invalid_dpop_proof")
    # And the session goes on.
    answer = await client.refresh()
    assert (answer.status_code, answer.json()["token_type"]) == (200, "DPoP")


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": "another"},
        {"claims": {"htm": "POST"}},
        {"claims": {"htu": ORIGIN + "/v1/devices"}},
        {"claims": {"htu": "https://api.test/v1/me"}},
        {"claims": {"jti": None}},
        {"header": {"typ": "JWT"}},
        {"header": {"alg": "none"}},
    ],
)
async def test_a_proof_that_fits_another_request_is_refused(
    api: httpx.AsyncClient, client: Client, changes: Json
) -> None:
    answer = await api.get("/v1/me", headers=client.headers(**changes))
    refused(answer, "invalid_dpop_proof", "invalid_dpop_proof")
    assert answer.headers["WWW-Authenticate"].endswith('algs="ES256 EdDSA"')


async def test_two_proofs_are_refused(api: httpx.AsyncClient, client: Client) -> None:
    headers = [*client.headers().items(), ("DPoP", client.headers()["DPoP"])]
    refused(await api.get("/v1/me", headers=headers), "invalid_dpop_proof", "invalid_dpop_proof")


async def test_a_proof_serves_once_on_all_gateways(
    api: httpx.AsyncClient, there: httpx.AsyncClient, client: Client
) -> None:
    headers = client.headers()
    assert (await api.get("/v1/me", headers=headers)).status_code == 200
    refused(await there.get("/v1/me", headers=headers), "invalid_dpop_proof", "invalid_dpop_proof")
    proof = client.proof("POST", TOKEN)
    newer = (await client.refresh(proof=proof)).json()
    client.api = there
    again = await client.refresh(newer["refresh_token"], proof=proof)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_dpop_proof")


async def test_a_clock_that_is_wrong_is_put_right_by_the_nonce(api: httpx.AsyncClient, client: Client) -> None:
    wrong: Json = {"claims": {"iat": 1_000_000_000}}
    needed = await api.get("/v1/me", headers=client.headers(**wrong, nonce=None))
    refused(needed, "use_dpop_nonce", "use_dpop_nonce")
    answer = await api.get("/v1/me", headers=client.headers(**wrong, nonce=needed.headers["DPoP-Nonce"]))
    assert answer.status_code == 200


async def test_the_token_endpoint_asks_for_a_nonce_in_oauths_words(client: Client) -> None:
    client.nonce = None
    answer = await client.refresh()
    assert (answer.status_code, answer.json()["error"]) == (400, "use_dpop_nonce")
    client.nonce = answer.headers["DPoP-Nonce"]
    assert (await client.refresh()).status_code == 200


async def test_a_lost_answer_is_made_good_with_a_new_proof(
    api: httpx.AsyncClient, there: httpx.AsyncClient, client: Client
) -> None:
    first = (await client.refresh()).json()
    client.api = there
    again = (await client.refresh()).json()
    assert again["refresh_token"] == first["refresh_token"]


async def test_without_a_proof_tokens_are_bearers_and_the_scheme_is_not_dpop(
    api: httpx.AsyncClient, client: Client
) -> None:
    pair = await registered(api, "bob@example.org")
    assert pair["token_type"] == "Bearer"
    client.pair = pair
    refused(await api.get("/v1/me", headers=client.headers()), "unauthenticated", "invalid_token")
    assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 200


async def test_a_socket_is_opened_with_a_proof_and_goes_on_with_tokens_of_its_key(settings: Settings) -> None:
    async with gateway(app.build(settings)) as one, httpx.AsyncClient(base_url=one.url, trust_env=False) as api:
        client, other = Client(api, Key()), Client(api, Key())
        await client.login("/v1/auth/register")
        await other.login()
        path = "/v1/sync/live"
        with pytest.raises(InvalidStatus):
            async with one.connect(path, bearer(client.pair)):
                pass
        async with one.connect(path, client.headers(path=path)) as socket:
            for pair, wanted in ((client.pair, "token_accepted"), (other.pair, "error")):
                await socket.send(json.dumps({"type": "token", "access_token": pair["access_token"]}))
                while "changed" in (message := str(await socket.recv())):
                    pass
                assert wanted in message


async def test_without_redis_bound_tokens_wait_and_bearers_are_served(settings: Settings, client: Client) -> None:
    async with serving(app.build(replace(settings, redis_url="redis://127.0.0.1:9/0"))) as cut_off:
        answer = await cut_off.get("/v1/me", headers=client.headers())
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        pair = (await cut_off.post("/v1/auth/login", json=CREDENTIALS)).json()
        assert (await cut_off.get("/v1/me", headers=bearer(pair))).status_code == 200


async def test_the_metadata_says_what_may_sign(api: httpx.AsyncClient) -> None:
    described = (await api.get("/.well-known/oauth-authorization-server")).json()
    assert described["dpop_signing_alg_values_supported"] == ["ES256", "EdDSA"]


async def test_a_login_that_was_begun_with_a_key_is_completed_with_it(api: httpx.AsyncClient) -> None:
    _, codes = await with_app(api, await registered(api))
    client, thief = Client(api, Key()), Client(api, Key())
    token = (await client.login()).json()["mfa_token"]
    path = "/v1/auth/mfa"
    thief.nonce = client.nonce
    body = {"mfa_token": token, "recovery_code": codes[0]}
    for headers in ({}, {"DPoP": thief.proof("POST", path)}):
        answer = await api.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_grant")
    answer = await api.post(path, json=body, headers={"DPoP": client.proof("POST", path)})
    assert (answer.status_code, answer.json()["token_type"]) == (200, "DPoP")
    client.pair = answer.json()
    assert (await api.get("/v1/me", headers=client.headers())).status_code == 200
    refused(await api.get("/v1/me", headers=bearer(client.pair)), "unauthenticated", "invalid_token")
