"""Wire types of one round trip, its limits, and the check of one change.

A change travels as the undecoded bytes of its part of the body until it is checked by itself, so that one bad change is its
own result and never the request's.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeGuard

import msgpack
import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from sync import clock, document, values
from sync.clock import Stamp
from sync.document import Key
from sync.schema import COLLECTIONS, PLAIN_PATHS, Shape
from sync.values import Value, ValueInvalid

Format = Literal["json", "msgpack"]

# One transaction's work, for which the account's other writers wait: a thousand documents take some 0.2 s.
MAX_CHANGES: Final = 1_000
MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024  # a thousand workouts of 4 KiB; bounds what a request holds in memory
MAX_PAGE_BYTES: Final = 1024 * 1024  # what a poor link brings down before it breaks
MAX_LIMIT: Final = 1_000  # documents a page
# A batch of some hundred workouts is checked in a few milliseconds. One of 4 MiB, of arrays whose canonical form is measured, takes
# more than a second, in which the other requests of this process should go on.
CHECKED_INLINE_BYTES: Final = 512 * 1024
_MAX_SEQUENCE: Final = 2**53  # beyond it JavaScript would round

Id = Annotated[str, Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
_uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


class SyncRequest(Struct, frozen=True, kw_only=True):
    """One round trip: `changes` up, everything new since `cursor` down. `collections` left out means all."""

    device_id: Id
    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = 500
    collections: list[str] | UnsetType = UNSET
    changes: list[Raw] = []


class Limits(Struct, frozen=True, kw_only=True):
    max_changes: int = MAX_CHANGES
    max_bytes: int = MAX_REQUEST_BYTES
    next_sync_after_s: int = 0


Status = Literal["applied", "unchanged", "superseded", "restamped", "rejected"]
Code = Literal[
    "unknown_collection",
    "invalid_value",
    "not_your_counter",
    "too_large",
    "document_full",
    "document_purged",
    "bad_stamp",
]


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one change. `superseded` gives the greater registers that some of its paths lost to: [stamp, value]."""

    id: str | None
    status: Status
    stamp: str | UnsetType = UNSET
    code: Code | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    superseded: dict[str, tuple[str, Any]] | UnsetType = UNSET


class SyncResponse(Struct, frozen=True, kw_only=True):
    """`documents` are encoded already, each a Delta."""

    results: list[Result]
    documents: list[Raw]
    cursor: str
    more: bool
    reset: bool
    remaining: int
    server_time: str
    stamp: str
    limits: Limits
    digests: dict[str, str] | UnsetType = UNSET


class Delta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A document as it goes down: its registers grouped by stamp, {stamp: {path: value}}; `purged`: drop it."""

    collection: str
    id: str
    seq: int
    purged: bool = False
    fields: Mapping[str, Mapping[str, Any]]


class Change(NamedTuple):
    """A change that is well-formed. `encoded_bytes` is what it took in the body."""

    id: str
    key: Key
    stamp: Stamp
    base: int | None
    values: dict[str, Value]
    encoded_bytes: int


class _Sent(Struct):
    """A change as sent, with nothing taken for granted."""

    id: Any = UNSET
    collection: Any = UNSET
    doc: Any = UNSET
    stamp: Any = UNSET
    base: Any = UNSET
    set: Any = UNSET


# What needs no look of ours: any scalar that JSON holds exactly, in any string that is surely within its limit.
_Scalar = (
    None
    | bool
    | Annotated[int, Meta(ge=-values.MAX_INTEGER, le=values.MAX_INTEGER)]
    | float
    | Annotated[str, Meta(max_length=values.SURELY_SMALL)]
)


class _SentPlain(Struct):
    """The common change, whose types the decoder checks in passing. Whatever does not fit is taken as `_Sent`."""

    id: str
    collection: str
    doc: str
    stamp: str
    set: dict[str, _Scalar]
    base: int | UnsetType | None = UNSET


class _SentId(Struct):
    id: Any = None


def _usual_path(collection: str, *shapes: Shape) -> str:
    """A pattern of the paths, without escapes and line breaks, of the collection's fields of these shapes."""
    part = f"/[^/~\\n]{{1,{document.MAX_COMPONENT_LENGTH}}}+"  # possessive: it could end nowhere else
    parts = {"set": part, "children": 2 * part}
    fields = [(name, spec.shape) for name, spec in COLLECTIONS[collection].items() if spec.shape in shapes]
    return "(?:" + ("|".join(name + parts[shape] for name, shape in fields) or "(?!)") + ")"


# One of them or more, in lines. Children's fields may hold anything; a set's elements need a look at the value yet.
_USUAL_PATHS: Final = {
    name: re.compile(f"{path}(?:\n{path})*") for name in COLLECTIONS for path in [_usual_path(name, "set", "children")]
}

_decode_json = msgspec.json.Decoder(_Sent).decode
_decode_json_plain = msgspec.json.Decoder(_SentPlain).decode
_encode_json = msgspec.json.Encoder().encode
_decode_msgpack = msgspec.msgpack.Decoder().decode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_NOT_DECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


# An escape in a JSON text, one after the other; the group is a surrogate without its other half.
_ESCAPES: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)

_MARKED: Final = re.compile(rb"\xff(?=u[dD][89a-fA-F][0-9a-fA-F]{2})")


def with_lone_surrogates_marked(body: bytes) -> bytes:
    """Return a JSON body in which a byte that is no UTF-8 stands for the backslash of each `\ud800` that stands alone.

    The envelope's decoder steps over such a byte in a change, which is then that change's own refusal, but not over the escape,
    for which it would refuse the whole body.
    """
    return _ESCAPES.sub(lambda escape: escape[0] if escape[1] is None else b"\xff" + escape[1], body)


def with_lone_surrogates_shown(raw: bytes) -> bytes:
    """Undo `with_lone_surrogates_marked`."""
    return _MARKED.sub(rb"\\", raw)


def is_uuid(text: object) -> TypeGuard[str]:
    """Whether it is a UUID as ids are written here: with lower-case digits and hyphens."""
    return type(text) is str and _uuid(text) is not None


class Refusal(Exception):
    """One change is rejected; `code` is the result's."""

    def __init__(self, code: Code, detail: str, *, change_id: str | None = None) -> None:
        super().__init__(detail)
        self.code: Code = code
        self.change_id = change_id

    def result(self) -> Result:
        return Result(id=self.change_id, status="rejected", code=self.code, detail=str(self))


def check(raw: bytes, format: Format) -> Change:  # noqa: A002 - the field's word
    """Return the change. Raises Refusal, which carries the change's id where it could be read."""
    sent: _Sent | _SentPlain
    try:
        sent = _from_json(raw) if format == "json" else _from_msgpack(raw)
    except _NOT_DECODABLE:
        detail = "The change is not an object, or has a string or number that is not JSON's."
        raise Refusal("invalid_value", detail, change_id=_id_of(raw, format)) from None
    try:
        return _checked(sent, raw, format)
    except RecursionError:  # of an encoder, which gives up a little before the decoder does
        raise Refusal("invalid_value", "The change is nested too deep.", change_id=_shown(sent.id)) from None
    except Refusal as refusal:
        refusal.change_id = _shown(sent.id)
        raise


def _checked(sent: _Sent | _SentPlain, raw: bytes, format: Format) -> Change:  # noqa: A002
    if not is_uuid(sent.id):
        raise Refusal("invalid_value", "`id` is not a lower-case UUID.")
    if not is_uuid(sent.doc):
        raise Refusal("invalid_value", "`doc` is not a lower-case UUID.")
    if type(sent.collection) is not str or sent.collection not in COLLECTIONS:
        raise Refusal("unknown_collection", "The server has no such collection.")
    stamp = clock.from_wire(sent.stamp)
    if stamp is None:
        raise Refusal("bad_stamp", "`stamp` is not 16 lower-case hex digits below 2^63, or is zero.")
    base = sent.base
    if base is UNSET or base is None:
        base = None
    elif type(base) is not int or not 0 <= base <= _MAX_SEQUENCE:
        raise Refusal("invalid_value", "`base` is not a document's sequence.")
    given = sent.set
    if type(given) is not dict:
        raise Refusal("invalid_value", "`set` is not an object of path and value.")
    if format == "msgpack" and any(type(path) is not str for path in given):
        raise Refusal("invalid_value", "`set` has a path that is not a string.")
    _check_paths(sent.collection, given, clock.replica_of(stamp))
    stored: dict[str, Any] = given
    if type(sent) is _Sent:
        stored = _stored(given)
    if _may_repeat_keys(sent, raw, format) and _repeats_keys(raw, format):
        raise Refusal("invalid_value", "An object has the same key twice.")
    return Change(sent.id, Key(sent.collection, sent.doc), stamp, base, stored, len(raw))


def _stored(given: dict[str, Any]) -> dict[str, Value]:
    stored = {}
    for path, value in given.items():
        try:
            stored[path] = values.from_wire(value)
        except ValueInvalid as error:
            raise Refusal(error.code, f"{_shortened(path)}: {error}") from None  # type: ignore[arg-type]
    return stored


def _check_paths(collection: str, given: dict[str, Any], replica: int) -> None:
    """The paths that are not plain registers' are mostly children's and sets', and are then matched as one text."""
    plain = PLAIN_PATHS[collection]
    others = [path for path in given if path not in plain]
    if not others:
        return
    lines = "\n".join(others)
    # As many lines as paths: a path with a line break of its own would pass for two.
    if lines.count("\n") == len(others) - 1 and _USUAL_PATHS[collection].fullmatch(lines) is not None:
        if lines.count("/") == 2 * len(others):
            return  # no set's, which have one each
        others = [path for path in others if path.count("/") == 1 and type(given[path]) is not bool]
    for path in others:
        _check_path(collection, path, given[path], replica)


def _check_path(collection: str, path: str, value: Any, replica: int) -> None:
    """Known fields keep their shape, because a reader could make nothing of another; unknown ones are anyone's."""
    if (parts := document.components(path)) is None:
        detail = (
            f"{_shortened(path)} is not a path: 1 to 4 components of 1 to 128 code points, with / as ~1 and ~ as ~0."
        )
        raise Refusal("invalid_value", detail)
    spec = COLLECTIONS[collection].get(parts[0])
    if spec is None:
        return
    match spec.shape:
        case "register":
            raise Refusal("invalid_value", f"{parts[0]} is a register; it has no parts.")
        case "set":
            if len(parts) != 2 or type(value) is not bool:
                raise Refusal("invalid_value", f"{parts[0]} is a set: {parts[0]}/<element> is true or false.")
        case "counter":
            writer = document.replica_component(parts[1]) if len(parts) == 2 else None
            if writer is None or type(value) not in (int, float):
                raise Refusal("invalid_value", f"{parts[0]} is a counter: {parts[0]}/<replica> is a number.")
            if writer != replica:
                raise Refusal("not_your_counter", f"{path} may be written by stamps of replica {writer} only.")
        case "children":
            if len(parts) != 3:
                raise Refusal("invalid_value", f"{parts[0]} has children: {parts[0]}/<id>/<field>.")


def _may_repeat_keys(sent: _Sent | _SentPlain, raw: bytes, format: Format) -> bool:  # noqa: A002
    """A sure and cheap test: what was decoded has as many quotes as what was sent, or as many colons, so that no key was dropped.

    A dropped key takes two quotes and a colon at least with it. Where there are escapes, quotes tell nothing, and an escaped colon
    would make up for one; objects as values and members that are not read have some that were not counted: these take the long
    way too.
    """
    if format == "msgpack":
        return _encode_msgpack(_decode_msgpack(raw)) != raw
    if type(sent) is _Sent:
        return True
    given = sent.set
    if b"\\" not in raw:
        keys, texts = 5 + (sent.base is not UNSET) + len(given), 4 + [*map(type, given.values())].count(str)
        return raw.count(b'"') != 2 * (keys + texts)
    if b"\\u003" in raw:
        return True
    in_texts = "".join(given).count(":") + _encode_json([*given.values()]).count(b":")
    return raw.count(b":") != 5 + (sent.base is not UNSET) + len(given) + in_texts


class _RepeatedKey(Exception):
    pass


def _unique(pairs: list[tuple[Any, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _RepeatedKey


def _repeats_keys(raw: bytes, format: Format) -> bool:  # noqa: A002
    """The slow and plain test. What it cannot decode was not JSON's or msgpack's to begin with, and counts as refused."""
    try:
        if format == "json":
            json.loads(raw, object_pairs_hook=_unique)
        else:
            msgpack.unpackb(raw, object_pairs_hook=_unique, strict_map_key=False)
    except _RepeatedKey:
        return True
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Refusal("invalid_value", "The change cannot be decoded.") from error
    return False


def _from_json(raw: bytes) -> _Sent | _SentPlain:
    try:
        return _decode_json_plain(raw)
    except msgspec.ValidationError:
        return _decode_json(raw)


def _from_msgpack(raw: bytes) -> _Sent:
    sent = _decode_msgpack(raw)
    if type(sent) is not dict:
        raise msgspec.ValidationError("Expected `object`")
    return _Sent(**{name: sent[name] for name in _Sent.__struct_fields__ if name in sent})


def _id_of(raw: bytes, format: Format) -> str | None:  # noqa: A002
    try:
        sent = msgspec.json.decode(raw, type=_SentId) if format == "json" else msgspec.msgpack.decode(raw, type=_SentId)
    except _NOT_DECODABLE:
        return None
    return _shown(sent.id)


def _shown(change_id: Any) -> str | None:
    return change_id if type(change_id) is str and len(change_id) <= 64 else None


def _shortened(path: Any) -> str:
    return repr(path if len(str(path)) <= 80 else str(path)[:80] + "…")
