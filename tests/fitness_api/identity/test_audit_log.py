import asyncio
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.audit import AuditEvent, Origin
from fitness_api.identity.audit_log import MAX_NOTED, MAX_USER_AGENT, NOTED_EVERY_MS, AuditLog
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.errors import StoreUnavailable
from tests.fitness_api.identity.conftest import Clock

ORIGIN = Origin("192.0.2.1", "curl/8")


async def test_who_is_to_be_told_is_told_after_it_was_recorded(
    database: AsyncDatabase[dict[str, Any]], clock: Clock
) -> None:
    told: list[AuditEvent] = []

    async def tell(event: AuditEvent) -> None:
        assert await store.of("u1", limit=10) == [event]
        told.append(event)

    store = MongoAuditStore(database)
    await AuditLog(store, on_event=tell, now_ms=clock).record("u1", "password_changed", origin=ORIGIN)
    assert [event.kind for event in told] == ["password_changed"]


async def test_what_is_noted_is_recorded_once_in_a_while_and_in_the_end(
    database: AsyncDatabase[dict[str, Any]], clock: Clock
) -> None:
    store = MongoAuditStore(database)
    log = AuditLog(store, now_ms=clock)
    async with log.running():
        for _ in range(100):
            log.note("u1", "login_failed", origin=ORIGIN)
        log.note("u2", "login_failed", origin=ORIGIN)
        while not await store.of("u2", limit=10):
            await asyncio.sleep(0.01)
        clock.advance(s=NOTED_EVERY_MS / 1000)
        log.note("u1", "login_failed", origin=ORIGIN)
    assert len(await store.of("u1", limit=10)) == 2
    assert len(await store.of("u2", limit=10)) == 1


class Failing(MongoAuditStore):
    """Does not answer so often."""

    failures = 1

    async def append(self, event: AuditEvent) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("not now", retry_after_s=0)
        await super().append(event)


async def test_what_is_noted_while_the_database_is_down_is_recorded_later(
    database: AsyncDatabase[dict[str, Any]], clock: Clock
) -> None:
    store = Failing(database)
    log = AuditLog(store, now_ms=clock)
    async with log.running():
        log.note("u1", "login_failed", origin=ORIGIN)
        while not await store.of("u1", limit=10):
            await asyncio.sleep(0.01)
    store.failures = 1
    with pytest.raises(StoreUnavailable):
        await log.record("u1", "password_changed", origin=ORIGIN)


async def test_no_more_is_noted_than_has_room_and_a_user_agent_is_cut(
    database: AsyncDatabase[dict[str, Any]], clock: Clock
) -> None:
    store = MongoAuditStore(database)
    log = AuditLog(store, now_ms=clock)
    for number in range(MAX_NOTED + 5):
        log.note(f"u{number}", "login_failed", origin=Origin("192.0.2.1", "x" * 10_000))
    assert len(log._noted) == MAX_NOTED
    assert {len(event.origin.user_agent) for event in log._noted} == {MAX_USER_AGENT}
