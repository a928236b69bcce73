"""What was refused is kept, as it came, for its user and for support: to be looked at, and to be tried again."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from sync.changes import Code, Format, Result, is_uuid

# Of one account; beyond it the oldest leave. A change is at most what a request may carry, and some 300 bytes mostly.
MAX_BYTES: Final = 64 * 1024 * 1024
_ENTRY_BYTES: Final = 300  # what an entry takes beside the change

_encode = msgspec.json.Encoder(order="deterministic").encode


class Rejected(Struct, frozen=True, kw_only=True):
    """`raw` is the change as it came, in `format`; `change_id` None where it could not be read.

    content: a hash, the same for the same change, in whichever format and order of members, and on whatever base, it came.
    """

    id: str
    change_id: str | None
    device_id: str
    received_ms: int
    code: Code
    detail: str
    format: Format
    raw: bytes
    content: bytes

    @property
    def size_bytes(self) -> int:
        return size_bytes(len(self.raw))


def size_bytes(raw_bytes: int) -> int:
    """Return what an entry counts for whose change has so many bytes."""
    return _ENTRY_BYTES + raw_bytes


def entry(raw: bytes, format: Format, result: Result, *, device_id: str, now_ms: int) -> Rejected:  # noqa: A002
    """Return what to keep of a change whose result is `rejected`. It is named by its change, as far as that has a name."""
    if result.code is UNSET or result.detail is UNSET:
        raise ValueError("The change was not rejected.")
    return Rejected(
        id=result.id if is_uuid(result.id) else _named_by_content(raw),
        change_id=result.id,
        device_id=device_id,
        received_ms=now_ms,
        code=result.code,
        detail=result.detail,
        format=format,
        raw=raw,
        content=_content(raw, format),
    )


def added(entries: Iterable[Rejected], held: Mapping[str, bytes]) -> list[Rejected]:
    """Return those that are not held yet, as they are to be added. held: the `content` of each by its id."""
    known = dict(held)
    found: list[Rejected] = []
    for entry in entries:
        if (name := _free_name(entry, known)) is not None:
            known[name] = entry.content
            found.append(replace(entry, id=name))
    return found


def _free_name(entry: Rejected, known: Mapping[str, bytes]) -> str | None:
    """None: it is there already. Another change of a name that is taken, which no honest device sends, is named by its content."""
    for name in names(entry):
        if name not in known:
            return name
        if known[name] == entry.content:
            break
    return None


def names(entry: Rejected) -> tuple[str, str]:
    """The ids under which it may be held."""
    return entry.id, _named_by_content(entry.raw)


def _named_by_content(raw: bytes) -> str:
    return str(UUID(bytes=sha256(raw).digest()[:16], version=5))


def _content(raw: bytes, format: Format) -> bytes:  # noqa: A002
    try:
        decoded = msgspec.json.decode(raw) if format == "json" else msgspec.msgpack.decode(raw)
        if type(decoded) is dict:
            decoded.pop("base", None)
        raw = _encode(decoded)
    except (msgspec.MsgspecError, UnicodeError, TypeError, ValueError, RecursionError):
        pass  # such a change was refused for that, and comes again as the same bytes
    return sha256(raw).digest()
