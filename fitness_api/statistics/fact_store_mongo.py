"""Facts on MongoDB: `workout_facts` holds `{_id: "<user>/<workout>", user_id, facts}`, and `"<user>/.followed"` how far they go."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from bson.binary import Binary
from pymongo import DeleteMany, ReplaceOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fitness_api.statistics.fact_store import Followed
from fitness_api.statistics.facts import Facts
from sync.errors_mongo import translated
from sync.removal_mongo import remove_all

FACTS: Final = "workout_facts"

COLLECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    FACTS: {"shard_key": [("user_id", 1)], "indexes": [([("user_id", 1)], {})]}
}

_FOLLOWED: Final = ".followed"  # below all ids
_READ_AT_ONCE: Final = 1_000

# A workout's facts take some 600 bytes, most of them the histogram; msgpack is half of BSON and is decoded in one go.
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Facts).decode


class MongoFactStore:
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self._facts = database.get_collection(
            FACTS, write_concern=WriteConcern("majority", j=True), read_concern=ReadConcern("majority")
        )

    async def followed(self, user_id: str) -> Followed | None:
        with translated():
            found = await self._facts.find_one({"_id": f"{user_id}/{_FOLLOWED}", "user_id": user_id})
        return None if found is None else msgspec.convert(found, Followed)

    async def keep(self, user_id: str, drawn: Sequence[Facts], gone: Collection[str]) -> None:
        changes: list[Any] = []
        for one in drawn:
            key = {"_id": f"{user_id}/{one.workout_id}", "user_id": user_id}
            changes.append(ReplaceOne(key, {**key, "facts": Binary(_encode(one))}, upsert=True))
        if gone:
            ids = [f"{user_id}/{workout_id}" for workout_id in gone]
            changes.append(DeleteMany({"user_id": user_id, "_id": {"$in": ids}}))
        if changes:
            with translated():
                await self._facts.bulk_write(changes, ordered=False)

    async def advance(self, user_id: str, followed: Followed) -> None:
        key = {"_id": f"{user_id}/{_FOLLOWED}", "user_id": user_id}
        with translated():
            await self._facts.replace_one(key, {**key, **msgspec.to_builtins(followed)}, upsert=True)

    async def all(self, user_id: str) -> list[Facts]:
        # "0" follows "/" as it does in ids; what is below it is how far the facts go.
        owned = {"user_id": user_id, "_id": {"$gt": f"{user_id}/{_FOLLOWED}", "$lt": f"{user_id}0"}}
        cursor = self._facts.find(owned, {"facts": 1}, hint="_id_", batch_size=_READ_AT_ONCE)
        facts: list[Facts] = []
        with translated():
            async with cursor:
                while batch := await cursor.to_list(_READ_AT_ONCE):
                    facts += [_decode(record["facts"]) for record in batch]
        return facts

    async def erase(self, user_id: str) -> None:
        with translated():
            await remove_all(self._facts, user_id)
