"""The log on MongoDB: entries that the store writes, in the same collection (`records_mongo`)."""

from collections.abc import AsyncIterator
from typing import Any, Final

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from sync import records_mongo as records
from sync.conflicts import KEPT_MS, Conflict
from sync.errors_mongo import translated
from sync.log import MAX_LISTED_BYTES, Listed, Place
from sync.quarantine import Rejected
from sync.records_mongo import CONFLICTS, REJECTED, Record
from sync.store_mongo import NEWEST_FIRST, RECORDS
from sync.transactions_mongo import DURABLE

_READ_AT_ONCE: Final = 20  # so that a page of large entries is not read in vain


class MongoLog:
    def __init__(self, database: AsyncDatabase[Record]) -> None:
        self._records = database.get_collection(RECORDS, write_concern=DURABLE, read_concern=ReadConcern("majority"))

    async def rejected(self, user_id: str, *, below: Place | None, limit: int) -> Listed[Rejected]:
        entries: list[Rejected] = []
        size_bytes = 0
        async for found in self._found(user_id, REJECTED, records.rejected_id(user_id, ""), below, limit + 1):
            entry = records.rejected(found)
            size_bytes += entry.size_bytes
            if len(entries) == limit or (entries and size_bytes > MAX_LISTED_BYTES):
                return Listed(entries, has_more=True)
            entries.append(entry)
        return Listed(entries, has_more=False)

    async def rejected_one(self, user_id: str, entry_id: str) -> Rejected | None:
        with translated():
            found = await self._records.find_one({"_id": records.rejected_id(user_id, entry_id), "user_id": user_id})
        return None if found is None else records.rejected(found)

    async def conflicts(self, user_id: str, *, below: Place | None, limit: int, now_ms: int) -> Listed[Conflict]:
        prefix = records.conflict_id(user_id, "")
        found = self._found(user_id, CONFLICTS, prefix, below, limit + 1, after_ms=now_ms - KEPT_MS)
        entries = [records.conflict(one) async for one in found]
        return Listed(entries[:limit], has_more=len(entries) > limit)

    async def conflict(self, user_id: str, conflict_id: str, *, now_ms: int) -> Conflict | None:
        with translated():
            found = await self._records.find_one({"_id": records.conflict_id(user_id, conflict_id), "user_id": user_id})
        return None if found is None or found["at"] <= now_ms - KEPT_MS else records.conflict(found)

    async def _found(
        self, user_id: str, log: str, prefix: str, below: Place | None, limit: int, *, after_ms: int = -1
    ) -> AsyncIterator[Record]:
        wanted: dict[str, Any] = {"user_id": user_id, "log": log, "at": {"$gt": after_ms}}
        if below is not None:
            wanted["at"]["$lte"] = below.at_ms
            wanted["$or"] = [{"at": {"$lt": below.at_ms}}, {"_id": {"$lt": prefix + below.id}}]
        cursor = self._records.find(wanted, sort=NEWEST_FIRST, hint="log", limit=limit, batch_size=_READ_AT_ONCE)
        with translated():
            async with cursor:
                async for record in cursor:
                    yield record
