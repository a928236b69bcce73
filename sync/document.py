"""A document: a flat map from path to register, the one rule that merges registers, and the four shapes read from paths.

Merging two states keeps, path by path, the greater register; registers order by stamp, and two of one stamp (a phone
restored from a backup) by their canonical JSON bytes. The rule is commutative, associative and idempotent, whatever the
shapes: tests/sync/test_document.py holds it to that.
"""

import re
from collections import Counter
from typing import Any, Final, NamedTuple

from sync import values
from sync.clock import MAX_REPLICA, ZERO, Stamp
from sync.schema import COLLECTIONS, Field
from sync.values import Value

# A document is read, merged and written whole. At both bounds, with a mark for each path, its record takes under 1 MB of
# the 16 MiB that MongoDB gives a record and a reply.
MAX_PATHS: Final = 2_000
MAX_DOCUMENT_BYTES: Final = 256 * 1024
MAX_COMPONENTS: Final = 4  # a child's field takes three
MAX_COMPONENT_LENGTH: Final = 128  # code points, unescaped; an id takes 36


class Key(NamedTuple):
    """A document's name within its account."""

    collection: str
    id: str


class Mark(NamedTuple):
    """When a register was written: its stamp, and the account's sequence at which the server took it."""

    stamp: Stamp
    seq: int


class Document:
    """One state of a document.

    Most registers of a document were written together, so one mark, `usual`, stands for every path that `marks` does not
    name: half the bytes at rest of a mark for each, and the measured difference between 5,000 and 13,000 documents a second.

    `most_bytes` is at least `encoded_bytes`, which is too slow to be measured at every change.
    `deleted_ms` is when the last change of a deleted document reached the server; 0 of one that is not deleted.
    Of a `purged` document only its id and sequence are left.
    """

    __slots__ = ("deleted_ms", "key", "marks", "most_bytes", "purged", "seq", "usual", "values")

    def __init__(
        self,
        key: Key,
        *,
        seq: int = 0,
        values: dict[str, Value] | None = None,
        usual: Mark = Mark(ZERO, 0),  # noqa: B008 - immutable
        marks: dict[str, Mark] | None = None,
        most_bytes: int = 0,
        deleted_ms: int = 0,
        purged: bool = False,
    ) -> None:
        self.key = key
        self.seq = seq
        self.values = {} if values is None else values
        self.usual = usual
        self.marks = {} if marks is None else marks
        self.most_bytes = most_bytes
        self.deleted_ms = deleted_ms
        self.purged = purged

    def mark(self, path: str) -> Mark | None:
        """Return the mark of the register at `path`, or None if there is none."""
        return self.marks.get(path, self.usual) if path in self.values else None

    def copy(self) -> "Document":
        return Document(
            self.key,
            seq=self.seq,
            values=self.values.copy(),
            usual=self.usual,
            marks=self.marks.copy(),
            most_bytes=self.most_bytes,
            deleted_ms=self.deleted_ms,
            purged=self.purged,
        )

    @property
    def deleted(self) -> bool:
        return self.values.get("deleted") is True

    @property
    def path_count(self) -> int:
        """What MAX_PATHS bounds: `deleted` is free, else a full document, deleted and restored, could never be edited again."""
        return len(self.values) - ("deleted" in self.values)

    @property
    def encoded_bytes(self) -> int:
        """What MAX_DOCUMENT_BYTES bounds: `deleted` is free."""
        return values.encoded_bytes({path: value for path, value in self.values.items() if path != "deleted"})

    def compacted(self) -> "Document":
        """Return the same state with the most frequent mark as the usual one."""
        if 2 * len(self.marks) <= len(self.values):
            return self
        counts = Counter(self.marks.values())
        counts[self.usual] += len(self.values) - len(self.marks)
        usual, _ = counts.most_common(1)[0]
        marks = {path: mark for path in self.values if (mark := self.marks.get(path, self.usual)) != usual}
        return Document(
            self.key,
            seq=self.seq,
            values=self.values,
            usual=usual,
            marks=marks,
            most_bytes=self.most_bytes,
            deleted_ms=self.deleted_ms,
            purged=self.purged,
        )

    def registers(self) -> dict[str, tuple[Value, Stamp]]:
        """Every register with its stamp: the state that two replicas compare."""
        return {path: (value, self.marks.get(path, self.usual).stamp) for path, value in self.values.items()}

    def __repr__(self) -> str:
        return f"Document({self.key.collection}/{self.key.id}, seq={self.seq}, {len(self.values)} paths)"


def wins(value: Value, stamp: Stamp, over: Value, over_stamp: Stamp) -> bool:
    """Whether a register is greater than another of the same path; a register is not greater than itself."""
    if stamp != over_stamp:
        return stamp > over_stamp
    if type(value) is type(over) and value == over:
        return False  # most are, when something is sent again, and need no canonical form
    return values.canonical(value) > values.canonical(over)


def merge(one: Document, other: Document) -> Document:
    """Return the merge of two states of one document. Marks' sequences go with the registers that are kept."""
    merged = one.copy()
    for path, value in other.values.items():
        mark = other.marks.get(path, other.usual)
        mine = merged.mark(path)
        if mine is None or wins(value, mark.stamp, merged.values[path], mine.stamp):
            merged.values[path] = value
            merged.marks[path] = mark
    return merged.compacted()


def components(path: str) -> list[str] | None:
    """Return a path's components, unescaped (RFC 6901), or None if it is not a path."""
    parts = path.split("/")
    if len(parts) > MAX_COMPONENTS:
        return None
    if "~" in path:
        parts = [_unescaped(part) for part in parts]
    for part in parts:
        if not 0 < len(part) <= MAX_COMPONENT_LENGTH:
            return None
    return parts


_is_wrongly_escaped = re.compile(r"~(?![01])").search


def _unescaped(part: str) -> str:
    """Empty, which no component may be, if the escapes are wrong."""
    return part.replace("~1", "/").replace("~0", "~") if _is_wrongly_escaped(part) is None else ""


def escaped(component: str) -> str:
    return component.replace("~", "~0").replace("/", "~1")


def replica_component(component: str) -> int | None:
    """Return a counter path's replica, or None if the component is not a replica number in its one decimal form."""
    if not component.isascii() or not component.isdigit() or len(component) > 4:
        return None
    replica = int(component)
    return replica if replica <= MAX_REPLICA and str(replica) == component else None


def read(document: Document) -> dict[str, Any]:
    """Return the document as its collection's shapes read it.

    Sets list their elements and children are ordered by `pos` then id, both by UTF-8 bytes; counters sum in ascending
    replica order. Paths of fields the schema does not know are given flat, as they are.
    """
    fields = COLLECTIONS.get(document.key.collection, {})
    result: dict[str, Any] = {}
    grouped: dict[str, list[tuple[list[str], Value]]] = {}
    for path, value in document.values.items():
        parts = components(path) or [path]
        spec = fields.get(parts[0])
        if spec is None or (spec.shape == "register" and len(parts) == 1):
            result[path] = values.to_python(value)
        else:
            grouped.setdefault(parts[0], []).append((parts[1:], value))
    for field, entries in grouped.items():
        result[field] = _read_shape(fields[field], entries)
    return result


def _read_shape(spec: Field, entries: list[tuple[list[str], Value]]) -> Any:
    match spec.shape:
        case "set":
            return sorted((rest[0] for rest, value in entries if value is True), key=_utf8)
        case "counter":
            totals = sorted((int(rest[0]), value) for rest, value in entries)
            return sum(value for _, value in totals if type(value) in (int, float))
        case "children":
            children: dict[str, dict[str, Any]] = {}
            for (child, field), value in entries:
                shown_child = children.setdefault(child, {"id": child})
                if field != "id":  # a child's id is its name in the path, which nothing written can change
                    shown_child[field] = values.to_python(value)
            shown = [child for child in children.values() if child.get("deleted") is not True]
            return sorted(shown, key=_child_order)
        case "register":
            raise AssertionError("A register has one path, which `read` takes itself.")


def _child_order(child: dict[str, Any]) -> tuple[bool, bytes, bytes]:
    pos = child.get("pos")
    return (not isinstance(pos, str), _utf8(pos) if isinstance(pos, str) else b"", _utf8(child["id"]))


def _utf8(text: str) -> bytes:
    return text.encode()
