"""Device grants, in MongoDB: named over all accounts, as nobody's until one is approved, and gone soon."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from fitness_api.identity.authorization.device_grants import Approval, DeviceGrant
from fitness_api.identity.store_mongo import Document, date, durable, ms, translated

_BY_HASH: Final = [("_id", "hashed")]

COLLECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "device_grants": {
        "shard_key": _BY_HASH,
        "indexes": [(_BY_HASH, {}), ([("expires_at", 1)], {"expireAfterSeconds": 600})],
    }
}


class MongoDeviceStore:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        database = durable(database)
        self._grants: AsyncCollection[Document] = database["device_grants"]

    async def add(self, grant: DeviceGrant) -> bool:
        document = {
            "_id": grant.name,
            "secret_digest": grant.secret_digest,
            "client_id": grant.client_id,
            "scopes": list(grant.scopes),
            "place": grant.place,
            "user_agent": grant.user_agent,
            "created_at": date(grant.created_at_ms),
            "expires_at": date(grant.expires_at_ms),
            "approval": None,
            **_progress(grant),
        }
        try:
            with translated():
                await self._grants.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    async def grant(self, name: str) -> DeviceGrant | None:
        with translated():
            found = await self._grants.find_one({"_id": name})
        return None if found is None else _grant(found)

    async def decide(self, name: str, approval: Approval | None, *, now_ms: int) -> bool:
        decided = {
            "state": "denied" if approval is None else "approved",
            "approval": None if approval is None else msgspec.to_builtins(approval),
        }
        with translated():
            done = await self._grants.update_one(
                {"_id": name, "state": "pending", "expires_at": {"$gt": date(now_ms)}}, {"$set": decided}
            )
        return done.matched_count == 1

    async def polled(self, after: DeviceGrant) -> bool:
        before = after.state if after.state != "redeemed" else {"$in": ["approved", "redeemed"]}
        with translated():
            done = await self._grants.update_one(
                {"_id": after.name, "polls": after.polls - 1, "state": before}, {"$set": _progress(after)}
            )
        return done.matched_count == 1


def _progress(grant: DeviceGrant) -> Document:
    return {
        "interval_s": grant.interval_s,
        "polled_at": date(grant.polled_at_ms),
        "polls": grant.polls,
        "state": grant.state,
    }


def _grant(found: Document) -> DeviceGrant:
    return DeviceGrant(
        name=found["_id"],
        secret_digest=found["secret_digest"],
        client_id=found["client_id"],
        scopes=tuple(found["scopes"]),
        place=found["place"],
        user_agent=found["user_agent"],
        created_at_ms=ms(found["created_at"]),
        expires_at_ms=ms(found["expires_at"]),
        interval_s=found["interval_s"],
        polled_at_ms=None if found["polled_at"] is None else ms(found["polled_at"]),
        polls=found["polls"],
        state=found["state"],
        approval=None if found["approval"] is None else msgspec.convert(found["approval"], Approval),
    )
