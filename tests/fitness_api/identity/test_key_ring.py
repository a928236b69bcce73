import asyncio
from typing import Any

import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity import signing_keys
from fitness_api.identity.errors import SigningKeysUnreadable, StoreUnavailable
from fitness_api.identity.key_ring import COOL_DOWN_MS, RELOAD_MS, KeyRing
from fitness_api.identity.signing_keys import PUBLISH_BEFORE_MS, RETIRE_FOR_MS, ROTATE_AFTER_MS
from fitness_api.identity.store_mongo import MongoStore
from tests.fitness_api.identity.conftest import MASTER_KEY, Clock


class CountingStore(MongoStore):
    """The real one, which tells how often the keys were read."""

    reads = 0

    async def signing_keys(self) -> list[signing_keys.StoredKey]:
        self.reads += 1
        return await super().signing_keys()


async def test_processes_that_start_together_sign_with_one_key(store: MongoStore, clock: Clock) -> None:
    rings = [KeyRing(store, MASTER_KEY, now_ms=clock) for _ in range(10)]
    current = await asyncio.gather(*(ring.current() for ring in rings))
    assert len({key.kid for key in current}) == 1
    published = await rings[0].published()
    assert [key.kid for key in published] == [current[0].kid]


async def test_keys_are_read_once_for_many_at_once_and_again_after_a_while(
    database: AsyncDatabase[dict[str, Any]], clock: Clock
) -> None:
    store = CountingStore(database)
    await KeyRing(store, MASTER_KEY, now_ms=clock).current()
    store.reads = 0
    ring = KeyRing(store, MASTER_KEY, now_ms=clock)
    await asyncio.gather(*(ring.verifying() for _ in range(50)))
    assert store.reads == 1
    clock.advance(s=RELOAD_MS / 1000 - 1)
    await ring.current()
    assert store.reads == 1
    clock.advance(s=1)
    await ring.current()
    assert store.reads == 2


async def test_unknown_keys_reach_the_database_once_in_a_cool_down(
    database: AsyncDatabase[dict[str, Any]], clock: Clock
) -> None:
    store = CountingStore(database)
    ring = KeyRing(store, MASTER_KEY, now_ms=clock)
    await ring.current()
    store.reads = 0
    for _ in range(100):
        await ring.verifying_unknown()
    assert store.reads == 0
    clock.advance(s=COOL_DOWN_MS / 1000)
    for _ in range(100):
        await ring.verifying_unknown()
    assert store.reads == 1


async def test_a_key_is_published_before_it_signs_and_outlives_what_it_signed(store: MongoStore, clock: Clock) -> None:
    one, other = (KeyRing(store, MASTER_KEY, now_ms=clock) for _ in range(2))
    first = (await one.current()).kid
    clock.advance(s=(ROTATE_AFTER_MS - PUBLISH_BEFORE_MS) / 1000)
    assert (await one.current()).kid == first
    assert len(await other.published()) == 2
    clock.advance(s=PUBLISH_BEFORE_MS / 1000)
    second = (await one.current()).kid
    assert second != first
    assert (await other.current()).kid == second
    assert set(await other.verifying()) == {first, second}
    clock.advance(s=RETIRE_FOR_MS / 1000)
    assert set(await one.verifying()) == {second}


async def test_rotation_by_many_processes_at_once_gives_one_key(store: MongoStore, clock: Clock) -> None:
    rings = [KeyRing(store, MASTER_KEY, now_ms=clock) for _ in range(10)]
    for _ in range(3):
        clock.advance(s=(ROTATE_AFTER_MS - PUBLISH_BEFORE_MS) / 1000)
        await asyncio.gather(*(ring.current() for ring in rings))
        clock.advance(s=PUBLISH_BEFORE_MS / 1000)
        current = await asyncio.gather(*(ring.current() for ring in rings))
        assert len({key.kid for key in current}) == 1


async def test_another_master_key_is_named_as_the_fault(store: MongoStore, clock: Clock) -> None:
    await KeyRing(store, MASTER_KEY, now_ms=clock).current()
    with pytest.raises(SigningKeysUnreadable):
        await KeyRing(store, b"x" * 32, now_ms=clock).current()


async def test_keys_outlive_a_database_that_does_not_answer(store: MongoStore, clock: Clock) -> None:
    ring = KeyRing(store, MASTER_KEY, now_ms=clock)
    with pymongo.timeout(1e-6), pytest.raises(StoreUnavailable):
        await ring.current()
    kid = (await ring.current()).kid
    clock.advance(s=RELOAD_MS / 1000)
    with pymongo.timeout(1e-6):
        assert (await ring.current()).kid == kid
        assert kid in await ring.verifying_unknown()
