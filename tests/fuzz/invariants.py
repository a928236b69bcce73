"""What holds of every account between requests; and a device that follows all of it, and has to hold the same."""

from collections import Counter
from typing import Any, Final

import bson
import msgspec
from bson.codec_options import CodecOptions

from sync import clock, digest, records_mongo, values
from sync.changes import Format
from sync.conflicts import MAX_CONFLICTS
from sync.document import MAX_DOCUMENT_BYTES, MAX_PATHS, Document, Key, components
from sync.schema import COLLECTIONS
from sync.store_memory import _Account
from sync.values import MAX_VALUE_BYTES
from tests.fuzz.checks import check
from tests.fuzz.gateway import Fault, Sent, World

_AWARE: Final[CodecOptions[dict[str, Any]]] = CodecOptions(tz_aware=True)
# MongoDB's bound of one record.
_MAX_RECORD_BYTES: Final = 16 * 1024 * 1024


def check_accounts(world: World) -> None:
    """Raises Fault."""
    for user_id in world.user_ids:
        account = world.store._account(user_id)
        _check_head(account)
        _check_records(user_id, account)
        for document in account.documents.values():
            _check_document(document, account)


def _check_head(account: _Account) -> None:
    head = account.head
    if head is None:
        raise Fault("head", "the account lost its head")
    sums: Counter[str] = Counter()
    for document in account.documents.values():
        sums[document.key.collection] += digest.of_registers(
            document.key, [(path, stamp) for path, (_, stamp) in document.registers().items()]
        )
    for name in COLLECTIONS:
        if head.digests.get(name, 0) != sums[name] % digest.MODULUS:
            raise Fault(
                "digests", f"{name}: {head.digests.get(name, 0):x} in the head, {sums[name] % digest.MODULUS:x}"
            )
    sequences = [document.seq for document in account.documents.values()]
    if len(set(sequences)) != len(sequences) or not all(0 < seq <= head.seq for seq in sequences):
        raise Fault("sequences", f"{sorted(sequences)} under {head.seq}")
    held = sum(entry.size_bytes for entry in account.rejected.values())
    # More may be noted than is held: what was accepted at last has left, and is subtracted when the whole is counted.
    if head.quarantined_bytes < held:
        raise Fault("quarantine", f"{head.quarantined_bytes} bytes noted, {held} held")
    if len(account.conflicts) > 10 * MAX_CONFLICTS:
        raise Fault("conflicts", f"{len(account.conflicts)}")


def _check_document(document: Document, account: _Account) -> None:
    head = account.head
    if head is None:
        return
    if document.purged:
        if document.values or document.deleted_ms:
            raise Fault("document", f"{document} is purged and has values")
        return
    size = document.encoded_bytes
    if document.path_count > MAX_PATHS or size > MAX_DOCUMENT_BYTES or not document.values:
        raise Fault("document", f"{document} has {size} bytes")
    if document.most_bytes and document.most_bytes < size:
        raise Fault("document", f"{document} is said to have {document.most_bytes} bytes at most, and has {size}")
    if bool(document.deleted_ms) != document.deleted:
        raise Fault("document", f"{document} is deleted: {document.deleted}, since {document.deleted_ms}")
    if not set(document.marks) <= set(document.values):
        raise Fault("document", f"{document} has marks of no registers")
    newest = 0
    for path, value in document.values.items():
        mark = document.marks.get(path, document.usual)
        newest = max(newest, mark.seq)
        if components(path) is None:
            raise Fault("document", f"{path!r} is no path")
        if not 0 < mark.stamp <= head.clock or not 0 < mark.seq <= document.seq:
            raise Fault("document", f"{path!r} of {document} has {mark}; the clock is {head.clock}")
        if type(value) is bytes and len(values.canonical(value)) > MAX_VALUE_BYTES:
            raise Fault("document", f"{path!r} of {document} is too large")
    if newest != document.seq:
        raise Fault("document", f"{document} has no register of its sequence")


def _check_records(user_id: str, account: _Account) -> None:
    """What was stored in memory can be stored in the database, and comes back as it was."""
    head = account.head
    if head is not None and records_mongo.head(_stored(records_mongo.of_head(user_id, head))) != head:
        raise Fault("record", f"{head}")
    for document in account.documents.values():
        back = records_mongo.document(_stored(records_mongo.of_document(user_id, document)))
        if (
            back.registers() != document.registers()
            or repr(list(back.values.values())) != repr(list(document.values.values()))  # 1 is not 1.0, nor True
            or (back.seq, back.deleted_ms, back.purged) != (document.seq, document.deleted_ms, document.purged)
        ):
            raise Fault("record", f"{document} comes back as {back}")
    for entry in account.rejected.values():
        if records_mongo.rejected(_stored(records_mongo.of_rejected(user_id, entry))) != entry:
            raise Fault("record", f"{entry}")
    for conflict in account.conflicts.values():
        if records_mongo.conflict(_stored(records_mongo.of_conflict(user_id, conflict))) != conflict:
            raise Fault("record", f"{conflict}")
    for old, new in account.restamps.items():
        _stored(records_mongo.of_restamp(user_id, old, new))


def _stored(record: dict[str, Any]) -> dict[str, Any]:
    try:
        encoded = bson.encode(record)
    except Exception as error:
        raise Fault("record", f"{error}: {record!r:.500}") from error
    if len(encoded) > _MAX_RECORD_BYTES:
        raise Fault("record", f"{len(encoded)} bytes: {record!r:.300}")
    return bson.decode(encoded, codec_options=_AWARE)


class Follower:
    """A device of one account that only reads. `catch_up` raises Fault unless it then holds what the account does."""

    def __init__(self, world: World, user: int, device: int) -> None:
        self._world = world
        self._user = user
        self._device = device
        self._cursor = ""
        self._held: dict[tuple[str, str], dict[str, tuple[Any, str]]] = {}
        self._came: set[tuple[str, str]] = set()  # with the run of a snapshot
        self._is_snapshot = True

    async def catch_up(self, *, limit: int, answered: Format) -> None:
        for _ in range(10_000):
            body = {"device_id": self._world.devices[self._user][self._device], "cursor": self._cursor, "limit": limit}
            sent = Sent(
                user=self._user,
                headers=((b"content-type", b"application/json"), (b"accept", f"application/{answered}".encode())),
                body=msgspec.json.encode(body),
            )
            answer = await self._world.send(sent)
            response = None if answer is None else check(sent, answer)
            if response is None:
                raise Fault("follower", f"was refused: {answer!r:.500}")
            self._take(response)
            if not response.more:
                self._compare(response)
                return
        raise Fault("follower", "the run has no end")

    def _take(self, response: Any) -> None:
        if response.reset:
            self._is_snapshot, self._came = True, set()
        for delta in response.documents:
            key = (delta.collection, delta.id)
            self._came.add(key)
            if delta.purged:
                self._held.pop(key, None)
                continue
            held = self._held.setdefault(key, {})
            for stamp, fields in delta.fields.items():
                for path, value in fields.items():
                    held[path] = (value, stamp)
        self._cursor = response.cursor
        if not response.more and self._is_snapshot:
            self._held = {key: held for key, held in self._held.items() if key in self._came}
            self._is_snapshot = False

    def _compare(self, response: Any) -> None:
        account = self._world.store._account(self._world.user_ids[self._user])
        stored = {
            (document.key.collection, document.key.id): {
                path: (values.to_python(value), clock.to_wire(stamp))
                for path, (value, stamp) in document.registers().items()
            }
            for document in account.documents.values()
            if not document.purged
        }
        if stored != self._held:
            differing = [key for key in stored.keys() | self._held.keys() if stored.get(key) != self._held.get(key)]
            key = differing[0]
            raise Fault("follower", f"{key}: {stored.get(key)!r:.700} is stored, {self._held.get(key)!r:.700} held")
        sums: Counter[str] = Counter()
        for (collection, document_id), fields in self._held.items():
            for path, (_, stamp) in fields.items():
                sums[collection] += digest.of_registers(
                    Key(collection, document_id), [(path, clock.Stamp(int(stamp, 16)))]
                )
        if response.digests != {name: digest.to_wire(sums[name] % digest.MODULUS) for name in COLLECTIONS}:
            raise Fault("follower", f"digests {response.digests}")
