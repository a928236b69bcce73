"""The gate of every login where an account has a second factor; test_sessions.py has the rest."""

import asyncio
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.errors import GrantInvalid, MfaRequired
from fitness_api.identity.logins import PENDING_MS, Logins
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.sessions import TokenPair
from fitness_api.identity.single_use_mongo import MongoSingleUse
from tests.fitness_api.identity.conftest import Clock, Process
from tests.fitness_api.identity.test_sessions import PASSWORD, bearer, registered


@pytest.fixture
def guarded(sessions: Process, database: AsyncDatabase[dict[str, Any]], passwords: Passwords, clock: Clock) -> Logins:
    """Logins where everybody has a second factor."""

    async def totp(_: str) -> tuple[str, ...]:
        return ("totp",)

    audit = AuditLog(MongoAuditStore(database), now_ms=clock)
    artefacts = MongoSingleUse(database)
    return Logins(sessions._store, passwords, sessions, artefacts, audit, second_factors=totp, now_ms=clock)


async def put_off(logins: Logins) -> str:
    with pytest.raises(MfaRequired) as required:
        await logins.login(email="ada@example.org", password=PASSWORD, origin=Origin())
    assert required.value.ways == ("totp",)
    return required.value.mfa_token


async def test_the_first_factor_alone_begins_no_session(
    sessions: Process, guarded: Logins, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await registered(sessions)
    token = await put_off(guarded)
    assert await database["sessions"].count_documents({}) == 1
    assert (await guarded.pending(token)).methods == ("pwd",)
    pair = await guarded.complete(token, "otp", origin=Origin("192.0.2.7", "phone"))
    principal = await sessions.authenticate(bearer(pair))
    assert principal.methods == ("pwd", "otp", "mfa")


async def test_a_login_is_completed_once(sessions: Process, guarded: Logins) -> None:
    await registered(sessions)
    token = await put_off(guarded)
    got = await asyncio.gather(
        *(guarded.complete(token, "otp", origin=Origin()) for _ in range(50)), return_exceptions=True
    )
    assert sum(isinstance(one, TokenPair) for one in got) == 1
    assert sum(isinstance(one, GrantInvalid) for one in got) == 49
    with pytest.raises(GrantInvalid):
        await guarded.pending(token)


async def test_a_login_waits_five_minutes_for_its_second_factor(
    sessions: Process, guarded: Logins, clock: Clock
) -> None:
    await registered(sessions)
    token = await put_off(guarded)
    clock.advance(s=PENDING_MS / 1000)
    for asked in (guarded.pending(token), guarded.complete(token, "otp", origin=Origin()), guarded.pending("x")):
        with pytest.raises(GrantInvalid):
            await asked


async def test_logins_are_on_record(sessions: Process, database: AsyncDatabase[dict[str, Any]], clock: Clock) -> None:
    pair = await sessions.logins.register(
        email="ada@example.org", password=PASSWORD, origin=Origin("192.0.2.7", "phone")
    )
    user_id = (await sessions.authenticate(bearer(pair))).user_id
    events = await MongoAuditStore(database).of(user_id, limit=10)
    assert {(one.kind, one.origin, one.at_ms) for one in events} == {
        ("registered", Origin("192.0.2.7", "phone"), clock()),
        ("logged_in", Origin("192.0.2.7", "phone"), clock()),
    }
