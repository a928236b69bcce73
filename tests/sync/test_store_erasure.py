"""What the store promises of `erase`, over every adapter, and what becomes of a transaction that is under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from sync import merge
from sync.document import Key
from sync.errors import AccountDeleted
from sync.merge import Outcome, State
from sync.store import Store
from sync.store_memory import MemoryStore
from sync.store_mongo import RECORDS, MongoStore
from tests.sync.model import NOW_MS, change_of, new_id, stamp_at, stored_registers


@pytest.fixture(params=["memory", "mongo"])
def store(request: pytest.FixtureRequest, database: AsyncDatabase[dict[str, Any]]) -> Store:
    return MemoryStore() if request.param == "memory" else MongoStore(database)


@pytest.fixture
async def other_process(mongo_url: str, database: AsyncDatabase[dict[str, Any]]) -> AsyncIterator[MongoStore]:
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        yield MongoStore(client[database.name])


async def write(store: Store, user_id: str, key: Key, counter: int = 0) -> None:
    change = change_of({"title": counter}, stamp=stamp_at(counter=counter), key=key)
    await store.update(user_id, [key], {change.stamp}, lambda state: merge.apply([change], state, now_ms=NOW_MS))


async def require_erased(store: Store, user_id: str) -> None:
    for refused in (
        store.head(user_id),
        store.register_device(user_id, new_id()),
        write(store, user_id, Key("goals", new_id())),
    ):
        with pytest.raises(AccountDeleted):
            await refused


async def test_an_erased_account_is_empty_and_takes_nothing(store: Store) -> None:
    user, other = new_id(), new_id()
    for owner in (user, other):
        await store.register_device(owner, "d1")
        for counter in range(3):
            await write(store, owner, Key("goals", new_id()), counter)
    kept = await stored_registers(store, other)
    for _ in range(2):
        await store.erase(user, now_ms=NOW_MS)
        await require_erased(store, user)
    assert await stored_registers(store, other) == kept
    assert len(kept) == 3
    await write(store, other, Key("goals", new_id()), 4)


async def test_an_account_that_never_synced_is_fenced_too(store: Store) -> None:
    user = new_id()
    await store.erase(user, now_ms=NOW_MS)
    await require_erased(store, user)


async def records_of(database: AsyncDatabase[dict[str, Any]], user: str) -> int:
    return await database[RECORDS].count_documents({"user_id": user})


async def test_a_large_account_goes_in_many_commands(database: AsyncDatabase[dict[str, Any]]) -> None:
    store, user = MongoStore(database), new_id()
    keys = sorted(Key("goals", new_id()) for _ in range(1_100))
    for start in range(0, len(keys), 550):
        changes = [change_of({"title": 1}, stamp=stamp_at(), key=key) for key in keys[start : start + 550]]

        def step(state: State, changes: Any = changes) -> Outcome:
            return merge.apply(changes, state, now_ms=NOW_MS)

        await store.update(user, keys[start : start + 550], {stamp_at()}, step)
    await store.erase(user, now_ms=NOW_MS)
    assert await records_of(database, user) == 1


async def test_an_upload_under_way_leaves_nothing_behind(
    database: AsyncDatabase[dict[str, Any]], other_process: MongoStore
) -> None:
    """The erasure begins between the transaction's first statement and its commit."""
    store, user, key = MongoStore(database), new_id(), Key("goals", new_id())
    await write(store, user, key)
    erasing: list[asyncio.Task[None]] = []
    change = change_of({"notes": "late"}, stamp=stamp_at(counter=1), key=key)

    def step(state: State) -> Outcome:
        if not erasing:
            erasing.append(asyncio.create_task(other_process.erase(user, now_ms=NOW_MS)))
        return merge.apply([change], state, now_ms=NOW_MS)

    results = await asyncio.gather(store.update(user, [key], {change.stamp}, step), return_exceptions=True)
    assert isinstance(results[0], tuple | AccountDeleted), results
    await erasing[0]
    assert await records_of(database, user) == 1
    await require_erased(store, user)


async def test_uploads_of_many_processes_meet_an_erasure(
    database: AsyncDatabase[dict[str, Any]], other_process: MongoStore
) -> None:
    for head_start in (0, 1, 20):
        user, stores = new_id(), (MongoStore(database), other_process)
        written, begin = 0, asyncio.Event()

        async def upload(
            store: MongoStore, user: str = user, head_start: int = head_start, begin: asyncio.Event = begin
        ) -> None:
            nonlocal written
            with suppress(AccountDeleted):
                while True:
                    await write(store, user, Key("goals", new_id()), written)
                    written += 1
                    if written >= head_start:
                        begin.set()

        async with asyncio.TaskGroup() as tasks:
            for store in stores * 2:
                tasks.create_task(upload(store))
            if head_start:
                await begin.wait()
            await MongoStore(database).erase(user, now_ms=NOW_MS)
        assert written >= head_start
        assert await records_of(database, user) == 1
