"""Each bullet of the port, against a real server."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.leases import Leases
from fitness_api.leases_mongo import LEASES, MongoLeases
from sync.errors import StoreUnavailable


@pytest.fixture
def leases(database: AsyncDatabase[dict[str, Any]]) -> MongoLeases:
    return MongoLeases(database)


def test_they_are_leases(leases: MongoLeases) -> None:
    _: Leases = leases


async def test_a_name_has_one_holder_whoever_asks_at_the_same_time(leases: MongoLeases) -> None:
    for name in ("a", "b"):
        taken = await asyncio.gather(*(leases.take(name, f"holder {number}", for_s=60) for number in range(50)))
        assert taken.count(True) == 1
        winner = f"holder {taken.index(True)}"
        assert await leases.take(name, winner, for_s=60)  # keeps it
        await leases.leave(name, "another")
        assert not await leases.take(name, "another", for_s=60)
        await leases.leave(name, winner)
        assert await leases.take(name, "another", for_s=60)


async def test_it_ends_by_itself_by_the_databases_clock(
    leases: MongoLeases, database: AsyncDatabase[dict[str, Any]]
) -> None:
    assert await leases.take("a", "one", for_s=60)
    assert not await leases.take("a", "two", for_s=60)
    await database[LEASES].update_one({"_id": "a"}, [{"$set": {"expires_at": {"$subtract": ["$$NOW", 1]}}}])
    assert await leases.take("a", "two", for_s=60)
    assert not await leases.take("a", "one", for_s=60)


async def test_a_holders_name_is_a_name_and_no_expression(leases: MongoLeases) -> None:
    assert await leases.take("$a", "$holder", for_s=60)
    assert not await leases.take("$a", "two", for_s=60)


async def test_without_an_answer_it_says_so(tmp_path: Path) -> None:
    nowhere = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}"
    async with AsyncMongoClient[dict[str, Any]](
        nowhere, serverSelectionTimeoutMS=50, serverMonitoringMode="poll"
    ) as client:
        leases = MongoLeases(client["x"])
        for call in (leases.take("a", "b", for_s=1), leases.leave("a", "b")):
            with pytest.raises(StoreUnavailable):
                await call
