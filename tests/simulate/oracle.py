"""What the protocol's words say an account holds: a plain sequential model, written from docs/protocols/sync.md.

It shares no line with sync/merge.py, sync/document.py or sync/digest.py. Registers are (stamp, canonical JSON, sequence); nothing is
fast, nothing is bounded, and every earlier state can be asked for.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

DAY_MS: Final = 86_400_000
COLLECTIONS: Final = ("workouts", "routines", "exercises", "measurements", "goals", "nutrition", "preferences")
_COUNTERS: Final = {("nutrition", "water_ml"), ("nutrition", "energy_kcal"), ("goals", "progress")}
_SETS: Final = {("workouts", "tags"), ("goals", "sports")}
_PLAIN: Final = {("workouts", "title"), ("workouts", "notes"), ("nutrition", "notes")}

Key = tuple[str, str]
State = Mapping[Key, Mapping[str, tuple[int, bytes]]]


class Wrong(AssertionError):
    """The code under test did what the protocol forbids."""


class Register(NamedTuple):
    stamp: int
    value: bytes
    seq: int


class Expected(NamedTuple):
    """The result that a change must have."""

    status: str
    stamp: str | None = None
    code: str | None = None
    superseded: Mapping[str, tuple[str, bytes]] = {}


class Lost(NamedTuple):
    """The name of a conflict: what lost where."""

    key: Key
    path: str
    stamp: int
    value: bytes


class Written(NamedTuple):
    """One document after one write; no registers: purged."""

    seq: int
    key: Key
    registers: Mapping[str, Register] | None


class Seen(NamedTuple):
    """A device, as far as the purging of documents asks: per collection the furthest cursor that it presented."""

    at_ms: int
    collections: frozenset[str]
    presented: Mapping[str, int]


_known: dict[tuple[type, Any], bytes] = {}


def canonical(value: Any) -> bytes:
    """RFC 8785 for the values that the simulation draws: numbers that are whole or short, texts without surrogates."""
    if isinstance(value, dict | list):
        return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    name = (type(value), value)
    text = _known.get(name)
    if text is None:
        text = _known[name] = json.dumps(_plain(value), ensure_ascii=False).encode()
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def replica_of(stamp: int) -> int:
    return stamp % 4096


def is_counter(collection: str, path: str) -> bool:
    return (collection, path.split("/", maxsplit=1)[0]) in _COUNTERS


def refusal(change: Mapping[str, Any]) -> str | None:
    """The code of a change that is wrong in itself, as far as the simulation sends such ones."""
    collection, wire = change["collection"], change["stamp"]
    if collection not in COLLECTIONS:
        return "unknown_collection"
    if len(wire) != 16 or set(wire) - set("0123456789abcdef") or not 0 < int(wire, 16) < 2**63:
        return "bad_stamp"
    for path, value in change["set"].items():
        name, *rest = path.split("/")
        if (collection, name) in _SETS and (len(rest) != 1 or not isinstance(value, bool)):
            return "invalid_value"
        if (collection, name) in _PLAIN and rest:
            return "invalid_value"
        if is_counter(collection, path) and int(rest[0]) != replica_of(int(wire, 16)):
            return "not_your_counter"
        if len(canonical(value)) > 16 * 1024:
            return "too_large"
    return None


@lru_cache(maxsize=10_000)
def _hash(key: Key, path: str, stamp: int) -> int:
    text = f"{key[0]}/{key[1]}/{path}={stamp:016x}"
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def digest(state: Mapping[Key, Mapping[str, tuple[Any, ...]]], collection: str) -> str:
    total = sum(
        _hash(key, path, register[0])
        for key, registers in state.items()
        if key[0] == collection
        for path, register in registers.items()
    )
    return f"{total % 2**64:016x}"


class Oracle:
    def __init__(self, *, max_paths: int) -> None:
        self.max_paths = max_paths
        self.seq = 0
        self.clock = 0
        self.wall_ms = 0  # the newest time by which an upload was judged
        self.documents: dict[Key, dict[str, Register]] = {}
        self.purged: set[Key] = set()
        self.deleted_ms: dict[Key, int] = {}
        self.seqs: dict[Key, int] = {}
        self.restamps: dict[int, int] = {}
        self.conflicts: dict[Lost, tuple[int, bytes, int]] = {}
        # Sent again after they were listed for 30 days: a server may list them once more, or know that it did.
        self.late: set[Lost] = set()
        self.quarantine: dict[str, str] = {}
        self.log: list[Written] = []
        self.devices: dict[str, Seen] = {}

    def copy(self) -> "Oracle":
        """Nothing that is kept is altered in place, but for the containers themselves."""
        copy = Oracle(max_paths=self.max_paths)
        for name, value in vars(self).items():
            setattr(copy, name, value.copy() if isinstance(value, dict | set | list) else value)
        return copy

    def refuse(self, change: Mapping[str, Any], code: str) -> None:
        """Keep a change that is rejected; one that is there already stays as it is."""
        self.quarantine.setdefault(change["id"], code)

    def upload(self, changes: Sequence[Mapping[str, Any]], *, now_ms: int) -> list[Expected]:
        """Merge well-formed changes in stamp order; expectations stand in the order given."""
        expected: dict[int, Expected] = {}
        touched: dict[Key, int] = {}
        wall_ms = max(now_ms, min(self.wall_ms, now_ms + 60_000))
        seq, pairs = self.seq, len(self.restamps)
        for index in sorted(range(len(changes)), key=lambda index: int(changes[index]["stamp"], 16)):
            expected[index] = self._merge(changes[index], touched, wall_ms, now_ms)
        if (self.seq, len(self.restamps)) != (seq, pairs):
            self.wall_ms = wall_ms
        for key, seq in touched.items():
            registers = self.documents[key]
            self.log.append(Written(seq, key, registers))
            self.seqs[key] = seq
            deleted = registers.get("deleted")
            self.deleted_ms[key] = now_ms if deleted is not None and deleted.value == b"true" else 0
        for index, change in enumerate(changes):
            code = expected[index].code
            if code is not None:
                self.refuse(change, code)
            else:
                self.quarantine.pop(change["id"], None)
        return [expected[index] for index in range(len(changes))]

    def _merge(self, change: Mapping[str, Any], touched: dict[Key, int], wall_ms: int, now_ms: int) -> Expected:
        key = (change["collection"], change["doc"])
        if key in self.purged:
            return Expected("rejected", code="document_purged")
        old = int(change["stamp"], 16)
        is_new_pair = old not in self.restamps and old >> 21 > wall_ms + 60_000
        stamp = self._next_reading(now_ms, replica_of(old)) if is_new_pair else self.restamps.get(old, old)
        given = {path: canonical(value) for path, value in change["set"].items()}
        stored = self.documents.get(key, {})
        won = {path for path, value in given.items() if path not in stored or (stamp, value) > stored[path][:2]}
        lost = {path for path, value in given.items() if path in stored and (stamp, value) < stored[path][:2]}
        if won:
            seq = touched.get(key) or self.seq + 1
            merged = {**stored, **{path: Register(stamp, given[path], seq) for path in won}}
            if len(merged.keys() - {"deleted"}) > self.max_paths and given.keys() != {"deleted"}:
                return Expected("rejected", code="document_full")
            self.documents[key], touched[key] = merged, seq
            self.seq = max(self.seq, seq)
        if is_new_pair:
            self.restamps[old] = stamp
        self.clock = max(self.clock, stamp)
        if change.get("base") is not None:
            self._note_conflicts(key, change["base"], stamp, given, stored, now_ms)
        is_restamped = old in self.restamps
        status = "restamped" if is_restamped else "superseded" if lost else "applied" if won else "unchanged"
        superseded = {path: (f"{stored[path].stamp:016x}", stored[path].value) for path in lost}
        return Expected(status, f"{stamp:016x}" if is_restamped else None, None, superseded)

    def _next_reading(self, now_ms: int, replica: int) -> int:
        """Above the clock whatever its replica, and not behind the wall clock."""
        return max(now_ms << 9, (self.clock >> 12) + 1) << 12 | replica

    def _note_conflicts(
        self,
        key: Key,
        base: int,
        stamp: int,
        given: Mapping[str, bytes],
        stored: Mapping[str, Register],
        now_ms: int,
    ) -> None:
        for path, value in given.items():
            theirs = stored.get(path)
            if theirs is None or theirs.seq <= base or replica_of(theirs.stamp) == replica_of(stamp):
                continue
            if theirs.value == value or is_counter(key[0], path):
                continue
            mine = stamp, value
            (lost_stamp, lost_value), won = (theirs[:2], mine) if mine > theirs[:2] else (mine, theirs[:2])
            name = Lost(key, path, lost_stamp, lost_value)
            listed = self.conflicts.setdefault(name, (*won, now_ms))
            if listed[2] <= now_ms - 30 * DAY_MS:
                self.late.add(name)

    def fill(self, key: Key, given: Mapping[str, Any], *, now_ms: int) -> None:
        """The server writes what the document lacks, and restores it."""
        if key in self.purged:
            return
        stored = self.documents.get(key, {})
        lacking = {path: value for path, value in given.items() if path not in stored}
        if stored and self.deleted_ms[key]:
            lacking["deleted"] = False
        if lacking:
            stamp = self._next_reading(now_ms, 0)
            self.write(key, lacking, stamp, now_ms)

    def recover(self, key: Key, path: str, value: Any, *, now_ms: int) -> None:
        """A user brings back a value that lost, unless it stands."""
        register = self.documents.get(key, {}).get(path)
        if key not in self.purged and (register is None or register.value != canonical(value)):
            self.write(key, {path: value}, self._next_reading(now_ms, 0), now_ms)

    def write(self, key: Key, given: Mapping[str, Any], stamp: int, now_ms: int) -> None:
        """The server's own writes are believed, and never refused but for their size."""
        change = {"id": "", "collection": key[0], "doc": key[1], "stamp": f"{stamp:016x}", "set": given}
        wall_ms = self.wall_ms
        self.upload([change], now_ms=max(now_ms, stamp >> 21))
        self.wall_ms = wall_ms
        self.quarantine.pop("", None)

    def came(self, device_id: str, collections: Iterable[str], presented: Mapping[str, int]) -> None:
        """A device presents a cursor that was given everything up to these sequences.

        It may be too early to say that it was seen, or that it asks for a collection; not, that it asks for one no more.
        """
        before = self.devices.get(device_id, Seen(0, frozenset(), {}))
        furthest = dict(before.presented)
        for collection, seq in presented.items():
            furthest[collection] = max(furthest.get(collection, 0), seq)
        self.devices[device_id] = Seen(before.at_ms, before.collections.intersection(collections), furthest)

    def answered(self, device_id: str, collections: Iterable[str], *, now_ms: int) -> None:
        """A device was answered: it was seen, and syncs these collections."""
        presented = self.devices[device_id].presented if device_id in self.devices else {}
        self.devices[device_id] = Seen(now_ms, frozenset(collections), presented)

    def forget(self, device_id: str) -> None:
        self.devices.pop(device_id, None)

    def is_due(self, key: Key, now_ms: int) -> bool:
        """Whether a document may be purged."""
        deleted_ms = self.deleted_ms.get(key, 0)
        if key in self.purged or not deleted_ms or deleted_ms > now_ms - 30 * DAY_MS:
            return False
        return not any(
            key[0] in device.collections
            and device.at_ms >= now_ms - 180 * DAY_MS
            and device.presented.get(key[0], 0) < self.seqs[key]
            for device in self.devices.values()
        )

    def purge(self, key: Key, *, now_ms: int) -> None:
        """The server purged a document. Raises Wrong if it might not."""
        if not self.is_due(key, now_ms):
            raise Wrong(f"{key} was purged though it is not due: {self.devices}")
        self.seq += 1
        self.seqs[key] = self.seq
        self.purged.add(key)
        self.deleted_ms[key] = 0
        del self.documents[key]
        self.log.append(Written(self.seq, key, None))

    def at(self, seq: int, collections: Collection[str]) -> State:
        """The registers of every document that was there, and not purged, when `seq` was the newest sequence."""
        state: dict[Key, Mapping[str, Register]] = {}
        for written in self.log:
            if written.seq <= seq and written.key[0] in collections:
                if written.registers is None:
                    state.pop(written.key, None)
                else:
                    state[written.key] = written.registers
        return {
            key: {path: (stamp, value) for path, (stamp, value, _) in registers.items()}
            for key, registers in state.items()
        }
