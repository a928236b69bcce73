"""What users are shown of changes that were refused and of values that lost."""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from fitness_api.bodies import rfc3339
from sync import values
from sync.changes import Code, with_lone_surrogates_shown
from sync.clock import to_wire
from sync.conflicts import KEPT_MS, Conflict
from sync.quarantine import Rejected


class RejectedEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change that was refused. `change` is what the device sent; `raw`, its text, where that cannot be decoded and shown."""

    id: str
    change_id: str | None
    device_id: str
    received_at: str
    code: Code
    detail: str
    change: Any | UnsetType = UNSET
    raw: str | UnsetType = UNSET


class Register(Struct, frozen=True, kw_only=True):
    stamp: str
    value: Any


class ConflictEntry(Struct, frozen=True, kw_only=True):
    """A value that lost to a writer who had not seen it, and what won. `restored_at`: when it was brought back, or null."""

    id: str
    collection: str
    doc: str
    path: str
    lost: Register
    kept: Register
    at: str
    expires_at: str
    restored_at: str | None


def of_rejected(entry: Rejected) -> RejectedEntry:
    change: Any = UNSET
    raw: str | UnsetType = UNSET
    try:
        change = msgspec.json.decode(entry.raw) if entry.format == "json" else msgspec.msgpack.decode(entry.raw)
        # Each format has what the other has no form for, and an answer is deeper by some levels than the change in it.
        within_answer = [[[[[[[[change]]]]]]]]
        msgspec.json.encode(within_answer)
        msgspec.msgpack.encode(within_answer)
    except (msgspec.MsgspecError, UnicodeError, TypeError, ValueError, OverflowError, RecursionError):
        change, raw = UNSET, with_lone_surrogates_shown(entry.raw).decode(errors="replace")
    return RejectedEntry(
        id=entry.id,
        change_id=entry.change_id,
        device_id=entry.device_id,
        received_at=rfc3339(entry.received_ms),
        code=entry.code,
        detail=entry.detail,
        change=change,
        raw=raw,
    )


def of_conflict(conflict: Conflict) -> ConflictEntry:
    return ConflictEntry(
        id=conflict.id,
        collection=conflict.key.collection,
        doc=conflict.key.id,
        path=conflict.path,
        lost=Register(stamp=to_wire(conflict.lost_stamp), value=values.to_python(conflict.lost_value)),
        kept=Register(stamp=to_wire(conflict.won_stamp), value=values.to_python(conflict.won_value)),
        at=rfc3339(conflict.at_ms),
        expires_at=rfc3339(conflict.at_ms + KEPT_MS),
        restored_at=rfc3339(conflict.restored_ms) if conflict.restored_ms else None,
    )
