"""Mail that waits, in MongoDB: `{_id, kind, user_id, address, details, created_at, due_at, tries, expires_at}`.

Sharded by the hashed `_id`. Taking asks every shard for what is due, and so does an erasure for what is an account's; no
request waits for either. What is found is then changed by its `_id`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bson.codec_options import CodecOptions
from pymongo import ReadPreference, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fitness_api.mail.errors import OutboxUnavailable
from fitness_api.mail.outbox import Outgoing
from sync.errors_mongo import is_passing

# What nobody sent by then helps nobody. Longer than deliver.MAX_TRIES take.
KEPT_MS: Final = 3 * 24 * 3600 * 1000

_DUE: Final = "due"
_OWNERS: Final = "owner"

COLLECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "mail_outbox": {
        "shard_key": [("_id", "hashed")],
        "indexes": [
            ([("_id", "hashed")], {}),
            ([("due_at", 1)], {"name": _DUE}),
            ([("user_id", 1)], {"name": _OWNERS}),
            ([("expires_at", 1)], {"expireAfterSeconds": 0}),
        ],
    },
}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Document = dict[str, Any]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        if not is_passing(error):
            raise
        raise OutboxUnavailable("The database did not answer in time.") from error


class MongoOutbox:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._mail: AsyncCollection[Document] = database["mail_outbox"].with_options(
            codec_options=CodecOptions(tz_aware=True),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True),
            read_concern=ReadConcern("local"),
        )

    async def put(self, outgoing: Outgoing) -> None:
        with _translated(), suppress(DuplicateKeyError):
            await self._mail.insert_one(
                {
                    "_id": outgoing.mail_id,
                    "kind": outgoing.kind,
                    "user_id": outgoing.user_id,
                    "address": outgoing.address,
                    "details": dict(outgoing.details),
                    "created_at": _date(outgoing.created_at_ms),
                    "due_at": _date(outgoing.created_at_ms),
                    "expires_at": _date(outgoing.created_at_ms + KEPT_MS),
                    "tries": outgoing.tries,
                }
            )

    async def take(self, *, limit: int, now_ms: int, until_ms: int) -> list[Outgoing]:
        with _translated():
            due = self._mail.find(
                {"due_at": {"$lte": _date(now_ms)}}, {"due_at": 1}, sort=[("due_at", 1)], limit=limit, hint=_DUE
            )
            taken = [
                await self._mail.find_one_and_update(
                    # Whoever took it in between moved its time.
                    found,
                    {"$set": {"due_at": _date(until_ms)}, "$inc": {"tries": 1}},
                    return_document=ReturnDocument.AFTER,
                )
                async for found in due
            ]
        return [_outgoing(document) for document in taken if document is not None]

    async def defer(self, outgoing: Outgoing, *, due_at_ms: int) -> None:
        with _translated():
            await self._mail.update_one(_same(outgoing), {"$set": {"due_at": _date(due_at_ms)}})

    async def done(self, outgoing: Outgoing) -> None:
        with _translated():
            await self._mail.delete_one(_same(outgoing))

    async def of(self, user_id: str) -> list[Outgoing]:
        with _translated():
            return [_outgoing(found) async for found in self._mail.find({"user_id": user_id}, hint=_OWNERS)]

    async def remove(self, user_id: str) -> None:
        with _translated():
            async for found in self._mail.find({"user_id": user_id}, {"_id": 1}, hint=_OWNERS):
                await self._mail.delete_one({"_id": found["_id"], "user_id": user_id})


def _same(outgoing: Outgoing) -> Document:
    """This very one, as it was taken: not a later one of its id, nor one that another has taken since."""
    return {"_id": outgoing.mail_id, "created_at": _date(outgoing.created_at_ms), "tries": outgoing.tries}


def _outgoing(found: Document) -> Outgoing:
    return Outgoing(
        mail_id=found["_id"],
        kind=found["kind"],
        user_id=found["user_id"],
        address=found["address"],
        details=found["details"],
        created_at_ms=(found["created_at"] - _EPOCH) // timedelta(milliseconds=1),
        tries=found["tries"],
    )


def _date(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)
