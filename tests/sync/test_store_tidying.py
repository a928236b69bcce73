from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from sync import exchange
from sync.attach import attach
from sync.errors import DocumentPurged
from sync.merge import PURGE_AFTER_MS
from sync.store_mongo import MongoStore
from sync.store_tidying import TidyingStore
from sync.track_store_mongo import MongoTrackStore
from tests.sync.model import NOW_MS, new_id
from tests.sync.test_store import head_of
from tests.sync.test_track_store_mongo import beats


async def test_a_workout_s_tracks_go_with_it_and_no_other_s(database: AsyncDatabase[dict[str, Any]]) -> None:
    track_store = MongoTrackStore(database)
    announced: list[str] = []
    store = TidyingStore(MongoStore(database), announced.append, track_store)
    user, other, gone, kept = new_id(), new_id(), new_id(), new_id()

    async def put(user_id: str, workout_id: str) -> None:
        await attach(
            store, track_store, user_id=user_id, workout_id=workout_id, chunk_id=new_id(), chunk=beats(3), now_ms=NOW_MS
        )

    for user_id, workout_id in ((user, gone), (user, kept), (other, gone)):
        await put(user_id, workout_id)
    await exchange.fill(store, user, "workouts", gone, {"deleted": True}, now_ms=NOW_MS)
    assert await track_store.holds(user, gone)  # it may be restored yet
    await exchange.purge(store, user, await head_of(store, user), now_ms=NOW_MS + PURGE_AFTER_MS)
    assert not await track_store.holds(user, gone)
    assert await track_store.holds(user, kept)
    assert await track_store.holds(other, gone)
    assert announced.count(user) == 4
    # Nor does one come back that a phone brings late.
    with pytest.raises(DocumentPurged):
        await put(user, gone)
    assert not await track_store.holds(user, gone)
