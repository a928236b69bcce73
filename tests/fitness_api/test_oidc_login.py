"""Signing in through a browser, against a provider that others wrote (oidc-provider-mock) and one of ours that lies."""

import asyncio
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx
import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app
from fitness_api.settings import OidcProvider, Settings, SettingsInvalid
from tests.fitness_api.client import Json, bearer, registered
from tests.fitness_api.identity.federation.issuing import AUDIENCE, Issuing, claims_of, issuing, json, signed
from tests.fitness_api.oauth import CHALLENGE, VERIFIER
from tests.fitness_api.serving import serving

APP = "org.example.fitness:/done"
ASKED = {
    "client_id": "app",
    "redirect_uri": APP,
    "response_type": "code",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "state": "the app's own",
}
AUTHORIZE = f"/v1/oauth/authorize?{urlencode(ASKED)}"


@pytest.fixture(scope="session")
async def mock() -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    # A process of its own: it is made of threads, and of what Authlib is about to drop.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--host", "127.0.0.1", "--port", str(port)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as client:
            while process.returncode is None:
                try:
                    await client.get(f"{url}/.well-known/openid-configuration")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
            assert process.returncode is None, "oidc-provider-mock did not start"
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.fixture(scope="module")
async def liar() -> AsyncIterator[Issuing]:
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
def settings(settings: Settings, mock: str, liar: Issuing) -> Settings:
    known = (
        OidcProvider(name="mock", issuer=mock, client_id="us", client_secret="s", verifies_addresses=True),
        OidcProvider(name="liar", issuer=liar.url, client_id=AUDIENCE, verifies_addresses=True),
    )
    return replace(settings, oidc_providers=known, app_redirect_uris=APP)


async def user(mock: str, sub: str = "ada", **claims: Any) -> str:
    said = {"email": "ada@example.org", "email_verified": True, "name": "Ada", **claims}
    async with httpx.AsyncClient() as client:
        assert (await client.put(f"{mock}/users/{sub}", json=said)).status_code == 204
    return sub


async def begun(api: httpx.AsyncClient, provider: str = "mock", way_back: str = AUTHORIZE) -> str:
    answer = await api.get(f"/v1/auth/oidc/{provider}/login?{urlencode({'next': way_back})}")
    assert answer.status_code == 303, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.headers["location"]


async def at_the_provider(url: str, sub: str, **form: str) -> str:
    """What a person does there; the answer is where the browser is sent, on our side."""
    async with httpx.AsyncClient() as elsewhere:
        assert (await elsewhere.get(url)).status_code == 200
        answer = await elsewhere.post(url, data={"sub": sub, **form})
    assert answer.status_code == 302, answer.text
    location = answer.headers["location"]
    assert location.startswith("http://api.test/v1/auth/oidc/mock/callback?")
    return location.removeprefix("http://api.test")


def shown(answer: httpx.Response) -> str:
    found = re.search(r"<h1>(.*?)</h1>", answer.text)
    assert found is not None, answer.text
    return unescape(found[1])


def fields(page: str) -> dict[str, str]:
    return {name: unescape(value) for name, value in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page)}


async def test_an_app_comes_by_its_tokens_through_the_provider(api: httpx.AsyncClient, mock: str) -> None:
    sub = await user(mock)
    # The app opens its authorization request in the system's browser; nobody is logged in there.
    answer = await api.get(AUTHORIZE)
    login_page = await api.get(answer.headers["location"])
    (link,) = re.findall(r'href="([^"]*oidc/mock[^"]*)"', login_page.text)
    answer = await api.get(unescape(link))
    there = answer.headers["location"]
    asked = parse_qs(urlsplit(there).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == ["http://api.test/v1/auth/oidc/mock/callback"]
    assert len(asked["nonce"][0]) == len(asked["state"][0]) == 43
    answer = await api.get(await at_the_provider(there, sub))
    assert (answer.status_code, answer.headers["location"]) == (303, AUTHORIZE)
    assert "access_token" not in answer.headers["location"]
    # Back on our page, now logged in: the user allows, and the app gets its code.
    consent = await api.get(AUTHORIZE)
    assert consent.status_code == 200, consent.text
    answer = await api.post("/v1/oauth/consent", data={**fields(consent.text), "decision": "allow"})
    assert answer.status_code == 303
    redirect = answer.headers["location"]
    assert redirect.startswith(f"{APP}?")
    given = parse_qs(urlsplit(redirect).query)
    assert given["state"] == ["the app's own"]
    form = {
        "grant_type": "authorization_code",
        "code": given["code"][0],
        "redirect_uri": APP,
        "code_verifier": VERIFIER,
    }
    pair = (await api.post("/v1/oauth/token", data=form)).json()
    me = (await api.get("/v1/me", headers=bearer(pair))).json()
    assert (me["email"], me["email_verified"], me["display_name"]) == ("ada@example.org", True, "Ada")


async def test_two_sign_ins_in_one_browser_do_not_meet(api: httpx.AsyncClient, mock: str) -> None:
    sub = await user(mock)
    first, second = await begun(api), await begun(api)
    for there in (second, first):
        assert (await api.get(await at_the_provider(there, sub))).headers["location"] == AUTHORIZE


async def test_an_answer_counts_once_and_in_its_own_browser(
    api: httpx.AsyncClient, settings: Settings, mock: str
) -> None:
    back = await at_the_provider(await begun(api), await user(mock))
    async with serving(app.build(settings)) as another_browser:
        answer = await another_browser.get(back)
        assert (answer.status_code, shown(answer)) == (422, "The ID token does not hold")
        await begun(another_browser)  # one with a cookie, of another sign-in
        assert (await another_browser.get(back)).status_code == 422
    answers = await asyncio.gather(*(api.get(back) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [303] + [422] * 9


async def test_who_turns_back_is_back_at_the_login(api: httpx.AsyncClient, mock: str) -> None:
    answer = await api.get(await at_the_provider(await begun(api), await user(mock), action="deny"))
    # What the provider says on the way back lacks the state, so that this browser cannot be told from any other.
    assert answer.status_code in {303, 422}
    there = await begun(api)
    state = parse_qs(urlsplit(there).query)["state"][0]
    answer = await api.get(f"/v1/auth/oidc/mock/callback?error=access_denied&state={quote(state)}")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        f"/v1/oauth/login?{urlencode({'next': AUTHORIZE})}",
    )


@pytest.mark.parametrize(
    "query",
    ["", "state=", "state=x&code=y", "code=y", "error=access_denied", "state=%00&code=%ff", "state=" + "x" * 5000],
)
async def test_an_answer_to_nothing_is_refused(api: httpx.AsyncClient, query: str) -> None:
    answer = await api.get(f"/v1/auth/oidc/mock/callback?{query}")
    assert (answer.status_code, shown(answer)) == (422, "The ID token does not hold")


@pytest.mark.parametrize("name", ["nobody", "google", "%00"])
async def test_a_provider_that_is_not_ours_is_not_found(api: httpx.AsyncClient, name: str) -> None:
    for path in (f"/v1/auth/oidc/{name}/login?{urlencode({'next': AUTHORIZE})}", f"/v1/auth/oidc/{name}/callback"):
        assert (await api.get(path)).status_code == 404


@pytest.mark.parametrize("way_back", ["", "https://evil.test/", "//evil.test", "/v1/me", "/v1/oauth/authorize\r\nX: y"])
async def test_nobody_is_led_away(api: httpx.AsyncClient, way_back: str) -> None:
    answer = await api.get(f"/v1/auth/oidc/mock/login?{urlencode({'next': way_back})}")
    assert answer.status_code == 400, answer.text
    assert "location" not in answer.headers


async def test_a_second_factor_is_asked_for_on_our_pages(
    api: httpx.AsyncClient, mock: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    sub = await user(mock)
    await api.get(await at_the_provider(await begun(api), sub))
    account = await database["accounts"].find_one({"email": "ada@example.org"})
    assert account is not None
    row = {"_id": account["_id"], "user_id": account["_id"], "version": 1}
    await database["second_factors"].insert_one({**row, "totp": {"sealed": b"s", "since_ms": 1, "last_step": 0}})
    api.cookies.clear()
    answer = await api.get(await at_the_provider(await begun(api), sub))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/v1/oauth/second-factor?")
    assert (await api.get(AUTHORIZE)).status_code == 303  # not logged in


async def test_an_identity_that_has_to_be_linked_first_is_told_so(
    api: httpx.AsyncClient, mock: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await registered(api)
    await database["accounts"].update_one({}, {"$set": {"email_verified": True}})
    answer = await api.get(await at_the_provider(await begun(api), await user(mock)))
    assert (answer.status_code, shown(answer)) == (409, "The identity has to be linked first")
    await user(mock, "bob", email="bob@example.org", email_verified=False)
    assert (await api.get(await at_the_provider(await begun(api), "bob"))).status_code == 409


# ------------------------------------------------------------------------------------------------------ one that lies


async def at_the_liar(api: httpx.AsyncClient, liar: Issuing, *, more: str = "", **changes: Any) -> httpx.Response:
    asked = {name: values[0] for name, values in parse_qs(urlsplit(await begun(api, "liar")).query).items()}
    said = claims_of(liar.url, now_s=int(time.time()), **{"nonce": asked["nonce"], **changes})
    liar.answers["/token"] = json({"access_token": "a", "token_type": "Bearer", "id_token": signed(said)})
    return await api.get(f"/v1/auth/oidc/liar/callback?code=c&state={asked['state']}{more}")


async def test_honest_it_is_believed(api: httpx.AsyncClient, liar: Issuing) -> None:
    liar.forms.clear()
    assert (await at_the_liar(api, liar, more=f"&iss={quote(liar.url)}")).status_code == 303
    ((form, _),) = liar.forms
    assert form["client_id"] == AUDIENCE
    assert len(form["code_verifier"]) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": ""},
        {"aud": "another app"},
        {"exp": 1_000_000_000},
        {"iat": 4_000_000_000},
        {"iss": "https://accounts.google.com"},
        {"more": "&iss=https%3A%2F%2Faccounts.google.com"},
    ],
)
async def test_what_it_lies_about_is_refused(api: httpx.AsyncClient, liar: Issuing, changes: Json) -> None:
    answer = await at_the_liar(api, liar, **changes)
    assert (answer.status_code, shown(answer)) == (422, "The ID token does not hold")
    assert "login" not in api.cookies


async def test_a_native_nonce_is_none_here(api: httpx.AsyncClient, liar: Issuing) -> None:
    drawn = (await api.post("/v1/auth/nonce")).json()["nonce"]
    assert (await at_the_liar(api, liar, nonce=drawn)).status_code == 422


async def test_a_state_is_its_providers(api: httpx.AsyncClient, mock: str, liar: Issuing) -> None:
    """Mix-up (RFC 9700 section 4.4): an answer of one at the address of another."""
    back = await at_the_provider(await begun(api), await user(mock))
    answer = await api.get(back.replace("/mock/", "/liar/"))
    assert answer.status_code == 422
    assert (await api.get(back)).status_code == 303


async def test_one_that_does_not_answer_is_503(api: httpx.AsyncClient, liar: Issuing) -> None:
    there = await begun(api, "liar")
    state = parse_qs(urlsplit(there).query)["state"][0]
    liar.answers["/token"] = json({}, status=500)
    answer = await api.get(f"/v1/auth/oidc/liar/callback?code=c&state={state}")
    assert (answer.status_code, shown(answer)) == (503, "The identity provider does not answer")


async def test_an_answer_by_form_is_taken_and_tells_a_name(api: httpx.AsyncClient, liar: Issuing) -> None:
    """As Apple sends it, with the name this once; from its page, so that the form has no token of ours."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(await begun(api, "liar")).query).items()}
    said = claims_of(liar.url, now_s=int(time.time()), nonce=asked["nonce"], email_verified="true")
    liar.answers["/token"] = json({"access_token": "a", "token_type": "Bearer", "id_token": signed(said)})
    told = '{"name": {"firstName": "Ada", "lastName": "Lovelace"}, "email": "evil@example.org"}'
    form = {"code": "c", "state": asked["state"], "user": told}
    headers = {"Origin": liar.url, "Sec-Fetch-Site": "cross-site"}
    answer = await api.post("/v1/auth/oidc/liar/callback", data=form, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, AUTHORIZE)
    me = (await api.get("/v1/me", headers={"Authorization": f"Bearer {api.cookies['login']}"})).json()
    assert me.get("display_name", "Ada Lovelace") == "Ada Lovelace"


async def test_providers_that_cannot_be_are_said_before_anything_is_opened(settings: Settings) -> None:
    twice = replace(settings, oidc_providers=settings.oidc_providers * 2)
    with pytest.raises(SettingsInvalid, match="FITNESS_OIDC_PROVIDERS: Two providers"):
        app.build(twice)


async def test_the_cookie_is_fit_for_how_the_answer_comes(settings: Settings, liar: Issuing) -> None:
    over_https = replace(settings, public_url="https://api.test")
    async with serving(app.build(over_https)) as api:
        answer = await api.get(f"/v1/auth/oidc/liar/login?{urlencode({'next': AUTHORIZE})}")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-oidc=")
    for part in ("HttpOnly", "Secure", "Path=/", "SameSite=lax", "Max-Age=600"):
        assert part in cookie
    assert "Domain" not in cookie
