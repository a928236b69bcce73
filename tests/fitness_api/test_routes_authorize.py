"""The authorization endpoint, by its pages and by our own app."""

from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.browser_logins import SCOPES_IN_WORDS
from fitness_api.identity.authorization import clients
from fitness_api.identity.scopes import USER_SCOPES
from tests.fitness_api.client import Json, bearer, registered
from tests.fitness_api.oauth import (
    CHALLENGE,
    ISSUER,
    REDIRECT,
    administrator,
    answered,
    asking,
    client,
    redeeming,
    verified,
)
from tests.fitness_api.pages_client import form_of, log_in, send

Database = AsyncDatabase[dict[str, Any]]

CONSENT = "/v1/oauth/consent"


async def opened(api: httpx.AsyncClient, parameters: dict[str, str]) -> httpx.Response:
    return await api.get("/v1/oauth/authorize", params=parameters)


def test_every_scope_that_a_user_may_give_is_in_words() -> None:
    assert SCOPES_IN_WORDS.keys() == set(USER_SCOPES)


async def test_a_user_logs_in_allows_and_the_client_gets_a_code(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database, name="Coach <b>")
    await verified(api, database)
    page = await log_in(api, await opened(api, asking(coach, scope="workouts:read")))
    assert page.status_code == 200
    assert "Allow Coach &lt;b&gt; to use your account?" in page.text
    assert SCOPES_IN_WORDS["workouts:read"] in page.text
    assert SCOPES_IN_WORDS["sync"] not in page.text
    assert "ada@example.org" in page.text
    assert "coach.example" in page.text
    assert "form-action 'self' https://coach.example;" in page.headers["content-security-policy"]
    answer = await send(api, page, CONSENT, decision="allow")
    assert answer.status_code == 303
    given = answered(answer.headers["location"])
    assert (given["state"], given["iss"]) == ("st&te=1", ISSUER)
    tokens = await api.post("/v1/oauth/token", data=redeeming(coach, given["code"]))
    assert tokens.json()["scope"] == "workouts:read"
    # Who is logged in is asked all the same.
    assert (await opened(api, asking(coach))).status_code == 200


async def test_what_is_not_allowed_is_told_to_the_client(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    await verified(api, database)
    page = await log_in(api, await opened(api, asking(coach)))
    for decision in ("deny", "", "Allow"):
        answer = await send(api, page, CONSENT, decision=decision)
        given = answered(answer.headers["location"])
        assert (given["error"], given["state"], given["iss"]) == ("access_denied", "st&te=1", ISSUER)


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": str(uuid4())},
        {"client_id": "x" * 2_100},
        {"redirect_uri": None},
        {"redirect_uri": REDIRECT + "/"},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": "javascript:alert(1)"},
        {"scope": "<script>" * 300},
    ],
)
async def test_where_nobody_vouches_for_the_place_a_page_says_so(
    api: httpx.AsyncClient, database: Database, changes: dict[str, str | None]
) -> None:
    coach = await client(database)
    shows_so(await opened(api, asking(coach, **changes)))


async def test_what_can_be_read_in_two_ways_is_not_read(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    for answer in (
        await api.get(f"/v1/oauth/authorize?{urlencode(asking(coach))}&client_id={coach.client_id}"),
        await api.get(f"/v1/oauth/authorize?{urlencode(asking(coach))}&redirect_uri={quote(REDIRECT)}"),
        await api.get("/v1/oauth/authorize?" + "&".join(f"a{n}=b" for n in range(40))),
        await api.get("/v1/oauth/authorize?client_id=%ff"),
        await api.get("/v1/oauth/authorize"),
    ):
        shows_so(answer)


def shows_so(answer: httpx.Response) -> None:
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert "location" not in answer.headers
    assert "<script" not in answer.text


async def test_the_clients_own_mistakes_are_sent_to_it_before_anybody_logs_in(
    api: httpx.AsyncClient, database: Database
) -> None:
    coach = await client(database)
    mistakes: tuple[tuple[dict[str, str | None], str], ...] = (
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": "live:watch"}, "invalid_scope"),
    )
    for changes, error in mistakes:
        answer = await opened(api, asking(coach, **changes))
        assert answer.status_code == 303
        given = answered(answer.headers["location"])
        assert (given["error"], given["state"], given["iss"]) == (error, "st&te=1", ISSUER)
        assert "code" not in given


async def test_a_parameter_that_comes_twice_is_a_mistake(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    query = urlencode([*asking(coach, scope="sync").items(), ("scope", "workouts:read")])
    answer = await api.get(f"/v1/oauth/authorize?{query}")
    assert answered(answer.headers["location"])["error"] == "invalid_request"


async def test_an_unverified_account_lets_no_client_in(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    pair = await registered(api)
    page = await log_in(api, await opened(api, asking(coach)))
    assert page.status_code == 403
    assert "is not verified" in page.text
    body = {**asking(coach), "approve": True}
    answer = await api.post("/v1/oauth/authorize", json=body, headers=bearer(pair))
    assert (answer.status_code, answer.json()["code"]) == (403, "email_unverified")
    denied = await api.post("/v1/oauth/authorize", json={**body, "approve": False}, headers=bearer(pair))
    assert answered(denied.json()["redirect_to"])["error"] == "access_denied"


async def test_consent_needs_the_page_that_was_shown(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    await verified(api, database)
    page = await log_in(api, await opened(api, asking(coach)))
    form = {**form_of(page, CONSENT), "decision": "allow"}
    for forged in ({**form, "form_token": ""}, {**form, "form_token": "x"}):
        answer = await api.post(CONSENT, data=forged)
        assert (answer.status_code, "location" in answer.headers) == (403, False)
    answer = await api.post(CONSENT, data=form, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    # The request is checked again, whatever the page carried.
    evil = urlencode(asking(coach, redirect_uri="https://evil.example/"))
    answer = await api.post(CONSENT, data={**form, "request": evil})
    assert (answer.status_code, "location" in answer.headers) == (400, False)
    api.cookies.clear()
    assert (await api.post(CONSENT, data=form)).status_code == 403


async def test_a_login_that_has_ended_is_asked_for_again(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    pair = await verified(api, database)
    page = await log_in(api, await opened(api, asking(coach)))
    sessions = (await api.get("/v1/auth/sessions", headers=bearer(pair))).json()["sessions"]
    [on_pages] = [one["id"] for one in sessions if one["client_id"] == "pages"]
    await api.delete(f"/v1/auth/sessions/{on_pages}", headers=bearer(pair))
    answer = await send(api, page, CONSENT, decision="allow")
    assert answer.headers["location"].startswith("/v1/oauth/login?")
    assert (await opened(api, asking(coach))).headers["location"].startswith("/v1/oauth/login?")


async def test_a_login_on_the_pages_is_good_for_nothing_else(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    await verified(api, database)
    await log_in(api, await opened(api, asking(coach)))
    [token] = [cookie.value for cookie in api.cookies.jar if cookie.name == "login"]
    headers = {"Authorization": f"Bearer {token}"}
    for method, path in (("GET", "/v1/me"), ("POST", "/v1/oauth/authorize"), ("POST", "/v1/oauth/device")):
        answer = await api.request(method, path, headers=headers, json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    # Nor is an app's token good for the pages.
    pair = (await api.post("/v1/auth/login", json={"email": "ada@example.org", "password": "correct horse"})).json()
    api.cookies.clear()
    answer = await api.get(
        "/v1/oauth/authorize", params=asking(coach), headers={"Cookie": f"login={pair['access_token']}"}
    )
    assert answer.headers["location"].startswith("/v1/oauth/login?")


# ---------------------------------------------------------------------------------------------------- in our own app


async def decided(api: httpx.AsyncClient, headers: dict[str, str], body: Json) -> httpx.Response:
    return await api.post("/v1/oauth/authorize", json=body, headers=headers)


async def test_our_own_app_asks_and_decides(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    headers = bearer(await verified(api, database))
    asked = (await decided(api, headers, asking(coach, scope="sync"))).json()
    assert asked == {
        "asked": {
            "client_id": coach.client_id,
            "client_name": "Coach",
            "scopes": [{"scope": "sync", "description": SCOPES_IN_WORDS["sync"]}],
        }
    }
    answer = await decided(api, headers, {**asking(coach), "approve": True})
    assert answer.headers["cache-control"] == "no-store"
    given = answered(answer.json()["redirect_to"])
    assert given.keys() == {"code", "state", "iss"}
    answer = await decided(api, headers, {**asking(coach, scope="admin"), "approve": True})
    assert answered(answer.json()["redirect_to"])["error"] == "invalid_scope"
    answer = await decided(api, headers, {**asking(coach, redirect_uri="https://evil.example/"), "approve": True})
    assert (answer.status_code, answer.json()["code"]) == (400, "authorization_request_invalid")


async def test_no_other_app_decides(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    pair = await verified(api, database)
    given = answered((await decided(api, bearer(pair), {**asking(coach), "approve": True})).json()["redirect_to"])
    theirs = (await api.post("/v1/oauth/token", data=redeeming(coach, given["code"]))).json()
    assert "account" in theirs["scope"]
    answer = await decided(api, bearer(theirs), {**asking(coach), "approve": True})
    assert (answer.status_code, answer.json()["code"]) == (403, "first_party_only")


async def test_nobody_gives_what_he_has_not(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    pair = await verified(api, database)
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], "scope": "account sync"}
    narrow = (await api.post("/v1/oauth/token", data=form)).json()
    answer = await decided(api, bearer(narrow), {**asking(coach, scope="workouts:read"), "approve": True})
    assert (answer.status_code, answer.json()["scope"]) == (403, "workouts:read")
    assert (await decided(api, bearer(narrow), {**asking(coach, scope="sync"), "approve": True})).status_code == 200


async def test_an_administrator_gives_no_client_what_is_not_a_users(api: httpx.AsyncClient, database: Database) -> None:
    admin = await administrator(api, database)
    grants = (clients.AUTHORIZATION_CODE, clients.CLIENT_CREDENTIALS)
    greedy = await client(database, confidential=True, grant_types=grants, scopes=("sync", "admin"))
    answer = await decided(api, admin, asking(greedy, scope="admin"))
    assert answered(answer.json()["redirect_to"])["error"] == "invalid_scope"
    answer = await decided(api, admin, asking(greedy))
    assert [one["scope"] for one in answer.json()["asked"]["scopes"]] == ["sync"]


async def test_a_body_is_bounded(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    headers = bearer(await verified(api, database))
    for wrong in ({"state": "x" * 3_000}, {"client_id": 7}, {"approve": "yes"}, {"code_challenge": CHALLENGE * 60}):
        assert (await decided(api, headers, {**asking(coach), **wrong})).status_code == 422
