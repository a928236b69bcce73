"""What a snapshot session reads of one account."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from sync import records_mongo as records
from sync.document import Document
from sync.errors_mongo import translated
from sync.head import Head
from sync.records_mongo import PURGED, Record

_PAGE_RECORDS: Final = 200  # of 1 to 2 KB


class MongoView:
    """Reads of one snapshot session. MongoDB keeps a snapshot for five minutes; a page takes a second at most."""

    def __init__(
        self, collection: AsyncCollection[Record], session: AsyncClientSession, user_id: str, head: Head
    ) -> None:
        self.head = head
        self._records = collection
        self._session = session
        self._user_id = user_id

    def changed(
        self,
        collections: Collection[str],
        *,
        after: int,
        upto: int,
        snapshot: bool = False,
        room: Callable[[], int] | None = None,
    ) -> AsyncIterator[Document]:
        wanted = self._filter(collections, after, upto, snapshot=snapshot)
        return self._feed(wanted, DESCENDING if snapshot else ASCENDING, room)

    def in_bucket(self, collection: str, bucket: int | None, *, after: int) -> AsyncIterator[Document]:
        wanted = self._filter([collection], after, self.head.seq, snapshot=True)
        if bucket is not None:
            wanted["bucket"] = bucket
        return self._feed(wanted, ASCENDING)

    async def _feed(
        self, wanted: Record, direction: int, room: Callable[[], int] | None = None
    ) -> AsyncIterator[Document]:
        """One read after another where there is `room` for so many only: a cursor's batches are of one size."""
        limit = found = 0
        while found == limit:
            limit, found = 0 if room is None else room(), 0
            batch_size = limit or _PAGE_RECORDS
            cursor = self._records.find(
                wanted,
                sort=[("seq", direction)],
                hint="feed",
                limit=limit,
                batch_size=batch_size,
                session=self._session,
            )
            with translated():
                async with cursor:
                    # A batch at a time: to await each record takes longer than to read it.
                    while batch := await cursor.to_list(batch_size):
                        found += len(batch)
                        wanted = {**wanted, "seq": _beyond(wanted["seq"], batch[-1]["seq"], direction)}
                        for record in batch:
                            yield records.document(record)
            if not limit:
                return

    async def count_changed(
        self, collections: Collection[str], *, after: int, upto: int, snapshot: bool = False
    ) -> int:
        wanted = self._filter(collections, after, upto, snapshot=snapshot)
        with translated():
            return await self._records.count_documents(wanted, hint="feed", session=self._session)

    def _filter(self, collections: Collection[str], after: int, upto: int, *, snapshot: bool) -> dict[str, Any]:
        wanted = [*collections] if snapshot else [*collections, *(f"{name}{PURGED}" for name in collections)]
        return {"user_id": self._user_id, "seq": {"$gt": after, "$lte": upto}, "collection": {"$in": wanted}}


def _beyond(between: Mapping[str, int], seq: int, direction: int) -> dict[str, int]:
    return {**between, "$gt": seq} if direction == ASCENDING else {**between, "$lte": seq - 1}
