"""The grants of the token endpoint, introspection, revocation and metadata."""

import asyncio
import time
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app
from fitness_api.identity.authorization import clients
from fitness_api.identity.scopes import USER_SCOPES
from fitness_api.resources import open_resources
from fitness_api.settings import Settings, SettingsInvalid
from tests.fitness_api.client import Json, bearer, registered
from tests.fitness_api.identity.proofs import Key
from tests.fitness_api.oauth import (
    CHALLENGE,
    ISSUER,
    REDIRECT,
    SECRET,
    VERIFIER,
    administrator,
    answered,
    asking,
    basic,
    client,
    code_of,
    redeeming,
    verified,
)
from tests.fitness_api.pages_client import log_in, send
from tests.fitness_api.serving import serving

Database = AsyncDatabase[dict[str, Any]]


async def token(api: httpx.AsyncClient, form: dict[str, str], headers: dict[str, str] | None = None) -> httpx.Response:
    answer = await api.post("/v1/oauth/token", data=form, headers=headers)
    assert answer.headers["cache-control"] == "no-store"
    return answer


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json().keys() == {"error", "error_description"}
    return answer.status_code, answer.json()["error"]


# ------------------------------------------------------------------------------------------------- authorization_code


async def test_a_code_gives_a_pair_that_allows_what_was_allowed(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    pair = await verified(api, database)
    code = await code_of(api, pair, coach, scope="workouts:read account")
    answer = await token(api, redeeming(coach, code))
    assert answer.status_code == 200
    theirs = answer.json()
    assert theirs.keys() == pair.keys()
    assert theirs["scope"] == "workouts:read account"
    assert (await api.get("/v1/me", headers=bearer(theirs))).status_code == 200
    claims = jwt.decode(theirs["access_token"], options={"verify_signature": False})
    own = jwt.decode(pair["access_token"], options={"verify_signature": False})
    assert claims["client_id"] == coach.client_id
    # The login is as old as it is, and was as it was.
    assert (claims["sub"], claims["auth_time"], claims["amr"]) == (own["sub"], own["auth_time"], own["amr"])
    form = {"grant_type": "refresh_token", "refresh_token": theirs["refresh_token"], "client_id": coach.client_id}
    following = await token(api, form)
    assert following.json()["scope"] == "workouts:read account"
    assert refused(await token(api, {**form, "client_id": "app"})) == (400, "invalid_grant")


async def test_a_user_sees_whom_he_let_in_and_puts_them_out(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    ada = await verified(api, database)
    theirs = (await token(api, redeeming(coach, await code_of(api, ada, coach)))).json()
    listed = (await api.get("/v1/auth/sessions", headers=bearer(ada))).json()["sessions"]
    by_name = {one["client_name"]: one["id"] for one in listed}
    assert by_name.keys() == {"Coach", "Fitness"}
    path = f"/v1/auth/sessions/{by_name['Coach']}"
    assert (await api.get(path, headers=bearer(ada))).json()["client_name"] == "Coach"
    assert (await api.delete(path, headers=bearer(ada))).status_code == 204
    assert (await api.get("/v1/me", headers=bearer(theirs))).status_code == 401


async def test_our_own_app_logs_in_by_the_pages_too(settings: Settings) -> None:
    redirect_uri = "com.example.fitness:/done"
    async with serving(app.build(replace(settings, app_redirect_uris=f"http://127.0.0.1/x {redirect_uri}"))) as api:
        await registered(api)  # and not verified: it lets nobody else in
        asked = {
            "client_id": "app",
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        page = await log_in(api, await api.get("/v1/oauth/authorize", params=asked))
        assert "form-action 'self' com.example.fitness:;" in page.headers["content-security-policy"]
        assert "the app com.example.fitness" in page.text
        answer = await send(api, page, "/v1/oauth/consent", decision="allow")
        code = answered(answer.headers["location"], redirect_uri)["code"]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": VERIFIER,
        }
        pair = (await token(api, form)).json()
        assert set(pair["scope"].split()) == set(USER_SCOPES)
        assert (await api.get("/v1/auth/sessions", headers=bearer(pair))).status_code == 200
        # It is our own: it may decide for others, as far as the account may.
        answer = await api.post("/v1/oauth/device", json={"user_code": "BCDF-GHJK"}, headers=bearer(pair))
        assert answer.status_code == 404


async def test_a_place_that_may_not_be_answered_is_no_setting(settings: Settings) -> None:
    with pytest.raises(SettingsInvalid, match=r"^FITNESS_APP_REDIRECT_URIS: http://app\.example/done: Without TLS"):
        async with open_resources(replace(settings, app_redirect_uris="http://app.example/done")):
            pass


async def test_fifty_parallel_redemptions_give_one_pair(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    code = await code_of(api, await verified(api, database), coach)
    answers = await asyncio.gather(*(token(api, redeeming(coach, code)) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 49
    assert {answer.json()["error"] for answer in answers if answer.status_code == 400} == {"invalid_grant"}
    # They were 49 too many: somebody else has the code, and what it gave is over. Nothing else was begun.
    pair = next(answer.json() for answer in answers if answer.status_code == 200)
    assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 401
    assert await database["sessions"].count_documents({"client_id": coach.client_id}) == 0


async def test_a_code_that_is_presented_again_ends_what_it_gave(api: httpx.AsyncClient, database: Database) -> None:
    coach, other = await client(database), await client(database)
    ada = await verified(api, database)
    code = await code_of(api, ada, coach)
    pair = (await token(api, redeeming(coach, code))).json()
    # Not by another client, which may have seen it in a log and is to end nothing.
    assert refused(await token(api, redeeming(other, code))) == (400, "invalid_grant")
    assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 200
    assert refused(await token(api, redeeming(coach, code, code_verifier="w" * 43))) == (400, "invalid_grant")
    assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], "client_id": coach.client_id}
    assert refused(await token(api, form)) == (400, "invalid_grant")
    assert (await api.get("/v1/me", headers=bearer(ada))).status_code == 200
    assert await database["audit"].count_documents({"kind": "code_replayed"}) == 1


async def test_what_does_not_belong_to_the_code_is_refused(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    ada = await verified(api, database)
    wrongs: tuple[tuple[dict[str, str | None], str], ...] = (
        ({"code": None}, "invalid_request"),
        ({"code": "x"}, "invalid_grant"),
        ({"code": "x" * 5_000}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": REDIRECT + "/"}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": "v" * 42}, "invalid_grant"),
        ({"code_verifier": VERIFIER + "é"}, "invalid_grant"),
    )
    for changes, error in wrongs:
        code = await code_of(api, ada, coach)
        assert refused(await token(api, redeeming(coach, code, **changes))) == (400, error), changes
        again = await token(api, redeeming(coach, code))
        # A wrong verifier is somebody else's try; whatever else is wrong costs nothing.
        spoiled = "code_verifier" in changes and changes["code_verifier"] is not None
        assert again.status_code == (400 if spoiled else 200), changes


async def test_a_code_ends_with_the_login_that_gave_it(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    pair = await verified(api, database)
    code = await code_of(api, pair, coach)
    await api.post("/v1/auth/logout", headers=bearer(pair))
    assert refused(await token(api, redeeming(coach, code))) == (400, "invalid_grant")


async def test_a_client_that_may_not_refresh_gets_no_refresh_token(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database, grant_types=(clients.AUTHORIZATION_CODE,))
    code = await code_of(api, await verified(api, database), coach)
    answer = (await token(api, redeeming(coach, code))).json()
    assert answer.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (await api.get("/v1/me", headers=bearer(answer))).status_code == 200


async def test_a_confidential_client_proves_itself(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database, confidential=True)
    pair = await verified(api, database)
    code = await code_of(api, pair, coach)
    form = redeeming(coach, code)
    wrong = basic(coach, "wrong")
    assert refused(await token(api, form)) == (401, "invalid_client")
    assert refused(await token(api, {**form, "client_secret": "wrong"})) == (401, "invalid_client")
    assert refused(await token(api, form, wrong)) == (401, "invalid_client")
    assert refused(await token(api, {**form, "client_secret": SECRET}, basic(coach))) == (400, "invalid_request")
    assert refused(await token(api, {**form, "client_id": str(uuid4())}, basic(coach))) == (400, "invalid_request")
    assert (await token(api, form, basic(coach))).status_code == 200
    code = await code_of(api, pair, coach)
    assert (await token(api, {**redeeming(coach, code), "client_secret": SECRET})).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic",
        "Basic x",
        "Basic é".encode("latin-1").decode("latin-1"),
        "Basic eA==",
        "Bearer x",
        "Basic " + "x" * 2000,
    ],
)
async def test_a_header_that_is_not_basic_is_no_client(api: httpx.AsyncClient, authorization: str) -> None:
    answer = await api.post(
        "/v1/oauth/token",
        data={"grant_type": "refresh_token", "refresh_token": "x"},
        headers={b"Authorization": authorization.encode("latin-1")},
    )
    assert refused(answer) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_a_public_client_has_no_secret_to_show(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    assert refused(await token(api, form, basic(coach))) == (401, "invalid_client")
    assert refused(await token(api, {**form, "client_id": "app", "client_secret": ""})) == (401, "invalid_client")


# ------------------------------------------------------------------------------------------------- client_credentials


async def test_a_service_acts_for_itself(api: httpx.AsyncClient, database: Database) -> None:
    service = await client(
        database,
        confidential=True,
        grant_types=(clients.CLIENT_CREDENTIALS,),
        scopes=("analytics:read", "admin"),
        redirect_uris=(),
    )
    form = {"grant_type": "client_credentials"}
    answer = await token(api, {**form, "scope": "analytics:read"}, basic(service))
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert answer.json()["scope"] == "analytics:read"
    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert claims["sub"] == claims["client_id"] == service.client_id
    for path in ("/v1/me", "/v1/oauth/clients"):
        assert (await api.get(path, headers=bearer(answer.json()))).json()["code"] == "insufficient_scope"
    everything = (await token(api, form, basic(service))).json()
    assert everything["scope"] == "analytics:read admin"
    assert (await api.get("/v1/oauth/clients", headers=bearer(everything))).status_code == 200
    await api.post("/v1/oauth/revoke", data={"token": everything["access_token"]}, headers=basic(service))
    assert (await api.get("/v1/oauth/clients", headers=bearer(everything))).status_code == 401


async def test_nobody_acts_for_itself_with_what_belongs_to_users(api: httpx.AsyncClient, database: Database) -> None:
    form = {"grant_type": "client_credentials"}
    assert refused(await token(api, form)) == (400, "unauthorized_client")  # our own app
    grants = (clients.CLIENT_CREDENTIALS, clients.AUTHORIZATION_CODE)
    both = await client(database, confidential=True, grant_types=grants, scopes=("sync", "analytics:read"))
    assert (await token(api, form, basic(both))).json()["scope"] == "analytics:read"
    assert refused(await token(api, {**form, "scope": "sync"}, basic(both))) == (400, "invalid_scope")
    assert refused(await token(api, {**form, "scope": "admin"}, basic(both))) == (400, "invalid_scope")
    without = await client(database, confidential=True, grant_types=grants, scopes=("sync",))
    assert refused(await token(api, form, basic(without))) == (400, "invalid_scope")


# ------------------------------------------------------------------------------------- revocation and introspection


async def test_a_client_asks_about_its_own_tokens_only(api: httpx.AsyncClient, database: Database) -> None:
    coach, other = await client(database, confidential=True), await client(database, confidential=True)
    public = await client(database)
    ada = await verified(api, database)
    form = redeeming(coach, await code_of(api, ada, coach, scope="sync"))
    pair = (await token(api, form, basic(coach))).json()

    async def asked(which: str, headers: dict[str, str], **more: str) -> Json:
        answer = await api.post("/v1/oauth/introspect", data={"token": which, **more}, headers=headers)
        described: Json = answer.json()
        return described

    for which in (pair["access_token"], pair["refresh_token"]):
        described = await asked(which, basic(coach))
        assert described["active"]
        assert (described["scope"], described["client_id"], described["iss"]) == ("sync", coach.client_id, ISSUER)
        assert await asked(which, basic(other)) == {"active": False}
    for which in (ada["access_token"], ada["refresh_token"], "x", "x" * 20_000, pair["access_token"][:-2]):
        assert await asked(which, basic(coach)) == {"active": False}
    assert (await asked(pair["access_token"], {}, client_id=public.client_id))["error"] == "invalid_client"
    assert (await asked(pair["access_token"], {}))["error"] == "invalid_client"
    assert (await asked("", basic(coach)))["error"] == "invalid_request"
    following = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    await token(api, following, basic(coach))
    assert await asked(pair["refresh_token"], basic(coach)) == {"active": False}  # it was rotated
    assert (
        await api.post("/v1/oauth/revoke", data={"token": pair["access_token"]}, headers=basic(coach))
    ).status_code == 200
    assert await asked(pair["access_token"], basic(coach)) == {"active": False}


async def test_another_client_revokes_nothing(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    ada = await registered(api)
    answer = await api.post("/v1/oauth/revoke", data={"token": ada["access_token"], "client_id": coach.client_id})
    assert answer.status_code == 200
    assert (await api.get("/v1/me", headers=bearer(ada))).status_code == 200


async def test_a_client_that_was_removed_is_nobody(api: httpx.AsyncClient, database: Database) -> None:
    coach, other = await client(database), await client(database)
    ada = await verified(api, database)
    pair, kept = [(await token(api, redeeming(one, await code_of(api, ada, one)))).json() for one in (coach, other)]
    late = await code_of(api, ada, coach)
    headers = await administrator(api, database)
    assert (await api.delete(f"/v1/oauth/clients/{coach.client_id}", headers=headers)).status_code == 204
    assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], "client_id": coach.client_id}
    assert refused(await token(api, form)) == (401, "invalid_client")
    assert refused(await token(api, redeeming(coach, late))) == (401, "invalid_client")
    for mine in (ada, kept):
        assert (await api.get("/v1/me", headers=bearer(mine))).status_code == 200
    asked = {**asking(coach), "approve": True}
    assert (await api.post("/v1/oauth/authorize", json=asked, headers=bearer(ada))).json()["code"] == (
        "authorization_request_invalid"
    )


async def test_what_is_refused_is_not_sent_back_at_length(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], "scope": "x" * 20_000}
    answer = await token(api, form)
    assert refused(answer) == (400, "invalid_scope")
    assert len(answer.content) < 1_000


# --------------------------------------------------------------------------------------------------------------- DPoP


async def test_what_a_code_gives_may_be_bound_to_a_key(api: httpx.AsyncClient, database: Database) -> None:
    coach, key = await client(database, confidential=True), Key()
    code = await code_of(api, await verified(api, database), coach)

    def proof(nonce: str | None = None) -> dict[str, str]:
        return {"DPoP": key.proof("POST", f"{ISSUER}/v1/oauth/token", at_s=int(time.time()), nonce=nonce)}

    asked = await token(api, redeeming(coach, code), {**basic(coach), **proof()})
    assert refused(asked) == (400, "use_dpop_nonce")
    # The code is not spent by that.
    nonce = asked.headers["DPoP-Nonce"]
    pair = (await token(api, redeeming(coach, code), {**basic(coach), **proof(nonce)})).json()
    assert pair["token_type"] == "DPoP"
    described = await api.post("/v1/oauth/introspect", data={"token": pair["access_token"]}, headers=basic(coach))
    assert (described.json()["token_type"], described.json()["cnf"]) == ("DPoP", {"jkt": key.thumbprint})
    assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    assert refused(await token(api, form, basic(coach))) == (400, "invalid_dpop_proof")
    assert (await token(api, form, {**basic(coach), **proof(nonce)})).status_code == 200


# ----------------------------------------------------------------------------------------------------------- metadata


async def test_only_what_is_served_is_described(api: httpx.AsyncClient) -> None:
    described = (await api.get("/.well-known/oauth-authorization-server")).json()
    assert (await api.get("/.well-known/openid-configuration")).json() == described
    served = {operation.path for operation in app.OPERATIONS}
    urls = {value for name, value in described.items() if name.endswith(("_endpoint", "_uri", "_documentation"))}
    assert {url.removeprefix(ISSUER) for url in urls} <= served
    for grant in described["grant_types_supported"]:
        answer = await api.post("/v1/oauth/token", data={"grant_type": grant})
        assert answer.json()["error"] in {"invalid_request", "unauthorized_client"}
    assert described["code_challenge_methods_supported"] == ["S256"]
    assert described["authorization_response_iss_parameter_supported"] is True
