from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.statistics.fact_store import Drawn, Followed
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


def at(seq: int, found: Facts) -> Drawn:
    return Drawn(found.workout_id, seq, found)


async def test_what_is_kept_is_found_until_it_is_gone(store: MongoFactStore) -> None:
    ada, bob, one, other = new_id(), new_id(), new_id(), new_id()
    whole = facts(one, pulse=((120, 1_000),), lifts=(Lift("Squat", 100, 5, 0, 116.7),), efforts=((400.0, 90.0),))
    await store.keep(ada, [at(1, whole), at(2, facts(other))], FOLLOWED)
    await store.keep(bob, [at(1, facts(one))], FOLLOWED)
    await store.advance(ada, FOLLOWED)
    found = sorted(await store.all(ada, FOLLOWED), key=lambda kept: kept.workout_id)
    assert found == sorted([whole, facts(other)], key=lambda kept: kept.workout_id)
    assert await store.followed(ada) == FOLLOWED
    assert await store.followed(bob) is None
    await store.keep(
        ada, [at(3, facts(one, distance_m=5.0)), Drawn(other, 4, None), Drawn(new_id(), 5, None)], FOLLOWED
    )
    assert await store.all(ada, FOLLOWED) == [facts(one, distance_m=5.0)]
    await store.keep(ada, [], FOLLOWED)
    await store.erase(ada)
    assert (await store.all(ada, FOLLOWED), await store.followed(ada), len(await store.all(bob, FOLLOWED))) == (
        [],
        None,
        1,
    )


async def test_of_writers_that_race_the_later_sequence_stays(store: MongoFactStore) -> None:
    ada, one, other = new_id(), new_id(), new_id()
    await store.keep(ada, [at(5, facts(one, distance_m=5.0)), Drawn(other, 6, None)], FOLLOWED)
    await store.keep(ada, [at(4, facts(one)), at(3, facts(other)), at(7, facts("new"))], FOLLOWED)
    assert sorted(found.distance_m or 0 for found in await store.all(ada, FOLLOWED)) == [0, 5]
    await store.keep(ada, [at(8, facts(other))], FOLLOWED)
    assert len(await store.all(ada, FOLLOWED)) == 3


async def test_what_is_of_another_epoch_or_version_is_not_there_and_makes_room(store: MongoFactStore) -> None:
    ada, one, other = new_id(), new_id(), new_id()
    await store.keep(ada, [at(5, facts(one)), at(6, facts(other))], FOLLOWED)
    for now in (Followed(epoch=8, seq=0, version=1), Followed(epoch=8, seq=0, version=2)):
        assert await store.all(ada, now) == []
        await store.keep(ada, [at(5, facts(one, distance_m=5.0))], now)
        assert await store.all(ada, now) == [facts(one, distance_m=5.0)]


async def test_how_far_one_came_goes_back_to_another_epoch_or_version_only(store: MongoFactStore) -> None:
    ada = new_id()
    for given, expected in (
        (FOLLOWED, FOLLOWED),
        (Followed(epoch=7, seq=11, version=1), FOLLOWED),
        (Followed(epoch=7, seq=13, version=1), Followed(epoch=7, seq=13, version=1)),
        (Followed(epoch=8, seq=2, version=1), Followed(epoch=8, seq=2, version=1)),
        (Followed(epoch=8, seq=1, version=2), Followed(epoch=8, seq=1, version=2)),
    ):
        await store.advance(ada, given)
        assert await store.followed(ada) == expected


async def test_a_lost_database_is_unavailable(tmp_path: Path) -> None:
    nowhere = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}/?directConnection=true"
    async with AsyncMongoClient[dict[str, Any]](nowhere, serverSelectionTimeoutMS=50) as client:
        store = MongoFactStore(client["nowhere"])
        with pytest.raises(StoreUnavailable):
            await store.all("ada", FOLLOWED)
        with pytest.raises(StoreUnavailable):
            await store.followed("ada")
        with pytest.raises(StoreUnavailable):
            await store.keep("ada", [at(1, facts("w"))], FOLLOWED)
        with pytest.raises(StoreUnavailable):
            await store.advance("ada", FOLLOWED)
        with pytest.raises(StoreUnavailable):
            await store.erase("ada")
