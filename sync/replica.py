"""A device, without I/O: what it holds, its clock, its queue, and what it says to the server and makes of the answer.

    replica = Replica(device_id, number)
    replica.edit("workouts", workout_id, {"title": "Leg day"}, now_ms=…)
    request = replica.request()             # sends nothing and changes nothing: ask again after a lost response
    replica.receive(request, response)      # all of a response at once, as a device commits it
    replica.shown(Key("workouts", workout_id))

Repeat while `wants_to_sync`. The rules are the section "A device" of docs/protocols/sync.md. A store belongs to one account.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

from sync import clock, document, values
from sync.clock import ZERO, Stamp
from sync.document import Document, Key, Mark
from sync.values import Value

# Small enough that a lost request costs a phone little, large enough that a season offline goes up in a minute.
CHANGES_A_REQUEST: Final = 200
BYTES_A_REQUEST: Final = (
    1024 * 1024
)  # a quarter of what the server takes: the envelope and other forms of numbers have room


class Register(NamedTuple):
    value: Value
    stamp: Stamp


Registers = dict[str, Register]


class Unsent(NamedTuple):
    """A change that the server has not answered yet."""

    id: str
    key: Key
    stamp: Stamp
    base: int
    values: Mapping[str, Value]


class Replica:
    def __init__(self, device_id: str, number: int) -> None:
        self.device_id = device_id
        self.number = number
        self.cursor = ""
        self.answered: dict[Key, Registers] = {}
        self.seqs: dict[Key, int] = {}
        self.unsent: dict[str, Unsent] = {}
        self._greatest = ZERO
        self._run_goes_on = True
        # After a reset: what was held before it, until the run ends and tells what the server lacks.
        self._held: dict[Key, Registers] | None = None

    @property
    def wants_to_sync(self) -> bool:
        """A level, not an edge: true until the queue is empty and the run has ended."""
        return bool(self.unsent) or self._run_goes_on

    def edit(
        self, collection: str, document_id: str, given: Mapping[str, Any], *, change_id: str, now_ms: int
    ) -> Stamp:
        """Queue a change of one document under the next stamp, and return that."""
        key = Key(collection, document_id)
        stamp = clock.tick(self._greatest, now_ms=now_ms, replica=self.number)
        self._greatest = stamp
        stored = {path: values.from_wire(value) for path, value in given.items()}
        self.unsent[change_id] = Unsent(change_id, key, stamp, self.seqs.get(key, 0), stored)
        return stamp

    def request(self, *, limit: int = 500, most_changes: int = CHANGES_A_REQUEST) -> dict[str, Any]:
        """Return the next request: the first changes of the queue in stamp order, and the cursor.

        After a 400, 413 or 422 ask for half as many; `set_aside` a change that is refused alone.
        """
        changes = self._first(most_changes)
        return {
            "device_id": self.device_id,
            "cursor": self.cursor,
            "limit": limit,
            "changes": [
                {
                    "id": change.id,
                    "collection": change.key.collection,
                    "doc": change.key.id,
                    "stamp": clock.to_wire(change.stamp),
                    "base": change.base,
                    "set": {path: values.to_python(value) for path, value in change.values.items()},
                }
                for change in changes
            ],
        }

    def _first(self, most_changes: int) -> list[Unsent]:
        """The first of the queue: at least one, and no more together than a request should carry."""
        first: list[Unsent] = []
        size_bytes = 0
        for change in sorted(self.unsent.values(), key=lambda change: change.stamp)[:most_changes]:
            size_bytes += values.encoded_bytes(dict(change.values))
            if first and size_bytes > BYTES_A_REQUEST:
                break
            first.append(change)
        return first

    def set_aside(self, change_id: str) -> Unsent | None:
        """Take a change out of the queue that the server refuses even alone; the app keeps it for its user to see."""
        return self.unsent.pop(change_id, None)

    def receive(self, request: Mapping[str, Any], response: Mapping[str, Any]) -> None:
        """Take a response to `request`: results, then documents, then the cursor."""
        # Before the results, which are the new server's, and whose registers it does not tell again.
        if response["reset"] and self.cursor:
            self._hold()
        for sent, result in zip(request["changes"], response["results"], strict=True):
            self._take_result(self.unsent.pop(sent["id"], None), result)
        for given in response["documents"]:
            self._take_document(given)
        self._saw(_stamp(response["stamp"]))
        self.cursor = response["cursor"]
        self._run_goes_on = response["more"]
        if not response["more"] and self._held is not None:
            held, self._held = self._held, None
            self._send_again(held)

    def shown(self, key: Key) -> dict[str, Any]:
        """The document as a user sees it: what the server answered merged with what it has not, in its shapes."""
        state = Document(key)
        for registers in self._states(key):
            for path, register in registers.items():
                mark = state.mark(path)
                if mark is None or document.wins(register.value, register.stamp, state.values[path], mark.stamp):
                    state.values[path] = register.value
                    state.marks[path] = Mark(register.stamp, 0)
        return document.read(state)

    def known(self) -> set[Key]:
        return {*self.answered, *(self._held or {}), *(change.key for change in self.unsent.values())}

    def _states(self, key: Key) -> Iterator[Mapping[str, Register]]:
        yield self.answered.get(key, {})
        yield (self._held or {}).get(key, {})
        for change in self.unsent.values():
            if change.key == key:
                yield {path: Register(value, change.stamp) for path, value in change.values.items()}

    def _take_result(self, change: Unsent | None, result: Mapping[str, Any]) -> None:
        if change is None or result["status"] == "rejected":
            return
        stamp = _stamp(result["stamp"]) if "stamp" in result else change.stamp
        for path, value in change.values.items():
            self._enter(change.key, path, Register(value, stamp))
        for path, (greater, value) in result.get("superseded", {}).items():
            self._enter(change.key, path, Register(values.from_wire(value), _stamp(greater)))

    def _take_document(self, given: Mapping[str, Any]) -> None:
        key = Key(given["collection"], given["id"])
        if given.get("purged"):
            self.answered.pop(key, None)
            if self._held is not None:
                self._held.pop(key, None)
            return
        self.seqs[key] = given["seq"]
        for stamp, group in given["fields"].items():
            for path, value in group.items():
                self._enter(key, path, Register(values.from_wire(value), _stamp(stamp)))

    def _enter(self, key: Key, path: str, register: Register) -> None:
        self._saw(register.stamp)
        _merge(self.answered.setdefault(key, {}), path, register)

    def _hold(self) -> None:
        """Put what was answered aside, with what an earlier reset of the same run put there."""
        held = {} if self._held is None else self._held
        for key, registers in self.answered.items():
            for path, register in registers.items():
                _merge(held.setdefault(key, {}), path, register)
        self._held, self.answered, self.seqs = held, {}, {}

    def _send_again(self, held: Mapping[Key, Registers]) -> None:
        """Queue, under their own stamps, the registers that a restored server lost."""
        for key, registers in held.items():
            server = self.answered.get(key, {})
            by_stamp: dict[Stamp, dict[str, Value]] = {}
            for path, mine in registers.items():
                theirs = server.get(path)
                if theirs is None or document.wins(mine.value, mine.stamp, theirs.value, theirs.stamp):
                    by_stamp.setdefault(mine.stamp, {})[path] = mine.value
            for stamp, lost in by_stamp.items():
                change_id = _derived_id(key, stamp)
                self.unsent[change_id] = Unsent(change_id, key, stamp, self.seqs.get(key, 0), lost)

    def _saw(self, stamp: Stamp) -> None:
        self._greatest = max(self._greatest, stamp)


def _merge(registers: Registers, path: str, register: Register) -> None:
    mine = registers.get(path)
    if mine is None or document.wins(register.value, register.stamp, mine.value, mine.stamp):
        registers[path] = register


def _stamp(wire: str) -> Stamp:
    stamp = clock.from_wire(wire)
    return ZERO if stamp is None else stamp


def _derived_id(key: Key, stamp: Stamp) -> str:
    """A change id for a register group that is sent again: the same at every attempt, as change ids serve results only."""
    return str(uuid5(UUID(key.id), f"{key.collection}/{stamp:016x}"))
