"""What identity keeps, in MongoDB. Every command on what belongs to an account names `user_id` by equality.

`emails` and `push_addresses` are unique over all accounts and sharded by their hashed `_id`, which is such a name. A row of
`accounts` that has `erased_at` is a gravestone (`erasure_store_mongo`), and no account. Long, because it is one port.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec
from bson.codec_options import CodecOptions
from pymongo import ReadPreference, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fitness_api.identity.accounts import Account
from fitness_api.identity.errors import EmailTaken, StoreUnavailable
from fitness_api.identity.refresh_tokens import Session
from fitness_api.identity.scopes import FIRST_PARTY, PAGES
from fitness_api.identity.signing_keys import State, StoredKey
from fitness_api.identity.store import Credentials, Device, DeviceDetails, PushAddress, Standing
from sync.errors_mongo import is_passing

_BY_USER: Final = [("user_id", 1)]
_BY_HASH: Final = [("_id", "hashed")]

# By these an erasure finds what is left.
UNFINISHED: Final = "unfinished_erasures"
UNTOLD: Final = "untold_erasures"
BURIED_ADDRESSES: Final = "buried_addresses"
OWNERS: Final = "owner"
# And who removes a client, what was given to it: sessions of our own are not in this index.
OF_CLIENT: Final = "of_client"

COLLECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "accounts": {
        "shard_key": _BY_USER,
        "indexes": [
            (_BY_USER, {}),
            (_BY_USER, {"name": UNFINISHED, "partialFilterExpression": {"stage": {"$exists": True}}}),
            (_BY_USER, {"name": UNTOLD, "partialFilterExpression": {"untold": {"$exists": True}}}),
            (
                [("addresses", 1)],
                {"name": BURIED_ADDRESSES, "partialFilterExpression": {"addresses": {"$exists": True}}},
            ),
        ],
    },
    "emails": {"shard_key": _BY_HASH, "indexes": [(_BY_HASH, {}), (_BY_USER, {"name": OWNERS})]},
    "sessions": {
        "shard_key": _BY_USER,
        "indexes": [
            (_BY_USER, {}),
            ([("expires_at", 1)], {"expireAfterSeconds": 0}),
            ([("given_to", 1)], {"name": OF_CLIENT, "sparse": True}),
        ],
    },
    "devices": {"shard_key": _BY_USER, "indexes": [([("user_id", 1), ("device_id", 1)], {"unique": True})]},
    "push_addresses": {"shard_key": _BY_HASH, "indexes": [(_BY_HASH, {}), (_BY_USER, {"name": OWNERS})]},
    "signing_keys": {
        "shard_key": None,
        # "current" and "next" sort before "retired": one key of each, and any number of those.
        "indexes": [([("state", 1)], {"unique": True, "partialFilterExpression": {"state": {"$lt": "retired"}}})],
    },
}

# Whose account is read where an address is nobody's.
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Document = dict[str, Any]


def durable(database: AsyncDatabase[Document]) -> AsyncDatabase[Document]:
    """Return the database with what identity asks of it, whatever the client's defaults: what ended must not come back after a
    fail-over.
    """
    return database.with_options(
        codec_options=CodecOptions(tz_aware=True),
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern(w="majority", j=True),
        read_concern=ReadConcern("majority"),
    )


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        if not is_passing(error):
            raise
        raise StoreUnavailable("The database did not answer in time.") from error


class MongoStore:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        database = durable(database)
        self._accounts: AsyncCollection[Document] = database["accounts"]
        self._emails: AsyncCollection[Document] = database["emails"]
        self._sessions: AsyncCollection[Document] = database["sessions"]
        self._devices: AsyncCollection[Document] = database["devices"]
        self._push_addresses: AsyncCollection[Document] = database["push_addresses"]
        self._signing_keys: AsyncCollection[Document] = database["signing_keys"]

    async def add_account(self, account: Account, *, address: str, password_hash: str | None) -> None:
        owner = user(account.user_id)
        with translated():
            await self._accounts.insert_one({**owner, **account_fields(account), "password_hash": password_hash})
            try:
                await self._emails.insert_one({"_id": address, "user_id": account.user_id})
            except DuplicateKeyError:
                await self._accounts.delete_one(owner)
                raise EmailTaken from None

    async def account(self, user_id: str) -> Account | None:
        with translated():
            found = await self._accounts.find_one(user(user_id))
        return None if found is None or "erased_at" in found else _account(found)

    async def is_erased(self, user_id: str) -> bool:
        with translated():
            found = await self._accounts.find_one(user(user_id), {"erased_at": 1})
        return found is not None and "erased_at" in found

    async def standing(self, user_id: str) -> Standing:
        with translated():
            found = await self._accounts.find_one(user(user_id), {"erased_at": 1, "granted_scopes": 1}) or {}
        return Standing("erased_at" in found, tuple(found.get("granted_scopes", ())))

    async def update_account(self, user_id: str, change: Callable[[Account], Account]) -> Account | None:
        while (before := await self.account(user_id)) is not None:
            after = msgspec.structs.replace(change(before), version=before.version + 1)
            with translated():
                done = await self._accounts.update_one(
                    {**user(user_id), "version": before.version}, {"$set": account_fields(after)}
                )
            if done.matched_count:
                return after
            # Somebody else's change was stored in between, so that each round of this loop is somebody's progress.
        return None

    async def credentials(self, address: str) -> Credentials | None:
        with translated():
            email = await self._emails.find_one({"_id": address})
            account = await self._accounts.find_one(user(email["user_id"] if email else _NOBODY), {"password_hash": 1})
        if email is None or account is None or "password_hash" not in account:
            return None  # Without a hash it is a gravestone, whose address is about to be freed.
        return Credentials(email["user_id"], account["password_hash"])

    async def has_way_in(self, user_id: str) -> bool:
        with translated():
            found = await self._accounts.find_one(user(user_id), {"password_hash": 1, "identities": 1})
        return found is not None and bool(found.get("password_hash") or found.get("identities"))

    async def replace_password_hash(self, user_id: str, *, before: str, after: str) -> None:
        with translated():
            await self._accounts.update_one(
                {**user(user_id), "password_hash": before}, {"$set": {"password_hash": after}}
            )

    async def add_session(self, session: Session) -> None:
        with translated():
            await self._sessions.insert_one(
                {
                    **_owned(session.user_id, session.session_id),
                    "session_id": session.session_id,
                    "client_id": session.client_id,
                    **({} if session.client_id in {FIRST_PARTY, PAGES} else {"given_to": session.client_id}),
                    "scopes": list(session.scopes),
                    "counter": session.counter,
                    "used_at": date(session.used_at_ms),
                    "seen_generation": session.seen_generation,
                    "authenticated_at": date(session.authenticated_at_ms),
                    "ends_at": date(session.ends_at_ms),
                    "expires_at": date(session.expires_at_ms),
                    "user_agent": session.user_agent,
                    "methods": list(session.methods),
                    "key_thumbprint": session.key_thumbprint,
                }
            )

    async def session(self, user_id: str, session_id: str) -> Session | None:
        with translated():
            found = await self._sessions.find_one(_owned(user_id, session_id))
        return None if found is None else _session(found)

    async def sessions(self, user_id: str) -> list[Session]:
        with translated():
            found = [_session(document) async for document in self._sessions.find({"user_id": user_id})]
        return sorted(found, key=lambda session: session.used_at_ms or session.authenticated_at_ms, reverse=True)

    async def advance_session(self, after: Session, *, counter: int) -> bool:
        changes = {
            "counter": after.counter,
            "used_at": date(after.used_at_ms),
            "expires_at": date(after.expires_at_ms),
        }
        with translated():
            done = await self._sessions.update_one(
                {**_owned(after.user_id, after.session_id), "counter": counter}, {"$set": changes}
            )
        return done.matched_count == 1

    async def see_generation(self, user_id: str, session_id: str, generation: int) -> None:
        with translated():
            await self._sessions.update_one(_owned(user_id, session_id), {"$max": {"seen_generation": generation}})

    async def end_session(self, user_id: str, session_id: str) -> bool:
        with translated():
            done = await self._sessions.delete_one(_owned(user_id, session_id))
            async for device in self._devices.find({"user_id": user_id, "push.session_id": session_id}):
                await self._drop_push(device)
        return done.deleted_count == 1

    async def claim_device(
        self, user_id: str, installation_id: str, details: DeviceDetails, *, device_id: str, now_ms: int
    ) -> Device:
        while True:
            try:
                with translated():
                    claimed = await self._devices.find_one_and_update(
                        _owned(user_id, installation_id),
                        {
                            "$set": {"details": msgspec.to_builtins(details), "updated_at": date(now_ms)},
                            "$setOnInsert": {
                                "installation_id": installation_id,
                                "device_id": device_id,
                                "created_at": date(now_ms),
                            },
                        },
                        upsert=True,
                        return_document=ReturnDocument.AFTER,
                    )
            except DuplicateKeyError:
                continue  # Two upserts met; now the document is there.
            assert claimed is not None, "an upsert that returns the document after it"
            return await self._device(claimed)

    async def set_replica(self, user_id: str, device_id: str, replica: int) -> bool:
        with translated():
            done = await self._devices.update_one(
                {"user_id": user_id, "device_id": device_id}, {"$set": {"replica": replica}}
            )
        return done.matched_count == 1

    async def withdraw_claim(self, user_id: str, device_id: str) -> None:
        with translated():
            await self._devices.delete_one({"user_id": user_id, "device_id": device_id, "replica": None})

    async def device(self, user_id: str, device_id: str) -> Device | None:
        with translated():
            found = await self._devices.find_one({"user_id": user_id, "device_id": device_id})
        return None if found is None else await self._device(found)

    async def devices(self, user_id: str) -> list[Device]:
        with translated():
            found = self._devices.find({"user_id": user_id, "replica": {"$ne": None}})
            devices = [await self._device(document) async for document in found]
        return sorted(devices, key=lambda device: (device.created_at_ms, device.device_id))

    async def update_device(
        self, user_id: str, device_id: str, details: Mapping[str, str | None], *, now_ms: int
    ) -> bool:
        changes = {f"details.{member}": value for member, value in details.items()}
        with translated():
            done = await self._devices.update_one(
                {"user_id": user_id, "device_id": device_id}, {"$set": {**changes, "updated_at": date(now_ms)}}
            )
        return done.matched_count == 1

    async def set_push_address(
        self, user_id: str, device_id: str, session_id: str, address: PushAddress, *, now_ms: int
    ) -> bool:
        key = _push_key(address)
        device = {"user_id": user_id, "device_id": device_id}
        push = {"address": key, "kind": address.kind, "session_id": session_id}
        # The device refers to the address before it owns it: cut off in between, the reference is void, and no address
        # is left that its device does not know of.
        with translated():
            before = await self._devices.find_one_and_update(device, {"$set": {"push": push}})
            if before is None:
                return False
            if before.get("push", {}).get("address", key) != key:
                await self._drop_push(before)
            await self._push_addresses.replace_one(
                {"_id": key},
                {**device, "kind": address.kind, "value": address.value, "updated_at": date(now_ms)},
                upsert=True,
            )
            # The device may be gone or have got another address, or the session ended, while this was under way.
            after = await self._devices.find_one(device)
            if after is None or after.get("push", {}).get("address") != key:
                await self._push_addresses.delete_one({"_id": key, **device})
                return after is not None
            if not await self._sessions.find_one(_owned(user_id, after["push"]["session_id"]), {"_id": 1}):
                await self._drop_push(after)
                return False
        return True

    async def drop_push_address(self, user_id: str, device_id: str) -> None:
        with translated():
            device = await self._devices.find_one({"user_id": user_id, "device_id": device_id})
            if device is not None:
                await self._drop_push(device)

    async def remove_device(self, user_id: str, device_id: str) -> None:
        await self.drop_push_address(user_id, device_id)
        with translated():
            await self._devices.delete_one({"user_id": user_id, "device_id": device_id})

    async def signing_keys(self) -> list[StoredKey]:
        with translated():
            return [_key(document) async for document in self._signing_keys.find({}).sort("_id")]

    async def add_signing_key(self, key: StoredKey) -> bool:
        document = {
            "_id": key.kid,
            "state": key.state,
            "state_since": date(key.state_since_ms),
            "public": msgspec.to_builtins(key.public),
            "sealed": key.sealed,
        }
        try:
            with translated():
                await self._signing_keys.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    async def move_signing_key(self, kid: str, before: State, after: State, *, now_ms: int) -> bool:
        try:
            with translated():
                done = await self._signing_keys.update_one(
                    {"_id": kid, "state": before}, {"$set": {"state": after, "state_since": date(now_ms)}}
                )
        except DuplicateKeyError:
            return False
        return done.matched_count == 1

    async def drop_signing_key(self, kid: str) -> None:
        with translated():
            await self._signing_keys.delete_one({"_id": kid, "state": "retired"})

    async def _device(self, document: Document) -> Device:
        owned = None
        if "push" in document:
            owner = {"user_id": document["user_id"], "device_id": document["device_id"]}
            with translated():
                owned = await self._push_addresses.find_one({"_id": document["push"]["address"], **owner}, {"kind": 1})
        return Device(
            device_id=document["device_id"],
            installation_id=document["installation_id"],
            details=msgspec.convert(document["details"], DeviceDetails),
            replica=document.get("replica"),
            push_kind=owned["kind"] if owned else None,
            created_at_ms=ms(document["created_at"]),
            updated_at_ms=ms(document["updated_at"]),
        )

    async def _drop_push(self, device: Document) -> None:
        """Let go of the address that this state of the device refers to, if it is still the device's."""
        if "push" not in device:
            return
        owner = {"user_id": device["user_id"], "device_id": device["device_id"]}
        await self._push_addresses.delete_one({"_id": device["push"]["address"], **owner})
        await self._devices.update_one({**owner, "push": device["push"]}, {"$unset": {"push": 1}})


def user(user_id: str) -> Document:
    return {"_id": user_id, "user_id": user_id}


def _owned(user_id: str, name: str) -> Document:
    return {"_id": f"{user_id}/{name}", "user_id": user_id}


def _push_key(address: PushAddress) -> str:
    return sha256(f"{address.kind}:{address.value}".encode()).hexdigest()


def account_fields(account: Account) -> Document:
    fields = msgspec.structs.asdict(account)
    created_at_ms = fields.pop("created_at_ms")
    return {**fields, "created_at": date(created_at_ms)}


def _account(document: Document) -> Account:
    return msgspec.convert({**document, "created_at_ms": ms(document["created_at"])}, Account)


def _session(document: Document) -> Session:
    return Session(
        user_id=document["user_id"],
        session_id=document["session_id"],
        client_id=document["client_id"],
        scopes=tuple(document["scopes"]),
        counter=document["counter"],
        used_at_ms=None if document["used_at"] is None else ms(document["used_at"]),
        seen_generation=document["seen_generation"],
        authenticated_at_ms=ms(document["authenticated_at"]),
        ends_at_ms=ms(document["ends_at"]),
        expires_at_ms=ms(document["expires_at"]),
        user_agent=document["user_agent"],
        methods=tuple(document["methods"]),
        key_thumbprint=document["key_thumbprint"],
    )


def _key(document: Document) -> StoredKey:
    fields = {
        "kid": document["_id"],
        "state": document["state"],
        "state_since_ms": ms(document["state_since"]),
        "public": document["public"],
        "sealed": document["sealed"],
    }
    return msgspec.convert(fields, StoredKey)


def date(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else _EPOCH + timedelta(milliseconds=at_ms)


def ms(date: datetime) -> int:
    return (date - _EPOCH) // timedelta(milliseconds=1)
