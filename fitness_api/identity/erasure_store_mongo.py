"""Gravestones and what is removed, in MongoDB: `accounts` holds `{_id: <user>, user_id, erased_at, addresses?, stage?, untold?}` in
the account's place.

An erasure asks every shard for the addresses of its account, and the command that finishes what was cut off for its
gravestones: nothing that a request of a living account waits for does so. Each is then removed by its shard key.

A collection that holds anything of an account joins LOGINS or REST, or is another store's to erase (`fitness_api.erase`).
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from pymongo import ASCENDING
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from fitness_api.identity import gravestones
from fitness_api.identity.erasure_store import Gravestone, Stage
from fitness_api.identity.store_mongo import (
    BURIED_ADDRESSES,
    OWNERS,
    UNFINISHED,
    UNTOLD,
    Document,
    date,
    durable,
    ms,
    translated,
    user,
)
from sync.removal_mongo import remove_all

_GRAVESTONES_AT_ONCE: Final = 100

# How an account's rows are found. RANGED: by ids that begin with the user's and a slash. NAMED: by the user's own. OWNED: by
# the index OWNERS, whatever their ids; in a sharded collection each is then removed by its hashed id.
RANGED: Final = "ranged"
NAMED: Final = "named"
OWNED: Final = "owned"

LOGINS: Final = (
    ("sessions", RANGED),
    ("second_factors", NAMED),
    ("single_use", OWNED),
    ("identities", OWNED),
    ("emails", OWNED),
)
# Push addresses twice: a registration under way may have taken one before its device went, and looks for its device after that.
REST: Final = (
    ("mail_outbox", OWNED),
    ("push_addresses", OWNED),
    ("devices", RANGED),
    ("push_addresses", OWNED),
    ("audit", RANGED),
)


class MongoErasureStore:
    """address_key: `gravestones.derive_key`."""

    def __init__(self, database: AsyncDatabase[Document], *, address_key: bytes) -> None:
        self._database = durable(database)
        self._accounts: AsyncCollection[Document] = self._database["accounts"]
        self._address_key = address_key

    async def bury(self, user_id: str, *, now_ms: int) -> Gravestone:
        with translated():
            found = self._database["emails"].find({"user_id": user_id}, {"_id": 1}, hint=OWNERS)
            addresses = [gravestones.hash_of(email["_id"], self._address_key) async for email in found]
        begun = {**user(user_id), "erased_at": date(now_ms), "addresses": addresses, "stage": "begun", "untold": True}
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

    async def of_address(self, address: str) -> list[Gravestone]:
        asked = {"addresses": gravestones.hash_of(address, self._address_key)}
        with translated():
            return [_gravestone(found) async for found in self._accounts.find(asked, hint=BURIED_ADDRESSES)]

    async def forget_addresses(self, *, erased_before_ms: int) -> None:
        old = {"addresses": {"$exists": True}, "erased_at": {"$lt": date(erased_before_ms)}}
        with translated():
            async for found in self._accounts.find(old, {"_id": 1}, hint=BURIED_ADDRESSES):
                await self._accounts.update_one(user(found["_id"]), {"$unset": {"addresses": ""}})

    async def advance(self, gravestone: Gravestone, stage: Stage | None) -> None:
        change = {"$set": {"stage": stage}} if stage else {"$unset": {"stage": ""}}
        with translated():
            await self._accounts.update_one({**user(gravestone.user_id), "stage": gravestone.stage}, change)

    async def unfinished(self, *, after: str) -> list[Gravestone]:
        return await self._page({"stage": {"$exists": True}}, UNFINISHED, after)

    async def untold(self, *, after: str) -> list[Gravestone]:
        return await self._page({"untold": {"$exists": True}}, UNTOLD, after)

    async def told(self, user_id: str) -> None:
        with translated():
            await self._accounts.update_one(user(user_id), {"$unset": {"untold": ""}})

    async def end_logins(self, user_id: str) -> None:
        await self._remove(LOGINS, user_id)

    async def remove_rest(self, user_id: str) -> None:
        await self._remove(REST, user_id)

    async def _page(self, asked: Document, index: str, after: str) -> list[Gravestone]:
        wanted = {**asked, "user_id": {"$gt": after}}
        with translated():
            cursor = self._accounts.find(wanted, sort=[("user_id", ASCENDING)], limit=_GRAVESTONES_AT_ONCE, hint=index)
            return [_gravestone(found) async for found in cursor]

    async def _remove(self, rows: Sequence[tuple[str, str]], user_id: str) -> None:
        for name, found_by in rows:
            collection: AsyncCollection[Document] = self._database[name]
            if found_by == OWNED:
                await self._disown(collection, user_id)
                continue
            with translated():
                if found_by == NAMED:
                    await collection.delete_one(user(user_id))
                else:
                    await remove_all(collection, user_id)

    async def _disown(self, collection: AsyncCollection[Any], user_id: str) -> None:
        with translated():
            found = collection.with_options(read_concern=ReadConcern("local"))
            async for address in found.find({"user_id": user_id}, {"_id": 1}, hint=OWNERS):
                await collection.delete_one({"_id": address["_id"], "user_id": user_id})


def _gravestone(found: Document) -> Gravestone:
    return Gravestone(user_id=found["user_id"], erased_at_ms=ms(found["erased_at"]), stage=found.get("stage"))
