"""What a device asks for that found out, by its digests, that it holds something else than the server."""

import asyncio
from typing import Final, NamedTuple

from msgspec import Raw

from sync import digest
from sync.changes import MAX_LIMIT, Format
from sync.download import Page
from sync.store import Store

# Some 5 ms, after which other requests have their turn.
_HASHED_AT_ONCE: Final = 10_000


class Fetched(NamedTuple):
    """`documents` are encoded, each a Delta with all of its registers; `after` is where the next page goes on, None at the end."""

    documents: list[Raw]
    after: int | None


async def digests(store: Store, user_id: str, collection: str) -> list[int]:
    """Return the sum of each bucket, taken over the documents as they are. Raises StoreUnavailable."""
    sums = [0] * digest.BUCKETS
    async with store.view(user_id) as view:
        if view is not None:
            registers = 0
            async for document in view.in_bucket(collection, None, after=0):
                sums[digest.bucket_of(document.key.id)] += digest.of(document)
                registers += len(document.values)
                if registers >= _HASHED_AT_ONCE:
                    registers = 0
                    await asyncio.sleep(0)
    return [one % digest.MODULUS for one in sums]


async def fetch(store: Store, user_id: str, collection: str, bucket: int, *, after: int, answered: Format) -> Fetched:
    """Return the next documents of a bucket, in order of their sequences, as many as a page of a download has.

    One that is written between two pages comes again, on a later page or with the next round trip. Raises StoreUnavailable.
    """
    page = Page(MAX_LIMIT, answered)
    async with store.view(user_id, at_least=after) as view:
        if view is not None:
            async for document in view.in_bucket(collection, bucket, after=after):
                if not page.takes(document, began=0):
                    return Fetched(page.documents, after)
                after = document.seq
    return Fetched(page.documents, None)
