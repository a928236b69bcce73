"""The store on MongoDB: one collection holds everything that one transaction touches.

MongoDB places each sharded collection's ranges by themselves, so that two collections with one shard key may still keep an
account on two shards, and a transaction over both would be a distributed one. In one collection, sharded on `user_id`, an
account lies in one range, on one shard. The records of an account, by `_id`:

    <user>/head                       Head
    <user>/restamps/<old stamp>       the stamp that replaced one too far ahead
    <user>/<collection>/<id>          a document: {user_id, collection, id, seq, deleted, most_bytes, value, stamps}

`value` is {path: value}, flat and queryable (`value.started_at`); `stamps` is {path: [stamp, seq]}, where the empty path, which
no register can have, stands for all that are not named.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Final
from weakref import WeakValueDictionary

import bson
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from msgspec.structs import replace
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from sync import clock
from sync.clock import MAX_REPLICA, ZERO, Stamp
from sync.document import Document, Key, Mark
from sync.errors import ReplicasExhausted, TooManyDevices
from sync.errors_mongo import translated
from sync.head import MAX_DEVICES, Device, Head
from sync.merge import Outcome, State
from sync.store import Step

RECORDS: Final = "sync_records"

COLLECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    RECORDS: {
        "shard_key": [("user_id", 1)],
        # The feed: `collection` is in the index so that a device of few collections reads no others' documents.
        "indexes": [([("user_id", 1), ("seq", 1), ("collection", 1)], {"name": "feed"})],
    },
}

_DURABLE: Final = WriteConcern("majority", j=True)
_SNAPSHOT: Final = ReadConcern("snapshot")
_LINEARIZABLE: Final = ReadConcern("linearizable")

# How long a round trip goes on trying while other processes write the same account, or a primary steps down.
_PATIENCE_S: Final = 8.0
_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.25
_COMMIT_ATTEMPTS: Final = 5  # each waits for a primary by itself

# MongoDB ends a command at 16 MiB. A step's documents, which were read in one reply of 16 MiB, may have grown since.
_MAX_COMMAND_BYTES: Final = 12 * 1024 * 1024
# What a register takes beside its path and JSON, which `most_bytes` holds: its mark, the path once more with it (of at most half
# of the paths), and BSON's widths. The rest up to 16 MiB is for paths that are longer.
_MARK_BYTES: Final = 600
_RESTAMP_BYTES: Final = 200

_PAGE_RECORDS: Final = 200  # of 1 to 2 KB: a few network reads for a page, and little read in vain when a page fills up


class MongoStore:
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self._database = database
        self._client = database.client
        self._records = database.get_collection(RECORDS, write_concern=_DURABLE, read_concern=ReadConcern("majority"))
        self._transacted = database.get_collection(RECORDS)
        self._lanes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def register_device(self, user_id: str, device_id: str) -> int:
        with translated():
            while True:
                record = await self._made_head(user_id)
                known = record["devices"].get(device_id)
                if known is not None:
                    return int(known["replica"])
                used = set(record["replicas"])
                free = [number for number in range(1, MAX_REPLICA + 1) if number not in used]
                if not free:
                    raise ReplicasExhausted
                if len(record["devices"]) >= MAX_DEVICES:
                    raise TooManyDevices(limit=MAX_DEVICES)
                replica = secrets.choice(free)
                # A racing registration, even one that was forgotten at once, makes it look again.
                seen = {"devices": record["devices"], "replicas": {"$ne": replica}}
                written = await self._records.update_one(
                    {"_id": record["_id"], "user_id": user_id, **seen},
                    {"$set": {f"devices.{device_id}": {"replica": replica}}, "$push": {"replicas": replica}},
                )
                if written.matched_count:
                    return replica

    async def forget_device(self, user_id: str, device_id: str) -> None:
        with translated():
            await self._records.update_one(
                {"_id": _head_id(user_id), "user_id": user_id}, {"$unset": {f"devices.{device_id}": ""}}
            )

    async def head(self, user_id: str, *, surely_newest: bool = False) -> Head | None:
        records = self._records.with_options(read_concern=_LINEARIZABLE) if surely_newest else self._records
        with translated():
            record = await records.find_one({"_id": _head_id(user_id), "user_id": user_id}, {"replicas": 0})
        return None if record is None else _head(record)

    async def _made_head(self, user_id: str) -> Mapping[str, Any]:
        try:
            return await self._upserted_head(user_id)
        except DuplicateKeyError:  # two upserts made it at once; now that it is there, none makes it
            return await self._upserted_head(user_id)

    async def _upserted_head(self, user_id: str) -> Mapping[str, Any]:
        record: Mapping[str, Any] | None = await self._records.find_one_and_update(
            {"_id": _head_id(user_id), "user_id": user_id},
            {"$setOnInsert": {
                "epoch": secrets.randbits(31), "newest": 0, "clock": 0, "restamped": 0, "writes": 0,
                "devices": {}, "replicas": [],
            }},
            upsert=True, return_document=ReturnDocument.AFTER,
        )  # fmt: skip
        if record is None:
            raise AssertionError("An upsert returns what it made.")
        return record

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        """One transaction. In this process the account's writers wait for each other; against others' they try again."""
        lane = self._lanes.setdefault(user_id, asyncio.Lock())
        async with lane:
            with translated():
                deadline = monotonic() + _PATIENCE_S
                pause_s = _FIRST_PAUSE_S
                while True:
                    try:
                        if (done := await self._transact(user_id, keys, stamps, step)) is not None:
                            return done
                        await self._made_head(user_id)
                        continue
                    except PyMongoError as error:
                        is_passing = error.has_error_label("TransientTransactionError")
                        if not is_passing or monotonic() + pause_s > deadline:
                            raise
                    await asyncio.sleep(pause_s * (0.5 + secrets.randbelow(1000) / 1000))
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _transact(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome] | None:
        """None: the account has no head."""
        async with (
            self._client.start_session() as session,
            await session.start_transaction(read_concern=_SNAPSHOT, write_concern=_DURABLE),
        ):
            # First, because it is what puts this transaction behind or before each other one of the account. It bets that
            # every document will be written under a stamp that is believed, and so is mostly all there is to write of the head.
            bet = {"$inc": {"writes": 1, "newest": len(keys)}, "$max": {"clock": max(stamps, default=0)}}
            record = await self._transacted.find_one_and_update(
                {"_id": _head_id(user_id), "user_id": user_id},
                bet,
                projection={"replicas": 0},
                session=session,
            )
            if record is None:
                return None
            head = _head(record)
            documents, covered = await self._read(user_id, keys, session)
            restamps = await self._read_restamps(user_id, stamps, head, session)
            state = State(head, keys[:covered], documents, restamps)
            outcome = step(state)
            await self._write(user_id, outcome, documents, session)
            after = outcome.head if outcome.writes else head
            if after != replace(head, seq=head.seq + len(keys), clock=max(head.clock, *stamps, ZERO)):
                await self._write_head(user_id, after, session)
            # Committed even when the outcome writes nothing: "unchanged" makes a device drop its change, and until a commit
            # was acknowledged by the majority, what the step saw may still be rolled back.
            await self._commit(session)
        return state, outcome

    async def _commit(self, session: AsyncClientSession) -> None:
        """Commit; ask again while the answer is lost, which is safe: a transaction is committed once."""
        for attempt in range(_COMMIT_ATTEMPTS):
            try:
                await session.commit_transaction()
                return
            except PyMongoError as error:
                is_last = attempt == _COMMIT_ATTEMPTS - 1
                if is_last or not error.has_error_label("UnknownTransactionCommitResult"):
                    raise
                await asyncio.sleep(_LONGEST_PAUSE_S)

    async def _read(
        self, user_id: str, keys: Sequence[Key], session: AsyncClientSession
    ) -> tuple[dict[Key, Document], int]:
        """One reply's worth of documents: MongoDB ends a reply at 16 MiB, which bounds what we hold."""
        if not keys:
            return {}, 0
        ids = [_document_id(user_id, key) for key in keys]
        reply = await self._database.command(
            {
                "find": RECORDS,
                "filter": {"_id": {"$in": ids}, "user_id": user_id},
                "sort": {"_id": 1},
                "hint": "_id_",
                "batchSize": len(ids) + 1,
            },
            session=session,
        )
        found = [_document(record) for record in reply["cursor"]["firstBatch"]]
        covered = len(keys)
        if unread := reply["cursor"]["id"]:
            covered = keys.index(found[-1].key) + 1
            await self._database.command({"killCursors": RECORDS, "cursors": [unread]}, session=session)
        return {document.key: document for document in found}, covered

    async def _read_restamps(
        self, user_id: str, stamps: Collection[Stamp], head: Head, session: AsyncClientSession
    ) -> dict[Stamp, Stamp]:
        asked = [_restamp_id(user_id, stamp) for stamp in stamps if stamp <= head.restamped]
        if not asked:
            return {}
        cursor = self._transacted.find(
            {"_id": {"$in": asked}, "user_id": user_id}, hint=[("_id", ASCENDING)], session=session
        )
        return {Stamp(int(record["old"])): Stamp(int(record["new"])) async for record in cursor}

    async def _write(
        self, user_id: str, outcome: Outcome, stored: Mapping[Key, Document], session: AsyncClientSession
    ) -> None:
        """A changed record is deleted and inserted: two statements for all, where an update would be planned for each.

        Measured, that costs the server some 40 µs a document instead of 90; the journal gets the whole record, as in a replacement.
        """
        replaced = [_document_id(user_id, document.key) for document in outcome.written if document.key in stored]
        records = [_record(user_id, document) for document in outcome.written]
        records.extend(
            {"_id": _restamp_id(user_id, old), "user_id": user_id, "old": old, "new": new}
            for old, new in outcome.restamps.items()
        )
        if replaced:
            these = {"_id": {"$in": replaced}, "user_id": user_id}
            await self._command({"delete": RECORDS, "deletes": [{"q": these, "limit": 0, "hint": "_id_"}]}, session)
        most_bytes = sum(
            document.most_bytes + _MARK_BYTES * len(document.values) for document in outcome.written
        ) + _RESTAMP_BYTES * len(outcome.restamps)
        for batch in _batches(records, most_bytes):
            await self._command({"insert": RECORDS, "documents": batch, "ordered": True}, session)

    async def _write_head(self, user_id: str, head: Head, session: AsyncClientSession) -> None:
        await self._transacted.update_one(
            {"_id": _head_id(user_id), "user_id": user_id},
            {"$set": {"newest": head.seq, "clock": head.clock, "restamped": head.restamped}},
            hint="_id_",
            session=session,
        )

    async def _command(self, command: dict[str, Any], session: AsyncClientSession) -> None:
        reply = await self._database.command(command, session=session)
        if errors := reply.get("writeErrors"):
            raise OperationFailure(errors[0].get("errmsg", "write failed"), errors[0].get("code"), reply)

    async def changed(
        self, user_id: str, collections: Collection[str], *, after: int, upto: int, newest_first: bool
    ) -> AsyncIterator[Document]:
        cursor = self._records.find(
            _feed_filter(user_id, collections, after, upto),
            sort=[("seq", DESCENDING if newest_first else ASCENDING)],
            hint="feed",
            batch_size=_PAGE_RECORDS,
        )
        with translated():
            async with cursor:
                async for record in cursor:
                    yield _document(record)

    async def count_changed(self, user_id: str, collections: Collection[str], *, after: int, upto: int) -> int:
        with translated():
            return await self._records.count_documents(_feed_filter(user_id, collections, after, upto), hint="feed")


def _batches(statements: Sequence[Mapping[str, Any]], most_bytes: int) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Split into commands that the server takes; measured only if they may be too large for one."""
    if most_bytes <= _MAX_COMMAND_BYTES:
        if statements:
            yield statements
        return
    batch: list[RawBSONDocument] = []
    size_bytes = 0
    for statement in statements:
        encoded = bson.encode(statement)
        if batch and size_bytes + len(encoded) > _MAX_COMMAND_BYTES:
            yield batch
            batch, size_bytes = [], 0
        batch.append(RawBSONDocument(encoded))
        size_bytes += len(encoded)
    if batch:
        yield batch


def _feed_filter(user_id: str, collections: Collection[str], after: int, upto: int) -> dict[str, Any]:
    return {"user_id": user_id, "seq": {"$gt": after, "$lte": upto}, "collection": {"$in": list(collections)}}


def _head_id(user_id: str) -> str:
    return f"{user_id}/head"


def _restamp_id(user_id: str, old: Stamp) -> str:
    return f"{user_id}/restamps/{clock.to_wire(old)}"


def _document_id(user_id: str, key: Key) -> str:
    return f"{user_id}/{key.collection}/{key.id}"


def _head(record: Mapping[str, Any]) -> Head:
    return Head(
        epoch=int(record["epoch"]),
        seq=int(record["newest"]),
        clock=Stamp(int(record["clock"])),
        restamped=Stamp(int(record["restamped"])),
        devices={device_id: Device(device["replica"]) for device_id, device in record["devices"].items()},
    )


def _record(user_id: str, document: Document) -> dict[str, Any]:
    value: Mapping[str, Any] = document.values
    stamps: dict[str, Any] = {"": document.usual, **document.marks}
    record = {
        "_id": _document_id(user_id, document.key),
        "user_id": user_id,
        "collection": document.key.collection,
        "id": document.key.id,
        "seq": document.seq,
        "deleted": document.deleted,
        "most_bytes": document.most_bytes,
        "value": value,
        "stamps": stamps,
    }
    names = "".join(document.values)
    if "$" in names or "\0" in names:
        record["escaped"] = True
        record["value"] = {_escaped(path): item for path, item in value.items()}
        record["stamps"] = {_escaped(path): item for path, item in stamps.items()}
    return record


def _document(record: Mapping[str, Any]) -> Document:
    value, stamps = record["value"], record["stamps"]
    if record.get("escaped"):
        value = {_unescaped(path): item for path, item in value.items()}
        stamps = {_unescaped(path): item for path, item in stamps.items()}
    if Int64 in set(map(type, value.values())):  # the driver's own int, which is no int to an encoder
        value = {path: int(item) if type(item) is Int64 else item for path, item in value.items()}
    marks = {path: Mark(Stamp(int(stamp)), int(seq)) for path, (stamp, seq) in stamps.items()}
    usual = marks.pop("")
    return Document(
        Key(record["collection"], record["id"]),
        seq=int(record["seq"]),
        values=value,
        usual=usual,
        marks=marks,
        most_bytes=record["most_bytes"],
    )


# A name in a MongoDB document may hold no NUL, and the driver reads a leading `$` as a reference's. In a path `~` is
# followed by 0 or 1 only, which leaves the rest of the alphabet free.
def _escaped(path: str) -> str:
    path = path.replace("\0", "~z")
    return "~d" + path[1:] if path.startswith("$") else path


def _unescaped(name: str) -> str:
    name = "$" + name[2:] if name.startswith("~d") else name
    return name.replace("~z", "\0")
