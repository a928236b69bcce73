"""What is removed is one account's, all of it, and nobody else's."""

from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from sync import removal_mongo
from sync.removal_mongo import remove_all


async def test_all_of_one_account_goes_and_its_neighbours_stay(
    database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal_mongo, "_RECORDS_AT_ONCE", 3)
    records = database["tracks"]
    mine = [f"ada/{name}" for name in ("", "a", "b/c", "\uffff", "~", "0", "kept", "x", "y", "z")]
    others = {"ada": "ada", "ada0": "ada0", "ada0/x": "ada0", "ada-x/x": "ada-x", "ad/x": "ad", "bob/x": "bob"}
    await records.insert_many([{"_id": name, "user_id": "ada"} for name in mine])
    await records.insert_many([{"_id": name, "user_id": user_id} for name, user_id in others.items()])
    await remove_all(records, "ada", but=["ada/kept"])
    assert {record["_id"] async for record in records.find({})} == {"ada/kept", *others}
    await remove_all(records, "ada")
    assert {record["_id"] async for record in records.find({})} == set(others)
