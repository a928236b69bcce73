"""The records of an account as MongoDB holds them, and what they are in memory.

By `_id`, of which the first part is always the account; a name that begins with a dot is none of a collection:

    <user>/.head                      Head
    <user>/.replicas                  every replica number that was ever given
    <user>/.restamps/<old stamp>      the stamp that replaced one too far ahead
    <user>/.rejected/<id>             Rejected     {log, at, …}
    <user>/.conflicts/<id>            Conflict     {log, at, expires_at, …}
    <user>/<collection>/<id>          Document     {collection, id, bucket, seq, deleted, most_bytes, value, stamps}

`value` is {path: value}, flat and queryable (`value.started_at`); `stamps` is {path: [stamp, seq]}, where the empty path, which
no register can have, stands for all that are not named. Deleted documents, rejected changes and conflicts have a `log` and a
time `at`, by which they are found. A purged document's `collection` has a suffix: whoever reads the collection does not see it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bson.int64 import Int64

from sync import clock
from sync.clock import Stamp
from sync.conflicts import KEPT_MS, Conflict
from sync.digest import MODULUS, bucket_of
from sync.document import Document, Key, Mark
from sync.errors import AccountDeleted
from sync.head import Device, Head
from sync.quarantine import Rejected

PURGED: Final = ".purged"
TOMBSTONES: Final = "tombstones"
REJECTED: Final = "rejected"
CONFLICTS: Final = "conflicts"

Record = dict[str, Any]


def head_id(user_id: str) -> str:
    """Sorts before the documents, and before all else that a transaction reads along with it."""
    return f"{user_id}/.head"


def replicas_id(user_id: str) -> str:
    return f"{user_id}/.replicas"


def restamp_id(user_id: str, old: Stamp) -> str:
    return f"{user_id}/.restamps/{clock.to_wire(old)}"


def document_id(user_id: str, key: Key) -> str:
    return f"{user_id}/{key.collection}/{key.id}"


def rejected_id(user_id: str, entry_id: str) -> str:
    return f"{user_id}/.rejected/{entry_id}"


def conflict_id(user_id: str, entry_id: str) -> str:
    return f"{user_id}/.conflicts/{entry_id}"


def entry_id(record: Mapping[str, Any]) -> str:
    return str(record["_id"]).rpartition("/")[2]


def of_head(user_id: str, head: Head) -> Record:
    return {
        "_id": head_id(user_id),
        "user_id": user_id,
        "epoch": head.epoch,
        "newest": head.seq,  # not `seq`, by which documents are found
        "clock": head.clock,
        "restamped": head.restamped,
        "digests": {name: _signed(digest) for name, digest in head.digests.items()},
        "quarantined_bytes": head.quarantined_bytes,
        "purge_at_ms": head.purge_at_ms,
        "wall_ms": head.wall_ms,
        "devices": {name: list(_fields(device)) for name, device in head.devices.items()},
    }


def of_erased(user_id: str, now_ms: int) -> Record:
    return {"_id": head_id(user_id), "user_id": user_id, "erased_at": _instant(now_ms)}


def of_replicas(user_id: str, numbers: Sequence[int]) -> Record:
    return {"_id": replicas_id(user_id), "user_id": user_id, "replicas": numbers}


def head(record: Mapping[str, Any]) -> Head:
    """Raises AccountDeleted if it is an erased account's."""
    if "erased_at" in record:
        raise AccountDeleted
    return Head(
        epoch=int(record["epoch"]),
        seq=int(record["newest"]),
        clock=Stamp(int(record["clock"])),
        restamped=Stamp(int(record["restamped"])),
        digests={name: int(digest) % MODULUS for name, digest in record["digests"].items()},
        quarantined_bytes=int(record["quarantined_bytes"]),
        purge_at_ms=int(record["purge_at_ms"]),
        wall_ms=int(record["wall_ms"]),
        devices={
            name: Device(replica, int(seen_ms), int(presented), tuple(collections))
            for name, (replica, seen_ms, presented, collections) in record["devices"].items()
        },
    )


def _fields(device: Device) -> tuple[Any, ...]:
    return device.replica, device.seen_ms, device.presented, list(device.collections)


def _signed(digest: int) -> int:
    """MongoDB's integers are signed."""
    return digest - MODULUS if digest >= MODULUS // 2 else digest


def of_restamp(user_id: str, old: Stamp, new: Stamp) -> Record:
    return {"_id": restamp_id(user_id, old), "user_id": user_id, "old": old, "new": new}


def of_rejected(user_id: str, entry: Rejected) -> Record:
    return {
        "_id": rejected_id(user_id, entry.id),
        "user_id": user_id,
        "log": REJECTED,
        "at": entry.received_ms,
        "change_id": entry.change_id,
        "device_id": entry.device_id,
        "code": entry.code,
        "detail": entry.detail,
        "format": entry.format,
        "raw": entry.raw,
        "content": entry.content,
    }


def rejected(record: Mapping[str, Any]) -> Rejected:
    return Rejected(
        id=entry_id(record),
        change_id=record["change_id"],
        device_id=record["device_id"],
        received_ms=int(record["at"]),
        code=record["code"],
        detail=record["detail"],
        format=record["format"],
        raw=record["raw"],
        content=record["content"],
    )


def of_conflict(user_id: str, conflict: Conflict) -> Record:
    return {
        "_id": conflict_id(user_id, conflict.id),
        "user_id": user_id,
        "log": CONFLICTS,
        "at": conflict.at_ms,
        "expires_at": _instant(conflict.at_ms + KEPT_MS),
        "document": [*conflict.key],
        "path": conflict.path,
        "lost": [conflict.lost_stamp, conflict.lost_value],
        "won": [conflict.won_stamp, conflict.won_value],
        "restored_ms": conflict.restored_ms,
    }


def conflict(record: Mapping[str, Any]) -> Conflict:
    lost_stamp, lost_value = record["lost"]
    won_stamp, won_value = record["won"]
    return Conflict(
        id=entry_id(record),
        key=Key(*record["document"]),
        path=record["path"],
        lost_stamp=Stamp(int(lost_stamp)),
        lost_value=_plain(lost_value),
        won_stamp=Stamp(int(won_stamp)),
        won_value=_plain(won_value),
        at_ms=int(record["at"]),
        restored_ms=int(record["restored_ms"]),
    )


def of_document(user_id: str, document: Document) -> Record:
    record: Record = {
        "_id": document_id(user_id, document.key),
        "user_id": user_id,
        "collection": document.key.collection,
        "id": document.key.id,
        "seq": document.seq,
    }
    if document.purged:
        record["collection"] += PURGED
        return record
    value: Mapping[str, Any] = document.values
    stamps: dict[str, Any] = {"": document.usual, **document.marks}
    names = "".join(value)
    if "$" in names or "\0" in names:
        record["escaped"] = True
        value = {_escaped(path): item for path, item in value.items()}
        stamps = {_escaped(path): item for path, item in stamps.items()}
    record["bucket"] = bucket_of(document.key.id)
    record["deleted"] = document.deleted
    record["most_bytes"] = document.most_bytes
    record["value"] = value
    record["stamps"] = stamps
    if document.deleted_ms:
        record["log"] = TOMBSTONES
        record["at"] = document.deleted_ms
    return record


def document(record: Mapping[str, Any]) -> Document:
    collection: str = record["collection"]
    if collection.endswith(PURGED):
        return Document(Key(collection.removesuffix(PURGED), record["id"]), seq=int(record["seq"]), purged=True)
    value, stamps = record["value"], record["stamps"]
    if record.get("escaped"):
        value = {_unescaped(path): item for path, item in value.items()}
        stamps = {_unescaped(path): item for path, item in stamps.items()}
    if Int64 in set(map(type, value.values())):  # the driver's own int, which is no int to an encoder
        value = {path: _plain(item) for path, item in value.items()}
    marks = {path: Mark(Stamp(int(stamp)), int(seq)) for path, (stamp, seq) in stamps.items()}
    usual = marks.pop("")
    return Document(
        Key(collection, record["id"]),
        seq=int(record["seq"]),
        values=value,
        usual=usual,
        marks=marks,
        most_bytes=record["most_bytes"],
        deleted_ms=int(record["at"]) if "at" in record else 0,
    )


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _plain(value: Any) -> Any:
    return int(value) if type(value) is Int64 else value


# A name in a MongoDB document may hold no NUL, and the driver reads a leading `$` as a reference's. In a path `~` is
# followed by 0 or 1 only, which leaves the rest of the alphabet free.
def _escaped(path: str) -> str:
    path = path.replace("\0", "~z")
    return "~d" + path[1:] if path.startswith("$") else path


def _unescaped(name: str) -> str:
    name = "$" + name[2:] if name.startswith("~d") else name
    return name.replace("~z", "\0")
