"""What was refused is kept, as it came, for its user and for support: to be looked at, and to be tried again."""

from hashlib import sha256
from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct

from sync.changes import Code, Format, Result

# Of one account; beyond it the oldest leave. A change is at most what a request may carry, and some 300 bytes mostly.
MAX_BYTES: Final = 64 * 1024 * 1024
_ENTRY_BYTES: Final = 300  # what an entry takes beside the change

_encode = msgspec.json.Encoder(order="deterministic").encode


class Rejected(Struct, frozen=True, kw_only=True):
    """`raw` is the change as it came, in `format`; `change_id` None where it could not be read."""

    id: str
    change_id: str | None
    device_id: str
    received_ms: int
    code: Code
    detail: str
    format: Format
    raw: bytes

    @property
    def size_bytes(self) -> int:
        return _ENTRY_BYTES + len(self.raw)


def entry_id(raw: bytes, format: Format) -> str:  # noqa: A002 - the field's word
    """Return the same id for the same change, in whichever format and order of members it came."""
    try:
        decoded = msgspec.json.decode(raw) if format == "json" else msgspec.msgpack.decode(raw)
        content = _encode(decoded)
    except (msgspec.MsgspecError, UnicodeError, TypeError, ValueError, RecursionError):
        content = raw  # such a change was refused for that, and comes again as the same bytes
    return str(UUID(bytes=sha256(content).digest()[:16], version=5))


def entry(raw: bytes, format: Format, result: Result, *, device_id: str, now_ms: int) -> Rejected:  # noqa: A002
    """Return what to keep of a change whose result is `rejected`."""
    if result.code is UNSET or result.detail is UNSET:
        raise ValueError("The change was not rejected.")
    return Rejected(
        id=entry_id(raw, format),
        change_id=result.id,
        device_id=device_id,
        received_ms=now_ms,
        code=result.code,
        detail=result.detail,
        format=format,
        raw=raw,
    )
