"""Identities, in MongoDB: each stands in its account's row, and in `identities` by its key, which is unique over all accounts.

An identity opens an account where both say so. Either alone does nothing: a key whose account does not list it may be
claimed anew after CLAIM_MS, and a listed identity whose key is another's is void.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec.structs import replace
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from fitness_api.identity.accounts import Account
from fitness_api.identity.errors import StoreUnavailable, TooManyIdentities
from fitness_api.identity.federation.identities import MAX_IDENTITIES, Holder, Identity
from fitness_api.identity.store_mongo import OWNERS, Document, account_fields, date, durable, ms, translated, user

_BY_USER: Final = [("user_id", 1)]
_BY_HASH: Final = [("_id", "hashed")]

COLLECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "identities": {"shard_key": _BY_HASH, "indexes": [(_BY_HASH, {}), (_BY_USER, {"name": OWNERS})]},
}

# Between a claim and the account's row lie two commands; who takes longer than this was cut off.
CLAIM_MS: Final = 60_000

_HOLDER: Final = {"email_verified": 1, "password_hash": 1, "identities": 1, "version": 1, "erased_at": 1}


class MongoIdentityStore:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        # A link that was removed must stay so after a fail-over, whatever the client's defaults.
        database = durable(database)
        self._accounts: AsyncCollection[Document] = database["accounts"]
        self._emails: AsyncCollection[Document] = database["emails"]
        self._identities: AsyncCollection[Document] = database["identities"]

    async def owner(self, key: str) -> Holder | None:
        with translated():
            claim = await self._identities.find_one({"_id": key})
        if claim is None:
            return None
        holder = await self.holder(claim["user_id"])
        return holder if holder is not None and holder.has(key) else None

    async def holder_of(self, address: str) -> Holder | None:
        with translated():
            email = await self._emails.find_one({"_id": address})
        return None if email is None else await self.holder(email["user_id"])

    async def holder(self, user_id: str) -> Holder | None:
        with translated():
            found = await self._accounts.find_one(user(user_id), _HOLDER)
        return None if found is None or "erased_at" in found else _holder(user_id, found)

    async def make(self, account: Account, *, address: str, identity: Identity) -> bool:
        owner = user(account.user_id)
        row = {**owner, **account_fields(account), "password_hash": None, "identities": [_row(identity)]}
        with translated():
            await self._accounts.insert_one(row)
            try:
                await self._emails.insert_one({"_id": address, "user_id": account.user_id})
            except DuplicateKeyError:
                await self._accounts.delete_one(owner)
                return False
        # Last, so that who is cut off before it finds the account by its address, which lists the identity.
        if await self._claim(identity, account.user_id):
            return True
        with translated():
            await self._emails.delete_one({"_id": address, "user_id": account.user_id})
            await self._accounts.delete_one(owner)
        return False

    async def link(self, user_id: str, identity: Identity) -> bool:
        if not await self._claim(identity, user_id):
            return False
        while (holder := await self.holder(user_id)) is not None:
            if holder.has(identity.key):
                return True
            if len(holder.identities) >= MAX_IDENTITIES:
                await self._release([identity], user_id)
                raise TooManyIdentities(limit=MAX_IDENTITIES)
            with translated():
                done = await self._accounts.update_one(
                    _as_it_stands(holder), {"$push": {"identities": _row(identity)}, "$inc": {"version": 1}}
                )
            if done.matched_count:
                return True
            # Somebody else's change was stored in between, so that each round of this loop is somebody's progress.
        await self._release([identity], user_id)
        return False

    async def void(self, holder: Holder) -> Holder | None:
        change = {"$set": {"password_hash": None, "identities": []}, "$inc": {"version": 1}}
        with translated():
            done = await self._accounts.update_one(_as_it_stands(holder) | {"email_verified": False}, change)
        if not done.matched_count:
            return None
        await self._release(holder.identities, holder.user_id)
        return replace(holder, has_password=False, identities=(), version=holder.version + 1)

    async def give(self, holder: Holder, identity: Identity) -> bool:
        if not await self._claim(identity, holder.user_id):
            return False
        change = {
            "$set": {"email_verified": True, "password_hash": None, "identities": [_row(identity)]},
            "$inc": {"version": 1},
        }
        with translated():
            done = await self._accounts.update_one(_as_it_stands(holder) | {"email_verified": False}, change)
        if not done.matched_count:
            return False
        await self._release([old for old in holder.identities if old.key != identity.key], holder.user_id)
        return True

    async def unlink(self, holder: Holder, identity_id: str) -> bool:
        leaving = [identity for identity in holder.identities if identity.identity_id == identity_id]
        change = {"$pull": {"identities": {"identity_id": identity_id}}, "$inc": {"version": 1}}
        with translated():
            done = await self._accounts.update_one(_as_it_stands(holder), change)
        if not done.matched_count:
            return False
        await self._release(leaving, holder.user_id)
        return True

    async def _claim(self, identity: Identity, user_id: str) -> bool:
        key, now_ms = identity.key, time.time_ns() // 1_000_000
        claim = {"_id": key, "user_id": user_id, "claimed_at": date(now_ms)}
        while True:
            try:
                with translated():
                    await self._identities.insert_one(claim)
            except DuplicateKeyError:
                pass
            else:
                return True
            with translated():
                there = await self._identities.find_one({"_id": key})
            if there is None:
                continue
            if there["user_id"] == user_id:
                return True
            holder = await self.holder(there["user_id"])
            if holder is not None and holder.has(key):
                return False
            if now_ms - ms(there["claimed_at"]) < CLAIM_MS:
                raise StoreUnavailable("The identity is being linked elsewhere.")
            with translated():
                taken = await self._identities.replace_one(there, claim)
            if taken.matched_count:
                return True

    async def _release(self, identities: Iterable[Identity], user_id: str) -> None:
        with translated():
            for identity in identities:
                await self._identities.delete_one({"_id": identity.key, "user_id": user_id})


def _as_it_stands(holder: Holder) -> Document:
    return {**user(holder.user_id), "version": holder.version, "erased_at": None}


def _row(identity: Identity) -> Document:
    return {
        "identity_id": identity.identity_id,
        "issuer": identity.issuer,
        "subject": identity.subject,
        "email": identity.email,
        "linked_at": date(identity.linked_at_ms),
    }


def _identities(document: Document) -> list[Identity]:
    return [
        Identity(
            identity_id=row["identity_id"],
            issuer=row["issuer"],
            subject=row["subject"],
            email=row["email"],
            linked_at_ms=ms(row["linked_at"]),
        )
        for row in document.get("identities", [])
    ]


def _holder(user_id: str, document: Document) -> Holder:
    return Holder(
        user_id=user_id,
        email_verified=document["email_verified"],
        has_password=document["password_hash"] is not None,
        identities=tuple(_identities(document)),
        version=document["version"],
    )
