"""Sign-ins against real stores and an issuer over real HTTP; the five attacks of "Pre-hijacked accounts" among them.

Long, because each attack is told from the attacker's first step to the victim's last.
"""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.errors import NotAuthenticated
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.audit import Origin
from fitness_api.identity.errors import (
    EmailUnverified,
    GrantInvalid,
    IdentityTaken,
    IdTokenInvalid,
    InvalidCredentials,
    LastWayIn,
    LinkRequired,
    MfaRequired,
)
from fitness_api.identity.federation import providers
from fitness_api.identity.federation.fetcher_httpx2 import BoundedTransport, Httpx2Fetcher
from fitness_api.identity.federation.issuers import Issuer
from fitness_api.identity.federation.sign_ins import NONCE_MS, SignIns
from fitness_api.identity.federation.store_mongo import MongoIdentityStore
from fitness_api.identity.logins import Logins
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.sessions import TokenPair
from fitness_api.identity.single_use_mongo import MongoSingleUse
from fitness_api.settings import OidcProvider
from tests.fitness_api.identity.conftest import Clock, Process
from tests.fitness_api.identity.federation.issuing import AUDIENCE, Issuing, claims_of, issuing, signed
from tests.fitness_api.identity.test_sessions import PASSWORD, bearer

ADA = "ada@example.org"
HERE = Origin("192.0.2.1", "phone")


@pytest.fixture(scope="module")
async def google() -> AsyncIterator[Issuing]:
    async with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
async def stranger() -> AsyncIterator[Issuing]:
    """An issuer that verifies no addresses."""
    async with issuing() as issuer:
        yield issuer


class Side:
    """One process, and a second factor that everybody has whom `factors` names."""

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        process: Process,
        passwords: Passwords,
        clock: Clock,
        google: Issuing,
        stranger: Issuing,
        transport: BoundedTransport,
    ) -> None:
        self.process, self.clock, self.google, self.stranger = process, clock, google, stranger
        self.factors: set[str] = set()
        self.passkeys: set[str] = set()
        self.artefacts = MongoSingleUse(database)
        self.store = MongoIdentityStore(database)
        self.logins = Logins(
            process._store, passwords, process, self.artefacts, process.audit, second_factors=self._ways, now_ms=clock
        )
        settings = (
            OidcProvider(
                name="google",
                issuer=google.url,
                client_id=AUDIENCE,
                audiences={"ios": "ios-client"},
                verifies_addresses=True,
                authoritative_domains=("gmail.com",),
            ),
            OidcProvider(name="stranger", issuer=stranger.url, client_id=AUDIENCE),
        )
        issuers = {
            name: Issuer(provider, Httpx2Fetcher(transport), now_ms=clock)
            for name, provider in providers.all_of(settings).items()
        }
        self.sign_ins = SignIns(
            issuers,
            self.store,
            self.logins,
            process,
            self.artefacts,
            process.audit,
            ends=(process.revoke_all, self._end_factors, self.artefacts.cancel),
            has_passkey=self._has_passkey,
            now_ms=clock,
        )

    async def _ways(self, user_id: str) -> tuple[str, ...]:
        return ("totp",) if user_id in self.factors else ()

    async def _has_passkey(self, user_id: str) -> bool:
        return user_id in self.passkeys

    async def _end_factors(self, user_id: str) -> None:
        self.factors.discard(user_id)
        self.passkeys.discard(user_id)

    def token(self, nonce: str, *, issuer: Issuing | None = None, **changes: Any) -> str:
        said = claims_of((issuer or self.google).url, now_s=self.clock.now_ms // 1000, nonce=nonce, **changes)
        return signed(said)

    async def sign_in(self, *, issuer: Issuing | None = None, **changes: Any) -> TokenPair:
        return await self.sign_ins.exchange(
            self.token(await self.sign_ins.nonce(), issuer=issuer, **changes), origin=HERE
        )

    async def link(self, caller: Principal, *, issuer: Issuing | None = None, **changes: Any) -> str:
        token = self.token(await self.sign_ins.nonce(), issuer=issuer, **changes)
        return (await self.sign_ins.link(caller, token, origin=HERE))[0].identity_id

    async def register(self, email: str = ADA, *, verified: bool = False) -> Principal:
        principal = await self.who(await self.process.register(email=email, password=PASSWORD))
        if verified:
            await self.verify(principal.user_id)
        return principal

    async def verify(self, user_id: str) -> None:
        await self.store._accounts.update_one({"_id": user_id, "user_id": user_id}, {"$set": {"email_verified": True}})

    async def who(self, pair: TokenPair) -> Principal:
        return await self.process.authenticate(bearer(pair))

    async def events(self, user_id: str) -> list[str]:
        rows = self.store._accounts.database["audit"].find({"user_id": user_id})
        return sorted([row["kind"] async for row in rows])


@pytest.fixture
async def side(
    database: AsyncDatabase[dict[str, Any]],
    sessions: Process,
    passwords: Passwords,
    clock: Clock,
    google: Issuing,
    stranger: Issuing,
) -> AsyncIterator[Side]:
    transport = BoundedTransport()
    yield Side(database, sessions, passwords, clock, google, stranger, transport)
    await transport.close()


# -------------------------------------------------------------------------------------------------------------- tokens


async def test_a_first_sign_in_makes_an_account_and_the_next_one_opens_it(side: Side) -> None:
    first = await side.who(await side.sign_in(name="Ada"))
    again = await side.who(await side.sign_in(email="moved@example.org"))
    assert first.user_id == again.user_id
    assert first.methods == ("fed",)
    account = await side.process._store.account(first.user_id)
    assert account is not None
    assert (account.email, account.email_verified, account.display_name) == (ADA, True, "Ada")
    assert await side.events(first.user_id) == ["logged_in", "logged_in", "registered"]


@pytest.mark.parametrize("name", ["\0", "x" * 500, "", " "])
async def test_a_name_that_cannot_be_is_left_out(side: Side, name: str) -> None:
    principal = await side.who(await side.sign_in(name=name))
    account = await side.process._store.account(principal.user_id)
    assert account is not None
    assert account.display_name is None


async def test_a_nonce_may_come_as_its_digest(side: Side) -> None:
    nonce = await side.sign_ins.nonce()
    token = side.token(sha256(nonce.encode()).hexdigest())
    assert await side.sign_ins.exchange(token, origin=HERE)
    for spelling in (nonce, sha256(nonce.encode()).hexdigest().upper()):
        with pytest.raises(IdTokenInvalid):
            await side.sign_ins.exchange(side.token(spelling), origin=HERE)


async def test_of_fifty_who_redeem_one_token_one_logs_in(side: Side) -> None:
    token = side.token(await side.sign_ins.nonce())
    got = await asyncio.gather(*(side.sign_ins.exchange(token, origin=HERE) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(one, TokenPair) for one in got) == 1
    assert sum(isinstance(one, IdTokenInvalid) for one in got) == 49


async def test_a_nonce_that_is_not_ours_late_or_missing(side: Side) -> None:
    late = await side.sign_ins.nonce()
    side.clock.advance(s=NONCE_MS / 1000)
    for nonce in ("made up", late, "", "0" * 64, "x" * 64):
        with pytest.raises(IdTokenInvalid):
            await side.sign_ins.exchange(side.token(nonce), origin=HERE)
    without = claims_of(side.google.url, now_s=side.clock.now_ms // 1000, nonce=None)
    with pytest.raises(IdTokenInvalid):
        await side.sign_ins.exchange(signed(without), origin=HERE)


async def test_a_token_that_does_not_hold_spends_no_nonce(side: Side) -> None:
    nonce = await side.sign_ins.nonce()
    for wrong in ({"aud": "another app"}, {"exp": 1}, {"iss": "https://another.test"}, {"iat": 4_100_000_000}):
        with pytest.raises(IdTokenInvalid):
            await side.sign_ins.exchange(side.token(nonce, **wrong), origin=HERE)
    head, body, _ = side.token(nonce).split(".")
    with pytest.raises(IdTokenInvalid):
        await side.sign_ins.exchange(f"{head}.{body}.AAAA", origin=HERE)
    assert await side.sign_ins.exchange(side.token(nonce, aud="ios-client"), origin=HERE)


async def test_a_token_of_one_issuer_is_not_another_ones(side: Side) -> None:
    """Both sign with the same key here; what a token says decides whose keys and rules are taken."""
    first = await side.who(await side.sign_in())
    with pytest.raises(LinkRequired):
        await side.sign_in(issuer=side.stranger)
    assert (await side.who(await side.sign_in())).user_id == first.user_id


async def test_a_second_factor_is_asked_for_here_too(side: Side) -> None:
    principal = await side.who(await side.sign_in())
    side.factors.add(principal.user_id)
    with pytest.raises(MfaRequired) as required:
        await side.sign_in()
    pair = await side.logins.complete(required.value.mfa_token, "otp", origin=HERE)
    assert (await side.who(pair)).methods == ("fed", "otp", "mfa")


async def test_first_sign_ins_at_once_make_one_account(side: Side, database: AsyncDatabase[dict[str, Any]]) -> None:
    pairs = await asyncio.gather(*(side.sign_in() for _ in range(20)))
    assert len({(await side.who(pair)).user_id for pair in pairs}) == 1
    assert await database["accounts"].count_documents({}) == 1
    assert await database["identities"].count_documents({}) == 1


# ----------------------------------------------------------------------------------------------------- pre-hijacking


async def require_locked_out(side: Side, pair: TokenPair) -> None:
    with pytest.raises(NotAuthenticated):
        await side.process.authenticate(bearer(pair))
    with pytest.raises(GrantInvalid):
        await side.process.refresh(pair.refresh_token)
    with pytest.raises(InvalidCredentials):
        await side.process.login(email=ADA, password=PASSWORD)


async def test_classic_federated_merge(side: Side) -> None:
    """Somebody registers the victim's address with a password; the victim comes with Google."""
    theirs = await side.process.register(email=ADA, password=PASSWORD)
    attacker = await side.who(theirs)
    victim = await side.who(await side.sign_in())
    assert victim.user_id == attacker.user_id  # the data stays
    await require_locked_out(side, theirs)
    account = await side.process._store.account(victim.user_id)
    assert account is not None
    assert account.email_verified
    assert "account_taken_over" in await side.events(victim.user_id)


async def test_unexpired_session(side: Side) -> None:
    """The attacker keeps sessions alive, and half a login with a second factor of theirs."""
    theirs = [await side.process.register(email=ADA, password=PASSWORD)]
    theirs += [await side.process.login(email=ADA, password=PASSWORD) for _ in range(3)]
    attacker = await side.who(theirs[0])
    side.factors.add(attacker.user_id)
    with pytest.raises(MfaRequired) as half:
        await side.logins.login(email=ADA, password=PASSWORD, origin=HERE)
    await side.sign_in()
    for pair in theirs:
        await require_locked_out(side, pair)
    with pytest.raises(GrantInvalid):
        await side.logins.complete(half.value.mfa_token, "otp", origin=HERE)


async def test_trojan_identifier(side: Side) -> None:
    """The attacker links an identity of theirs, now or while the victim comes."""
    theirs = await side.process.register(email=ADA, password=PASSWORD)
    attacker = await side.who(theirs)
    with pytest.raises(EmailUnverified):
        await side.link(attacker, sub="attacker", email="attacker@example.org")
    # A row as it would be without that rule.
    for_free = side.sign_ins._identity(
        await side.sign_ins._issuers["google"].verify(side.token("n", sub="attacker", email="attacker@example.org"))
    )
    assert await side.store.link(attacker.user_id, for_free)
    victim = await side.who(await side.sign_in())
    assert victim.user_id == attacker.user_id
    assert [one.subject for one in await side.sign_ins.of(victim.user_id)] == ["subject-1"]
    elsewhere = await side.who(await side.sign_in(sub="attacker", email="attacker@example.org"))
    assert elsewhere.user_id != victim.user_id
    # A request of theirs that was let in before, and comes to its end after.
    with pytest.raises(NotAuthenticated):
        await side.link(attacker, sub="late", email="late@example.org")
    assert [one.subject for one in await side.sign_ins.of(victim.user_id)] == ["subject-1"]


async def test_unexpired_email_change(side: Side, database: AsyncDatabase[dict[str, Any]]) -> None:
    """What was sent to a mailbox of the attacker's before is worth nothing after, nor is a move that meets the takeover."""
    attacker = await side.register()
    row = {"user_id": attacker.user_id, "content": b"", "expires_at": None}
    for kind in ("email_change", "password_reset", "authorization_code"):
        await database["single_use"].insert_one({"_id": f"{kind}:00", **row})
    victim = await side.who(await side.sign_in())
    left = [found["_id"] async for found in database["single_use"].find({"user_id": victim.user_id})]
    assert left == []
    other = await side.register("bob@example.org")
    holder = await side.store.holder(other.user_id)
    assert holder is not None
    moved = {"$set": {"email": "attacker@example.org"}, "$inc": {"version": 1}}
    await side.store._accounts.update_one({"_id": other.user_id, "user_id": other.user_id}, moved)
    assert await side.store.void(holder) is None


async def test_non_verifying_issuer(side: Side, database: AsyncDatabase[dict[str, Any]]) -> None:
    """The attacker's issuer says whatever address they like."""
    with pytest.raises(LinkRequired):
        await side.sign_in(issuer=side.stranger)
    assert await database["accounts"].count_documents({}) == 0
    unverified = await side.register()
    with pytest.raises(LinkRequired):
        await side.sign_in(issuer=side.stranger)
    with pytest.raises(LinkRequired):
        await side.sign_in(email_verified=False)
    with pytest.raises(LinkRequired):
        await side.sign_in(email_verified="false")
    assert await side.process.holds(unverified)
    await side.verify(unverified.user_id)
    with pytest.raises(LinkRequired):
        await side.sign_in(issuer=side.stranger)
    assert await side.sign_ins.of(unverified.user_id) == ()


# ------------------------------------------------------------------------------------------------------------- linking


async def test_a_verified_account_is_joined_only_by_whoever_runs_the_mailbox(side: Side) -> None:
    here = await side.register(verified=True)
    with pytest.raises(LinkRequired):
        await side.sign_in()
    gmail = await side.register("ada@gmail.com", verified=True)
    joined = await side.who(await side.sign_in(email="ada@gmail.com"))
    assert joined.user_id == gmail.user_id
    assert await side.process.holds(gmail)
    assert await side.process.login(email="ada@gmail.com", password=PASSWORD)
    assert await side.process.holds(here)


async def test_an_address_that_was_given_to_somebody_else_opens_nothing(side: Side) -> None:
    before = await side.who(await side.sign_in(sub="first owner", email="ada@gmail.com"))
    with pytest.raises(LinkRequired):
        await side.sign_in(sub="second owner", email="ada@gmail.com")
    assert (await side.who(await side.sign_in(sub="first owner", email="ada@gmail.com"))).user_id == before.user_id


async def test_apple_says_verified_as_text(side: Side) -> None:
    assert await side.sign_in(email_verified="true", email="x1@privaterelay.appleid.com", is_private_email="true")


async def test_who_is_logged_in_links_what_they_like(side: Side) -> None:
    principal = await side.register(verified=True)
    linked = await side.link(principal, issuer=side.stranger, sub="s", email=None, email_verified=None)
    assert linked == await side.link(principal, issuer=side.stranger, sub="s")
    assert (await side.who(await side.sign_in(issuer=side.stranger, sub="s"))).user_id == principal.user_id
    other = await side.register("bob@example.org", verified=True)
    with pytest.raises(IdentityTaken):
        await side.link(other, issuer=side.stranger, sub="s")
    assert "identity_linked" in await side.events(principal.user_id)


async def test_a_token_links_once(side: Side) -> None:
    principal = await side.register(verified=True)
    token = side.token(await side.sign_ins.nonce())
    await side.sign_ins.link(principal, token, origin=HERE)
    with pytest.raises(IdTokenInvalid):
        await side.sign_ins.link(principal, token, origin=HERE)
    with pytest.raises(IdTokenInvalid):
        await side.sign_ins.exchange(token, origin=HERE)


async def test_the_last_way_in_stays(side: Side) -> None:
    principal = await side.who(await side.sign_in())
    second = await side.link(principal, sub="2")

    async def unlink(identity_id: str) -> bool:
        return await side.sign_ins.unlink(principal.user_id, identity_id, origin=HERE, session_id=principal.session_id)

    first = next(one.identity_id for one in await side.sign_ins.of(principal.user_id) if one.identity_id != second)
    got = await asyncio.gather(unlink(first), unlink(second), return_exceptions=True)
    assert sorted(type(one).__name__ for one in got) == ["LastWayIn", "bool"]
    (left,) = await side.sign_ins.of(principal.user_id)
    with pytest.raises(LastWayIn):
        await unlink(left.identity_id)
    assert not await unlink("another's")
    side.passkeys.add(principal.user_id)
    assert await unlink(left.identity_id)
    assert await side.sign_ins.of(principal.user_id) == ()
    assert "identity_unlinked" in await side.events(principal.user_id)


async def test_with_a_password_every_identity_may_go(side: Side) -> None:
    principal = await side.register(verified=True)
    linked = await side.link(principal)
    assert await side.sign_ins.unlink(principal.user_id, linked, origin=HERE, session_id=principal.session_id)
    with pytest.raises(LinkRequired):
        await side.sign_in()


async def test_two_identities_of_one_address_take_an_account_over_once(side: Side) -> None:
    await side.register("ada@gmail.com")
    got = await asyncio.gather(
        side.sign_in(sub="1", email="ada@gmail.com"),
        side.sign_in(sub="2", email="ada@gmail.com"),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in got) == ["LinkRequired", "TokenPair"]
