"""Each bullet of the port, against a real server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from bson.objectid import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.export.rows import Rows
from fitness_api.export.rows_mongo import MongoRows
from fitness_api.export.tables import Table
from sync.errors import StoreUnavailable

TABLE = Table("accounts", "x", ("_id as name", "at", "inner", "absent", "some.shown"), {"secret": "It is one."})


async def test_rows_are_of_the_account_and_have_the_shown_fields_as_json(
    database: AsyncDatabase[dict[str, Any]],
) -> None:
    rows: Rows = MongoRows(database)
    at = datetime(2026, 5, 1, 6, 30, 0, 5000, tzinfo=UTC)
    inner = {"list": [at, b"\xff\xfe", 1.5, None, 2**40, ObjectId("0" * 24)]}
    some = [{"shown": 1, "hidden": 2}, {"shown": 3}]
    await database["accounts"].insert_one(
        {"_id": "a", "user_id": "a", "at": at, "inner": inner, "secret": "s", "some": some}
    )
    await database["accounts"].insert_one({"_id": "b", "user_id": "b", "at": at})
    instant = "2026-05-01T06:30:00.005Z"
    found = [row async for row in rows.of("a", TABLE)]
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert found == [
        {
            "name": "a",
            "at": instant,
            "inner": {"list": [instant, "__4", 1.5, None, 2**40, "0" * 24]},
            "some": [{"shown": 1}, {"shown": 3}],
        }
    ]


async def test_without_an_answer_it_says_so(tmp_path: Path) -> None:
    nowhere = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}"
    async with AsyncMongoClient[dict[str, Any]](
        nowhere, serverSelectionTimeoutMS=50, serverMonitoringMode="poll"
    ) as client:
        with pytest.raises(StoreUnavailable):
            await anext(MongoRows(client["x"]).of("a", TABLE))
