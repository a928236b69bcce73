"""Workouts in the order in which they began, by an index over their records."""

from collections.abc import AsyncIterator
from typing import Any

from pymongo import DESCENDING
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from sync import records_mongo as records
from sync.document import Document, Key
from sync.errors_mongo import translated
from sync.listing import MAX_PAGE_BYTES, Began, Page
from sync.records_mongo import Record
from sync.store_mongo import RECORDS, STARTED
from sync.track_store import COLLECTION
from sync.transactions_mongo import DURABLE

_READ_AT_ONCE = 20  # so that a page of large documents is not read in vain


class MongoListing:
    def __init__(self, database: AsyncDatabase[Record]) -> None:
        self._records = database.get_collection(RECORDS, write_concern=DURABLE, read_concern=ReadConcern("majority"))

    async def began(
        self,
        user_id: str,
        *,
        sport: str | None = None,
        since: str | None = None,
        before: str | None = None,
        below: Began | None = None,
        limit: int,
    ) -> Page:
        found: list[Document] = []
        size_bytes = 0
        async for document in self._in_order(user_id, sport, since, before, below, limit + 1):
            size_bytes += document.encoded_bytes
            if len(found) == limit or (found and size_bytes > MAX_PAGE_BYTES):
                return Page(found, has_more=True)
            found.append(document)
        return Page(found, has_more=False)

    async def _in_order(
        self, user_id: str, sport: str | None, since: str | None, before: str | None, below: Began | None, limit: int
    ) -> AsyncIterator[Document]:
        if below is None or below.started_at is not None:
            timed: dict[str, Any] = {"$type": "string"}
            if since is not None:
                timed["$gte"] = since
            if before is not None:
                timed["$lt"] = before
            async for document in self._found(user_id, sport, timed, below, limit):
                yield document
                limit -= 1
            below = None
        if since is None and before is None and limit > 0:
            async for document in self._found(user_id, sport, {"$not": {"$type": "string"}}, below, limit):
                yield document

    async def _found(
        self, user_id: str, sport: str | None, began: dict[str, Any], below: Began | None, limit: int
    ) -> AsyncIterator[Document]:
        wanted: dict[str, Any] = {
            "user_id": user_id,
            "collection": COLLECTION,
            "deleted": False,
            "value.started_at": began,
        }
        order = [("value.started_at", DESCENDING), ("_id", DESCENDING)]
        if below is not None:
            last = records.document_id(user_id, Key(COLLECTION, below.id))
            if below.started_at is None:
                wanted["_id"] = {"$lt": last}
            else:
                began["$lte"] = min(below.started_at, began["$lte"]) if "$lte" in began else below.started_at
                wanted["$or"] = [{"value.started_at": {"$lt": below.started_at}}, {"_id": {"$lt": last}}]
        if "$not" in began:
            order = [("_id", DESCENDING)]
        if sport is not None:
            wanted["value.sport"] = sport
        cursor = self._records.find(wanted, sort=order, hint=STARTED, limit=limit, batch_size=_READ_AT_ONCE)
        with translated():
            async with cursor:
                async for record in cursor:
                    yield records.document(record)
