import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.authorization.device_grants import Approval, DeviceGrant, poll
from fitness_api.identity.authorization.device_store_mongo import MongoDeviceStore

NOW = time.time_ns() // 1_000_000
GRANT = DeviceGrant(
    name="n1",
    secret_digest=b"d" * 32,
    client_id="c",
    scopes=("sync", "workouts:read"),
    place="203.0.113.0/24",
    user_agent="Watch",
    created_at_ms=NOW,
    expires_at_ms=NOW + 600_000,
)
APPROVAL = Approval(user_id="u", session_id="s", methods=("pwd", "mfa"), authenticated_at_ms=NOW - 5)


@pytest.fixture
def grants(database: AsyncDatabase[dict[str, Any]]) -> MongoDeviceStore:
    return MongoDeviceStore(database)


async def test_what_was_added_is_read_by_its_name_and_a_name_is_given_once(grants: MongoDeviceStore) -> None:
    assert await grants.add(GRANT)
    assert not await grants.add(replace(GRANT, client_id="other"))
    assert await grants.grant("n1") == GRANT
    assert await grants.grant("n2") is None


async def test_of_many_decisions_the_first_stands(grants: MongoDeviceStore) -> None:
    await grants.add(GRANT)
    others = [replace(APPROVAL, user_id=f"u{number}") for number in range(10)]
    done = await asyncio.gather(*(grants.decide("n1", one, now_ms=NOW) for one in (*others, None)))
    assert sum(done) == 1
    found = await grants.grant("n1")
    assert found is not None
    winner = done.index(True)
    assert (found.state, found.approval) == (("denied", None) if winner == 10 else ("approved", others[winner]))


async def test_what_has_expired_is_not_decided(grants: MongoDeviceStore) -> None:
    await grants.add(GRANT)
    assert not await grants.decide("n1", APPROVAL, now_ms=GRANT.expires_at_ms)
    assert not await grants.decide("n2", APPROVAL, now_ms=NOW)


async def test_of_many_polls_one_is_stored(grants: MongoDeviceStore) -> None:
    await grants.add(GRANT)
    await grants.decide("n1", APPROVAL, now_ms=NOW)
    approved = await grants.grant("n1")
    assert approved is not None
    after = poll(approved, NOW + 1).after
    assert sum(await asyncio.gather(*(grants.polled(after) for _ in range(50)))) == 1
    assert await grants.grant("n1") == after
    assert after.state == "redeemed"


async def test_a_decision_between_a_poll_and_its_storing_is_not_lost(grants: MongoDeviceStore) -> None:
    await grants.add(GRANT)
    after = poll(GRANT, NOW + 1).after
    await grants.decide("n1", APPROVAL, now_ms=NOW)
    assert not await grants.polled(after)
    found = await grants.grant("n1")
    assert found is not None
    assert found.state == "approved"
