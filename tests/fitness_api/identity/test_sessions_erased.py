"""What the tokens of an account are worth once it is erased, in one process and several; and which logins are recent."""

from collections.abc import Callable
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.errors import NotAuthenticated
from fitness_api.identity import access_tokens, refresh_tokens
from fitness_api.identity.erasure_store_mongo import MongoErasureStore
from fitness_api.identity.errors import (
    AccountDeleted,
    GrantInvalid,
    InvalidCredentials,
    ReauthenticationRequired,
)
from fitness_api.identity.key_ring import KeyRing
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.refresh_tokens import Session
from fitness_api.identity.sessions import RECENT_LOGIN_S, RECHECK_MS, Sessions
from fitness_api.identity.store_mongo import MongoStore
from tests.fitness_api.identity.conftest import MASTER_KEY, Clock, Process
from tests.fitness_api.identity.test_sessions import PASSWORD, MakeProcess, bearer, registered


@pytest.fixture
def erasures(database: AsyncDatabase[dict[str, Any]]) -> MongoErasureStore:
    return MongoErasureStore(database, address_key=b"k")


async def user_of(sessions: Process, authorization: str) -> str:
    return (await sessions.authenticate(authorization)).user_id


async def test_a_token_of_an_erased_account_says_so_however_old_it_is(
    sessions: Process, process: MakeProcess, erasures: MongoErasureStore, clock: Clock
) -> None:
    ada, bob = bearer(await registered(sessions)), bearer(await registered(sessions, "bob@example.org"))
    user_id = await user_of(sessions, ada)
    await erasures.bury(user_id, now_ms=clock())
    await erasures.end_logins(user_id)
    sessions.forget(user_id)
    for late_s in (0, access_tokens.LIFETIME_S, 20 * 24 * 3600):
        clock.advance(s=late_s)
        for each in (sessions, process()):
            with pytest.raises(AccountDeleted) as deleted:
                await each.authenticate(ada)
            assert deleted.value.user_id == user_id
    with pytest.raises(NotAuthenticated, match="expired"):
        await sessions.authenticate(bob)


async def test_only_a_token_of_ours_learns_of_it(
    sessions: Process, erasures: MongoErasureStore, store: MongoStore, passwords: Passwords, clock: Clock
) -> None:
    pair = await registered(sessions)
    user_id = await user_of(sessions, bearer(pair))
    await erasures.bury(user_id, now_ms=clock())
    sessions.forget(user_id)
    head, body, signature = pair.access_token.split(".")
    forged = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
    elsewhere = Sessions(
        store, KeyRing(store, MASTER_KEY, now_ms=clock), sessions.audit,
        issuer="http://other.test", master_key=MASTER_KEY, now_ms=clock,
    )  # fmt: skip
    for late_s in (0, access_tokens.LIFETIME_S):
        clock.advance(s=late_s)
        with pytest.raises(NotAuthenticated):
            await sessions.authenticate(f"Bearer {head}.{body}.{forged}")
        with pytest.raises(NotAuthenticated):
            await elsewhere.authenticate(bearer(pair))


async def test_a_gravestone_is_enough_though_the_erasure_was_cut_off_after_it(
    process: MakeProcess, erasures: MongoErasureStore, clock: Clock
) -> None:
    """Other processes notice within the time in which they notice a logout."""
    here, there = process(), process()
    pair = await registered(here)
    user_id = await user_of(there, bearer(pair))
    await erasures.bury(user_id, now_ms=clock())
    assert await user_of(there, bearer(pair)) == user_id
    clock.advance(s=RECHECK_MS / 1000)
    with pytest.raises(AccountDeleted):
        await there.authenticate(bearer(pair))
    with pytest.raises(AccountDeleted):
        await there.refresh(pair.refresh_token)
    with pytest.raises(InvalidCredentials):
        await there.login(email="ada@example.org", password=PASSWORD)


async def test_a_refresh_token_of_ours_is_told_that_the_account_was_deleted(
    sessions: Process, erasures: MongoErasureStore, clock: Clock
) -> None:
    pair = await registered(sessions)
    user_id = await user_of(sessions, bearer(pair))
    await erasures.bury(user_id, now_ms=clock())
    await erasures.end_logins(user_id)
    clock.advance(s=400 * 24 * 3600)
    with pytest.raises(AccountDeleted):
        await sessions.refresh(pair.refresh_token)
    token = refresh_tokens.read(pair.refresh_token, refresh_tokens.derive_key(MASTER_KEY))
    assert token is not None
    other_key = refresh_tokens.derive_key(b"x" * 32)
    forged = refresh_tokens.mint(
        refresh_tokens.begin(
            user_id=token.user_id,
            session_id=token.session_id,
            client_id="app",
            scopes=(),
            user_agent="",
            now_ms=clock(),
        ),
        other_key,
    )
    with pytest.raises(GrantInvalid, match="not a refresh token"):
        await sessions.refresh(forged)


class Overtaken(MongoStore):
    """A store in which `meanwhile` happens just before a session is added."""

    meanwhile: Callable[[], Any] | None = None

    async def add_session(self, session: Session) -> None:
        if self.meanwhile is not None:
            await self.meanwhile()
        await super().add_session(session)


async def test_a_login_that_an_erasure_overtakes_is_refused_and_leaves_no_session(
    database: AsyncDatabase[dict[str, Any]], passwords: Passwords, erasures: MongoErasureStore, clock: Clock
) -> None:
    store = Overtaken(database)
    sessions = Process(database, passwords, clock, store=store)
    user_id = await user_of(sessions, bearer(await registered(sessions)))

    async def erase() -> None:
        await erasures.bury(user_id, now_ms=clock())
        await erasures.end_logins(user_id)

    store.meanwhile = erase
    with pytest.raises(InvalidCredentials):
        await sessions.login(email="ada@example.org", password=PASSWORD)
    assert await database["sessions"].count_documents({}) == 0


async def test_a_login_is_recent_for_five_minutes_and_a_refresh_does_not_renew_it(
    sessions: Process, clock: Clock
) -> None:
    pair = await registered(sessions)
    sessions.require_recent_login(await sessions.authenticate(bearer(pair)))
    clock.advance(s=RECENT_LOGIN_S - 1)
    sessions.require_recent_login(await sessions.authenticate(bearer(pair)))
    clock.advance(s=1)
    refreshed = await sessions.refresh(pair.refresh_token)
    for old in (pair, refreshed):
        principal = await sessions.authenticate(bearer(old))
        with pytest.raises(ReauthenticationRequired) as refused:
            sessions.require_recent_login(principal)
        assert refused.value.max_age_s == 300
    again = await sessions.login(email="ada@example.org", password=PASSWORD)
    sessions.require_recent_login(await sessions.authenticate(bearer(again)))
