"""A forgotten password and an address that is proved, in a real browser: from the mail to the page and its button."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import httpx
import pytest

from tests.browser.chromium import Page
from tests.browser.test_authorization import look
from tests.fitness_api.client import CREDENTIALS
from tests.fitness_api.gateway import Gateway
from tests.fitness_api.smtp import Inbox, inbox, link_of

ADA = CREDENTIALS["email"]


@pytest.fixture
async def mailbox() -> AsyncIterator[Inbox]:
    async with inbox() as kept:
        yield kept


@pytest.fixture
def smtp_url(mailbox: Inbox) -> str:
    return mailbox.url


@pytest.fixture
async def http(site: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://localhost:{site.port}", trust_env=False) as client:
        assert (await client.post("/v1/auth/register", json=CREDENTIALS)).status_code == 201
        yield client


async def test_who_forgot_the_password_gets_another(
    page: Page, site: Gateway, http: httpx.AsyncClient, mailbox: Inbox
) -> None:
    await page.goto(f"http://localhost:{site.port}/v1/oauth/login?{urlencode({'next': '/v1/oauth/device'})}")
    await page.press("Forgotten password")
    await look(page, "forgotten")
    await page.fill("Email address", ADA)
    await page.press("Send a link")
    assert await page.heading() == "Look at your mail"
    await page.goto(link_of(await mailbox.to(ADA, "Choose a new password")))
    await look(page, "reset")
    await page.fill("New password", "password123")
    await page.press("Change the password")
    assert "among those that are guessed first" in await page.text()
    await look(page, "reset-refused")
    await page.fill("New password", "another horse")
    await page.press("Change the password")
    assert await page.heading() == "Done"
    answer = await http.post("/v1/auth/login", json={**CREDENTIALS, "password": "another horse"})
    assert answer.status_code == 200


async def test_an_address_is_proved_by_the_button_and_not_by_the_link(
    page: Page, http: httpx.AsyncClient, mailbox: Inbox
) -> None:
    pair = (await http.post("/v1/auth/login", json=CREDENTIALS)).json()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    link = link_of(await mailbox.to(ADA, "Confirm your address"))
    await page.goto(link)
    await look(page, "verify")
    assert (await http.get("/v1/me", headers=headers)).json()["email_verified"] is False
    await page.press("Confirm the address")
    assert await page.heading() == "Thank you"
    assert (await http.get("/v1/me", headers=headers)).json()["email_verified"] is True
    await page.goto(link)
    await page.press("Confirm the address")
    assert "used before" in await page.text()
