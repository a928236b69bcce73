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
    published = {frozenset(key.kid for key in await ring.published()) for ring in rings}
    assert len(published) == 1
    assert len(published.pop() - {current[0].kid}) == 1  # what will sign next


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
    [second] = {key.kid for key in await other.published()} - {first}
    clock.advance(s=ROTATE_AFTER_MS / 1000)
    assert (await one.current()).kid == second
    assert (await other.current()).kid == second
    known = set(await other.verifying())
    assert known > {first, second}
    clock.advance(s=RETIRE_FOR_MS / 1000)
    assert set(await one.verifying()) == known - {first}


async def test_rotation_by_many_processes_at_once_gives_one_key(store: MongoStore, clock: Clock) -> None:
    rings = [KeyRing(store, MASTER_KEY, now_ms=clock) for _ in range(10)]
    kids = set()
    for _ in range(3):
        current = await asyncio.gather(*(ring.current() for ring in rings))
        assert len({key.kid for key in current}) == 1
        kids.add(current[0].kid)
        clock.advance(s=ROTATE_AFTER_MS / 1000)
    assert len(kids) == 3


async def test_an_operator_rotates_once_every_verifier_knows_the_next_key(store: MongoStore, clock: Clock) -> None:
    ring, operator = (KeyRing(store, MASTER_KEY, now_ms=clock) for _ in range(2))
    first = (await ring.current()).kid
    assert await operator.rotate() == clock() + PUBLISH_BEFORE_MS
    assert (await operator.current()).kid == first
    clock.advance(s=PUBLISH_BEFORE_MS / 1000)
    [second] = set(await ring.verifying()) - {first}
    assert await operator.rotate() is None
    assert [(key.kid, key.state) for key in await operator.listed() if key.state != "next"] == sorted(
        [(first, "retired"), (second, "current")]
    )
    assert await operator.rotate() == clock() + PUBLISH_BEFORE_MS
    clock.advance(s=RELOAD_MS / 1000)
    assert (await ring.current()).kid == second
    assert first in await ring.verifying()


async def test_operators_who_rotate_at_once_rotate_once(store: MongoStore, clock: Clock) -> None:
    operators = [KeyRing(store, MASTER_KEY, now_ms=clock) for _ in range(5)]
    await asyncio.gather(*(operator.current() for operator in operators))
    clock.advance(s=PUBLISH_BEFORE_MS / 1000)
    await asyncio.gather(*(operator.rotate() for operator in operators))
    states = [key.state for key in await operators[0].listed()]
    assert sorted(states) == ["current", "next", "retired"]


async def test_a_key_that_leaked_is_out_at_once(store: MongoStore, clock: Clock) -> None:
    ring, operator = (KeyRing(store, MASTER_KEY, now_ms=clock) for _ in range(2))
    leaked = (await ring.current()).kid
    assert await operator.rotate(compromised=True) is None
    clock.advance(s=RELOAD_MS / 1000)
    assert (await ring.current()).kid != leaked
    assert leaked not in await ring.verifying()
    assert sorted(key.state for key in await operator.listed()) == ["current", "next"]


async def test_the_keys_are_one_object_as_long_as_they_are_the_same(store: MongoStore, clock: Clock) -> None:
    ring = KeyRing(store, MASTER_KEY, now_ms=clock)
    before = await ring.verifying()
    clock.advance(s=RELOAD_MS / 1000)
    assert await ring.verifying() is before
    await ring.rotate(compromised=True)
    clock.advance(s=RELOAD_MS / 1000)
    assert await ring.verifying() is not before


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
