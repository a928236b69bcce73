"""Transactions over one account's records, one after another.

A transaction reads the head and all that it needs in one command, and ends by writing the head. Of two over one account the
second to write it is undone by the server, and runs again.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from sync.errors import StoreUnavailable
from sync.errors_mongo import translated
from sync.records_mongo import Record, head_id

DURABLE: Final = WriteConcern("majority", j=True)
_SNAPSHOT: Final = ReadConcern("snapshot")

# How long a round trip waits for others of this process that write the same account, and how long it then goes on trying while
# other processes do, or a primary steps down.
_PATIENCE_S: Final = 8.0
_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.25
_COMMIT_ATTEMPTS: Final = 5  # each waits for a primary by itself

# Records that are replaced by an update. Measured, 5 to 10 of them cost as much as what is saved.
_UPDATED_AT_MOST: Final = 4
# MongoDB ends a command at 16 MiB. A step's documents, which were read in one reply of 16 MiB, may have grown since.
_MAX_COMMAND_BYTES: Final = 12 * 1024 * 1024

T = TypeVar("T")
Work = Callable[[AsyncClientSession], Awaitable[T]]


class NoHead(Exception):
    """The account has no head yet; raised inside a transaction, to have it made outside."""


class Line:
    """In this process an account's writers wait for each other; against other processes' they try again."""

    def __init__(self, records: AsyncCollection[Record], make_head: Callable[[str], Awaitable[None]]) -> None:
        """records: without a write concern, which a transaction has as a whole."""
        self._client = records.database.client
        self._records = records
        self._make_head = make_head
        self._lanes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, user_id: str, work: Work[T]) -> T:
        """Run one transaction; `work` runs again when it was undone.

        It is committed even when it wrote nothing: "unchanged" makes a device drop its change, and until a commit was
        acknowledged by the majority, what was read may still be rolled back. Raises StoreUnavailable.
        """
        lane = self._lanes.setdefault(user_id, asyncio.Lock())
        try:
            # Else each would wait for all that are before it, and a device would give up before it is answered.
            async with asyncio.timeout(_PATIENCE_S):
                await lane.acquire()
        except TimeoutError:
            raise StoreUnavailable("The account's other writers took too long.") from None
        try:
            with translated():
                return await self._until_done(user_id, work)
        finally:
            lane.release()

    async def _until_done(self, user_id: str, work: Work[T]) -> T:
        deadline = monotonic() + _PATIENCE_S
        pause_s = _FIRST_PAUSE_S
        is_contended = False
        while True:
            try:
                return await self._transact(user_id, work, is_contended=is_contended)
            except NoHead:
                await self._make_head(user_id)
                continue
            except PyMongoError as error:
                is_passing = error.has_error_label("TransientTransactionError")
                if not is_passing or monotonic() + pause_s > deadline:
                    raise
                is_contended = True
            await asyncio.sleep(pause_s * (0.5 + secrets.randbelow(1000) / 1000))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _transact(self, user_id: str, work: Work[T], *, is_contended: bool) -> T:
        async with (
            self._client.start_session() as session,
            await session.start_transaction(read_concern=_SNAPSHOT, write_concern=DURABLE),
        ):
            if is_contended:
                # Undone once already: now others are kept out from the start, so that a long step is not undone for ever by
                # short ones.
                mine = {"_id": head_id(user_id), "user_id": user_id}
                await self._records.update_one(mine, {"$inc": {"locks": 1}}, hint="_id_", session=session)
            done = await work(session)
            await self._commit(session)
        return done

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


async def write(
    records: AsyncCollection[Record],
    head: Record,
    made: Sequence[Record],
    session: AsyncClientSession,
    *,
    replaced: Sequence[Record] = (),
    gone: Sequence[str] = (),
    most_bytes: int = 0,
) -> None:
    """Write the head, and what else a transaction changed.

    replaced: records that take the place of those that are there. gone: ids of what is removed, if it is there, before others are
    made. most_bytes: of all records together, which tells whether they may be too much for one command.

    A command takes some 0.5 ms of the server's and our processors; so a few records are replaced in one with the head. In an
    update each is planned, which costs the server 90 µs a record instead of 40: many are deleted, and inserted. The journal gets
    whole records either way.
    """
    mine = {"user_id": head["user_id"]}
    again = [head, *replaced]
    if not gone and len(replaced) <= _UPDATED_AT_MOST:
        updates = [{"q": {"_id": one["_id"], **mine}, "u": one, "hint": "_id_"} for one in again]
        reply = await _command(records, {"update": records.name, "updates": updates, "ordered": True}, session)
        if reply["n"] != len(updates):
            raise OperationFailure(f"{reply['n']} of {len(updates)} records were there to be replaced.")
    else:
        these = {"_id": {"$in": [*(one["_id"] for one in again), *gone]}, **mine}
        deletes = [{"q": these, "limit": 0, "hint": "_id_"}]
        await _command(records, {"delete": records.name, "deletes": deletes}, session)
        made = [*again, *made]
    for batch in _batches(made, most_bytes):
        await _command(records, {"insert": records.name, "documents": batch, "ordered": True}, session)


async def _command(
    records: AsyncCollection[Record], command: dict[str, Any], session: AsyncClientSession
) -> Mapping[str, Any]:
    reply: Mapping[str, Any] = await records.database.command(command, session=session)
    if errors := reply.get("writeErrors"):
        raise OperationFailure(errors[0].get("errmsg", "write failed"), errors[0].get("code"), reply)
    return reply


def _batches(made: Sequence[Record], most_bytes: int) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Split into commands that the server takes; measured only if they may be too large for one."""
    if most_bytes <= _MAX_COMMAND_BYTES:
        if made:
            yield made
        return
    batch: list[RawBSONDocument] = []
    size_bytes = 0
    for record in made:
        encoded = bson.encode(record)
        if batch and size_bytes + len(encoded) > _MAX_COMMAND_BYTES:
            yield batch
            batch, size_bytes = [], 0
        batch.append(RawBSONDocument(encoded))
        size_bytes += len(encoded)
    if batch:
        yield batch
