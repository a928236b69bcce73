"""Facts on MongoDB: `workout_facts` holds `{_id: "<user>/<workout>", user_id, epoch, version, seq, facts?}`, and `"<user>/.followed"` how far they go.

A workout that came to nothing keeps its row without facts, so that a slower writer does not bring back what it was before.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from bson.binary import Binary
from pymongo import ReplaceOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fitness_api.statistics.fact_store import Drawn, Followed
from fitness_api.statistics.facts import Facts
from sync.errors_mongo import translated
from sync.removal_mongo import remove_all

FACTS: Final = "workout_facts"

COLLECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    FACTS: {"shard_key": [("user_id", 1)], "indexes": [([("user_id", 1)], {})]}
}

_FOLLOWED: Final = ".followed"  # below all ids
_READ_AT_ONCE: Final = 1_000
_DUPLICATE_KEY: Final = 11_000

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

    async def keep(self, user_id: str, drawn: Sequence[Drawn], of: Followed) -> None:
        changes = []
        for one in drawn:
            key = {"_id": f"{user_id}/{one.workout_id}", "user_id": user_id}
            row: dict[str, Any] = {**key, "epoch": of.epoch, "version": of.version, "seq": one.seq}
            if one.facts is not None:
                row["facts"] = Binary(_encode(one.facts))
            changes.append(ReplaceOne({**key, **_behind(of, one.seq)}, row, upsert=True))
        if not changes:
            return
        try:
            with translated():
                await self._facts.bulk_write(changes, ordered=False)
        except BulkWriteError as error:
            # A later one is there, which the filter passed over.
            if any(fault["code"] != _DUPLICATE_KEY for fault in error.details["writeErrors"]):
                raise

    async def advance(self, user_id: str, followed: Followed) -> None:
        key = {"_id": f"{user_id}/{_FOLLOWED}", "user_id": user_id}
        behind = {**key, **_behind(followed, followed.seq)}
        with translated(), suppress(DuplicateKeyError):
            await self._facts.replace_one(behind, {**key, **msgspec.to_builtins(followed)}, upsert=True)

    async def all(self, user_id: str, of: Followed) -> list[Facts]:
        # "0" follows "/" as it does in ids; what is below it is how far the facts go.
        owned = {
            "user_id": user_id,
            "_id": {"$gt": f"{user_id}/{_FOLLOWED}", "$lt": f"{user_id}0"},
            "epoch": of.epoch,
            "version": of.version,
            "facts": {"$exists": True},
        }
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


def _behind(of: Followed, seq: int) -> dict[str, Any]:
    return {"$or": [{"epoch": {"$ne": of.epoch}}, {"version": {"$ne": of.version}}, {"seq": {"$lt": seq}}]}
