import asyncio
from uuid import uuid4

import httpx
import jwt
import msgspec
import pytest

from tests.fitness_api.client import CREDENTIALS, Json, bearer, registered

PUBLIC_URL = "http://api.test"


def refreshing(pair: Json, **more: str) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], **more}


async def test_registering_gives_the_token_pair(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/auth/register", json={**CREDENTIALS, "display_name": "Ada"})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    pair = answer.json()
    assert pair.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 600)
    assert (await api.get("/v1/me", headers=bearer(pair))).json()["display_name"] == "Ada"


async def test_it_speaks_msgpack_too(api: httpx.AsyncClient) -> None:
    answer = await api.post(
        "/v1/auth/register",
        content=msgspec.msgpack.encode(CREDENTIALS),
        headers={"Content-Type": "application/msgpack", "Accept": "application/msgpack"},
    )
    assert answer.status_code == 201
    assert msgspec.msgpack.decode(answer.content)["token_type"] == "Bearer"


async def test_a_known_address_is_email_taken(api: httpx.AsyncClient) -> None:
    await registered(api)
    answer = await api.post("/v1/auth/register", json={**CREDENTIALS, "email": "ADA@example.org"})
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"email": "nobody"}, "/email"),
        ({"email": 7}, "/email"),
        ({"password": "short"}, "/password"),
        ({"password": "x" * 100_000}, None),
        ({"password": "x" * 2000}, "/password"),
        ({"display_name": "\x00"}, "/display_name"),
        ({"email": None}, "/email"),
    ],
)
async def test_a_bad_registration_is_named(api: httpx.AsyncClient, wrong: Json, pointer: str | None) -> None:
    answer = await api.post("/v1/auth/register", json={**CREDENTIALS, **wrong})
    if pointer is None:
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_logging_in_answers_alike_whether_or_not_the_address_is_known(api: httpx.AsyncClient) -> None:
    await registered(api)
    assert (await api.post("/v1/auth/login", json=CREDENTIALS)).status_code == 200
    answers = [
        await api.post("/v1/auth/login", json={"email": email, "password": "wrong horse"})
        for email in ("ada@example.org", "bob@example.org", "not an address")
    ]
    assert [answer.status_code for answer in answers] == [401] * 3
    bodies = [{name: value for name, value in answer.json().items() if name != "request_id"} for answer in answers]
    assert bodies[0]["code"] == "invalid_credentials"
    assert bodies[0] == bodies[1] == bodies[2]
    headers = [sorted(name for name in answer.headers if name != "x-request-id") for answer in answers]
    assert headers[0] == headers[1] == headers[2]


async def test_more_logins_than_can_be_checked_are_turned_away_with_retry_after(api: httpx.AsyncClient) -> None:
    await registered(api)
    body = {**CREDENTIALS, "password": "wrong horse"}
    answers = await asyncio.gather(*(api.post("/v1/auth/login", json=body) for _ in range(40)))
    codes = [answer.json()["code"] for answer in answers]
    assert set(codes) == {"invalid_credentials", "too_many_requests"}
    refused = answers[codes.index("too_many_requests")]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


async def test_logging_out_ends_the_tokens_at_once_in_this_process(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 200
    assert (await api.post("/v1/auth/logout", headers=bearer(pair))).status_code == 204
    answer = await api.get("/v1/me", headers=bearer(pair))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert (await api.post("/v1/oauth/token", data=refreshing(pair))).json()["error"] == "invalid_grant"
    assert (await api.post("/v1/auth/logout", headers=bearer(pair))).status_code == 401


async def test_without_a_token_the_challenge_has_no_error(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/auth/logout")
    assert answer.status_code == 401
    assert "error" not in answer.headers["www-authenticate"]


async def test_sessions_are_listed_and_ended_by_their_owner_only(api: httpx.AsyncClient) -> None:
    ada = await registered(api)
    second = (await api.post("/v1/auth/login", json=CREDENTIALS, headers={"User-Agent": "Pixel"})).json()
    bob = await registered(api, "bob@example.org")
    listed = (await api.get("/v1/auth/sessions", headers=bearer(ada))).json()["sessions"]
    assert [(one["current"], one["user_agent"] == "Pixel") for one in listed] == [(False, True), (True, False)]
    assert listed[0]["created_at"].endswith("Z")
    assert len(listed[0]["created_at"]) == len("2026-01-01T00:00:00.000Z")
    for other in (f"/v1/auth/sessions/{listed[0]['id']}", f"/v1/auth/sessions/{uuid4()}", "/v1/auth/sessions/x"):
        answer = await api.delete(other, headers=bearer(bob))
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await api.get("/v1/me", headers=bearer(second))).status_code == 200
    ended = await api.delete(f"/v1/auth/sessions/{listed[0]['id']}", headers=bearer(ada))
    assert ended.status_code == 204
    assert (await api.get("/v1/me", headers=bearer(second))).status_code == 401
    assert (await api.get("/v1/me", headers=bearer(ada))).status_code == 200


# --------------------------------------------------------------------------------------------------------------- OAuth


async def test_a_session_is_read_by_its_owner_only_and_all_are_ended_at_once(api: httpx.AsyncClient) -> None:
    pair, other = await registered(api), await registered(api, "bob@example.org")
    await api.post("/v1/auth/login", json=CREDENTIALS)
    listed = (await api.get("/v1/auth/sessions", headers=bearer(pair))).json()["sessions"]
    assert len(listed) == 2
    for session in listed:
        path = f"/v1/auth/sessions/{session['id']}"
        assert (await api.get(path, headers=bearer(pair))).json() == session
        assert session["methods"] == ["pwd"]
        assert (await api.get(path, headers=bearer(other))).status_code == 404
    assert (await api.delete("/v1/auth/sessions", headers=bearer(pair))).status_code == 204
    assert (await api.get("/v1/auth/sessions", headers=bearer(pair))).status_code == 401
    assert (await api.get("/v1/auth/sessions", headers=bearer(other))).status_code == 200
    refreshed = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    assert (await api.post("/v1/oauth/token", data=refreshed)).status_code == 400


async def test_refreshing_as_rfc_6749_has_it(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    answer = await api.post("/v1/oauth/token", data=refreshing(pair))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    following = answer.json()
    assert following.keys() == pair.keys()
    assert following["refresh_token"] != pair["refresh_token"]
    again = (await api.post("/v1/oauth/token", data=refreshing(pair, client_id="app"))).json()
    assert again["refresh_token"] == following["refresh_token"]
    narrow = (await api.post("/v1/oauth/token", data=refreshing(following, scope="sync"))).json()
    assert narrow["scope"] == "sync"
    refused = await api.get("/v1/me", headers=bearer(narrow))
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")


async def test_twenty_parallel_refreshes_end_in_one_token(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    answers = await asyncio.gather(*(api.post("/v1/oauth/token", data=refreshing(pair)) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_a_replay_ends_the_family(api: httpx.AsyncClient) -> None:
    first = await registered(api)
    second = (await api.post("/v1/oauth/token", data=refreshing(first))).json()
    third = (await api.post("/v1/oauth/token", data=refreshing(second))).json()
    assert (await api.get("/v1/me", headers=bearer(third))).status_code == 200
    for pair in (first, second, third):
        answer = await api.post("/v1/oauth/token", data=refreshing(pair))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert (await api.get("/v1/me", headers=bearer(third))).status_code == 401


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": ""}, 400, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "a", "password": "b"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": ""}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x", "client_id": "y"}, 401, "invalid_client"),
        ({"grant_type": "refresh_token", "refresh_token": "x", "client_secret": "y"}, 401, "invalid_client"),
        ({"grant_type": ["refresh_token", "refresh_token"], "refresh_token": "x"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x\x00é\U0001f4aa"}, 400, "invalid_grant"),
    ],
)
async def test_the_token_endpoint_refuses_in_oauths_own_words(
    api: httpx.AsyncClient, form: Json, status: int, error: str
) -> None:
    answer = await api.post("/v1/oauth/token", data=form, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json().keys() == {"error", "error_description"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_a_scope_that_was_not_granted_is_invalid_and_uses_nothing_up(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    answer = await api.post("/v1/oauth/token", data=refreshing(pair, scope="sync admin"))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    session = (await api.get("/v1/auth/sessions", headers=bearer(pair))).json()["sessions"][0]
    assert session["last_used_at"] == session["created_at"]


async def test_the_token_endpoint_takes_forms_only(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/oauth/token", json={"grant_type": "refresh_token"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("which", ["refresh_token", "access_token"])
async def test_revoking_either_token_ends_the_session(api: httpx.AsyncClient, which: str) -> None:
    pair = await registered(api)
    for _ in range(2):
        answer = await api.post("/v1/oauth/revoke", data={"token": pair[which], "token_type_hint": which})
        assert (answer.status_code, answer.content) == (200, b"")
    assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 401


async def test_revoking_what_is_no_token_is_done_and_without_one_is_refused(api: httpx.AsyncClient) -> None:
    assert (await api.post("/v1/oauth/revoke", data={"token": "x"})).status_code == 200
    for form, status, error in (
        ({"x": "y"}, 400, "invalid_request"),
        ({"token": "x", "client_id": "y"}, 401, "invalid_client"),
    ):
        answer = await api.post("/v1/oauth/revoke", data=form)
        assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_anybody_can_verify_a_token_by_what_is_published(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    described = (await api.get("/.well-known/oauth-authorization-server")).json()
    assert described["issuer"] == PUBLIC_URL
    answer = await api.get(described["jwks_uri"])
    assert answer.headers["cache-control"] == "public, max-age=300"
    keys = jwt.PyJWKSet.from_dict(answer.json())
    key = keys[jwt.get_unverified_header(pair["access_token"])["kid"]]
    claims = jwt.decode(
        pair["access_token"], key, algorithms=["ES256"], audience=PUBLIC_URL, issuer=described["issuer"]
    )
    assert claims["client_id"] == "app"
    assert "d" not in answer.json()["keys"][0]
    unchanged = await api.get(described["jwks_uri"], headers={"If-None-Match": answer.headers["etag"]})
    assert unchanged.status_code == 304
