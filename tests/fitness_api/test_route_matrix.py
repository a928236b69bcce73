"""Every operation that there is, asked by whoever may not: a new one is held to this, or has to be named here with a reason."""

import json
import re
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import jwt
import msgspec
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app, resources
from fitness_api.identity import signing_keys
from fitness_api.identity.scopes import SERVICE_SCOPES, USER_SCOPES
from fitness_api.openapi import operation_id
from fitness_api.operation import Operation
from fitness_api.resources import Resources
from fitness_api.settings import Settings
from tests.fitness_api.client import Json, bearer, device_of, registered
from tests.fitness_api.identity.bad_tokens import es256, signed
from tests.fitness_api.serving import serving
from tests.fitness_api.test_routes_factors import with_passkey
from tests.fitness_api.test_routes_imports import chunk, imported
from tests.fitness_api.test_routes_sync import Account, change
from tests.fitness_api.test_routes_sync_review import conflicting, listed
from tests.fitness_api.workouts.recordings import RIDE_WITH_PAUSE, recorded

# What answers without an access token, and why it may.
PUBLIC = {
    "/v1/auth/register": "there is no account yet",
    "/v1/auth/login": "this is how one gets a token",
    "/v1/auth/mfa": "the mfa_token stands for the first factor",
    "/v1/auth/mfa/options": "the mfa_token stands for the first factor",
    "/v1/auth/passkeys/login": "this is how one gets a token",
    "/v1/auth/passkeys/login/options": "a challenge, of no account",
    "/v1/auth/nonce": "for an ID token, by which one gets a token",
    "/v1/auth/oidc/{provider}/login": "the login page",
    "/v1/auth/oidc/{provider}/callback": "the provider's answer stands for the login, in the browser that began it",
    "/v1/auth/email/verify": "the link's secret stands for the mailbox",
    "/v1/auth/email/verify/resend": "answers alike, and mails to an account's own address",
    "/v1/auth/password/forgot": "answers alike, and mails to an account's own address",
    "/v1/auth/password/reset": "the link's secret stands for the mailbox",
    "/account/verify": "a page; its form holds the link's secret",
    "/account/reset": "a page; its form holds the link's secret",
    "/account/forgot": "a page of password/forgot",
    "/v1/oauth/token": "the grant stands for the login",
    "/v1/oauth/revoke": "who has the token may end it",
    "/v1/oauth/introspect": "the client authenticates",
    "/v1/oauth/device_authorization": "a device asks before anybody is logged in on it",
    "/v1/oauth/authorize": "the page, whose login is a cookie; POST has a login",
    "/v1/oauth/consent": "a page's form: login by cookie",
    "/v1/oauth/device": "the page, whose login is a cookie; POST has a login",
    "/v1/oauth/device/decision": "a page's form: login by cookie",
    "/v1/oauth/login": "the login page",
    "/v1/oauth/login/passkey": "the login page",
    "/v1/oauth/second-factor": "the login page",
    "/v1/oauth/logout": "a page's form: login by cookie",
    "/.well-known/jwks.json": "published",
    "/.well-known/oauth-authorization-server": "published",
    "/.well-known/openid-configuration": "published",
    "/healthz": "a load balancer asks",
    "/readyz": "a load balancer asks",
    "/openapi.json": "published",
    "/asyncapi.json": "published",
    "/docs": "published",
    "/problems": "published",
    "/problems/{slug}": "published",
    "/pages/{file}": "style and scripts of the pages",
}

LOGGED_IN = [operation for operation in app.OPERATIONS if operation.login]

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# What an operation has to be told in its query.
QUERIES = {"GET /v1/workouts/{id}/export": {"format": "gpx"}}

Caller = tuple[httpx.AsyncClient, Resources]


@pytest.fixture
async def caller(settings: Settings) -> AsyncIterator[Caller]:
    opened: list[Resources] = []

    @asynccontextmanager
    async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
        async with resources.open_resources(settings) as made:
            opened.append(made)
            yield made

    async with serving(app.build(settings, open_resources)) as api:
        yield api, opened[0]


def path_of(operation: Operation, **parameters: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: parameters.get(name[1], str(uuid4())), operation.path)


async def ask(
    api: httpx.AsyncClient, operation: Operation, headers: dict[str, str], *, body: Any = None, **parameters: str
) -> httpx.Response:
    given = {} if body is None else {"json": body}
    query = QUERIES.get(key_of(operation))
    return await api.request(operation.method, path_of(operation, **parameters), headers=headers, params=query, **given)


def test_whatever_needs_no_token_is_named_here() -> None:
    assert {operation.path for operation in app.OPERATIONS if not operation.login} == set(PUBLIC)


def test_a_scope_is_one_that_there_is_and_what_has_none_is_named_here() -> None:
    assert {operation.scope for operation in LOGGED_IN} <= {None, *USER_SCOPES, *SERVICE_SCOPES}
    # Whoever has a token may end its session.
    assert [operation.path for operation in LOGGED_IN if operation.scope is None] == ["/v1/auth/logout"]


async def test_nobody_comes_in_without_a_token_that_holds(caller: Caller) -> None:
    api, opened = caller
    pair = await registered(api)
    ended = (await api.post("/v1/auth/login", json={"email": "ada@example.org", "password": "correct horse"})).json()
    await api.post("/v1/auth/logout", headers=bearer(ended))
    claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
    [stored] = [key for key in await opened["accounts"].signing_keys() if key.state == "current"]
    sealing_key = signing_keys.derive_key(b64decode(opened["settings"].master_key))
    key = signing_keys.unseal(stored, sealing_key)
    past = {**claims, "iat": int(time.time()) - 7200, "exp": int(time.time()) - 3600}
    expired = signed({"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, past, es256(key))
    callers: dict[str, dict[str, str]] = {
        "no token": {},
        "another scheme": {"Authorization": "Basic YTpi"},
        "garbage": {"Authorization": "Bearer garbage"},
        "a refresh token": {"Authorization": f"Bearer {pair['refresh_token']}"},
        "an expired token": {"Authorization": f"Bearer {expired}"},
        "an ended session": bearer(ended),
    }
    for operation in LOGGED_IN:
        for who, headers in callers.items():
            answer = await ask(api, operation, headers)
            said = (operation_id(operation), who)
            assert answer.status_code == 401, said
            assert answer.json()["code"] == "unauthenticated", said
            challenge = answer.headers["www-authenticate"]
            assert challenge.startswith("Bearer ") or "DPoP" in challenge, said
            assert ("error=" in challenge) == (who not in {"no token", "another scheme"}), said
    # And these callers are refused for what they are, not for what they ask.
    assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 200


async def test_a_token_allows_what_its_scopes_say_and_nothing_else(caller: Caller) -> None:
    api, opened = caller
    pair = await registered(api)
    user_id = (await api.get("/v1/me", headers=bearer(pair))).json()["user_id"]
    for scope in sorted({operation.scope for operation in LOGGED_IN if operation.scope is not None}):
        others = tuple(one for one in USER_SCOPES if one != scope)
        without = await opened["sessions"].begin(user_id, scopes=others, methods=("pwd",))
        with_it = await opened["sessions"].begin(
            user_id, scopes=(scope,) if scope in USER_SCOPES else USER_SCOPES, methods=("pwd",)
        )
        for operation in LOGGED_IN:
            if operation.scope != scope:
                continue
            answer = await ask(api, operation, {"Authorization": f"Bearer {without.access_token}"})
            assert answer.status_code == 403, (operation_id(operation), answer.text)
            assert answer.json()["code"] == "insufficient_scope"
            assert answer.json()["scope"] == scope
            assert f'scope="{scope}"' in answer.headers["www-authenticate"]
        reads = {"Authorization": f"Bearer {with_it.access_token}"}
        for operation in LOGGED_IN:
            if operation.scope == scope in USER_SCOPES and operation.method == "GET" and not operation.recent_login:
                answer = await ask(api, operation, reads)
                assert answer.status_code in {200, 404, 422}, operation_id(operation)


async def test_what_needs_a_recent_login_does_not_take_an_old_one(caller: Caller) -> None:
    api, opened = caller
    pair = await registered(api)
    user_id = (await api.get("/v1/me", headers=bearer(pair))).json()["user_id"]
    old = await opened["sessions"].begin(user_id, methods=("pwd",), authenticated_at_ms=(int(time.time()) - 301) * 1000)
    guarded = [operation for operation in LOGGED_IN if operation.recent_login]
    assert {"/v1/me", "/v1/me/export"} <= {operation.path for operation in guarded}
    for operation in guarded:
        answer = await ask(api, operation, {"Authorization": f"Bearer {old.access_token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "reauthentication_required"), operation.path


async def test_after_an_erasure_a_device_is_told_to_wipe_whatever_it_asks(caller: Caller) -> None:
    api, _ = caller
    pair = await registered(api)
    assert (await api.delete("/v1/me", headers=bearer(pair))).status_code == 204
    for operation in LOGGED_IN:
        answer = await ask(api, operation, bearer(pair))
        assert (answer.status_code, answer.json()["code"]) == (410, "account_deleted"), operation_id(operation)
        assert answer.json()["wipe"] is True


# --- what is another's

Thing = Callable[[httpx.AsyncClient, Json], Awaitable[dict[str, str]]]
"""Makes something of the account's, and returns the parameters of its path."""


async def session(api: httpx.AsyncClient, pair: Json) -> dict[str, str]:
    sessions = (await api.get("/v1/auth/sessions", headers=bearer(pair))).json()["sessions"]
    return {"id": sessions[0]["id"]}


async def passkey(api: httpx.AsyncClient, pair: Json) -> dict[str, str]:
    _, added = await with_passkey(api, pair)
    return {"id": added["passkey"]["id"]}


async def device(api: httpx.AsyncClient, pair: Json) -> dict[str, str]:
    return {"device_id": (await device_of(api, bearer(pair)))["device_id"]}


async def rejected(api: httpx.AsyncClient, pair: Json) -> dict[str, str]:
    device_id = (await device_of(api, bearer(pair)))["device_id"]
    sent = change(title="x") | {"collection": "horses"}
    await api.post("/v1/sync", json={"device_id": device_id, "changes": [sent]}, headers=bearer(pair))
    return {"id": sent["id"]}


async def conflict(api: httpx.AsyncClient, pair: Json) -> dict[str, str]:
    account = Account(api, bearer(pair), await device_of(api, bearer(pair)))
    await conflicting(account)
    return {"id": (await listed(account, "conflicts"))["conflicts"][0]["id"]}


async def file(api: httpx.AsyncClient, pair: Json) -> dict[str, str]:
    return {"id": (await imported(api, bearer(pair), recorded(RIDE_WITH_PAUSE))).json()["import_id"]}


async def workout(api: httpx.AsyncClient, pair: Json) -> dict[str, str]:
    return {"id": (await imported(api, bearer(pair), recorded(RIDE_WITH_PAUSE))).json()["workouts"][0]}


OWNED: dict[str, tuple[Thing, Any]] = {
    "GET /v1/auth/sessions/{id}": (session, None),
    "DELETE /v1/auth/sessions/{id}": (session, None),
    "PATCH /v1/auth/passkeys/{id}": (passkey, {"name": "Mine"}),
    "DELETE /v1/auth/passkeys/{id}": (passkey, None),
    "PATCH /v1/devices/{device_id}": (device, {"app_version": "6.6.6"}),
    "DELETE /v1/devices/{device_id}": (device, None),
    "POST /v1/sync/rejected/{id}/retry": (rejected, None),
    "POST /v1/sync/conflicts/{id}/restore": (conflict, None),
    "GET /v1/imports/{id}/file": (file, None),
    "POST /v1/imports/{id}/separate": (file, None),
    "GET /v1/workouts/{id}/tracks": (workout, None),
    "GET /v1/workouts/{id}": (workout, None),
    "PATCH /v1/workouts/{id}": (workout, {"title": "Mine"}),
    "DELETE /v1/workouts/{id}": (workout, None),
    "GET /v1/workouts/{id}/export": (workout, None),
    "GET /v1/workouts/{id}/chart.svg": (workout, None),
}

# Where the account has a passkey, only a login with it is recent enough.
ASKED_FIRST = {
    "PATCH /v1/auth/passkeys/{id}": "reauthentication_required",
    "DELETE /v1/auth/passkeys/{id}": "reauthentication_required",
}

# Parameters that name nothing of an account's, and why.
NOBODYS = {
    "DELETE /v1/auth/identities/{id}": "its own test, in test_routes_federation: it takes a provider to have one",
    "DELETE /v1/oauth/clients/{client_id}": "clients are the service's; the scope is admin",
    "PUT /v1/workouts/{id}/tracks/{stream}/{chunk}": "its own test: each account has all ids for itself",
}


def key_of(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_whatever_has_an_id_in_its_path_is_named_here() -> None:
    with_ids = {key_of(operation) for operation in LOGGED_IN if "{" in operation.path}
    assert with_ids == OWNED.keys() | NOBODYS.keys()


@pytest.mark.parametrize("name", OWNED)
async def test_what_is_another_s_is_not_there(api: httpx.AsyncClient, name: str) -> None:
    [operation] = [one for one in LOGGED_IN if key_of(one) == name]
    make, body = OWNED[name]
    ada, bob = await registered(api), await registered(api, "bob@example.org")
    parameters = await make(api, ada)
    refused = await ask(api, operation, bearer(bob), body=body, **parameters)
    unknown = await ask(api, operation, bearer(bob), body=body)
    assert refused.status_code == unknown.status_code == 404, refused.text
    # They differ by what the caller sent itself, if at all.
    said = [re.sub(UUID, "", json.dumps(answer.json())) for answer in (refused, unknown)]
    assert said[0] == said[1]
    # It is there: its owner gets it, or is asked to log in with it first.
    own = await ask(api, operation, bearer(ada), body=body, **parameters)
    assert own.status_code < 300 or own.json()["code"] in ASKED_FIRST.get(name, ()), own.text


async def test_chunks_under_another_s_workout_are_one_s_own(api: httpx.AsyncClient) -> None:
    ada, bob = await registered(api), await registered(api, "bob@example.org")
    mine = await workout(api, ada)
    before = (await api.get(f"/v1/workouts/{mine['id']}/tracks", headers=bearer(ada))).json()
    path = f"/v1/workouts/{mine['id']}/tracks/heart_rate/{uuid4()}"
    put = await api.put(path, json=chunk(60, 61), headers=bearer(bob))
    assert put.status_code < 300, put.text
    assert (await api.get(f"/v1/workouts/{mine['id']}/tracks", headers=bearer(ada))).json() == before
    theirs = (await api.get(f"/v1/workouts/{mine['id']}/tracks", headers=bearer(bob))).json()
    assert theirs["streams"].keys() == {"heart_rate"}


# Ids in bodies that name nothing of an account's, and why.
BODY_IDS = {
    ("POST /v1/devices", "installation_id"): "the installation's own; two accounts may have it one after the other",
    ("POST /v1/oauth/authorize", "client_id"): "clients are the service's",
}
OWNED_IN_BODIES = {("POST /v1/sync", "device_id")}


def test_whatever_has_an_id_in_its_body_is_named_here() -> None:
    found = {
        (key_of(operation), field.encode_name)
        for operation in LOGGED_IN
        if isinstance(operation.body, type) and issubclass(operation.body, msgspec.Struct)
        for field in msgspec.structs.fields(operation.body)
        if re.search(r"(^|_)id$", field.encode_name)
    }
    assert found == BODY_IDS.keys() | OWNED_IN_BODIES


async def test_another_s_device_is_an_unknown_one(
    api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada, bob = await registered(api), await registered(api, "bob@example.org")
    theirs = (await device(api, ada))["device_id"]
    before = await database["devices"].find({}).to_list()
    for device_id in (theirs, str(uuid4())):
        answer = await api.post("/v1/sync", json={"device_id": device_id}, headers=bearer(bob))
        assert (answer.status_code, answer.json()["code"]) == (409, "unknown_device")
    assert await database["devices"].find({}).to_list() == before


# --- what GET answers

# Without an entity tag, and why.
UNTAGGED = {
    "/v1/me/export": "made while it is sent, and never the same",
}


async def test_what_get_answers_is_not_sent_twice(api: httpx.AsyncClient) -> None:
    headers = bearer(await registered(api))
    asked = [operation for operation in app.OPERATIONS if operation.method == "GET" and "{" not in operation.path]
    found = set()
    for operation in asked:
        answer = await api.get(operation.path, headers=headers)
        if answer.status_code != 200 or operation.path in UNTAGGED or operation.tag == "Pages":
            continue
        tag = answer.headers.get("etag", "")
        assert re.fullmatch(r'(W/)?"[^"]+"', tag), operation.path
        again = await api.get(operation.path, headers={**headers, "If-None-Match": f'"other", {tag}'})
        # What changes by itself differs; nothing else may.
        assert again.status_code == 304 or operation.path in {"/healthz", "/readyz"}, operation.path
        assert again.status_code == 200 or again.content == b""
        found.add(operation.path)
    assert {"/v1/me", "/v1/devices", "/v1/auth/sessions", "/v1/sync/schema", "/openapi.json"} <= found
