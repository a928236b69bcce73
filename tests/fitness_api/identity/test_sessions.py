"""Logins from their beginning to their end, on a real database, in one process and several.

Long, because one use case has all of a login, and its tests share their processes and their clock.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jwt
import pymongo
import pytest
from argon2 import PasswordHasher
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.errors import InvalidBody, NotAuthenticated
from fitness_api.identity import refresh_tokens
from fitness_api.identity import sessions as module
from fitness_api.identity.errors import (
    EmailTaken,
    GrantInvalid,
    InvalidCredentials,
    ScopeExceeded,
    StoreUnavailable,
)
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.sessions import MAX_SESSIONS, RECHECK_MS, USER_SCOPES, TokenPair
from fitness_api.identity.store_mongo import MongoStore
from tests.fitness_api.identity.conftest import MASTER_KEY, Clock, Process

PASSWORD = "correct horse"
MakeProcess = Callable[[], Process]


async def registered(sessions: Process, email: str = "ada@example.org") -> TokenPair:
    return await sessions.register(email=email, password=PASSWORD)


def bearer(pair: TokenPair) -> str:
    return f"Bearer {pair.access_token}"


def generation(pair: TokenPair) -> int:
    claims = jwt.decode(pair.access_token, options={"verify_signature": False})
    assert isinstance(claims["gen"], int)
    return claims["gen"]


def counter(pair: TokenPair) -> int:
    read = refresh_tokens.read(pair.refresh_token, refresh_tokens.derive_key(MASTER_KEY))
    assert read is not None
    return read.counter


# ------------------------------------------------------------------------------------------- registering and logging in


async def test_who_registers_is_logged_in_with_the_users_scopes(sessions: Process) -> None:
    pair = await registered(sessions)
    assert (pair.token_type, pair.expires_in, pair.scope) == ("Bearer", 600, " ".join(USER_SCOPES))
    principal = await sessions.authenticate(bearer(pair))
    assert principal.scopes == frozenset(USER_SCOPES)
    assert principal.client_id == "app"
    assert "admin" not in principal.scopes


async def test_an_address_registers_once_however_it_is_typed(sessions: Process) -> None:
    await registered(sessions)
    for email in ("ada@example.org", " ADA@EXAMPLE.ORG "):
        with pytest.raises(EmailTaken):
            await registered(sessions, email)


async def test_of_many_who_register_an_address_at_once_one_gets_it(
    sessions: Process, database: AsyncDatabase[dict[str, Any]]
) -> None:
    results = await asyncio.gather(*(registered(sessions) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, TokenPair) for result in results) == 1
    assert sum(isinstance(result, EmailTaken) for result in results) == 9
    assert await database["accounts"].count_documents({}) == 1
    assert await database["sessions"].count_documents({}) == 1


@pytest.mark.parametrize(
    "wrong", [{"email": "nobody"}, {"password": "short"}, {"display_name": "a\x00"}, {"password": "a" * 257}]
)
async def test_a_bad_registration_is_refused(sessions: Process, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidBody) as error:
        await sessions.register(**{"email": "ada@example.org", "password": PASSWORD} | wrong)
    assert error.value.errors[0].pointer == "/" + next(iter(wrong))


async def test_logging_in_needs_the_address_in_any_case_and_the_password_in_its(sessions: Process) -> None:
    pair = await registered(sessions)
    again = await sessions.login(email="Ada@Example.ORG", password=PASSWORD)
    mine = await sessions.authenticate(bearer(pair))
    other = await sessions.authenticate(bearer(again))
    assert mine.user_id == other.user_id
    assert mine.session_id != other.session_id
    with pytest.raises(InvalidCredentials):
        await sessions.login(email="ada@example.org", password=PASSWORD.upper())


async def test_a_password_is_the_same_however_a_keyboard_composes_it(sessions: Process) -> None:
    await sessions.register(email="ada@example.org", password="cafe\u0301 cafe\u0301")
    assert await sessions.login(email="ada@example.org", password="café café")


class CountingPasswords(Passwords):
    """The real ones, which tell what was checked."""

    def __init__(self) -> None:
        super().__init__(hashers=1)
        self.checked: list[str | None] = []

    async def verify(self, password_hash: str | None, password: str, *, is_known_device: bool = False) -> bool:
        self.checked.append(password_hash)
        return await super().verify(password_hash, password, is_known_device=is_known_device)


async def test_an_unknown_address_is_refused_as_a_wrong_password_is_and_costs_a_check(
    database: AsyncDatabase[dict[str, Any]], clock: Clock
) -> None:
    counting = CountingPasswords()
    sessions = Process(database, counting, clock)
    await registered(sessions)
    answers = set()
    for email in ("ada@example.org", "bob@example.org", "not an address", ""):
        with pytest.raises(InvalidCredentials) as error:
            await sessions.login(email=email, password="wrong horse")
        answers.add(str(error.value))
    assert len(answers) == 1
    assert [known is not None for known in counting.checked] == [True, False, False, False]
    counting.close()


async def test_an_outdated_hash_is_renewed_when_its_owner_logs_in(
    sessions: Process, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await registered(sessions)
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    await database["accounts"].update_one({}, {"$set": {"password_hash": old}})
    with pytest.raises(InvalidCredentials):
        await sessions.login(email="ada@example.org", password="wrong horse")
    await sessions.login(email="ada@example.org", password=PASSWORD)
    account = await database["accounts"].find_one({})
    assert account is not None
    assert "m=47104,t=1,p=1" in account["password_hash"]
    assert await sessions.login(email="ada@example.org", password=PASSWORD)


async def test_the_oldest_sessions_end_where_there_are_too_many(
    sessions: Process, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_SESSIONS >= 10
    monkeypatch.setattr(module, "MAX_SESSIONS", 3)
    pairs = [await registered(sessions)]
    for _ in range(4):
        clock.advance(s=1)
        pairs.append(await sessions.login(email="ada@example.org", password=PASSWORD))
    for pair in pairs[:2]:
        with pytest.raises(GrantInvalid):
            await sessions.refresh(pair.refresh_token)
    user_id = (await sessions.authenticate(bearer(pairs[-1]))).user_id
    assert len(await sessions.of(user_id)) == 3


async def test_nothing_secret_is_at_rest(sessions: Process, database: AsyncDatabase[dict[str, Any]]) -> None:
    pair = await registered(sessions)
    pair = await sessions.refresh(pair.refresh_token)
    everything = "".join(
        [repr(row) for name in await database.list_collection_names() async for row in database[name].find({})]
    )
    for secret in (PASSWORD, pair.refresh_token, pair.access_token, pair.refresh_token[-22:]):
        assert secret not in everything


# ---------------------------------------------------------------------------------------------------------- refreshing


async def test_a_refresh_gives_the_next_pair_of_the_same_session(sessions: Process, clock: Clock) -> None:
    first = await registered(sessions)
    before = await sessions.authenticate(bearer(first))
    clock.advance(s=3600)
    second = await sessions.refresh(first.refresh_token)
    after = await sessions.authenticate(bearer(second))
    assert (counter(second), generation(second)) == (2, 2)
    assert (after.user_id, after.session_id) == (before.user_id, before.session_id)
    assert after.authenticated_at_s == before.authenticated_at_s
    assert after.expires_at_s == clock.now_ms // 1000 + 600


async def test_parallel_refreshes_in_many_processes_end_in_one_token(process: MakeProcess, clock: Clock) -> None:
    processes = [process() for _ in range(4)]
    pair = await registered(processes[0])
    for _ in range(3):
        pairs = await asyncio.gather(*(processes[n % 4].refresh(pair.refresh_token) for n in range(20)))
        assert {generation(one) for one in pairs} == {counter(pair) + 1}
        assert len({one.refresh_token for one in pairs}) == 1
        pair = pairs[7]
        assert await processes[1].authenticate(bearer(pair))
        clock.advance(s=300)


async def test_a_lost_response_never_logs_a_phone_out(sessions: Process, clock: Clock) -> None:
    pair = await registered(sessions)
    lost = await sessions.refresh(pair.refresh_token)
    for days in (0.1, 1, 5, 20):
        clock.advance(s=days * 24 * 3600)
        again = await sessions.refresh(pair.refresh_token)
        assert again.refresh_token == lost.refresh_token
    onward = await sessions.refresh(again.refresh_token)
    assert counter(onward) == 3
    assert await sessions.authenticate(bearer(onward))


@pytest.mark.parametrize("seen_by_s", [0, 29])
async def test_within_the_window_a_retry_is_served_though_the_successor_was_seen(
    sessions: Process, clock: Clock, seen_by_s: int
) -> None:
    pair = await registered(sessions)
    successor = await sessions.refresh(pair.refresh_token)
    clock.advance(s=seen_by_s)
    await sessions.authenticate(bearer(successor))
    clock.advance(s=30 - seen_by_s)
    assert (await sessions.refresh(pair.refresh_token)).refresh_token == successor.refresh_token


async def test_a_replay_after_the_access_token_was_seen_ends_the_session(process: MakeProcess, clock: Clock) -> None:
    phone, thief = process(), process()
    pair = await registered(phone)
    successor = await phone.refresh(pair.refresh_token)
    assert await phone.authenticate(bearer(successor))
    clock.advance(s=31)
    with pytest.raises(GrantInvalid, match="used before"):
        await thief.refresh(pair.refresh_token)
    with pytest.raises(GrantInvalid, match="ended"):
        await phone.refresh(successor.refresh_token)
    with pytest.raises(NotAuthenticated):
        await phone.authenticate(bearer(successor))


async def test_a_replay_after_the_refresh_token_was_seen_ends_the_session(sessions: Process, clock: Clock) -> None:
    pair = await registered(sessions)
    second = await sessions.refresh(pair.refresh_token)
    third = await sessions.refresh(second.refresh_token)
    with pytest.raises(GrantInvalid):
        await sessions.refresh(pair.refresh_token)
    for dead in (pair, second, third):
        with pytest.raises(GrantInvalid):
            await sessions.refresh(dead.refresh_token)
        with pytest.raises(NotAuthenticated):
            await sessions.authenticate(bearer(dead))


async def test_a_thief_who_is_first_is_found_out_when_the_phone_comes(process: MakeProcess, clock: Clock) -> None:
    phone, thief = process(), process()
    stolen = await registered(phone)
    loot = await thief.refresh(stolen.refresh_token)
    await thief.authenticate(bearer(loot))
    clock.advance(s=60)
    with pytest.raises(GrantInvalid):
        await phone.refresh(stolen.refresh_token)
    clock.advance(s=RECHECK_MS / 1000)
    with pytest.raises(NotAuthenticated):
        await thief.authenticate(bearer(loot))
    with pytest.raises(GrantInvalid):
        await thief.refresh(loot.refresh_token)


async def test_the_first_sight_of_a_generation_is_recorded_by_whichever_process(
    process: MakeProcess, clock: Clock
) -> None:
    one, other = process(), process()
    pair = await registered(one)
    principal = await other.authenticate(bearer(pair))
    successor = await one.refresh(pair.refresh_token)
    await other.authenticate(bearer(pair))
    session = await one._store.session(principal.user_id, principal.session_id)
    assert session is not None
    assert (session.counter, session.seen_generation) == (2, 1)
    await other.authenticate(bearer(successor))
    session = await one._store.session(principal.user_id, principal.session_id)
    assert session is not None
    assert session.seen_generation == 2


async def test_a_session_that_is_not_used_expires_and_one_that_is_ends_some_day(
    sessions: Process, clock: Clock
) -> None:
    idle, busy = await registered(sessions), await registered(sessions, "bob@example.org")
    begun_ms = clock.now_ms
    for _ in range(6):
        clock.advance(s=29 * 24 * 3600)
        busy = await sessions.refresh(busy.refresh_token)
    with pytest.raises(GrantInvalid):
        await sessions.refresh(idle.refresh_token)
    clock.now_ms = begun_ms + refresh_tokens.ABSOLUTE_MS - 1
    busy = await sessions.refresh(busy.refresh_token)
    principal = await sessions.authenticate(bearer(busy))
    clock.now_ms += 1
    with pytest.raises(GrantInvalid):
        await sessions.refresh(busy.refresh_token)
    assert await sessions.of(principal.user_id) == []
    clock.advance(s=RECHECK_MS / 1000)
    with pytest.raises(NotAuthenticated):
        await sessions.authenticate(bearer(busy))


async def test_scopes_may_be_narrowed_for_one_access_token_and_never_widened(sessions: Process) -> None:
    pair = await registered(sessions)
    narrow = await sessions.refresh(pair.refresh_token, scopes=frozenset({"sync"}))
    assert (await sessions.authenticate(bearer(narrow))).scopes == {"sync"}
    with pytest.raises(ScopeExceeded):
        await sessions.refresh(narrow.refresh_token, scopes=frozenset({"sync", "admin"}))
    wide = await sessions.refresh(narrow.refresh_token)
    assert counter(wide) == 3
    assert (await sessions.authenticate(bearer(wide))).scopes == frozenset(USER_SCOPES)


async def test_another_client_gets_nothing_and_ends_nothing(sessions: Process) -> None:
    pair = await registered(sessions)
    with pytest.raises(GrantInvalid):
        await sessions.refresh(pair.refresh_token, client_id="other")
    await sessions.revoke_token(pair.refresh_token, client_id="other")
    await sessions.revoke_token(pair.access_token, client_id="other")
    assert await sessions.refresh(pair.refresh_token)


async def test_a_refresh_that_the_database_cut_off_may_be_sent_again(sessions: Process) -> None:
    pair = await registered(sessions)
    with pymongo.timeout(1e-6), pytest.raises(StoreUnavailable):
        await sessions.refresh(pair.refresh_token)
    assert await sessions.refresh(pair.refresh_token)


# ------------------------------------------------------------------------------------------------ ending, telling apart


@pytest.mark.parametrize("which", ["refresh_token", "access_token"])
async def test_either_token_ends_its_session(sessions: Process, which: str) -> None:
    pair, other = await registered(sessions), await registered(sessions, "bob@example.org")
    await sessions.authenticate(bearer(pair))
    for _ in range(2):
        await sessions.revoke_token(getattr(pair, which))
    with pytest.raises(NotAuthenticated):
        await sessions.authenticate(bearer(pair))
    with pytest.raises(GrantInvalid):
        await sessions.refresh(pair.refresh_token)
    assert await sessions.authenticate(bearer(other))


async def test_revoking_what_is_no_token_does_nothing(sessions: Process) -> None:
    await sessions.revoke_token("nothing")
    await sessions.revoke_token("")


async def test_an_ended_session_is_ended_here_at_once_and_elsewhere_within_five_seconds(
    process: MakeProcess, clock: Clock
) -> None:
    here, elsewhere = process(), process()
    pair = await registered(here)
    principal = await here.authenticate(bearer(pair))
    await elsewhere.authenticate(bearer(pair))
    clock.advance(s=1)
    assert await here.revoke(principal.user_id, principal.session_id)
    with pytest.raises(NotAuthenticated):
        await here.authenticate(bearer(pair))
    clock.advance(s=4)
    with pytest.raises(NotAuthenticated):
        await elsewhere.authenticate(bearer(pair))
    assert not await elsewhere.holds(principal)


async def test_a_session_is_read_once_in_five_seconds(sessions: Process, clock: Clock) -> None:
    pair = await registered(sessions)
    await sessions.authenticate(bearer(pair))
    with pymongo.timeout(1e-6):
        for _ in range(4):
            clock.advance(s=1)
            await sessions.authenticate(bearer(pair))
        clock.advance(s=1)
        with pytest.raises(StoreUnavailable):
            await sessions.authenticate(bearer(pair))
    assert await sessions.authenticate(bearer(pair))


async def test_a_clock_that_runs_back_does_not_lengthen_a_sessions_life(sessions: Process, clock: Clock) -> None:
    pair = await registered(sessions)
    principal = await sessions.authenticate(bearer(pair))
    await sessions._store.end_session(principal.user_id, principal.session_id)
    clock.advance(s=-1)
    with pytest.raises(NotAuthenticated):
        await sessions.authenticate(bearer(pair))


async def test_a_token_ends_on_time_though_it_was_verified_before(sessions: Process, clock: Clock) -> None:
    pair = await registered(sessions)
    clock.advance(s=599)
    assert await sessions.authenticate(bearer(pair))
    clock.advance(s=1)
    with pytest.raises(NotAuthenticated):
        await sessions.authenticate(bearer(pair))


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token x", "bearer\tx"])
async def test_without_a_token_there_is_no_error_code(sessions: Process, header: str | None) -> None:
    with pytest.raises(NotAuthenticated) as error:
        await sessions.authenticate(header)
    assert error.value.error is None


@pytest.mark.parametrize("token", ["x", "a.b.c", "A" * 100_000, "é", "a b"])
async def test_a_token_that_is_none_is_invalid(sessions: Process, token: str) -> None:
    with pytest.raises(NotAuthenticated) as error:
        await sessions.authenticate(f"Bearer {token}")
    assert error.value.error == "invalid_token"


async def test_the_scheme_is_read_without_case(sessions: Process) -> None:
    pair = await registered(sessions)
    assert await sessions.authenticate(f"bEARER  {pair.access_token} ")


async def test_a_refresh_token_is_no_access_token_nor_the_other_way_round(sessions: Process) -> None:
    pair = await registered(sessions)
    with pytest.raises(NotAuthenticated):
        await sessions.authenticate(f"Bearer {pair.refresh_token}")
    with pytest.raises(GrantInvalid):
        await sessions.refresh(pair.access_token)


async def test_a_token_of_another_deployment_is_not_ours(
    sessions: Process, store: MongoStore, process: MakeProcess
) -> None:
    pair = await registered(sessions)
    other = process()
    other._issuer = "https://elsewhere.test"
    with pytest.raises(NotAuthenticated):
        await other.authenticate(bearer(pair))


async def test_memory_is_bounded_however_many_call(sessions: Process) -> None:
    sessions._verified._most = sessions._checked._most = 3
    for n in range(5):
        await sessions.authenticate(bearer(await registered(sessions, f"user{n}@example.org")))
    assert len(sessions._verified._entries) == len(sessions._checked._entries) == 3


async def test_sessions_are_listed_to_their_owner(sessions: Process) -> None:
    pair = await sessions.register(email="ada@example.org", password=PASSWORD, user_agent="x" * 1000)
    principal = await sessions.authenticate(bearer(pair))
    (listed,) = await sessions.of(principal.user_id)
    assert listed.session_id == principal.session_id
    assert listed.user_agent == "x" * 200
    assert await sessions.of(str(uuid4())) == []
    assert not await sessions.revoke(str(uuid4()), principal.session_id)
    assert await sessions.authenticate(bearer(pair))
