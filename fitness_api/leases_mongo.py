"""Leases on MongoDB: `leases` holds `{_id: <name>, holder, expires_at}`."""

from collections.abc import Mapping
from typing import Any, Final

from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

from sync.errors_mongo import translated

LEASES: Final = "leases"

_BY_HASH: Final = [("_id", "hashed")]

COLLECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    LEASES: {"shard_key": _BY_HASH, "indexes": [(_BY_HASH, {}), ([("expires_at", 1)], {"expireAfterSeconds": 0})]},
}


class MongoLeases:
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self._leases = database.get_collection(LEASES, write_concern=WriteConcern("majority", j=True))

    async def take(self, name: str, holder: str, *, for_s: int) -> bool:
        # Of a lease that is not there yet, both are missing, which is less than any date.
        is_free = {"$or": [{"$eq": ["$holder", {"$literal": holder}]}, {"$lte": ["$expires_at", "$$NOW"]}]}
        until = {"$add": ["$$NOW", for_s * 1000]}
        held = {
            "holder": {"$cond": [is_free, {"$literal": holder}, "$holder"]},
            "expires_at": {"$cond": [is_free, until, "$expires_at"]},
        }
        while True:
            try:
                with translated():
                    lease = await self._leases.find_one_and_update(
                        {"_id": name}, [{"$set": held}], upsert=True, return_document=ReturnDocument.AFTER
                    )
            except DuplicateKeyError:
                continue  # Two upserts met; now the lease is there.
            return lease is not None and lease["holder"] == holder

    async def leave(self, name: str, holder: str) -> None:
        with translated():
            await self._leases.delete_one({"_id": name, "holder": holder})
