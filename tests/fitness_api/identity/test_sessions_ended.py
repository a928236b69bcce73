"""What a process makes of the news that something ended, and of keys and grants that came and went."""

import asyncio
from collections.abc import Callable
from typing import Any

import pymongo
import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.errors import NotAuthenticated
from fitness_api.identity.errors import GrantInvalid, ScopeExceeded, StoreUnavailable
from fitness_api.identity.grants import set_service_scopes
from fitness_api.identity.key_ring import RELOAD_MS
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.refresh_tokens import Session
from fitness_api.identity.sessions import RECHECK_MS, USER_SCOPES, TokenPair
from fitness_api.identity.store_mongo import MongoStore
from tests.fitness_api.identity.conftest import Clock, Process

PASSWORD = "correct horse"


async def registered(sessions: Process) -> TokenPair:
    return await sessions.register(email="ada@example.org", password=PASSWORD)


def bearer(pair: TokenPair) -> str:
    return f"Bearer {pair.access_token}"


async def test_who_is_told_asks_again(process: Callable[[], Process]) -> None:
    here, there = process(), process()
    pair = await registered(here)
    principal = await there.authenticate(bearer(pair))
    await here.revoke(principal.user_id, principal.session_id)
    assert await there.authenticate(bearer(pair))  # remembered, for RECHECK_MS at most
    there.forget(principal.user_id, "another")
    assert await there.authenticate(bearer(pair))
    there.forget(principal.user_id, principal.session_id)
    with pytest.raises(NotAuthenticated):
        await there.authenticate(bearer(pair))


async def test_news_of_what_goes_on_end_nothing(sessions: Process) -> None:
    pair = await registered(sessions)
    principal = await sessions.authenticate(bearer(pair))
    sessions.forget(principal.user_id, principal.session_id)
    sessions.forget(principal.user_id)
    assert await sessions.authenticate(bearer(pair)) == principal


class SlowStore(MongoStore):
    """The real one, whose answers of sessions take until `gate` is set."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        super().__init__(database)
        self.gate = asyncio.Event()
        self.has_read = asyncio.Event()

    async def session(self, user_id: str, session_id: str) -> Session | None:
        found = await super().session(user_id, session_id)
        self.has_read.set()
        await self.gate.wait()
        return found


async def test_what_was_read_before_the_news_is_not_remembered(
    sessions: Process, database: AsyncDatabase[dict[str, Any]], passwords: Passwords, clock: Clock
) -> None:
    pair = await registered(sessions)
    principal = await sessions.authenticate(bearer(pair))
    store = SlowStore(database)
    slow = Process(database, passwords, clock, store=store)
    under_way = asyncio.create_task(slow.authenticate(bearer(pair)))
    await store.has_read.wait()
    await sessions.revoke(principal.user_id, principal.session_id)
    slow.forget(principal.user_id, principal.session_id)
    store.gate.set()
    assert await under_way == principal  # it began before
    with pytest.raises(NotAuthenticated):
        await slow.authenticate(bearer(pair))


async def test_it_is_told_also_where_it_is_not_known_whether_it_was_done(sessions: Process) -> None:
    pair = await registered(sessions)
    principal = await sessions.authenticate(bearer(pair))
    told: list[tuple[str, str]] = []
    sessions._on_end = lambda *ended: told.append(ended)
    with pymongo.timeout(1e-6), pytest.raises(StoreUnavailable):
        await sessions.revoke(principal.user_id, principal.session_id)
    assert told == [(principal.user_id, principal.session_id)]


async def test_all_sessions_end_but_one(process: Callable[[], Process]) -> None:
    here = process()
    pairs = [await registered(here), *[await here.login(email="ada@example.org", password=PASSWORD) for _ in range(3)]]
    principals = [await here.authenticate(bearer(pair)) for pair in pairs]
    user_id, kept = principals[0].user_id, principals[2].session_id
    assert await here.revoke_all(user_id, but=kept) == 3
    assert [session.session_id for session in await here.of(user_id)] == [kept]
    assert await here.authenticate(bearer(pairs[2]))
    assert await here.revoke_all(user_id) == 1
    for pair in pairs:
        with pytest.raises(NotAuthenticated):
            await here.authenticate(bearer(pair))
        with pytest.raises(GrantInvalid):
            await here.refresh(pair.refresh_token)


async def test_what_is_asked_anew_is_of_now(process: Callable[[], Process]) -> None:
    here, there = process(), process()
    pair = await registered(here)
    principal = await there.authenticate(bearer(pair))
    with pymongo.timeout(1e-6):
        assert await there.authenticate(bearer(pair))
        with pytest.raises(StoreUnavailable):
            await there.authenticate(bearer(pair), anew=True)
    assert await there.authenticate(bearer(pair), anew=True)
    await here.revoke(principal.user_id, principal.session_id)
    with pytest.raises(NotAuthenticated):
        await there.authenticate(bearer(pair), anew=True)


async def test_what_a_leaked_key_signed_holds_no_more_though_it_was_seen(
    process: Callable[[], Process], clock: Clock
) -> None:
    here, operator = process(), process()
    pair = await registered(here)
    assert await here.authenticate(bearer(pair))
    await operator._keys.rotate(compromised=True)
    clock.advance(s=RELOAD_MS / 1000)
    with pytest.raises(NotAuthenticated):
        await here.authenticate(bearer(pair))
    assert await here.authenticate(bearer(await here.refresh(pair.refresh_token)))


async def test_a_grant_comes_with_the_next_refresh_and_goes_with_the_next_check(
    sessions: Process, store: MongoStore, clock: Clock
) -> None:
    pair = await registered(sessions)
    assert await set_service_scopes(store, sessions.audit, "ADA@example.org", are_granted=True)
    with pytest.raises(ScopeExceeded):
        await sessions.refresh(pair.refresh_token, scopes=frozenset({"root"}))
    granted = await sessions.refresh(pair.refresh_token)
    assert granted.scope.split() == [*USER_SCOPES, "analytics:read", "admin"]
    assert "admin" in (await sessions.authenticate(bearer(granted))).scopes
    assert "admin" not in (await sessions.authenticate(bearer(pair))).scopes
    await set_service_scopes(store, sessions.audit, "ada@example.org", are_granted=False)
    clock.advance(s=RECHECK_MS / 1000)
    with pytest.raises(NotAuthenticated):
        await sessions.authenticate(bearer(granted))
    without = await sessions.refresh(granted.refresh_token)
    assert without.scope.split() == list(USER_SCOPES)
    assert await sessions.authenticate(bearer(without))


async def test_another_client_s_session_has_what_it_was_given(sessions: Process, store: MongoStore) -> None:
    principal = await sessions.authenticate(bearer(await registered(sessions)))
    await set_service_scopes(store, sessions.audit, "ada@example.org", are_granted=True)
    pair = await sessions.begin(principal.user_id, client_id="viewer", scopes=("live:watch",), methods=("pwd",))
    assert pair.scope == "live:watch"
    assert (await sessions.refresh(pair.refresh_token, client_id="viewer")).scope == "live:watch"


async def test_changes_of_the_profile_leave_what_was_granted(sessions: Process, store: MongoStore) -> None:
    principal = await sessions.authenticate(bearer(await registered(sessions)))
    await set_service_scopes(store, sessions.audit, "ada@example.org", are_granted=True)
    await store.update_account(principal.user_id, lambda account: replace(account, display_name="Ada"))
    assert (await store.standing(principal.user_id)).granted_scopes == ("analytics:read", "admin")
