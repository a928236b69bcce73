from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.statistics.fact_store import Followed
from fitness_api.statistics.fact_store_mongo import MongoFactStore
from fitness_api.statistics.facts import Facts, Lift
from sync.errors import StoreUnavailable
from tests.sync.model import new_id

FOLLOWED = Followed(epoch=7, seq=12, version=1)


def facts(workout_id: str, **given: Any) -> Facts:
    return Facts(
        **{"workout_id": workout_id, "day": "2026-05-01", "started_at_ms": 1_777_617_000_000, "sport": "run", **given}
    )


@pytest.fixture
def store(database: AsyncDatabase[dict[str, Any]]) -> MongoFactStore:
    return MongoFactStore(database)


async def test_what_is_kept_is_found_until_it_is_gone(store: MongoFactStore) -> None:
    ada, bob, one, other = new_id(), new_id(), new_id(), new_id()
    whole = facts(one, pulse=((120, 1_000),), lifts=(Lift("Squat", 100, 5, 0, 116.7),), efforts=((400.0, 90.0),))
    await store.keep(ada, [whole, facts(other)], [])
    await store.keep(bob, [facts(one)], [])
    await store.advance(ada, FOLLOWED)
    assert sorted(await store.all(ada), key=lambda found: found.workout_id) == sorted(
        [whole, facts(other)], key=lambda found: found.workout_id
    )
    assert await store.followed(ada) == FOLLOWED
    assert await store.followed(bob) is None
    await store.keep(ada, [facts(one, distance_m=5.0)], [other, new_id()])
    assert await store.all(ada) == [facts(one, distance_m=5.0)]
    await store.erase(ada)
    assert (await store.all(ada), await store.followed(ada), len(await store.all(bob))) == ([], None, 1)


async def test_a_lost_database_is_unavailable(tmp_path: Path) -> None:
    nowhere = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}/?directConnection=true"
    async with AsyncMongoClient[dict[str, Any]](nowhere, serverSelectionTimeoutMS=50) as client:
        store = MongoFactStore(client["nowhere"])
        with pytest.raises(StoreUnavailable):
            await store.all("ada")
        with pytest.raises(StoreUnavailable):
            await store.followed("ada")
        with pytest.raises(StoreUnavailable):
            await store.keep("ada", [facts("w")], ["x"])
        with pytest.raises(StoreUnavailable):
            await store.advance("ada", FOLLOWED)
        with pytest.raises(StoreUnavailable):
            await store.erase("ada")
