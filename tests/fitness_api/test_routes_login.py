"""The login on our own pages."""

import json
import re
from html import unescape
from typing import Any
from urllib.parse import quote

import httpx
import jwt
from pymongo.asynchronous.database import AsyncDatabase

from tests.fitness_api.client import CREDENTIALS, bearer, registered
from tests.fitness_api.identity.factors.authenticator import Authenticator
from tests.fitness_api.oauth import answered, asking, client, redeeming
from tests.fitness_api.pages_client import form_of, log_in, send
from tests.fitness_api.test_routes_factors import code_of, with_app, with_passkey

Database = AsyncDatabase[dict[str, Any]]

LOGIN = "/v1/oauth/login"
NEXT = "/v1/oauth/device"


async def shown(api: httpx.AsyncClient) -> httpx.Response:
    return await api.get(LOGIN, params={"next": NEXT})


async def test_a_login_leads_back_to_where_it_was_asked_for(api: httpx.AsyncClient) -> None:
    await registered(api)
    page = await shown(api)
    assert page.headers["cache-control"] == "no-store"
    answer = await send(api, page, LOGIN, **CREDENTIALS)
    assert (answer.status_code, answer.headers["location"]) == (303, NEXT)
    cookie = next(text for text in answer.headers.get_list("set-cookie") if text.startswith("login="))
    parts = {part.strip() for part in cookie.split(";")}
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=600"} <= parts
    # Once logged in, the login page has nothing to ask.
    assert (await shown(api)).headers["location"] == NEXT


async def test_it_leads_nowhere_else(api: httpx.AsyncClient) -> None:
    await registered(api)
    form = {**form_of(await shown(api), LOGIN), **CREDENTIALS}
    for next_page in (
        "",
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "/v1/me",
        "/v1/oauth/device@evil.example",
        "/v1/oauth/device/../../evil",
        "/v1/oauth/device?x=\r\nSet-Cookie: a=b",
        "/v1/oauth/device?é",
        "javascript:alert(1)",
        "/v1/oauth/authorize?" + "x" * 5_000,
    ):
        for answer in (
            await api.get(f"{LOGIN}?next={quote(next_page)}"),
            await api.post(LOGIN, data={**form, "next": next_page}),
        ):
            assert (answer.status_code, "location" in answer.headers) == (400, False), next_page


async def test_a_wrong_password_is_told_beside_its_field(api: httpx.AsyncClient) -> None:
    await registered(api)
    page = await shown(api)
    answers = [
        await send(api, page, LOGIN, email=email, password="wrong horse")
        for email in ("ada@example.org", "bob@example.org", '"><script>', "x" * 5_000)
    ]
    assert {answer.status_code for answer in answers} == {403}
    for answer in answers:
        assert 'aria-describedby="password-error"' in answer.text
        assert "The address or the password is wrong." in answer.text
        assert "<script>" not in answer.text
    assert 'value="ada@example.org"' in answers[0].text
    assert "wrong horse" not in answers[0].text
    # Alike whether or not the address is known, but for what was typed.
    assert answers[0].text.replace("ada@", "bob@") == answers[1].text


async def test_a_login_is_not_forged(api: httpx.AsyncClient) -> None:
    await registered(api)
    answer = await api.post(LOGIN, data={**CREDENTIALS, "next": NEXT})
    assert answer.status_code == 403
    assert "login" not in answer.cookies
    form = {**form_of(await shown(api), LOGIN), **CREDENTIALS}
    answer = await api.post(LOGIN, data=form, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    answer = await api.post(LOGIN, json=form)
    assert answer.status_code == 415
    assert answer.headers["content-type"].startswith("text/html")


async def test_another_account_may_be_used(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    await registered(api, "bob@example.org")
    await registered(api)
    await database["accounts"].update_many({}, {"$set": {"email_verified": True}})
    page = await log_in(api, await api.get("/v1/oauth/authorize", params=asking(coach)))
    assert "ada@example.org" in page.text
    page = await send(api, page, "/v1/oauth/logout")
    assert await database["sessions"].count_documents({"client_id": "pages"}) == 0
    page = await log_in(api, page, email="bob@example.org")
    assert "bob@example.org" in page.text
    assert "ada@example.org" not in page.text


# ------------------------------------------------------------------------------------------------------ second factor

SECOND_FACTOR = "/v1/oauth/second-factor"


async def with_password(api: httpx.AsyncClient) -> httpx.Response:
    """Return the page that asks for the second factor."""
    answer = await send(api, await shown(api), LOGIN, **CREDENTIALS)
    assert answer.status_code == 303
    assert "login=" not in str(answer.headers.get_list("set-cookie"))
    page = await api.get(answer.headers["location"])
    assert "One more step" in page.text
    return page


async def test_a_second_factor_completes_the_login(api: httpx.AsyncClient) -> None:
    begun, codes = await with_app(api, await registered(api))
    page = await with_password(api)
    wrong = await send(api, page, SECOND_FACTOR, code="000 000")
    assert wrong.status_code == 403
    assert 'aria-describedby="code-hint code-error"' in wrong.text
    answer = await send(api, wrong, SECOND_FACTOR, code=f" {code_of(begun, steps=1)} ")
    assert (answer.status_code, answer.headers["location"]) == (303, NEXT)
    assert "Log a device in" in (await api.get(NEXT)).text
    # The login that waited is spent, and its cookie gone.
    assert "mfa" not in api.cookies
    api.cookies.clear()
    answer = await send(api, await with_password(api), SECOND_FACTOR, code=codes[0].upper())
    assert answer.headers["location"] == NEXT


async def test_the_password_alone_lets_nobody_in(api: httpx.AsyncClient) -> None:
    await with_app(api, await registered(api))
    page = await with_password(api)
    assert (await api.get(NEXT)).headers["location"].startswith("/v1/oauth/login?")
    # Its token is good for these pages only.
    token = api.cookies["mfa"]
    answer = await api.post("/v1/auth/mfa", json={"mfa_token": token, "totp": "000000"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_grant")
    for _ in range(4):
        assert (await send(api, page, SECOND_FACTOR, code="000000")).status_code == 403
    # The fifth miss ends it: begin again, with the password.
    answer = await send(api, page, SECOND_FACTOR, code="000000")
    assert answer.headers["location"].startswith("/v1/oauth/login?")
    answer = await api.get(SECOND_FACTOR, params={"next": NEXT})
    assert answer.headers["location"].startswith("/v1/oauth/login?")


async def test_a_tokens_methods_tell_of_both_factors(api: httpx.AsyncClient, database: Database) -> None:
    coach = await client(database)
    begun, _ = await with_app(api, await registered(api))
    await database["accounts"].update_many({}, {"$set": {"email_verified": True}})
    await send(api, await with_password(api), SECOND_FACTOR, code=code_of(begun, steps=1))
    page = await api.get("/v1/oauth/authorize", params=asking(coach))
    answer = await send(api, page, "/v1/oauth/consent", decision="allow")
    code = answered(answer.headers["location"])["code"]
    tokens = (await api.post("/v1/oauth/token", data=redeeming(coach, code))).json()
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert claims["amr"] == ["pwd", "otp", "mfa"]
    assert (await api.get("/v1/me", headers=bearer(tokens))).status_code == 200


# ------------------------------------------------------------------------------------------------------------- passkeys

PASSKEY_LOGIN = "/v1/oauth/login/passkey"


async def test_a_passkey_logs_in_by_itself(api: httpx.AsyncClient) -> None:
    phone, _ = await with_passkey(api, await registered(api))
    page = await shown(api)
    assert "/pages/passkeys.js?v=" in page.text
    for wrong in ("", "{}", "[" * 2_000, json.dumps(Authenticator().get({"challenge": "eA", "rpId": "api.test"}))):
        answer = await send(api, page, PASSKEY_LOGIN, passkey=wrong)
        assert answer.status_code == 403
        assert "That passkey is not known here" in answer.text
    options = (await api.post("/v1/auth/passkeys/login/options")).json()
    form = {**form_of(page, PASSKEY_LOGIN), "passkey": json.dumps(phone.get(options))}
    forged = await api.post(PASSKEY_LOGIN, data={**form, "form_token": "x"})
    assert (forged.status_code, "login" in forged.cookies) == (403, False)
    answer = await api.post(PASSKEY_LOGIN, data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, NEXT)
    assert "Log a device in" in (await api.get(NEXT)).text


async def test_a_passkey_is_a_second_factor(api: httpx.AsyncClient) -> None:
    phone, added = await with_passkey(api, await registered(api))
    page = await with_password(api)
    (asked,) = re.findall(r'data-passkey-options="([^"]+)"', page.text)
    options = json.loads(unescape(asked))
    assert [one["id"] for one in options["allowCredentials"]] == [added["passkey"]["credential_id"]]
    wrong = await send(api, page, SECOND_FACTOR, passkey="{}")
    assert wrong.status_code == 403
    assert "That passkey is not known here" in wrong.text
    answer = await send(api, page, SECOND_FACTOR, passkey=json.dumps(phone.get(options)))
    assert (answer.status_code, answer.headers["location"]) == (303, NEXT)
