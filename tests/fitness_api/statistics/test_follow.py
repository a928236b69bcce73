import asyncio
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.statistics import follow
from fitness_api.statistics.fact_store import Followed
from fitness_api.statistics.fact_store_mongo import MongoFactStore
from fitness_api.statistics.follow import FactSources
from sync import edit
from sync.document import Key
from sync.errors import StoreUnavailable
from sync.store_mongo import MongoStore
from sync.track_store_mongo import MongoTrackStore
from sync.tracks import MAX_OFFSET_MS, check
from tests.sync.model import NOW_MS, new_id


class Slow(MongoFactStore):
    """Of a process that looked before another one had begun, and is cut off when the other one has ended."""

    async def followed(self, _: str) -> Followed | None:
        return None

    async def keep(self, *_: Any) -> None:
        raise StoreUnavailable("It was cut off.")


async def test_a_slower_process_leaves_what_another_has_drawn(database: AsyncDatabase[dict[str, Any]]) -> None:
    store, tracks, user, places = MongoStore(database), MongoTrackStore(database), new_id(), asyncio.Semaphore(1)
    at = "2026-05-01T06:30:00.000Z"
    await edit.create(store, user, Key("workouts", new_id()), {"started_at": at}, now_ms=NOW_MS, new_id=new_id)
    quick = MongoFactStore(database)
    followed = await follow.up_to_date(FactSources(store, tracks, quick), user, places=places)
    with pytest.raises(StoreUnavailable):
        await follow.up_to_date(FactSources(store, tracks, Slow(database)), user, places=places)
    assert await quick.followed(user) == followed
    assert len(await quick.all(user, followed)) == 1


def test_the_way_by_speeds_never_shrinks_and_ends_with_the_month() -> None:
    offsets, speeds = [0, 1_000, 2_000, 3_000], [4, -400, 4, 4]
    chunks = [
        check(stream="speed", start_ms=start_ms, offsets_ms=offsets, values=speeds)
        for start_ms in (0, MAX_OFFSET_MS + 1)
    ]
    way = follow._way({"speed": chunks})
    assert way is not None
    assert (list(way.times_ms), list(way.values)) == (offsets, [0, 4, 4, 8])
