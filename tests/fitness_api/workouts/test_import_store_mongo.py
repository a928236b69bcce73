"""The port's contract, on a real mongod."""

import asyncio
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.workouts import import_store_mongo
from fitness_api.workouts.import_store import ImportRecord
from fitness_api.workouts.import_store_mongo import FILES, MongoImportStore
from sync.errors import StoreUnavailable

FILE = os.urandom(2500)
RECORD = ImportRecord(
    user_id="ada",
    sha256="ab" * 32,
    format="fit",
    import_id="i1",
    workouts=["w1", "w2"],
    warnings=["One."],
    size_bytes=len(FILE),
    created_at_ms=1_700_000_000_000,
)


@pytest.fixture
def store(database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> MongoImportStore:
    monkeypatch.setattr(import_store_mongo, "PIECE_BYTES", 1000)
    return MongoImportStore(database)


async def file_of(store: MongoImportStore, record: ImportRecord) -> bytes:
    return b"".join([piece async for piece in store.read_file(record)])


async def test_what_was_recorded_is_found_with_its_file(store: MongoImportStore) -> None:
    assert await store.find("ada", RECORD.sha256) is None
    assert await store.record(RECORD, FILE)
    assert await store.find("ada", RECORD.sha256) == await store.find_by_id("ada", "i1") == RECORD
    assert await file_of(store, RECORD) == FILE


async def test_a_file_is_recorded_once(store: MongoImportStore) -> None:
    assert sorted(await asyncio.gather(*(store.record(RECORD, FILE) for _ in range(8)))) == [False] * 7 + [True]
    assert await file_of(store, RECORD) == FILE


async def test_a_cut_off_recording_is_made_whole(
    store: MongoImportStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await store.record(RECORD, FILE)
    await database["imports"].delete_many({"user_id": "ada"})
    await database[FILES].delete_one({"_id": f"ada/{RECORD.sha256}/1", "user_id": "ada"})
    assert await store.record(RECORD, FILE)
    assert await file_of(store, RECORD) == FILE


async def test_accounts_do_not_meet(store: MongoImportStore) -> None:
    await store.record(RECORD, FILE)
    assert await store.find("bob", RECORD.sha256) is None
    assert await store.find_by_id("bob", "i1") is None
    his = msgspec.structs.replace(RECORD, user_id="bob", size_bytes=3)
    assert await store.record(his, b"his")
    assert (await file_of(store, his), await file_of(store, RECORD)) == (b"his", FILE)


async def test_a_lost_database_is_unavailable(tmp_path: Path) -> None:
    # A socket that is not there: the driver leaks the TCP sockets of connections that were refused.
    nowhere = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}/?directConnection=true"
    async with AsyncMongoClient[dict[str, Any]](nowhere, serverSelectionTimeoutMS=50) as client:
        store = MongoImportStore(client["nowhere"])
        answers = await asyncio.gather(
            store.find("ada", RECORD.sha256),
            store.find_by_id("ada", "i1"),
            store.record(RECORD, FILE),
            file_of(store, RECORD),
            return_exceptions=True,
        )
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 4


async def test_an_accounts_records_and_files_are_erased(
    store: MongoImportStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    his = msgspec.structs.replace(RECORD, user_id="bob")
    await store.record(RECORD, FILE)
    await store.record(his, FILE)
    await database[FILES].insert_one({"_id": "ada/of an import that was cut off/0", "user_id": "ada"})
    await store.erase("ada")
    await store.erase("ada")
    assert await store.find("ada", RECORD.sha256) is None
    assert await database[FILES].count_documents({"user_id": "ada"}) == 0
    assert await file_of(store, his) == FILE
