"""What devices did and were told, what the database committed, and what is wrong between the two. Pure.

The database's part is its own account of what it committed, in its order, and the digest is computed here from the contract's
formula: neither goes through the code that is under test.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from sync.document import Key
from sync.replica import Register
from sync.values import Value

State = Mapping[Key, Mapping[str, Register]]
Digests = Mapping[str, int]

# What a test shows of a history that is wrong in a thousand places.
_MOST_SHOWN = 20


class Made(NamedTuple):
    """A change that a device queued. `value`s are unique in the account, but for true and false."""

    replica: int
    key: Key
    stamp: int
    values: Mapping[str, Value]


class Told(NamedTuple):
    """The result of a change: it is acknowledged. `stamp` is the one that it was merged under."""

    change_id: str
    status: str
    stamp: int


class Version(NamedTuple):
    """A document as it was committed."""

    seq: int
    key: Key
    registers: Mapping[str, Register]


class RunEnd(NamedTuple):
    """What a device held when its run ended at the sequence `at`, and the digests that it was told."""

    replica: int
    at: int
    own: Digests
    told: Mapping[str, str]


@dataclass
class History:
    """Of one account. `versions` are in the order of their commits; `newest` is the head's sequence."""

    made: dict[str, Made] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    run_ends: list[RunEnd] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    newest: int = 0
    stored: State = field(default_factory=dict)
    held: dict[int, State] = field(default_factory=dict)


def problems(history: History) -> list[str]:
    """Say what is wrong, in words; nothing, if every promise was kept."""
    found = [
        *_untold(history),
        *_lost(history),
        *_out_of_sequence(history),
        *_invented(history),
        *_miscounted(history),
        *_apart(history),
        *_misled(history),
    ]
    return found if len(found) <= _MOST_SHOWN else [*found[:_MOST_SHOWN], f"and {len(found) - _MOST_SHOWN} more"]


def digests(state: State) -> dict[str, int]:
    """The sum modulo 2^64 of each collection's registers; collections of none are left out."""
    sums: dict[str, int] = {}
    for key, registers in state.items():
        for path, register in registers.items():
            sums[key.collection] = (sums.get(key.collection, 0) + _addend(key, path, register.stamp)) % 2**64
    return sums


@lru_cache(maxsize=100_000)
def _addend(key: Key, path: str, stamp: int) -> int:
    text = f"{key.collection}/{key.id}/{path}={stamp:016x}"
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def _untold(history: History) -> Iterator[str]:
    """Every queue is empty, so each change was answered: once, and it was a good one."""
    times = Counter(told.change_id for told in history.told)
    for change_id, made in history.made.items():
        if times[change_id] != 1:
            yield f"The change {change_id} of replica {made.replica} was told {times[change_id]} times."
    for told in history.told:
        if told.status == "rejected":
            yield f"The change {told.change_id} was rejected."


def _lost(history: History) -> Iterator[str]:
    """An acknowledged register is there at the end, or a greater one is."""
    for told in history.told:
        made = history.made[told.change_id]
        for path, value in made.values.items():
            final = history.stored.get(made.key, {}).get(path)
            if final is None or final.stamp < told.stamp or (final.stamp == told.stamp and final.value != value):
                yield f"{told.status} and lost: {made.key}/{path} = {value!r} at {told.stamp:016x}; there is {final}"


def _out_of_sequence(history: History) -> Iterator[str]:
    """Every sequence up to the head was committed once, in order, and for something: no register came twice or went back."""
    given = [version.seq for version in history.versions]
    if given != list(range(1, history.newest + 1)):
        twice = sorted(seq for seq, times in Counter(given).items() if times > 1)
        gaps = sorted(set(range(1, history.newest + 1)) - set(given))
        yield f"Sequences up to {history.newest}: twice {twice}, missing {gaps}, in order: {given == sorted(given)}"
    before: dict[Key, Mapping[str, Register]] = {}
    for version in history.versions:
        known = before.get(version.key, {})
        if version.registers == known:
            yield f"Nothing was new in {version.key} at {version.seq}"
        for path, old in known.items():
            new = version.registers.get(path)
            if new is None or new.stamp < old.stamp:
                yield f"{version.key}/{path} went back from {old} to {new} at {version.seq}"
        before[version.key] = version.registers


def _invented(history: History) -> Iterator[str]:
    """Every register that was ever committed is one that a device made, under the one stamp that the device was told."""
    known = {
        (made.key, path, told.stamp, value)
        for told in history.told
        for made in [history.made[told.change_id]]
        for path, value in made.values.items()
    }
    for version in history.versions:
        for path, register in version.registers.items():
            if (version.key, path, register.stamp, register.value) not in known:
                yield f"Nobody was told of {version.key}/{path} = {register} at {version.seq}"


def _miscounted(history: History) -> Iterator[str]:
    """A counter is the sum of each replica's last total."""
    totals: dict[tuple[Key, str], dict[int, int]] = {}
    for made in history.made.values():
        for path, value in made.values.items():
            if path == f"water_ml/{made.replica}":
                assert isinstance(value, int)
                of_replica = totals.setdefault((made.key, "water_ml"), {})
                of_replica[made.replica] = max(of_replica.get(made.replica, 0), value)
    for (key, name), last in totals.items():
        stored = history.stored.get(key, {})
        counted = [register.value for path, register in stored.items() if path.startswith(f"{name}/")]
        if sum(value for value in counted if isinstance(value, int)) != sum(last.values()):
            yield f"{key}/{name} should be {sum(last.values())}, of {last}; there is {counted}"


def _apart(history: History) -> Iterator[str]:
    """What was committed last, what is stored, and what each device holds are one state."""
    committed = {version.key: version.registers for version in history.versions}
    if committed != history.stored:
        yield f"Stored and not committed, or the other way round: {_difference(history.stored, committed)}"
    for replica, held in history.held.items():
        if held != history.stored:
            yield f"Replica {replica} and the database differ: {_difference(held, history.stored)}"
        if digests(held) != digests(history.stored):
            yield f"The digests of replica {replica} and the database differ."


def _difference(one: State, other: State) -> list[str]:
    names = {(key, path) for state in (one, other) for key, registers in state.items() for path in registers}
    pairs = [(name, one.get(name[0], {}).get(name[1]), other.get(name[0], {}).get(name[1])) for name in sorted(names)]
    return [f"{key}/{path}: {mine} and {theirs}" for (key, path), mine, theirs in pairs if mine != theirs][:_MOST_SHOWN]


def _misled(history: History) -> Iterator[str]:
    """Whenever a run ended, the device held just what had been committed up to its cursor, and was told that state's digests."""
    ends: dict[int, list[RunEnd]] = {}
    for end in history.run_ends:
        ends.setdefault(end.at, []).append(end)
    state: dict[Key, Mapping[str, Register]] = {}
    sums: dict[str, int] = {}
    for version in (Version(0, Key("", ""), {}), *history.versions):
        before, after = digests({version.key: state.get(version.key, {})}), digests({version.key: version.registers})
        for name in after:
            sums[name] = (sums.get(name, 0) - before.get(name, 0) + after[name]) % 2**64
        state[version.key] = version.registers
        for end in ends.pop(version.seq, []):
            if end.own != sums:
                yield f"Replica {end.replica} held another state than the database's at {end.at}"
            if _numbers(end.told) != sums:
                yield f"Replica {end.replica} was told other digests than the database's at {end.at}"
    for at in ends:
        yield f"A run ended at {at}, which was never committed"


def _numbers(told: Mapping[str, str]) -> dict[str, int]:
    return {name: int(wire, 16) for name, wire in told.items() if int(wire, 16)}
