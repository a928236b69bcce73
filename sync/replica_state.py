"""What a device holds, and all of it as one value for its local store.

The answered part carries a sum for each collection, kept up as registers come and go. The sums are not stored: they are taken anew
over what a store gives back, so that a store that lost something is found out by the server's digests.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from sync import clock, digest, document
from sync.clock import ZERO, Stamp
from sync.document import Key
from sync.values import Value

VERSION: Final = 1

# A wrong clock that runs on makes one span of a day's edits, and not a list of them.
_ONE_SPAN: Final = 86_400_000 << (clock.REPLICA_BITS + clock.COUNTER_BITS)


class Register(NamedTuple):
    value: Value
    stamp: Stamp


Registers = dict[str, Register]


class Unsent(NamedTuple):
    """A change that the server has not answered yet.

    base: the document's sequence as the device had it, of the server it has the cursor of; None: no conflict is to be recorded.
    is_carried: it is another device's, which wants to know its result.
    """

    id: str
    key: Key
    stamp: Stamp
    base: int | None
    values: Mapping[str, Value]
    is_carried: bool = False


class SnapshotUnreadable(Exception):
    """The local store is damaged or of another version: begin anew, under a new installation_id."""


class Unused:
    """Stamps that this device gave and that no register has: of changes that were restamped or refused.

    They must not be given again, as the server remembers what they were replaced by; nor must a clock that was once years ahead
    keep the device there for ever, as a rule would that every stamp exceeds all before it. `spans`: (least, greatest), in order.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []

    def add(self, stamp: Stamp, *, told: Stamp) -> None:
        """Remember a stamp, and forget those that the server's clock, which the next one exceeds anyway, has passed."""
        spans: list[tuple[int, int]] = []
        for least, greatest_ in sorted([*self.spans, (stamp, stamp)]):
            if greatest_ <= told:
                continue
            if spans and least - spans[-1][1] <= _ONE_SPAN:
                spans[-1] = spans[-1][0], max(spans[-1][1], greatest_)
            else:
                spans.append((least, greatest_))
        self.spans = spans

    def tick(self, last: Stamp, *, now_ms: int, replica: int) -> Stamp:
        """Return the next stamp as `clock.tick` does, past a span that it would fall in."""
        stamp = clock.tick(last, now_ms=now_ms, replica=replica)
        for least, greatest_ in self.spans:
            if least <= stamp <= greatest_:
                stamp = clock.tick(Stamp(greatest_), now_ms=now_ms, replica=replica)
        return stamp


# Of a document that this device has uploaded another's registers to, and was not given since.
_UNTOLD: Final = -1


class Answered:
    """What the server answered: its registers, each document's sequence as last told, and the sum of each collection."""

    def __init__(self) -> None:
        self.registers: dict[Key, Registers] = {}
        self.seqs: dict[Key, int] = {}
        self.sums: dict[str, int] = {}

    def base(self, key: Key) -> int | None:
        """Return what a change of the document names as its `base`: 0 for a new one, None where the sequence is not known.

        What it uploaded for another has another replica, and a sequence that no answer tells: it would pass for unseen.
        """
        seq = self.seqs.get(key, 0)
        return None if seq == _UNTOLD else seq

    def uploaded(self, key: Key, stamp: Stamp, *, by: int) -> None:
        if clock.replica_of(stamp) != by:
            self.seqs[key] = _UNTOLD

    def enter(self, key: Key, path: str, register: Register) -> None:
        replaced = merge(self.registers.setdefault(key, {}), path, register)
        if replaced is not register:
            gained = digest.of_registers(key, [(path, register.stamp)])
            lost = 0 if replaced is None else digest.of_registers(key, [(path, replaced.stamp)])
            self._add(key.collection, gained - lost)

    def drop(self, key: Key) -> None:
        self.seqs.pop(key, None)
        registers = self.registers.pop(key, {})
        self._add(key.collection, -_sum(key, registers))

    def sum_of(self, collection: str) -> int:
        return self.sums.get(collection, 0)

    def differing(self, theirs: Mapping[str, str]) -> set[str]:
        """Return the collections whose digest, as the server tells it, is not that of what is held."""
        return {name for name, wire in theirs.items() if wire != digest.to_wire(self.sum_of(name))}

    def buckets_of(self, collection: str) -> list[int]:
        """Return the sums of the collection's parts by `digest.bucket_of`."""
        sums = [0] * digest.BUCKETS
        for key, registers in self.registers.items():
            if key.collection == collection:
                bucket = digest.bucket_of(key.id)
                sums[bucket] = (sums[bucket] + _sum(key, registers)) % digest.MODULUS
        return sums

    def _add(self, collection: str, gained: int) -> None:
        self.sums[collection] = (self.sums.get(collection, 0) + gained) % digest.MODULUS


def merge(registers: Registers, path: str, register: Register) -> Register | None:
    """Keep the greater one. Return what it replaced (None: nothing was there), or `register` itself if it was not greater."""
    mine = registers.get(path)
    if mine is None or document.wins(register.value, register.stamp, mine.value, mine.stamp):
        registers[path] = register
        return mine
    return register


def _sum(key: Key, registers: Registers) -> int:
    return digest.of_registers(key, ((path, register.stamp) for path, register in registers.items()))


class StoredDocument(Struct, frozen=True, array_like=True):
    collection: str
    id: str
    seq: int
    registers: dict[str, tuple[Any, int]]


class StoredChange(Struct, frozen=True, array_like=True):
    id: str
    collection: str
    doc: str
    stamp: int
    base: int | None
    values: dict[str, Any]
    is_carried: bool


class Stored(Struct, frozen=True, kw_only=True):
    """A replica at rest. `covered`: the collections that the cursor stands for; None is all."""

    version: int = VERSION
    device_id: str
    number: int
    cursor: str
    collections: tuple[str, ...] | None
    covered: tuple[str, ...] | None
    told: int
    answered: list[StoredDocument]
    held: list[StoredDocument] | None
    unsent: list[StoredChange]
    aside: list[StoredChange]
    carried: dict[str, dict[str, Any]]
    resets: list[int]
    unused: list[tuple[int, int]]


def stored_documents(documents: Mapping[Key, Registers] | None, seqs: Mapping[Key, int]) -> list[StoredDocument] | None:
    if documents is None:
        return None
    return [
        StoredDocument(*key, seqs.get(key, 0), {path: (one.value, one.stamp) for path, one in registers.items()})
        for key, registers in documents.items()
    ]


def stored_changes(changes: Iterable[Unsent]) -> list[StoredChange]:
    return [StoredChange(one.id, *one.key, one.stamp, one.base, dict(one.values), one.is_carried) for one in changes]


def registers_of(stored: StoredDocument) -> Registers:
    return {path: Register(value, Stamp(stamp)) for path, (value, stamp) in stored.registers.items()}


def held_of(stored: list[StoredDocument] | None) -> dict[Key, Registers] | None:
    return None if stored is None else {Key(one.collection, one.id): registers_of(one) for one in stored}


def changes_of(stored: Iterable[StoredChange]) -> dict[str, Unsent]:
    return {
        one.id: Unsent(one.id, Key(one.collection, one.doc), Stamp(one.stamp), one.base, one.values, one.is_carried)
        for one in stored
    }


def encode(stored: Stored) -> bytes:
    return msgspec.msgpack.encode(stored)


def decode(snapshot: bytes) -> Stored:
    """Raises SnapshotUnreadable."""
    try:
        stored = msgspec.msgpack.decode(snapshot, type=Stored)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotUnreadable(str(error)) from error
    if stored.version != VERSION:
        raise SnapshotUnreadable(f"The store is of version {stored.version}; this is {VERSION}.")
    return stored


def greatest(changes: Iterable[Unsent]) -> Stamp:
    return max((change.stamp for change in changes), default=ZERO)


def is_new(collection: str, before: Sequence[str] | None, now: Sequence[str] | None) -> bool:
    """Whether a set of collections, of which None is all, has one that the set before it had not."""
    return before is not None and collection not in before and (now is None or collection in now)
