"""The audit log in MongoDB: one document an event, sharded with its account."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from pymongo import DESCENDING
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from fitness_api.identity.audit import AuditEvent, Origin
from fitness_api.identity.store_mongo import Document, date, durable, ms, translated

_BY_TIME: Final = [("user_id", 1), ("at", -1), ("_id", -1)]

# Two years: long enough to look back at how an account was taken over, and no longer than that (GDPR article 5(1)(e)).
KEPT_S: Final = 2 * 366 * 24 * 3600

COLLECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "audit": {
        "shard_key": [("user_id", 1)],
        "indexes": [([("user_id", 1)], {}), (_BY_TIME, {}), ([("at", 1)], {"expireAfterSeconds": KEPT_S})],
    }
}


class MongoAuditStore:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        database = durable(database)
        self._audit: AsyncCollection[Document] = database["audit"]

    async def append(self, event: AuditEvent) -> None:
        document = {
            "_id": f"{event.user_id}/{event.event_id}",
            "user_id": event.user_id,
            "at": date(event.at_ms),
            "kind": event.kind,
            "address": event.origin.address,
            "user_agent": event.origin.user_agent,
            "session_id": event.session_id,
            "details": dict(event.details),
        }
        with translated(), suppress(DuplicateKeyError):
            await self._audit.insert_one(document)

    async def of(self, user_id: str, *, before: tuple[int, str] | None = None, limit: int) -> list[AuditEvent]:
        asked: Document = {"user_id": user_id}
        if before is not None:
            at, last = date(before[0]), f"{user_id}/{before[1]}"
            asked["$or"] = [{"at": {"$lt": at}}, {"at": at, "_id": {"$lt": last}}]
        order = [("at", DESCENDING), ("_id", DESCENDING)]
        with translated():
            return [_event(found) async for found in self._audit.find(asked, sort=order, limit=limit)]


def _event(found: Document) -> AuditEvent:
    return AuditEvent(
        event_id=found["_id"].partition("/")[2],
        user_id=found["user_id"],
        at_ms=ms(found["at"]),
        kind=found["kind"],
        origin=Origin(found["address"], found["user_agent"]),
        session_id=found["session_id"],
        details=found["details"],
    )
