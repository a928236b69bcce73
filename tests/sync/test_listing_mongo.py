"""The listing's contract, bullet by bullet."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from sync import edit, listing
from sync.document import Document, Key
from sync.errors import StoreUnavailable
from sync.listing import Began
from sync.listing_mongo import MongoListing
from sync.store_mongo import MongoStore
from tests.sync.model import NOW_MS, new_id


class Logbook:
    def __init__(self, database: AsyncDatabase[dict[str, Any]], user_id: str) -> None:
        self.user_id = user_id
        self.store, self.listing = MongoStore(database), MongoListing(database)

    async def add(self, started_at: Any, **given: Any) -> str:
        workout_id = new_id()
        key = Key("workouts", workout_id)
        given = given if started_at is ... else {"started_at": started_at, **given}
        await edit.create(self.store, self.user_id, key, given, now_ms=NOW_MS, new_id=new_id)
        return workout_id

    async def ids(self, *, limit: int = 100, **asked: Any) -> list[str]:
        """Page by page."""
        ids: list[str] = []
        below: Began | None = None
        while True:
            page = await self.listing.began(self.user_id, below=below, limit=limit, **asked)
            ids += [document.key.id for document in page.workouts]
            if not page.has_more:
                return ids
            assert len(page.workouts) == limit
            below = place(page.workouts[-1])


def place(document: Document) -> Began:
    at = document.values.get("started_at")
    return Began(at if isinstance(at, str) else None, document.key.id)


@pytest.fixture
def ada(database: AsyncDatabase[dict[str, Any]]) -> Logbook:
    return Logbook(database, new_id())


def on(day: int) -> str:
    return f"2026-05-{day:02}T06:30:00.000Z"


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_the_latest_comes_first_and_those_without_a_beginning_last(ada: Logbook, limit: int) -> None:
    days = {day: await ada.add(on(day)) for day in (3, 9, 1)}
    same = sorted([await ada.add(on(5)), await ada.add(on(5))], reverse=True)
    none = sorted([await ada.add(...), await ada.add(None), await ada.add(17), await ada.add({"x": 1})], reverse=True)
    assert await ada.ids(limit=limit) == [days[9], *same, days[3], days[1], *none]
    assert await ada.ids(limit=limit, since=on(3), before=on(9)) == [*same, days[3]]
    assert await ada.ids(limit=limit, since=on(9)) == [days[9]]
    assert await ada.ids(limit=limit, before=on(2)) == [days[1]]


async def test_of_a_sport(ada: Logbook) -> None:
    run, _ = await ada.add(on(1), sport="run"), await ada.add(on(2), sport="ride")
    assert await ada.ids(sport="run") == [run]


async def test_deleted_ones_and_others_do_not_come(ada: Logbook, database: AsyncDatabase[dict[str, Any]]) -> None:
    mine, gone = await ada.add(on(1)), await ada.add(on(2))
    await Logbook(database, new_id()).add(on(1))
    await edit.delete(ada.store, ada.user_id, Key("workouts", gone), now_ms=NOW_MS)
    await edit.create(
        ada.store, ada.user_id, Key("goals", new_id()), {"started_at": on(1)}, now_ms=NOW_MS, new_id=new_id
    )
    assert await ada.ids() == [mine]


async def test_a_page_is_bounded_in_bytes_and_never_empty(ada: Logbook, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [await ada.add(on(day), notes="x" * 10_000) for day in (3, 2, 1)]
    monkeypatch.setattr("sync.listing_mongo.MAX_PAGE_BYTES", 25_000)
    assert listing.MAX_PAGE_BYTES > 25_000
    first = await ada.listing.began(ada.user_id, limit=10)
    assert ([one.key.id for one in first.workouts], first.has_more) == (ids[:2], True)
    monkeypatch.setattr("sync.listing_mongo.MAX_PAGE_BYTES", 1)
    page = await ada.listing.began(ada.user_id, below=place(first.workouts[-1]), limit=10)
    assert ([one.key.id for one in page.workouts], page.has_more) == (ids[2:], False)


async def test_a_read_has_its_index_and_sorts_nothing(ada: Logbook, database: AsyncDatabase[dict[str, Any]]) -> None:
    for day in range(1, 20):
        await ada.add(on(day))
    plan = await database.command(
        "explain",
        {
            "find": "sync_records",
            "filter": {
                "user_id": ada.user_id, "collection": "workouts", "deleted": False,
                "value.started_at": {"$type": "string", "$gte": on(5), "$lt": on(9)},
            },
            "sort": {"value.started_at": -1, "_id": -1},
            "hint": "started",
        },
        verbosity="executionStats",
    )  # fmt: skip
    text = str(plan["queryPlanner"]["winningPlan"])
    assert "'stage': 'SORT'" not in text
    assert plan["executionStats"]["totalDocsExamined"] == 4


async def test_a_lost_database_is_unavailable(tmp_path: Path) -> None:
    nowhere = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}/?directConnection=true"
    async with AsyncMongoClient[dict[str, Any]](nowhere, serverSelectionTimeoutMS=50) as client:
        with pytest.raises(StoreUnavailable):
            await MongoListing(client["nowhere"]).began(new_id(), limit=1)
