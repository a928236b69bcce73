"""A person with an authenticator app, recovery codes and a passkey, in a real browser."""

import time
from base64 import b32decode

import httpx
import pytest

from fitness_api.identity.factors import totp
from tests.browser.chromium import Page
from tests.browser.test_authorization import Database, http, log_in, look
from tests.fitness_api.client import CREDENTIALS, Json, bearer

__all__ = ["http"]  # a fixture

# Any page that leads to the login, and what it says once somebody is logged in.
BEHIND = "/v1/oauth/device"
INSIDE = "Log a device in"

_CREATE = """async (options) => {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    return (await navigator.credentials.create({publicKey})).toJSON();
}"""


@pytest.fixture
async def phone(page: Page) -> str:
    """The browser's own authenticator, which finds the right finger each time; its id."""
    await page.command("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = await page.command("WebAuthn.addVirtualAuthenticator", options=options)
    return str(made["authenticatorId"])


async def logged_in(http: httpx.AsyncClient) -> Json:
    pair: Json = (await http.post("/v1/auth/login", json=CREDENTIALS)).json()
    return pair


async def add_passkey(page: Page, http: httpx.AsyncClient, pair: Json) -> Json:
    """Make one in the browser, as an app's web view of account settings would."""
    await page.goto(f"{http.base_url}{BEHIND}")
    options = (await http.post("/v1/auth/passkeys/options", headers=bearer(pair))).json()
    credential = await page.evaluate(_CREATE, options)
    body = {"credential": credential, "name": "Chromium"}
    added = await http.post("/v1/auth/passkeys", json=body, headers=bearer(pair))
    assert added.status_code == 201, added.text
    answer: Json = added.json()
    return answer


async def add_app(http: httpx.AsyncClient, pair: Json) -> tuple[bytes, list[str]]:
    secret = b32decode((await http.post("/v1/auth/totp", headers=bearer(pair))).json()["secret"])
    confirmed = await http.post("/v1/auth/totp/confirm", json={"code": code(secret)}, headers=bearer(pair))
    return secret, confirmed.json()["recovery_codes"]


def code(secret: bytes, *, steps: int = 0) -> str:
    return totp.code(secret, totp.step_of(time.time_ns() // 1_000_000) + steps)


async def test_a_user_logs_in_with_a_passkey_alone(
    page: Page, phone: str, http: httpx.AsyncClient, database: Database
) -> None:
    added = await add_passkey(page, http, await logged_in(http))
    assert len(added["recovery_codes"]) == 10
    await page.goto(f"{http.base_url}{BEHIND}")
    assert await page.heading() == "Log in"
    await look(page, "login-passkey")
    await page.press("Log in with a passkey")
    assert await page.heading() == INSIDE
    held = await database["second_factors"].find_one({})
    assert held is not None
    assert held["passkeys"][0]["used_at_ms"] is not None
    session = await database["sessions"].find_one({"client_id": {"$ne": "app"}})
    assert session is not None
    assert set(session["methods"]) == {"hwk", "user", "mfa"}


async def test_a_passkey_is_a_users_second_factor(page: Page, phone: str, http: httpx.AsyncClient) -> None:
    await add_passkey(page, http, await logged_in(http))
    await page.goto(f"{http.base_url}{BEHIND}")
    await log_in(page)
    assert await page.heading() == "One more step"
    await look(page, "second-factor-passkey")
    await page.press("Use a passkey")
    assert await page.heading() == INSIDE


async def test_a_passkey_whose_user_was_not_verified_logs_nobody_in(
    page: Page, phone: str, http: httpx.AsyncClient
) -> None:
    await add_passkey(page, http, await logged_in(http))
    await page.command("WebAuthn.setUserVerified", authenticatorId=phone, isUserVerified=False)
    await page.goto(f"{http.base_url}{BEHIND}")
    await page.press("Log in with a passkey", loads=False)
    said = await page.evaluate(
        """() => new Promise((told) => {
            const place = document.querySelector("[data-passkey-problem]");
            const look = () => place.hidden ? setTimeout(look, 20) : told(place.innerText);
            look();
        })"""
    )
    assert said == "No passkey was used. Try again, or log in another way."
    await look(page, "login-passkey-failed")


async def test_a_passkey_that_was_removed_is_told_so(
    page: Page, phone: str, http: httpx.AsyncClient, database: Database
) -> None:
    await add_passkey(page, http, await logged_in(http))
    await database["second_factors"].delete_many({})
    await page.goto(f"{http.base_url}{BEHIND}")
    await page.press("Log in with a passkey")
    assert "That passkey is not known here" in await page.text()
    await look(page, "login-passkey-unknown")


async def test_an_app_and_recovery_codes_complete_a_users_login(page: Page, http: httpx.AsyncClient) -> None:
    secret, codes = await add_app(http, await logged_in(http))
    await page.goto(f"{http.base_url}{BEHIND}")
    await log_in(page)
    assert await page.heading() == "One more step"
    await look(page, "second-factor")
    await page.fill("Code", "12345")
    await page.press("Continue")
    assert "This code is wrong, or was used before." in await page.text()
    assert await page.focused() == "code"
    await look(page, "second-factor-wrong")
    await page.fill("Code", code(secret, steps=1))
    await page.press("Continue")
    assert await page.heading() == INSIDE
    await page.command("Network.clearBrowserCookies")
    await page.goto(f"{http.base_url}{BEHIND}")
    await log_in(page)
    await page.fill("Code", codes[0].upper())
    await page.press("Continue")
    assert await page.heading() == INSIDE


async def test_after_five_wrong_codes_a_user_begins_again_and_waits(page: Page, http: httpx.AsyncClient) -> None:
    secret, _ = await add_app(http, await logged_in(http))
    right = {code(secret, steps=steps) for steps in range(-2, 4)}
    wrong = next(
        one for one in ("000000", "000001", "000002", "000003", "000004", "000005", "000006") if one not in right
    )
    await page.goto(f"{http.base_url}{BEHIND}")
    await log_in(page)
    for _ in range(5):
        assert await page.heading() == "One more step"
        await page.fill("Code", wrong)
        await page.press("Continue")
    assert await page.heading() == "Log in"
    await log_in(page)
    await page.fill("Code", code(secret, steps=1))
    await page.press("Continue")
    assert "Too many codes were wrong" in await page.text()
    await look(page, "second-factor-wait")
