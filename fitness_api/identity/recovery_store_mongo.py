"""Passwords and addresses that change, in MongoDB: in the account's row, `email_change` what waits; and the claims in `emails`."""

from contextlib import suppress

import msgspec
from pymongo import ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from fitness_api.identity.accounts import normalised_address
from fitness_api.identity.errors import EmailTaken
from fitness_api.identity.recovery_store import EmailChange, Side
from fitness_api.identity.store_mongo import OWNERS, Document, date, durable, ms, translated, user


class MongoRecoveryStore:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        database = durable(database)
        self._accounts: AsyncCollection[Document] = database["accounts"]
        self._emails: AsyncCollection[Document] = database["emails"]

    async def reset_password_hash(self, user_id: str, password_hash: str, *, proven: str) -> bool:
        with translated():
            # The account's row says the address as it was typed; who moves it meanwhile changes that.
            while (typed := await self._typed(user_id, proven)) is not None:
                changes = {"password_hash": password_hash, "email_verified": True}
                done = await self._accounts.update_one(
                    {**_living(user_id), "email": typed}, {"$set": changes, "$inc": {"version": 1}}
                )
                if done.matched_count:
                    return True
        return False

    async def change_password_hash(self, user_id: str, *, before: str | None, after: str | None) -> bool:
        with translated():
            # The version tells who takes the account over that it got a password meanwhile.
            done = await self._accounts.update_one(
                {**_living(user_id), "password_hash": before},
                {"$set": {"password_hash": after}, "$inc": {"version": 1}},
            )
        return done.matched_count == 1

    async def verify(self, user_id: str, address: str) -> bool:
        with translated():
            while (typed := await self._typed(user_id, address)) is not None:
                done = await self._accounts.update_one(
                    {**_living(user_id), "email": typed}, {"$set": {"email_verified": True}, "$inc": {"version": 1}}
                )
                if done.matched_count:
                    return True
        return False

    async def begin_change(self, user_id: str, change: EmailChange) -> bool:
        stored = {
            "change_id": change.change_id,
            "email": change.email,
            "address": change.address,
            "expires_at": date(change.expires_at_ms),
            "confirmed": list(change.confirmed),
        }
        with translated():
            done = await self._accounts.update_one(_living(user_id), {"$set": {"email_change": stored}})
        return done.matched_count == 1

    async def pending_change(self, user_id: str, *, now_ms: int) -> EmailChange | None:
        with translated():
            return _change(await self._accounts.find_one({**_living(user_id), **_unexpired(now_ms)}))

    async def confirm_change(self, user_id: str, change_id: str, side: Side, *, now_ms: int) -> EmailChange | None:
        with translated():
            return _change(
                await self._accounts.find_one_and_update(
                    {**_living(user_id), "email_change.change_id": change_id, **_unexpired(now_ms)},
                    {"$addToSet": {"email_change.confirmed": side}},
                    return_document=ReturnDocument.AFTER,
                )
            )

    async def move(self, user_id: str, change: EmailChange, *, verified: bool) -> str | None:
        waiting = {**_living(user_id), "email_change.change_id": change.change_id, "email_verified": verified}
        with translated():
            if await self._accounts.find_one(waiting, {"_id": 1}) is None:
                return None
            with suppress(DuplicateKeyError):
                await self._emails.insert_one({"_id": change.address, "user_id": user_id})
            if await self._emails.find_one({"_id": change.address, "user_id": user_id}) is None:
                raise EmailTaken
            before = await self._accounts.find_one_and_update(
                waiting,
                {
                    "$set": {"email": change.email, "email_verified": True},
                    "$unset": {"email_change": ""},
                    "$inc": {"version": 1},
                },
            )
            if before is None:
                if await self._typed(user_id, change.address) is None:
                    # Cancelled while it was claimed.
                    await self._emails.delete_one({"_id": change.address, "user_id": user_id})
                return None
            # From every shard, which is what a rare event may cost: what an earlier move left behind goes as well.
            async for claimed in self._emails.find({"user_id": user_id}, {"_id": 1}, hint=OWNERS):
                if claimed["_id"] != change.address:
                    await self._emails.delete_one({"_id": claimed["_id"], "user_id": user_id})
        return str(before["email"])

    async def cancel_change(self, user_id: str) -> None:
        with translated():
            await self._accounts.update_one(_living(user_id), {"$unset": {"email_change": ""}})

    async def _typed(self, user_id: str, address: str) -> str | None:
        """Return the account's address as it was typed, if this is it."""
        account = await self._accounts.find_one(_living(user_id), {"email": 1})
        return account["email"] if account is not None and normalised_address(account["email"]) == address else None


def _living(user_id: str) -> Document:
    """A gravestone has no address."""
    return {**user(user_id), "email": {"$exists": True}}


def _unexpired(now_ms: int) -> Document:
    return {"email_change.expires_at": {"$gt": date(now_ms)}}


def _change(found: Document | None) -> EmailChange | None:
    if found is None:
        return None
    stored = found["email_change"]
    return msgspec.convert({**stored, "expires_at_ms": ms(stored["expires_at"])}, EmailChange)
