from typing import Any

import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.audit import AuditEvent, Origin
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.errors import StoreUnavailable
from tests.sync.model import new_id


@pytest.fixture
def audit(database: AsyncDatabase[dict[str, Any]]) -> MongoAuditStore:
    return MongoAuditStore(database)


def event(user_id: str, at_ms: int) -> AuditEvent:
    return AuditEvent(
        event_id=new_id(),
        user_id=user_id,
        at_ms=at_ms,
        kind="logged_in",
        origin=Origin("192.0.2.7", "phone"),
        session_id=new_id(),
        details={"methods": "pwd"},
    )


async def test_an_accounts_events_come_newest_first_and_in_pages(audit: MongoAuditStore) -> None:
    ada, bob = new_id(), new_id()
    events = [event(ada, at_ms) for at_ms in (5_000, 5_000, 7_000, 6_000)]
    for one in [*events, event(bob, 6_000)]:
        await audit.append(one)
    newest_first = sorted(events, key=lambda one: (one.at_ms, one.event_id), reverse=True)
    assert await audit.of(ada, limit=10) == newest_first
    last, found = None, []
    while page := await audit.of(ada, before=last, limit=1):
        found += page
        last = (page[-1].at_ms, page[-1].event_id)
    assert found == newest_first


async def test_an_event_that_was_appended_is_never_changed(audit: MongoAuditStore) -> None:
    ada = new_id()
    first = event(ada, 5_000)
    await audit.append(first)
    await audit.append(AuditEvent(event_id=first.event_id, user_id=ada, at_ms=1, kind="registered", origin=Origin()))
    assert await audit.of(ada, limit=10) == [first]


async def test_a_database_that_does_not_answer_in_time_is_unavailable(audit: MongoAuditStore) -> None:
    with pymongo.timeout(1e-6):
        with pytest.raises(StoreUnavailable):
            await audit.append(event(new_id(), 1))
        with pytest.raises(StoreUnavailable):
            await audit.of(new_id(), limit=1)
