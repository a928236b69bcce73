"""The store on MongoDB: one collection holds everything that one transaction touches.

MongoDB places each sharded collection's ranges by themselves, so that two collections with one shard key may still keep an
account on two shards, and a transaction over both would be a distributed one. In one collection, sharded on `user_id`, an
account lies in one range, on one shard. What its records are is told in `records_mongo`.
"""

import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final

from msgspec.structs import replace
from pymongo import ASCENDING, DESCENDING
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.server_type import SERVER_TYPE

from sync import quarantine
from sync import records_mongo as records
from sync.clock import MAX_REPLICA, Stamp
from sync.document import Document, Key
from sync.errors import ReplicasExhausted, TooManyDevices
from sync.errors_mongo import translated
from sync.head import MAX_DEVICES, Device, Head
from sync.merge import Outcome, State
from sync.records_mongo import CONFLICTS, REJECTED, TOMBSTONES, Record
from sync.store import Step, Tombstone
from sync.transactions_mongo import DURABLE, Line, NoHead, write
from sync.view_mongo import MongoView

RECORDS: Final = "sync_records"
EPOCHS: Final = "sync_epochs"
STARTED: Final = "started"  # an index of workouts

COLLECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    RECORDS: {
        "shard_key": [("user_id", 1)],
        "indexes": [
            # `collection` is in the index so that a device of few collections reads no others' documents.
            ([("user_id", 1), ("seq", 1), ("collection", 1)], {"name": "feed"}),
            (
                [("user_id", 1), ("log", 1), ("at", -1), ("_id", -1)],
                {"name": "log", "partialFilterExpression": {"log": {"$exists": True}}},
            ),
            (
                [("user_id", 1), ("value.started_at", -1), ("_id", -1)],
                {"name": STARTED, "partialFilterExpression": {"collection": "workouts"}},
            ),
            ([("expires_at", 1)], {"name": "expiry", "expireAfterSeconds": 0, "sparse": True}),
        ],
    },
    # One record, of all accounts together.
    EPOCHS: {"shard_key": None, "indexes": []},
}

NEWEST_FIRST: Final = [("at", DESCENDING), ("_id", DESCENDING)]

_MAJORITY: Final = ReadConcern("majority")
_LINEARIZABLE: Final = ReadConcern("linearizable")

_ROUTERS: Final = frozenset({SERVER_TYPE.Mongos, SERVER_TYPE.LoadBalancer})

# What a register takes beside its path and JSON, which `most_bytes` holds: its mark, the path once more with it (of at most half
# of the paths), and BSON's widths. The rest up to 16 MiB is for paths that are longer.
_MARK_BYTES: Final = 600
# Two values of 16 KiB, which may be stored twice as long as they are measured (1.0 is measured as 1), and a path.
_CONFLICT_BYTES: Final = 70_000
_RESTAMP_BYTES: Final = 300

_REMOVED_AT_ONCE: Final = 1_000

_EPOCH_BITS: Final = 31
# For so long a process goes on with the epoch of all accounts that it read. A cursor that it takes meanwhile is refused later.
_EPOCH_READ_EVERY_S: Final = 5.0


class MongoStore:
    def __init__(self, database: AsyncDatabase[Record]) -> None:
        self._database = database
        self._records = database.get_collection(RECORDS, write_concern=DURABLE, read_concern=_MAJORITY)
        self._transacted = database.get_collection(RECORDS)
        self._client = database.client
        self._snapshots = database.get_collection(RECORDS, read_concern=ReadConcern())
        self._epochs = database.get_collection(EPOCHS, write_concern=DURABLE, read_concern=_MAJORITY)
        self._line = Line(self._transacted, self._make_head)
        self._common_epoch = 0
        self._common_epoch_until = 0.0

    async def register_device(self, user_id: str, device_id: str) -> int:
        async def work(session: AsyncClientSession) -> int:
            head, found = await self._read(user_id, [records.replicas_id(user_id)], session)
            if (known := head.devices.get(device_id)) is not None:
                return known.replica
            taken = set(found[0]["replicas"] if found else ())
            free = [number for number in range(1, MAX_REPLICA + 1) if number not in taken]
            if not free:
                raise ReplicasExhausted
            if len(head.devices) >= MAX_DEVICES:
                raise TooManyDevices(limit=MAX_DEVICES)
            replica = secrets.choice(free)
            used = records.of_replicas(user_id, [*taken, replica])
            own = self._of_head(user_id, head.with_device(device_id, Device(replica)))
            await write(self._transacted, own, [used], session, gone=[used["_id"]])
            return replica

        return await self._line.run(user_id, work)

    async def forget_device(self, user_id: str, device_id: str) -> None:
        async def work(session: AsyncClientSession) -> None:
            head, _ = await self._read(user_id, [], session)
            if device_id in head.devices:
                devices = {name: device for name, device in head.devices.items() if name != device_id}
                await write(self._transacted, self._of_head(user_id, replace(head, devices=devices)), (), session)

        await self._line.run(user_id, work)

    async def head(self, user_id: str) -> Head | None:
        with translated():
            await self._read_common_epoch()
            record = await self._records.find_one({"_id": records.head_id(user_id), "user_id": user_id})
        return None if record is None else self._head(record)

    @asynccontextmanager
    async def view(self, user_id: str, *, at_least: int = 0) -> AsyncIterator[MongoView | None]:
        mine = {"_id": records.head_id(user_id), "user_id": user_id}
        with translated():
            await self._read_common_epoch()
            if self._is_behind_mongos():
                # A mongos takes the snapshot at the latest time that it has heard of, which may be before what another one has
                # acknowledged. The shard's answer tells it, or tells the driver, who tells the next one.
                # Source: MongoDB's src/mongo/s/commands/strategy.cpp, `RunAndRetry::_setup`
                await self._records.find_one(mine, {"_id": 1}, hint="_id_")
            async with self._client.start_session(snapshot=True) as session:
                record = await self._snapshots.find_one(mine, hint="_id_", session=session)
                if record is None or record.get("newest", at_least) >= at_least:
                    yield None if record is None else MongoView(self._snapshots, session, user_id, self._head(record))
                    return
            surely_newest = self._records.with_options(read_concern=_LINEARIZABLE)
            await surely_newest.find_one(mine)  # waits until this primary is sure, and shows all that it has
            async with self._client.start_session(snapshot=True) as session:
                record = await self._snapshots.find_one(mine, hint="_id_", session=session)
                yield None if record is None else MongoView(self._snapshots, session, user_id, self._head(record))

    def _is_behind_mongos(self) -> bool:
        servers = self._client.topology_description.server_descriptions().values()
        return any(server.server_type in _ROUTERS for server in servers)

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        async def work(session: AsyncClientSession) -> tuple[State, Outcome]:
            wanted = [records.document_id(user_id, key) for key in keys]
            head, found = await self._read(user_id, wanted, session)
            documents = {document.key: document for document in map(records.document, found)}
            covered = len(keys)
            if found.has_more:
                covered = keys.index(next(reversed(documents))) + 1
            restamps = await self._read_restamps(user_id, stamps, head, session)
            state = State(head, keys[:covered], documents, restamps)
            outcome = step(state)
            if outcome.rejected or outcome.conflicts:
                outcome = await self._without_known(user_id, outcome, session)
            if outcome.writes or outcome.head != head:
                await self._write(user_id, outcome, documents, session)
            return state, outcome

        return await self._line.run(user_id, work)

    async def _make_head(self, user_id: str) -> None:
        try:
            head = Head(epoch=secrets.randbits(_EPOCH_BITS), devices={})
            await self._records.insert_one(records.of_head(user_id, head))
        except DuplicateKeyError:
            return  # another process was quicker

    async def _read(self, user_id: str, ids: Sequence[str], session: AsyncClientSession) -> "tuple[Head, _Found]":
        """One reply's worth of records after the head: MongoDB ends a reply at 16 MiB, which bounds what we hold."""
        await self._read_common_epoch()
        reply = await self._database.command(
            {
                "find": RECORDS,
                "filter": {"_id": {"$in": [records.head_id(user_id), *ids]}, "user_id": user_id},
                "sort": {"_id": 1},
                "hint": "_id_",
                "batchSize": len(ids) + 2,
            },
            session=session,
        )
        found = _Found(reply["cursor"]["firstBatch"])
        if unread := reply["cursor"]["id"]:
            found.has_more = True
            await self._database.command({"killCursors": RECORDS, "cursors": [unread]}, session=session)
        if not found or found[0]["_id"] != records.head_id(user_id):
            raise NoHead
        return self._head(found.pop(0)), found

    async def _read_restamps(
        self, user_id: str, stamps: Collection[Stamp], head: Head, session: AsyncClientSession
    ) -> dict[Stamp, Stamp]:
        asked = [records.restamp_id(user_id, stamp) for stamp in stamps if stamp <= head.restamped]
        if not asked:
            return {}
        cursor = self._transacted.find(
            {"_id": {"$in": asked}, "user_id": user_id}, hint=[("_id", ASCENDING)], session=session
        )
        return {Stamp(int(record["old"])): Stamp(int(record["new"])) async for record in cursor}

    async def _write(
        self, user_id: str, outcome: Outcome, stored: Mapping[Key, Document], session: AsyncClientSession
    ) -> None:
        gone = [records.rejected_id(user_id, entry_id) for entry_id in outcome.accepted]
        gone += [records.conflict_id(user_id, one.id) for one in outcome.conflicts if one.restored_ms]
        made: list[Record] = []
        replaced: list[Record] = []
        for document in outcome.written:
            (replaced if document.key in stored else made).append(records.of_document(user_id, document))
        made += [records.of_restamp(user_id, old, new) for old, new in outcome.restamps.items()]
        made += [records.of_rejected(user_id, entry) for entry in outcome.rejected]
        made += [records.of_conflict(user_id, conflict) for conflict in outcome.conflicts]
        most_bytes = sum(document.most_bytes + _MARK_BYTES * len(document.values) for document in outcome.written)
        most_bytes += sum(entry.size_bytes for entry in outcome.rejected)
        most_bytes += _CONFLICT_BYTES * len(outcome.conflicts) + _RESTAMP_BYTES * len(outcome.restamps)
        own = self._of_head(user_id, outcome.head)
        await write(self._transacted, own, made, session, replaced=replaced, gone=gone, most_bytes=most_bytes)

    async def _without_known(self, user_id: str, outcome: Outcome, session: AsyncClientSession) -> Outcome:
        """Return the outcome without the refused changes and conflicts that are there already."""
        ids = {records.rejected_id(user_id, name) for entry in outcome.rejected for name in quarantine.names(entry)}
        ids |= {records.conflict_id(user_id, conflict.id) for conflict in outcome.conflicts}
        cursor = self._transacted.find(
            {"_id": {"$in": sorted(ids)}, "user_id": user_id},
            {"log": 1, "content": 1},  # an entry may be as large as a request
            hint=[("_id", ASCENDING)],
            session=session,
        )
        held: dict[str, bytes] = {}
        known: set[str] = set()
        async for record in cursor:
            name = records.entry_id(record)
            if record["log"] == CONFLICTS:
                known.add(name)
            elif name not in outcome.accepted:
                held[name] = record["content"]
        new = [one for one in outcome.conflicts if one.restored_ms or one.id not in known]
        return outcome.with_added(quarantine.added(outcome.rejected, held))._replace(conflicts=new)

    def _of_head(self, user_id: str, head: Head) -> Record:
        return records.of_head(user_id, replace(head, epoch=head.epoch & ((1 << _EPOCH_BITS) - 1)))

    async def document(self, user_id: str, key: Key) -> Document | None:
        with translated():
            record = await self._records.find_one({"_id": records.document_id(user_id, key), "user_id": user_id})
        return None if record is None else records.document(record)

    async def tombstones(self, user_id: str, *, limit: int) -> list[Tombstone]:
        cursor = self._records.find(
            {"user_id": user_id, "log": TOMBSTONES},
            {"collection": 1, "id": 1, "seq": 1, "at": 1},
            sort=[("at", ASCENDING), ("_id", ASCENDING)],
            hint="log",
            limit=limit,
        )
        with translated():
            async with cursor:
                return [
                    Tombstone(Key(found["collection"], found["id"]), int(found["seq"]), int(found["at"]))
                    async for found in cursor
                ]

    async def trim_rejected(self, user_id: str, *, most_bytes: int) -> Head:
        counted = await self.head(user_id)
        kept_bytes = 0
        gone: list[str] = []
        cursor = self._records.find(
            {"user_id": user_id, "log": REJECTED},
            {"raw_bytes": {"$binarySize": "$raw"}},
            sort=NEWEST_FIRST,
            hint="log",
        )
        with translated():
            async with cursor:
                async for record in cursor:
                    size_bytes = quarantine.size_bytes(record["raw_bytes"])
                    if gone or kept_bytes + size_bytes > most_bytes:
                        gone.append(record["_id"])
                    else:
                        kept_bytes += size_bytes
            for begin in range(0, len(gone), _REMOVED_AT_ONCE):
                these = {"_id": {"$in": gone[begin : begin + _REMOVED_AT_ONCE]}, "user_id": user_id}
                await self._records.delete_many(these, hint="_id_")

        def step(state: State) -> Outcome:
            # What was added since may not be in the list: then more is counted than there is, until the next time.
            is_whole = counted is not None and state.head.quarantined_bytes == counted.quarantined_bytes
            return Outcome(replace(state.head, quarantined_bytes=kept_bytes) if is_whole else state.head)

        _, outcome = await self.update(user_id, (), (), step)
        return outcome.head

    async def bump_epoch(self, user_id: str) -> bool:
        if await self.head(user_id) is None:
            return False

        async def work(session: AsyncClientSession) -> None:
            head, _ = await self._read(user_id, [], session)
            drawn = replace(head, epoch=secrets.randbits(_EPOCH_BITS))
            await write(self._transacted, self._of_head(user_id, drawn), (), session)

        await self._line.run(user_id, work)
        return True

    async def bump_all_epochs(self) -> None:
        """Drawn, not counted: a backup may hold any number that was used before."""
        with translated():
            await self._epochs.update_one(
                {"_id": "all"}, {"$set": {"epoch": secrets.randbits(_EPOCH_BITS)}}, upsert=True
            )
        self._common_epoch_until = 0.0

    async def _read_common_epoch(self) -> None:
        if monotonic() < self._common_epoch_until:
            return
        record = await self._epochs.find_one({"_id": "all"})
        self._common_epoch = 0 if record is None else int(record["epoch"])
        self._common_epoch_until = monotonic() + _EPOCH_READ_EVERY_S

    def _head(self, record: Mapping[str, Any]) -> Head:
        head = records.head(record)
        return replace(head, epoch=self._common_epoch << _EPOCH_BITS | head.epoch) if self._common_epoch else head

    async def erase(self, user_id: str, *, now_ms: int) -> None:
        async def fence(session: AsyncClientSession) -> None:
            mine = {"_id": records.head_id(user_id), "user_id": user_id}
            record = await self._transacted.find_one(mine, hint=[("_id", ASCENDING)], session=session)
            if record is None:
                raise NoHead
            if "erased_at" not in record:
                erased = records.of_erased(user_id, now_ms)
                await self._transacted.replace_one(mine, erased, hint="_id_", session=session)

        await self._line.run(user_id, fence)
        with translated():
            while True:
                left = self._records.find({"user_id": user_id}, {"_id": 1}, hint="feed", limit=_REMOVED_AT_ONCE)
                async with left:
                    ids = [record["_id"] async for record in left]
                ids = [name for name in ids if name != records.head_id(user_id)]
                if not ids:
                    return
                await self._records.delete_many({"_id": {"$in": ids}, "user_id": user_id}, hint="_id_")


class _Found(list[Record]):
    """Records of one reply; `has_more`: there are others that did not fit into it."""

    has_more = False
