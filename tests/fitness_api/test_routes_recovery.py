"""Over HTTP, with a real mail server and the gateway's own delivery."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from pymongo.monitoring import register as register_listener

from fitness_api import app
from fitness_api.identity.passwords import Passwords
from fitness_api.settings import Settings, SettingsInvalid
from tests.fitness_api.client import CREDENTIALS, Json, bearer, registered
from tests.fitness_api.serving import serving
from tests.fitness_api.smtp import Inbox, inbox, link_of
from tests.fitness_api.test_routes_factors import with_passkey

ADA = CREDENTIALS["email"]


@pytest.fixture
async def mailbox() -> AsyncIterator[Inbox]:
    async with inbox() as kept:
        yield kept


@pytest.fixture
def settings(settings: Settings, mailbox: Inbox) -> Settings:
    return msgspec.structs.replace(settings, smtp_url=mailbox.url, mail_from="Fitness <no-reply@example.net>")


def token_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["token"][0]


async def post(api: httpx.AsyncClient, path: str, body: Json, headers: dict[str, str] | None = None) -> httpx.Response:
    return await api.post(f"/v1/auth/{path}", json=body, headers=headers)


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_an_address_is_proved_by_the_mail_of_the_registration(api: httpx.AsyncClient, mailbox: Inbox) -> None:
    pair = await registered(api)
    link = link_of(await mailbox.to(ADA, "Confirm your address"))
    assert link.startswith("http://api.test/account/verify?token=")
    body = {"token": token_of(link)}
    assert (await post(api, "email/verify", body)).status_code == 204
    assert (await api.get("/v1/me", headers=bearer(pair))).json()["email_verified"] is True
    refused(await post(api, "email/verify", body), 400, "link_invalid")
    refused(await post(api, "email/verify", {"token": "made-up"}), 400, "link_invalid")


async def test_a_forgotten_password_is_chosen_anew(api: httpx.AsyncClient, mailbox: Inbox) -> None:
    pair = await registered(api)
    assert (await post(api, "password/forgot", {"email": "ADA@example.org"})).status_code == 202
    token = token_of(link_of(await mailbox.to(ADA, "Choose a new password")))
    refused(await post(api, "password/reset", {"token": token, "password": "password123"}), 422, "weak_password")
    refused(await post(api, "password/reset", {"token": token, "password": "short"}), 422, "invalid_body")
    reset = {"token": token, "password": "another horse"}
    assert (await post(api, "password/reset", reset)).status_code == 204
    refused(await post(api, "password/reset", reset), 400, "link_invalid")
    refused(await api.get("/v1/me", headers=bearer(pair)), 401, "unauthenticated")
    refused(await post(api, "login", CREDENTIALS), 401, "invalid_credentials")
    assert (await post(api, "login", {**CREDENTIALS, "password": "another horse"})).status_code == 200
    assert await mailbox.to(ADA, "Your password was reset")


async def reset(api: httpx.AsyncClient, mailbox: Inbox, password: str = "another horse") -> None:
    assert (await post(api, "password/forgot", {"email": ADA})).status_code == 202
    token = token_of(link_of(await mailbox.to(ADA, "Choose a new password")))
    assert (await post(api, "password/reset", {"token": token, "password": password})).status_code == 204


async def test_a_reset_leaves_the_second_factor_of_an_account_whose_address_was_proved(
    api: httpx.AsyncClient, mailbox: Inbox
) -> None:
    pair = await registered(api)
    link = link_of(await mailbox.to(ADA, "Confirm your address"))
    assert (await post(api, "email/verify", {"token": token_of(link)})).status_code == 204
    phone, _ = await with_passkey(api, pair)
    await reset(api, mailbox)
    login = await post(api, "login", {**CREDENTIALS, "password": "another horse"})
    refused(login, 401, "mfa_required")
    token = {"mfa_token": login.json()["mfa_token"]}
    options = (await post(api, "mfa/options", token)).json()
    assert (await post(api, "mfa", {**token, "passkey": phone.get(options)})).status_code == 200


async def test_a_passkey_that_was_there_before_the_address_was_proved_opens_nothing(
    api: httpx.AsyncClient, mailbox: Inbox
) -> None:
    """Whoever registers another's address and waits for its owner is put out with all that he brought."""
    phone, added = await with_passkey(api, await registered(api))
    await reset(api, mailbox)
    options = (await api.post("/v1/auth/passkeys/login/options")).json()
    refused(await post(api, "passkeys/login", {"credential": phone.get(options)}), 401, "passkey_refused")
    login = await post(api, "login", {**CREDENTIALS, "password": "another horse"})
    assert login.status_code == 200
    left = await api.get("/v1/auth/recovery-codes", headers=bearer(login.json()))
    assert (left.json()["left"], len(added["recovery_codes"])) == (0, 10)


async def test_a_password_is_changed_and_an_address_too(api: httpx.AsyncClient, mailbox: Inbox) -> None:
    pair = await registered(api)
    proof = {"token": token_of(link_of(await mailbox.to(ADA, "Confirm your address")))}
    assert (await post(api, "email/verify", proof)).status_code == 204
    wrong = {"current": "wrong horse", "new": "another horse"}
    refused(await post(api, "password/change", wrong, bearer(pair)), 401, "invalid_credentials")
    right = {"current": CREDENTIALS["password"], "new": "another horse"}
    assert (await post(api, "password/change", right, bearer(pair))).status_code == 204
    new = "new@example.net"
    assert (await post(api, "email/change", {"email": new}, bearer(pair))).status_code == 202
    for mail in (await mailbox.to(ADA, "leaves"), await mailbox.to(new, "new address")):
        assert (await post(api, "email/verify", {"token": token_of(link_of(mail))})).status_code == 204
    profile = (await api.get("/v1/me", headers=bearer(pair))).json()
    assert (profile["email"], profile["email_verified"]) == (new, True)
    for address in (ADA, new):
        assert await mailbox.to(address, "Your account has another address")


@pytest.mark.parametrize("path", ["password/change", "email/change"])
async def test_credentials_are_changed_after_a_recent_login_only(
    path: str, api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    pair = await registered(api)
    refused(await post(api, path, {}), 401, "unauthenticated")
    long_ago = {
        "$set": {
            "authenticated_at": (await database["sessions"].find_one({}) or {})["authenticated_at"].replace(year=2020)
        }
    }
    await database["sessions"].update_many({}, long_ago)
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    old = (await api.post("/v1/oauth/token", data=form)).json()
    refused(await post(api, path, {}, bearer(old)), 401, "reauthentication_required")


async def test_a_password_that_is_guessed_first_is_refused_at_registration(api: httpx.AsyncClient) -> None:
    for password in ("password123", "ada@example.org", "12345678", "Ada Lovelace"):
        body = {"email": ADA, "password": password, "display_name": "Ada Lovelace"}
        refused(await post(api, "register", body), 422, "weak_password")
    await registered(api)


async def test_what_happened_is_listed_page_by_page(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    for _ in range(3):
        assert (await post(api, "login", CREDENTIALS)).status_code == 200
    seen: list[Json] = []
    cursor = None
    while True:
        asked = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await api.get("/v1/me/security-events", params=asked, headers=bearer(pair))).json()
        assert len(page["events"]) <= 2
        seen += page["events"]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert Counter(event["kind"] for event in seen) == {"registered": 1, "logged_in": 4}
    assert len({event["id"] for event in seen}) == 5
    assert [event["at"] for event in seen] == sorted((event["at"] for event in seen), reverse=True)
    for wrong in ({"cursor": "nonsense"}, {"limit": "0"}, {"limit": "201"}, {"limit": "x"}):
        answer = await api.get("/v1/me/security-events", params=wrong, headers=bearer(pair))
        refused(answer, 422, "invalid_body")
    other = await registered(api, "bob@example.org")
    events = (await api.get("/v1/me/security-events", headers=bearer(other))).json()["events"]
    assert {event["id"] for event in events}.isdisjoint(event["id"] for event in seen)


# ----------------------------------------------------------------------------------------------------------------- pages


def fields(page: str) -> dict[str, str]:
    return {
        name: unescape(value) for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page)
    }


async def test_a_link_shows_a_page_whose_button_does_it(api: httpx.AsyncClient, mailbox: Inbox) -> None:
    pair = await registered(api)
    link = link_of(await mailbox.to(ADA, "Confirm your address"))
    for _ in range(3):  # as mail scanners follow it
        page = await api.get(link)
        assert page.status_code == 200
    assert (await api.get("/v1/me", headers=bearer(pair))).json()["email_verified"] is False
    done = await api.post("/account/verify", data=fields(page.text))
    assert (done.status_code, "confirmed" in done.text) == (200, True)
    assert (await api.get("/v1/me", headers=bearer(pair))).json()["email_verified"] is True
    again = await api.post("/account/verify", data=fields(page.text))
    assert (again.status_code, "used before" in again.text) == (400, True)


async def test_a_form_that_is_not_of_our_page_does_nothing(api: httpx.AsyncClient, mailbox: Inbox) -> None:
    await registered(api)
    token = token_of(link_of(await mailbox.to(ADA, "Confirm your address")))
    for path, form in (
        ("verify", {"token": token}),
        ("reset", {"token": token, "password": "another horse"}),
        ("forgot", {"email": ADA}),
    ):
        forged = await api.post(f"/account/{path}", data={**form, "form_token": "x"})
        assert forged.status_code == 403
    assert (await post(api, "email/verify", {"token": token})).status_code == 204


async def test_a_forgotten_password_is_chosen_on_pages(api: httpx.AsyncClient, mailbox: Inbox) -> None:
    await registered(api)
    page = await api.get("/account/forgot")
    assert "<script" not in page.text
    asked = await api.post("/account/forgot", data={**fields(page.text), "email": ADA})
    unknown = await api.post("/account/forgot", data={**fields(page.text), "email": "nobody@example.org"})
    assert asked.status_code == unknown.status_code == 200
    assert asked.text == unknown.text
    wrong = await api.post("/account/forgot", data={**fields(page.text), "email": "nobody"})
    assert (wrong.status_code, "This is not an address" in wrong.text) == (422, True)
    page = await api.get(link_of(await mailbox.to(ADA, "Choose a new password")))
    for weak in ("password123", "short"):
        answer = await api.post("/account/reset", data={**fields(page.text), "password": weak})
        assert (answer.status_code, fields(answer.text)["token"]) == (422, fields(page.text)["token"])
    done = await api.post("/account/reset", data={**fields(page.text), "password": "another horse"})
    assert done.status_code == 200
    again = await api.post("/account/reset", data={**fields(page.text), "password": "another horse"})
    assert again.status_code == 400
    assert (await post(api, "login", {**CREDENTIALS, "password": "another horse"})).status_code == 200


async def test_what_a_link_holds_is_shown_escaped(api: httpx.AsyncClient) -> None:
    for path in ("verify", "reset"):
        page = await api.get(f"/account/{path}", params={"token": '"><script>alert(1)</script>'})
        assert "<script" not in page.text


# ----------------------------------------------------------------------------------------------------------- enumeration


class Counted(CommandListener):
    """What was asked of the database, by command and collection, in the order asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.is_on = False

    def started(self, event: CommandStartedEvent) -> None:
        if self.is_on and event.command_name not in {"hello", "ping", "endSessions"}:
            self.seen.append((event.command_name, str(event.command.get(event.command_name))))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


@pytest.fixture
async def counted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[httpx.AsyncClient, Counted]]:
    """A gateway without delivery, so that nothing but the requests asks for anything."""
    listener = Counted()
    from pymongo import monitoring  # noqa: PLC0415

    before = list(monitoring._LISTENERS.command_listeners)
    register_listener(listener)
    try:
        async with serving(app.build(msgspec.structs.replace(settings, smtp_url=None))) as client:
            yield client, listener
    finally:
        monitoring._LISTENERS.command_listeners[:] = before


@pytest.mark.parametrize("path", ["login", "password/forgot", "email/verify/resend"])
async def test_known_and_unknown_addresses_cost_and_answer_alike(
    path: str, counted: tuple[httpx.AsyncClient, Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands and hash calls instead of times, which a busy machine blurs: what differs in them differs in time."""
    api, listener = counted
    hashed: list[None] = []
    matches = Passwords._matches

    def count(passwords: Passwords, password_hash: str, password: str) -> bool:
        hashed.append(None)
        return matches(passwords, password_hash, password)

    monkeypatch.setattr(Passwords, "_matches", count)
    await registered(api)
    outcomes = []
    for email in (ADA, "nobody@example.org", ADA, "nobody@example.org"):
        listener.seen.clear()
        hashed.clear()
        listener.is_on = True
        answer = await post(api, path, {"email": email, "password": "wrong horse"})
        listener.is_on = False
        # What is noted of a known account's refused login is written after the answer.
        asked = [command for command in listener.seen if command != ("insert", "audit")]
        body = {
            name: value for name, value in (answer.json() if answer.content else {}).items() if name != "request_id"
        }
        headers = {name for name in answer.headers if name != "x-request-id"}
        outcomes.append((answer.status_code, body, headers, asked, len(hashed)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[2] == outcomes[3]
    assert outcomes[0][3], "the listener hears nothing"


@pytest.mark.parametrize("wrong", [{"smtp_url": "smtp://host?x=1"}, {"mail_from": "Fitness <no-reply@exa mple>"}])
def test_a_mail_server_that_cannot_be_is_said_before_anything_is_opened(
    settings: Settings, wrong: dict[str, str]
) -> None:
    with pytest.raises(SettingsInvalid, match="FITNESS_SMTP_URL"):
        app.build(msgspec.structs.replace(settings, **wrong))
