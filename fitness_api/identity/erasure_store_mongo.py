"""Gravestones and what is removed, in MongoDB: `accounts` holds `{_id: <user>, user_id, erased_at, stage?}` in the account's place.

An erasure asks every shard for the addresses of its account, and the command that finishes what was cut off for its
gravestones: nothing that a request of a living account waits for does so. Each is then removed by its shard key.
"""

from contextlib import suppress
from typing import Any, Final

from bson.codec_options import CodecOptions
from pymongo import ASCENDING, ReadPreference
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fitness_api.identity.erasure_store import Gravestone, Stage
from fitness_api.identity.store_mongo import OWNERS, UNFINISHED, Document, date, ms, translated, user
from sync.removal_mongo import remove_all

_GRAVESTONES_AT_ONCE: Final = 100


class MongoErasureStore:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        database = database.with_options(
            codec_options=CodecOptions(tz_aware=True),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True),
            read_concern=ReadConcern("majority"),
        )
        self._accounts: AsyncCollection[Document] = database["accounts"]
        self._emails: AsyncCollection[Document] = database["emails"]
        self._sessions: AsyncCollection[Document] = database["sessions"]
        self._devices: AsyncCollection[Document] = database["devices"]
        self._push_addresses: AsyncCollection[Document] = database["push_addresses"]
        self._single_use: AsyncCollection[Document] = database["single_use"]
        self._audit: AsyncCollection[Document] = database["audit"]
        self._second_factors: AsyncCollection[Document] = database["second_factors"]

    async def bury(self, user_id: str, *, now_ms: int) -> Gravestone:
        begun = {**user(user_id), "erased_at": date(now_ms), "stage": "begun"}
        # The filter passes over a gravestone, which then stands in the way of another.
        with translated(), suppress(DuplicateKeyError):
            await self._accounts.replace_one({**user(user_id), "erased_at": None}, begun, upsert=True)
        there = await self.gravestone(user_id)
        assert there is not None, "a gravestone stays for ever"
        return there

    async def gravestone(self, user_id: str) -> Gravestone | None:
        with translated():
            found = await self._accounts.find_one({**user(user_id), "erased_at": {"$ne": None}})
        return None if found is None else _gravestone(found)

    async def advance(self, gravestone: Gravestone, stage: Stage | None) -> None:
        change = {"$set": {"stage": stage}} if stage else {"$unset": {"stage": ""}}
        with translated():
            await self._accounts.update_one({**user(gravestone.user_id), "stage": gravestone.stage}, change)

    async def unfinished(self, *, after: str) -> list[Gravestone]:
        asked = {"stage": {"$exists": True}, "user_id": {"$gt": after}}
        with translated():
            cursor = self._accounts.find(
                asked, sort=[("user_id", ASCENDING)], limit=_GRAVESTONES_AT_ONCE, hint=UNFINISHED
            )
            return [_gravestone(found) async for found in cursor]

    async def end_sessions(self, user_id: str) -> None:
        with translated():
            await remove_all(self._sessions, user_id)

    async def remove_factors(self, user_id: str) -> None:
        with translated():
            await self._second_factors.delete_one(user(user_id))

    async def free_addresses(self, user_id: str) -> None:
        await self._disown(self._emails, user_id)

    async def remove_history(self, user_id: str) -> None:
        await self._disown(self._single_use, user_id)
        with translated():
            await remove_all(self._audit, user_id)

    async def remove_devices(self, user_id: str) -> None:
        await self._disown(self._push_addresses, user_id)
        with translated():
            await remove_all(self._devices, user_id)
        # Once more: a registration under way may have taken one before its device went, and looks for its device after that.
        await self._disown(self._push_addresses, user_id)

    async def _disown(self, collection: AsyncCollection[Any], user_id: str) -> None:
        with translated():
            found = collection.with_options(read_concern=ReadConcern("local"))
            async for address in found.find({"user_id": user_id}, {"_id": 1}, hint=OWNERS):
                await collection.delete_one({"_id": address["_id"], "user_id": user_id})


def _gravestone(found: Document) -> Gravestone:
    return Gravestone(user_id=found["user_id"], erased_at_ms=ms(found["erased_at"]), stage=found.get("stage"))
