"""Links, resets and changes over real stores; the mail server is a real one too.

Long, because the flows of four kinds of link share their mailbox and their clock.
"""

import asyncio
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.errors import InvalidBody, NotAuthenticated
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.audit import AuditEvent, Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.correspondence import (
    CHANGE_MS,
    LOOK_BACK,
    MAX_UNPROVED_A_DAY,
    RESET_MS,
    VERIFY_MS,
    Correspondence,
)
from fitness_api.identity.errors import (
    AccessTokenInvalid,
    EmailTaken,
    GrantInvalid,
    InvalidCredentials,
    LinkInvalid,
    MfaRequired,
    PasswordHashersBusy,
    WeakPassword,
)
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.recovery import Recovery
from fitness_api.identity.recovery_store_mongo import MongoRecoveryStore
from fitness_api.identity.sessions import TokenPair
from fitness_api.identity.single_use_mongo import MongoSingleUse
from fitness_api.identity.store_mongo import MongoStore
from fitness_api.mail.deliver import Delivery
from fitness_api.mail.outbox_mongo import MongoOutbox
from fitness_api.mail.sender_smtp import SmtpSender
from tests.fitness_api.identity.conftest import ISSUER, Clock, Process
from tests.fitness_api.smtp import Inbox, inbox, link_of, text_of

ADA = "Ada@example.org"
PASSWORD = "correct horse"
NEW = "another horse"
SAFARI = Origin("192.0.2.1", "Mozilla/5.0 (iPhone) Safari/605")
FIREFOX = Origin("192.0.2.2", "Mozilla/5.0 (Windows) Firefox/140")


class Service:
    """One process: its logins, its recovery, and a mail server that it writes to when told."""

    def __init__(
        self, database: AsyncDatabase[dict[str, Any]], passwords: Passwords, clock: Clock, kept: Inbox
    ) -> None:
        self.kept = kept
        self.store, self.recovery_store = MongoStore(database), MongoRecoveryStore(database)
        self.artefacts, self.audited = MongoSingleUse(database), MongoAuditStore(database)
        self.outbox = MongoOutbox(database)
        correspondence = Correspondence(
            self.store,
            self.recovery_store,
            self.artefacts,
            self.audited,
            self.outbox,
            public_url=ISSUER,
            service="Fitness",
            now_ms=clock,
        )
        audit = AuditLog(self.audited, on_event=correspondence.announce, now_ms=clock)
        self.sessions = Process(database, passwords, clock)
        self.logins = self.sessions.logins
        self.logins._audit = audit
        self.proved: list[str] = []
        self.recovery = Recovery(
            self.store,
            self.recovery_store,
            passwords,
            self.sessions,
            self.artefacts,
            audit,
            correspondence,
            on_first_proof=self._first_proof,
            now_ms=clock,
        )
        self.delivery = Delivery(
            self.outbox, SmtpSender(kept.url, sender="no-reply@example.net"), correspondence.compose, now_ms=clock
        )

    async def _first_proof(self, user_id: str) -> None:
        self.proved.append(user_id)

    async def mails(self) -> list[EmailMessage]:
        """Send what waits; return what came since the last call."""
        while await self.delivery.deliver_due():
            pass
        came, self.kept.mails = self.kept.mails, []
        return came

    async def register(self, email: str = ADA, *, verified: bool = True, origin: Origin = SAFARI) -> TokenPair:
        pair = await self.logins.register(email=email, password=PASSWORD, origin=origin)
        (mail,) = await self.mails()
        if verified:
            await self.recovery.confirm(token_of(mail), origin=origin)
        return pair

    async def user_of(self, pair: TokenPair) -> str:
        return (await self.authenticate(pair)).user_id

    async def authenticate(self, pair: TokenPair) -> Principal:
        return await self.sessions.authenticate(f"Bearer {pair.access_token}")

    async def verified(self, email: str) -> bool | None:
        known = await self.store.credentials(email)
        account = None if known is None else await self.store.account(known.user_id)
        return None if account is None else account.email_verified

    async def holds(self, pair: TokenPair) -> bool:
        self.sessions._checked._entries.clear()
        try:
            await self.authenticate(pair)
        except (NotAuthenticated, AccessTokenInvalid):
            return False
        return True

    async def kinds(self, user_id: str) -> set[str]:
        return {event.kind for event in await self.audited.of(user_id, limit=100)}


def token_of(mail: EmailMessage) -> str:
    return parse_qs(urlsplit(link_of(mail)).query)["token"][0]


def subjects(mails: list[EmailMessage]) -> list[tuple[str, str]]:
    return sorted((mail["To"], mail["Subject"]) for mail in mails)


@pytest.fixture
async def service(
    database: AsyncDatabase[dict[str, Any]], passwords: Passwords, clock: Clock
) -> AsyncIterator[Service]:
    async with inbox() as kept:
        yield Service(database, passwords, clock, kept)


# ---------------------------------------------------------------------------------------------------------- verification


async def test_who_registers_gets_a_link_that_proves_the_address(service: Service) -> None:
    pair = await service.register(verified=False)
    assert await service.verified("ada@example.org") is False
    await service.recovery.ask_to_verify("ADA@example.org")
    (mail,) = await service.mails()
    assert (mail["To"], mail["Subject"]) == ("Ada@example.org", "Confirm your address")
    await service.recovery.confirm(token_of(mail), origin=SAFARI)
    assert await service.verified("ada@example.org") is True
    await service.recovery.ask_to_verify(ADA)
    assert await service.mails() == []
    assert await service.kinds(await service.user_of(pair)) == {"registered", "logged_in", "email_verified"}


async def test_a_link_works_once_and_for_so_long(service: Service, clock: Clock) -> None:
    await service.register(verified=False)
    tokens = []
    for _ in range(2):
        await service.recovery.ask_to_verify(ADA)
        tokens += [token_of(mail) for mail in await service.mails()]
    done = await asyncio.gather(
        *(service.recovery.confirm(tokens[0], origin=SAFARI) for _ in range(50)), return_exceptions=True
    )
    assert done.count(None) == 1
    assert sum(isinstance(one, LinkInvalid) for one in done) == 49
    clock.advance(s=VERIFY_MS / 1000)
    with pytest.raises(LinkInvalid):
        await service.recovery.confirm(tokens[1], origin=SAFARI)


async def test_of_requests_that_wait_one_is_answered_and_of_strangers_none(service: Service) -> None:
    await service.register()
    for email in (ADA, " ada@EXAMPLE.org", "nobody@example.org"):
        for _ in range(3):
            await service.recovery.ask_to_reset(email)
            await service.recovery.ask_to_verify(email)
    assert subjects(await service.mails()) == [("Ada@example.org", "Choose a new password")]
    with pytest.raises(InvalidBody):
        await service.recovery.ask_to_reset("nobody")


async def test_no_secret_of_a_link_rests_in_the_database(
    service: Service, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await service.register()
    await service.recovery.ask_to_reset(ADA)
    held = [str(row) for name in await database.list_collection_names() async for row in database[name].find({})]
    (mail,) = await service.mails()
    held += [str(row) for name in await database.list_collection_names() async for row in database[name].find({})]
    assert not any(token_of(mail) in row for row in held)


# ----------------------------------------------------------------------------------------------------------------- reset


async def reset_link(service: Service, email: str = ADA) -> str:
    await service.recovery.ask_to_reset(email)
    (mail,) = [mail for mail in await service.mails() if mail["Subject"] == "Choose a new password"]
    return token_of(mail)


async def test_a_reset_gives_a_new_password_and_ends_what_was_before(service: Service) -> None:
    first, second = await service.register(), await service.sessions.login(email=ADA, password=PASSWORD)
    user_id = await service.user_of(first)
    await service.recovery.ask_to_move(user_id, "new@example.org", origin=SAFARI)
    moving = [token_of(mail) for mail in await service.mails() if "address" in mail["Subject"]]
    assert len(moving) == 2
    spare = await reset_link(service)
    await service.recovery.reset(await reset_link(service), NEW, origin=SAFARI)
    assert subjects(await service.mails()) == [("Ada@example.org", "Your password was reset")]
    assert [await service.holds(pair) for pair in (first, second)] == [False, False]
    for pair in (first, second):
        with pytest.raises(GrantInvalid):
            await service.sessions.refresh(pair.refresh_token)
    with pytest.raises(InvalidCredentials):
        await service.sessions.login(email=ADA, password=PASSWORD)
    for token in moving:
        with pytest.raises(LinkInvalid):
            await service.recovery.confirm(token, origin=SAFARI)
    with pytest.raises(LinkInvalid):
        await service.recovery.reset(spare, "yet another horse", origin=SAFARI)
    assert await service.holds(await service.sessions.login(email=ADA, password=NEW))


async def test_one_of_fifty_resets_at_once_succeeds(service: Service) -> None:
    await service.register()
    token = await reset_link(service)
    done = await asyncio.gather(
        *(service.recovery.reset(token, f"horse number {number}", origin=SAFARI) for number in range(50)),
        return_exceptions=True,
    )
    assert done.count(None) == 1
    assert all(isinstance(one, LinkInvalid | PasswordHashersBusy) for one in done if one is not None)
    await service.sessions.login(email=ADA, password=f"horse number {done.index(None)}")


async def test_a_reset_proves_the_address_and_says_that_it_was_the_first_proof(service: Service) -> None:
    pair = await service.register(verified=False)
    await service.recovery.reset(await reset_link(service), NEW, origin=SAFARI)
    assert await service.verified("ada@example.org") is True
    assert len(service.proved) == 2
    assert not await service.holds(pair)
    await service.recovery.reset(await reset_link(service), PASSWORD, origin=SAFARI)
    assert len(service.proved) == 2


async def test_a_link_outlives_a_weak_password_but_not_its_hour(service: Service, clock: Clock) -> None:
    await service.register()
    token = await reset_link(service)
    for weak in ("password123", "ada@example.org", "example2026"):
        with pytest.raises(WeakPassword):
            await service.recovery.reset(token, weak, origin=SAFARI)
    with pytest.raises(InvalidBody):
        await service.recovery.reset(token, "short", origin=SAFARI)
    clock.advance(s=RESET_MS / 1000 - 1)
    other = await reset_link(service)
    clock.advance(s=1)
    with pytest.raises(LinkInvalid):
        await service.recovery.reset(token, NEW, origin=SAFARI)
    await service.recovery.reset(other, NEW, origin=SAFARI)


async def test_a_reset_asks_for_the_second_factor_still(service: Service) -> None:
    pair = await service.register()

    async def ways(_: str) -> tuple[str, ...]:
        return ("totp",)

    service.logins._second_factors = ways
    with pytest.raises(MfaRequired) as half:
        await service.sessions.login(email=ADA, password=PASSWORD)
    await service.recovery.reset(await reset_link(service), NEW, origin=SAFARI)
    assert not await service.holds(pair)
    with pytest.raises(GrantInvalid):
        await service.logins.complete(half.value.mfa_token, "otp", origin=SAFARI)
    with pytest.raises(MfaRequired):
        await service.sessions.login(email=ADA, password=NEW)


@pytest.mark.parametrize("second_factor", [False, True])
async def test_a_login_that_a_reset_overtakes_is_none(service: Service, *, second_factor: bool) -> None:
    """It checks the old password, is held up, and would begin its session after all others were ended."""
    pair = await service.register()
    token = await reset_link(service)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def held_up(_: str) -> tuple[str, ...]:
        reached.set()
        await go_on.wait()
        return ("totp",) if second_factor else ()

    service.logins._second_factors = held_up
    login = asyncio.create_task(service.sessions.login(email=ADA, password=PASSWORD))
    await reached.wait()
    await service.recovery.reset(token, NEW, origin=SAFARI)
    go_on.set()
    with pytest.raises(InvalidCredentials):
        await login
    assert not await service.holds(pair)
    known = await service.store.credentials("ada@example.org")
    assert known is not None
    assert await service.store.sessions(known.user_id) == []


async def test_a_reset_that_was_cut_off_ends_the_sessions_when_it_comes_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await service.register()
    token = await reset_link(service)
    with monkeypatch.context() as cut:

        async def died(_: str) -> None:
            raise ConnectionError

        cut.setattr(service.recovery, "_end_all", died)
        with pytest.raises(ConnectionError):
            await service.recovery.reset(token, NEW, origin=SAFARI)
    assert await service.holds(pair)
    with pytest.raises(LinkInvalid):
        await service.recovery.reset(token, "yet another horse", origin=SAFARI)
    assert not await service.holds(pair)
    await service.sessions.login(email=ADA, password=NEW)


# -------------------------------------------------------------------------------------------------------------- password


async def test_a_password_is_changed_by_who_knows_it(service: Service) -> None:
    pair, other = await service.register(), await service.sessions.login(email=ADA, password=PASSWORD)
    principal = await service.authenticate(pair)

    async def change(current: str | None, new: str) -> None:
        await service.recovery.change_password(
            principal.user_id, session_id=principal.session_id, current=current, new=new, origin=SAFARI
        )

    for wrong in ("wrong horse", None):
        with pytest.raises(InvalidCredentials):
            await change(wrong, NEW)
    with pytest.raises(WeakPassword):
        await change(PASSWORD, "iloveyou1")
    link = await reset_link(service)
    await change(PASSWORD, NEW)
    assert (await service.holds(pair), await service.holds(other)) == (True, False)
    with pytest.raises(LinkInvalid):
        await service.recovery.reset(link, PASSWORD, origin=SAFARI)
    assert subjects(await service.mails()) == [("Ada@example.org", "Your password was changed")]
    await service.sessions.login(email=ADA, password=NEW)


async def test_a_change_that_a_reset_overtakes_is_none(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds a session and the old password is not to have the last word."""
    principal = await service.authenticate(await service.register())
    token = await reset_link(service)
    change = service.recovery_store.change_password_hash

    async def overtaken(user_id: str, *, before: str | None, after: str) -> bool:
        await service.recovery.reset(token, NEW, origin=SAFARI)
        return await change(user_id, before=before, after=after)

    monkeypatch.setattr(service.recovery_store, "change_password_hash", overtaken)
    with pytest.raises(InvalidCredentials):
        await service.recovery.change_password(
            principal.user_id,
            session_id=principal.session_id,
            current=PASSWORD,
            new="a thief's horse",
            origin=FIREFOX,
        )
    await service.sessions.login(email=ADA, password=NEW)


# --------------------------------------------------------------------------------------------------------------- address


async def moving(service: Service, pair: TokenPair, email: str = "New@example.net") -> tuple[str, str]:
    """Ask for the change; return the links that went to the present and to the new address."""
    await service.recovery.ask_to_move(await service.user_of(pair), email, origin=SAFARI)
    by_address = {mail["To"]: mail for mail in await service.mails()}
    return token_of(by_address[ADA]), token_of(by_address[email])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_an_account_moves_when_both_mailboxes_agreed(service: Service, order: tuple[int, int]) -> None:
    pair = await service.register()
    reset = await reset_link(service)
    links = await moving(service, pair)
    await service.recovery.confirm(links[order[0]], origin=SAFARI)
    assert await service.verified("new@example.net") is None
    await service.recovery.confirm(links[order[1]], origin=SAFARI)
    assert await service.verified("new@example.net") is True
    assert await service.verified("ada@example.org") is None
    assert subjects(await service.mails()) == [
        ("Ada@example.org", "Your account has another address"),
        ("New@example.net", "Your account has another address"),
    ]
    for link in links:
        with pytest.raises(LinkInvalid):
            await service.recovery.confirm(link, origin=SAFARI)
    with pytest.raises(LinkInvalid):
        await service.recovery.reset(reset, NEW, origin=SAFARI)
    await service.sessions.login(email="new@example.net", password=PASSWORD)


async def test_a_later_change_cancels_the_one_before_and_time_does_too(service: Service, clock: Clock) -> None:
    pair = await service.register()
    first, second = await moving(service, pair), await moving(service, pair, "other@example.net")
    for link in first:
        with pytest.raises(LinkInvalid):
            await service.recovery.confirm(link, origin=SAFARI)
    await service.recovery.confirm(second[0], origin=SAFARI)
    clock.advance(s=CHANGE_MS / 1000)
    with pytest.raises(LinkInvalid):
        await service.recovery.confirm(second[1], origin=SAFARI)
    assert await service.verified("ada@example.org") is True


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_where_the_address_was_never_proved_the_new_mailbox_is_enough(
    service: Service, order: tuple[int, int]
) -> None:
    pair = await service.register(verified=False)
    links = await moving(service, pair)
    for index in order:
        await service.recovery.confirm(links[index], origin=SAFARI)
        assert (await service.verified("new@example.net") is True) == (index == 1 or order[0] == 1)


async def test_a_stranger_does_not_learn_where_an_account_goes(service: Service) -> None:
    pair = await service.register(verified=False)
    await service.recovery.ask_to_move(await service.user_of(pair), "New@example.net", origin=SAFARI)
    mails = await service.mails()
    to_old = next(mail for mail in mails if mail["To"] == ADA)
    assert "New@example.net" not in text_of(to_old)
    await service.recovery.confirm(token_of(next(mail for mail in mails if mail["To"] != ADA)), origin=SAFARI)
    assert subjects(await service.mails()) == [("New@example.net", "Your account has another address")]


async def test_an_address_that_is_anothers_is_told_to_its_mailbox_only(service: Service) -> None:
    await service.register("bob@example.net")
    pair = await service.register()
    await service.recovery.ask_to_move(await service.user_of(pair), "bob@example.net", origin=SAFARI)
    mails = {mail["To"]: mail for mail in await service.mails()}
    assert set(mails) == {ADA, "bob@example.net"}
    assert mails["bob@example.net"]["Subject"] == "Your address is in use already"
    assert "http" not in text_of(mails["bob@example.net"])
    await service.recovery.confirm(token_of(mails[ADA]), origin=SAFARI)
    assert await service.verified("ada@example.org") is True


async def test_who_was_quicker_has_the_address(service: Service) -> None:
    pair = await service.register()
    links = await moving(service, pair)
    await service.register("new@example.net")
    await service.recovery.confirm(links[0], origin=SAFARI)
    with pytest.raises(EmailTaken):
        await service.recovery.confirm(links[1], origin=SAFARI)
    assert await service.verified("ada@example.org") is True


async def test_a_move_that_was_cut_off_is_finished_by_pressing_the_button_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await service.register()
    links = await moving(service, pair)
    await service.recovery.confirm(links[0], origin=SAFARI)
    move = service.recovery_store.move
    for dies_after in (False, True):
        with monkeypatch.context() as cut:

            async def died(user_id: str, change: Any, *, verified: bool, after: bool = dies_after) -> None:
                if after:
                    await move(user_id, change, verified=verified)
                raise ConnectionError

            cut.setattr(service.recovery_store, "move", died)
            with pytest.raises(ConnectionError):
                await service.recovery.confirm(links[1], origin=SAFARI)
    await service.recovery.confirm(links[1], origin=SAFARI)
    assert await service.verified("new@example.net") is True


async def test_an_account_does_not_move_to_where_it_is(service: Service) -> None:
    pair = await service.register()
    with pytest.raises(InvalidBody):
        await service.recovery.ask_to_move(await service.user_of(pair), "ADA@example.org", origin=SAFARI)


# --------------------------------------------------------------------------------------------------------------- notices


async def test_a_login_from_a_device_that_is_new_is_told(service: Service) -> None:
    await service.register()
    await service.logins.login(email=ADA, password=PASSWORD, origin=SAFARI)
    assert await service.mails() == []
    await service.logins.login(email=ADA, password=PASSWORD, origin=FIREFOX)
    (mail,) = await service.mails()
    assert mail["Subject"] == "New login to your account"
    assert "Firefox, Windows (192.0.2.2)" in text_of(mail)
    assert link_of(mail) == f"{ISSUER}/account/forgot"
    await service.logins.login(email=ADA, password=PASSWORD, origin=FIREFOX)
    assert await service.mails() == []


async def test_the_same_app_from_elsewhere_is_new_unless_it_shows_that_it_was_here(service: Service) -> None:
    await service.register()
    elsewhere, next_door = Origin("198.51.100.1", SAFARI.user_agent), Origin("192.0.77.7", SAFARI.user_agent)
    for origin, is_known_device, is_told in (
        (next_door, False, False),
        (elsewhere, True, False),
        (Origin("203.0.113.5", SAFARI.user_agent), False, True),
    ):
        await service.logins.login(email=ADA, password=PASSWORD, origin=origin, is_known_device=is_known_device)
        assert bool(await service.mails()) == is_told


async def test_a_flood_of_failures_hides_no_login(service: Service, clock: Clock) -> None:
    pair = await service.register()
    user_id = await service.user_of(pair)
    for number in range(LOOK_BACK):
        clock.advance(s=1)
        event = AuditEvent(event_id=f"e{number}", user_id=user_id, at_ms=clock(), kind="login_failed", origin=FIREFOX)
        await service.audited.append(event)
    clock.advance(s=1)
    await service.logins.login(email=ADA, password=PASSWORD, origin=FIREFOX)
    assert len(await service.mails()) == 1


async def test_letters_are_in_the_accounts_language(service: Service, store: MongoStore) -> None:
    pair = await service.register()
    await store.update_account(
        await service.user_of(pair), lambda account: msgspec.structs.replace(account, locale="de-AT")
    )
    await service.recovery.ask_to_reset(ADA)
    (mail,) = await service.mails()
    assert (mail["Subject"], mail["Content-Language"]) == ("Neues Passwort wählen", "de")


async def test_an_address_that_nobody_proved_is_not_flooded(service: Service, clock: Clock) -> None:
    await service.register(verified=False)
    came = []
    for app in ("Firefox/1", "Chrome/1", "Edg/1", "OPR/1", "curl/1"):
        clock.advance(s=1)
        await service.logins.login(email=ADA, password=PASSWORD, origin=Origin("192.0.2.3", app))
        came += await service.mails()
    # The registration's own login counts.
    assert len(came) == MAX_UNPROVED_A_DAY - 1
