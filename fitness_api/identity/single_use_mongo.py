"""What may be redeemed once, in MongoDB. Named by kind and digest over all accounts, as who redeems it may be nobody yet."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from pymongo import ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from fitness_api.identity.single_use import Artefact, Used
from fitness_api.identity.store_mongo import OWNERS, Document, date, durable, ms, translated

_BY_HASH: Final = [("_id", "hashed")]

COLLECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "single_use": {
        "shard_key": _BY_HASH,
        "indexes": [
            (_BY_HASH, {}),
            ([("user_id", 1)], {"name": OWNERS}),
            ([("expires_at", 1)], {"expireAfterSeconds": 0}),
        ],
    }
}


class MongoSingleUse:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        database = durable(database)
        self._artefacts: AsyncCollection[Document] = database["single_use"]

    async def add(self, artefact: Artefact) -> None:
        document = {
            "_id": _name(artefact.kind, artefact.digest),
            "user_id": artefact.user_id,
            "content": artefact.content,
            "expires_at": date(artefact.expires_at_ms),
        }
        with translated():
            await self._artefacts.insert_one(document)

    async def read(self, kind: str, digest: bytes, *, now_ms: int) -> Artefact | None:
        with translated():
            found = await self._artefacts.find_one(_standing(kind, digest, now_ms) | {"used_at": None})
        return None if found is None else _artefact(found)

    async def use(self, kind: str, digest: bytes, *, now_ms: int, note: bytes = b"") -> Artefact | Used | None:
        change = {"$set": {"used_at": date(now_ms), "note": note}}
        with translated():
            # Retried by the driver, it gets the first attempt's answer.
            found = await self._artefacts.find_one_and_update(
                _standing(kind, digest, now_ms) | {"used_at": None}, change
            )
            if found is not None:
                return _artefact(found)
            found = await self._artefacts.find_one(_standing(kind, digest, now_ms))
        return None if found is None else Used(_artefact(found), found.get("note", b""))

    async def annotate(self, kind: str, digest: bytes, note: bytes) -> None:
        with translated():
            await self._artefacts.update_one({"_id": _name(kind, digest)}, {"$set": {"note": note}})

    async def miss(self, kind: str, digest: bytes) -> int:
        with translated():
            found = await self._artefacts.find_one_and_update(
                {"_id": _name(kind, digest)}, {"$inc": {"misses": 1}}, return_document=ReturnDocument.AFTER
            )
        return 0 if found is None else int(found["misses"])

    async def cancel(self, user_id: str, kinds: Collection[str] | None = None) -> None:
        with translated():
            # From every shard, which is what a rare event may cost; each is then removed by its name.
            local = self._artefacts.with_options(read_concern=ReadConcern("local"))
            async for found in local.find({"user_id": user_id}, {"_id": 1}, hint=OWNERS):
                if kinds is None or found["_id"].partition(":")[0] in kinds:
                    await self._artefacts.delete_one({"_id": found["_id"], "user_id": user_id})


def _name(kind: str, digest: bytes) -> str:
    return f"{kind}:{digest.hex()}"


def _standing(kind: str, digest: bytes, now_ms: int) -> Document:
    return {"_id": _name(kind, digest), "expires_at": {"$gt": date(now_ms)}}


def _artefact(found: Document) -> Artefact:
    kind, _, digest = found["_id"].partition(":")
    return Artefact(
        kind=kind,
        digest=bytes.fromhex(digest),
        user_id=found["user_id"],
        content=found["content"],
        expires_at_ms=ms(found["expires_at"]),
    )
