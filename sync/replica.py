"""A device, without I/O: what it holds, its clock, its queue, and what it says to the server and makes of the answer.

    replica = Replica(device_id, number)
    replica.edit("workouts", workout_id, {"title": "Leg day"}, now_ms=…)
    request = replica.request()             # sends nothing and changes nothing: ask again after a lost response
    replica.receive(request, response)      # all of a response at once, as a device commits it
    replica.shown(Key("workouts", workout_id))
    replica = Replica.restore(replica.snapshot())

Repeat while `wants_to_sync`; while it `wants_to_repair`, send what `repair_request` gives in between. `sync.conversation` does
that, and knows what every HTTP status means. The rules are the section "A device" of docs/protocols/sync.md.

    edit ──► unsent ──result──► answered ◄──documents── server        shown = answered + held + unsent, merged
                ▲                  │ reset: set aside until the run ends
                └── lost by the ── held
                     server

One request is under way at a time. A store belongs to one account.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sync import digest, document, replica_state, values
from sync.clock import ZERO, Stamp
from sync.document import Document, Key, Mark
from sync.replica_repair import Part, Repair, RepairAsk
from sync.replica_state import Answered, Register, Registers, SnapshotUnreadable, Stored, Unsent, Unused
from sync.replica_wire import (
    change_from_wire,
    change_to_wire,
    derived_id,
    instant_ms,
    registers_from_wire,
    stamp_from_wire,
)
from sync.values import Value

__all__ = ["Register", "Registers", "RepairAsk", "Replica", "SnapshotUnreadable", "Unsent"]

# Small enough that a lost request costs a phone little, large enough that a season offline goes up in a minute.
CHANGES_A_REQUEST: Final = 200
# A quarter of what the server takes: the envelope and other forms of numbers have room.
BYTES_A_REQUEST: Final = 1024 * 1024

# A repair that did not help is tried again, as the store may have lost something anew; then the fault is one that repairs do
# not mend, and the device reports it instead of fetching the same documents for ever.
REPAIRS_IN_A_ROW: Final = 3

# More than the guard of `sync.conversation` counts in a day.
RESETS_REMEMBERED: Final = 8


class Replica:
    """`aside` holds changes that the server refuses even alone, `resets` the server's times (Unix ms) of resets taken."""

    def __init__(self, device_id: str, number: int, *, collections: Sequence[str] | None = None) -> None:
        self.device_id = device_id
        self.number = number
        self.collections = None if collections is None else tuple(collections)
        self.cursor = ""
        self.unsent: dict[str, Unsent] = {}
        self.aside: dict[str, Unsent] = {}
        self.carried: dict[str, dict[str, Any]] = {}
        self.resets: list[int] = []
        self.diverged: set[str] = set()
        self._answered = Answered()
        # The collections that the cursor stands for; None: all. An empty cursor stands for none.
        self._covered: tuple[str, ...] | None = ()
        self._told = ZERO  # the greatest stamp of the server's clock and of the answered part
        self._greatest_unsent = ZERO  # of the queue and of what was set aside
        self._unused = Unused()
        self._run_goes_on = True
        # After a reset: what was held before it, until the run ends and tells what the server lacks.
        self._held: dict[Key, Registers] | None = None
        self._repair: Repair | None = None
        self._repairs: dict[str, int] = {}  # in a row, of collections that differed at the end of the last run
        self._was_told = False  # of results that another device brought, which may be newer than the next digests

    @property
    def answered(self) -> dict[Key, Registers]:
        return self._answered.registers

    @property
    def seqs(self) -> dict[Key, int]:
        return self._answered.seqs

    @property
    def wants_to_sync(self) -> bool:
        """A level, not an edge: true until the queue is empty and the run has ended."""
        return bool(self.unsent) or self._run_goes_on

    @property
    def wants_to_repair(self) -> bool:
        return self._repair is not None

    def digests(self) -> dict[str, str]:
        """The sum of each collection's answered part, as on the wire."""
        return {name: digest.to_wire(one) for name, one in sorted(self._answered.sums.items())}

    def edit(
        self, collection: str, document_id: str, given: Mapping[str, Any], *, change_id: str, now_ms: int
    ) -> Stamp:
        """Queue a change of one document under the next stamp, and return that. Commit it before it is shown or sent."""
        key = Key(collection, document_id)
        stored = {path: values.from_wire(value) for path, value in given.items()}
        stamp = self._unused.tick(max(self._told, self._greatest_unsent), now_ms=now_ms, replica=self.number)
        self._queue(Unsent(change_id, key, stamp, self._answered.base(key), stored))
        return stamp

    def request(
        self, *, limit: int = 500, most_changes: int = CHANGES_A_REQUEST, most_bytes: int = BYTES_A_REQUEST
    ) -> dict[str, Any]:
        """Return the next request: the first changes of the queue in stamp order, and the cursor.

        After a 400, 413 or 422 ask for half as many; `set_aside` a change that is refused alone.
        """
        request: dict[str, Any] = {"device_id": self.device_id, "cursor": self.cursor, "limit": limit}
        if self.collections is not None:
            request["collections"] = list(self.collections)
        return request | {"changes": [change_to_wire(change) for change in self._first(most_changes, most_bytes)]}

    def _first(self, most_changes: int, most_bytes: int) -> list[Unsent]:
        """The first of the queue: at least one, and no more together than a request should carry."""
        first: list[Unsent] = []
        size_bytes = 0
        for change in sorted(self.unsent.values(), key=lambda change: change.stamp)[:most_changes]:
            size_bytes += values.encoded_bytes(dict(change.values))
            if first and size_bytes > most_bytes:
                break
            first.append(change)
        return first

    def set_aside(self, change_id: str) -> Unsent | None:
        """Take a change out of the queue that the server refuses even alone; it is kept for its user to see.

        One that is carried for another device is only put down: that device still has it.
        """
        change = self.unsent.pop(change_id, None)
        if change is not None and not change.is_carried:
            self.aside[change_id] = change
        return change

    def put_back(self, change_id: str) -> None:
        """Queue a change again that was set aside, under its own stamp."""
        if (change := self.aside.pop(change_id, None)) is not None:
            self._queue(change)

    def registered(self, device_id: str, number: int) -> None:
        """After a 409 `unknown_device` and a new registration. Queue and cursor stay good; later stamps carry the new number."""
        self.device_id, self.number = device_id, number

    def receive(self, request: Mapping[str, Any], response: Mapping[str, Any]) -> None:
        """Take a response to `request`: results, then documents, then the cursor."""
        wanted = tuple(request["collections"]) if "collections" in request else None
        # Before the results, which are the new server's, and whose registers it does not tell again.
        if response["reset"] and self.cursor:
            self._hold(self.answered)
            self._repair = None
            # Sequences of the server that is no more tell nothing of this one's.
            self.unsent = {change.id: change._replace(base=None) for change in self.unsent.values()}
            # Results of the server that is no more: whoever handed these over keeps them, and sends them again.
            self.carried.clear()
            self.resets = [*self.resets, instant_ms(response["server_time"])][-RESETS_REMEMBERED:]
        else:
            # A collection that the cursor did not stand for gets its snapshot, which does not tell what was purged. What is
            # held of one that is left out grows stale and stays, as a counter can be added to only by who knows its total.
            self._hold([key for key in self.answered if replica_state.is_new(key.collection, self._covered, wanted)])
        for sent, result in zip(request["changes"], response["results"], strict=True):
            self._take_result(self._answered_change(sent), result)
        for given in response["documents"]:
            self._take_document(given)
        self._saw(stamp_from_wire(response["stamp"]))
        self._greatest_unsent = replica_state.greatest((*self.unsent.values(), *self.aside.values()))
        self.cursor, self._covered = response["cursor"], wanted
        self._run_goes_on = response["more"]
        if not response["more"]:
            theirs = response.get("digests", {})
            if self._was_told:  # perhaps of what is newer than these digests; the next round trip's are surely as new
                self._run_goes_on = bool(self._answered.differing(theirs))
            else:
                self._compare(theirs)
            self._was_told = False
            held, self._held = self._held, None
            self._send_again(held or {})

    def repair_request(self) -> RepairAsk:
        """Return what to ask next while it `wants_to_repair`; sends nothing and changes nothing."""
        if self._repair is None:
            raise ValueError("Nothing is being repaired.")
        return self._repair.ask()

    def receive_repair(self, ask: RepairAsk, response: Mapping[str, Any]) -> None:
        """Take the response to a `repair_request`. It is ignored if the repair was given up meanwhile."""
        repair = self._repair
        if repair is None or ask != repair.ask():
            return
        if ask.path == "/v1/sync/digest":
            repair.take_digests(response["digests"], self._answered.buckets_of(repair.collection))
        elif (part := repair.take_page(response)) is not None:
            self._replace(repair.collection, part)
        if repair.is_done:
            self._repair = None
            self._run_goes_on = True  # another round trip tells whether it helped

    def give_up_repair(self) -> None:
        """The server refuses what a repair asks: report it, and go on without."""
        if self._repair is not None:
            self.diverged.add(self._repair.collection)
            self._repairs[self._repair.collection] = REPAIRS_IN_A_ROW
            self._repair = None

    def hand_over(self) -> list[dict[str, Any]]:
        """Return the queue, in stamp order, for another device of the account to `carry`. It stays queued until `told`."""
        own = [change for change in self.unsent.values() if not change.is_carried]
        return [change_to_wire(change) for change in sorted(own, key=lambda change: change.stamp)]

    def carry(self, changes: Iterable[Mapping[str, Any]]) -> None:
        """Queue what another device handed over, under its stamps. Results gather in `carried` until they are `delivered`."""
        for sent in changes:
            if sent["id"] not in self.unsent and sent["id"] not in self.carried:
                self._queue(change_from_wire(sent, is_carried=True))

    def delivered(self, change_ids: Iterable[str]) -> None:
        """The other device has committed these results: forget them."""
        for change_id in change_ids:
            self.carried.pop(change_id, None)

    def told(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Take the results of changes that another device carried. Of any that this device was told itself nothing is left to do."""
        for result in results:
            change = self.unsent.pop(result["id"], None)
            if change is not None:
                self._was_told = True
                self._take_result(change, result)
        self._greatest_unsent = replica_state.greatest((*self.unsent.values(), *self.aside.values()))

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

    def snapshot(self) -> bytes:
        """Return all that a local store commits: after every edit, and after every response as one."""
        answered = replica_state.stored_documents(self.answered, self.seqs)
        return replica_state.encode(
            Stored(
                device_id=self.device_id,
                number=self.number,
                cursor=self.cursor,
                collections=self.collections,
                covered=self._covered,
                told=self._told,
                answered=answered or [],
                held=replica_state.stored_documents(self._held, {}),
                unsent=replica_state.stored_changes(self.unsent.values()),
                aside=replica_state.stored_changes(self.aside.values()),
                carried=self.carried,
                resets=self.resets,
                unused=self._unused.spans,
            )
        )

    @classmethod
    def restore(cls, snapshot: bytes) -> "Replica":
        """Undo `snapshot`. A repair that was under way begins again when the next run ends. Raises SnapshotUnreadable."""
        stored = replica_state.decode(snapshot)
        replica = cls(stored.device_id, stored.number, collections=stored.collections)
        replica.cursor, replica._covered = stored.cursor, stored.covered
        replica._told, replica.resets, replica.carried = Stamp(stored.told), stored.resets, stored.carried
        replica._unused.spans = stored.unused
        for one in stored.answered:
            key = Key(one.collection, one.id)
            if one.seq:
                replica.seqs[key] = one.seq
            for path, register in replica_state.registers_of(one).items():
                replica._answered.enter(key, path, register)
        replica._held = replica_state.held_of(stored.held)
        replica.unsent = replica_state.changes_of(stored.unsent)
        replica.aside = replica_state.changes_of(stored.aside)
        replica._greatest_unsent = replica_state.greatest((*replica.unsent.values(), *replica.aside.values()))
        return replica  # whose run goes on: the next round trip's digests tell what the store lost

    def _states(self, key: Key) -> Iterator[Mapping[str, Register]]:
        yield self.answered.get(key, {})
        yield (self._held or {}).get(key, {})
        for change in self.unsent.values():
            if change.key == key:
                yield {path: Register(value, change.stamp) for path, value in change.values.items()}

    def _queue(self, change: Unsent) -> None:
        self.unsent[change.id] = change
        self._greatest_unsent = max(self._greatest_unsent, change.stamp)

    def _answered_change(self, sent: Mapping[str, Any]) -> Unsent:
        """Take the change out of the queue. What left it since the request was made was answered all the same."""
        self.aside.pop(sent["id"], None)
        return self.unsent.pop(sent["id"], None) or change_from_wire(sent)

    def _take_result(self, change: Unsent, result: Mapping[str, Any]) -> None:
        if change.is_carried:
            self.carried[change.id] = dict(result)
        if result["status"] in {"rejected", "restamped"}:
            self._unused.add(change.stamp, told=self._told)
        if result["status"] == "rejected":
            if result["code"] == "document_purged":
                self._drop(change.key)
            return
        stamp = stamp_from_wire(result["stamp"]) if "stamp" in result else change.stamp
        self._answered.uploaded(change.key, stamp, by=self.number)
        for path, value in change.values.items():
            self._enter(change.key, path, Register(value, stamp))
        for path, (greater, value) in result.get("superseded", {}).items():
            self._enter(change.key, path, Register(values.from_wire(value), stamp_from_wire(greater)))

    def _take_document(self, given: Mapping[str, Any]) -> None:
        key = Key(given["collection"], given["id"])
        if given.get("purged"):
            self._drop(key)
            return
        self.seqs[key] = given["seq"]
        for path, register in registers_from_wire(given["fields"]):
            self._enter(key, path, register)

    def _enter(self, key: Key, path: str, register: Register) -> None:
        self._saw(register.stamp)
        self._answered.enter(key, path, register)
        if self._repair is not None:
            self._repair.enter(key, path, register)

    def _drop(self, key: Key) -> None:
        self._answered.drop(key)
        if self._held is not None:
            self._held.pop(key, None)
        if self._repair is not None:
            self._repair.drop(key)

    def _hold(self, keys: Collection[Key]) -> None:
        """Put what was answered of these aside, with what an earlier reset of the same run put there."""
        if not keys:
            return
        held = {} if self._held is None else self._held
        for key in list(keys):
            for path, register in self.answered[key].items():
                replica_state.merge(held.setdefault(key, {}), path, register)
            self._answered.drop(key)
        self._held = held

    def _compare(self, theirs: Mapping[str, str]) -> None:
        """Begin the repair of a collection that differs; one that did not differ, or does no more, is in order."""
        differing = self._answered.differing(theirs)
        for name in theirs:
            if name not in differing:
                self._repairs.pop(name, None)
                self.diverged.discard(name)
            elif self._repairs.get(name, 0) >= REPAIRS_IN_A_ROW:
                self.diverged.add(name)
            elif self._repair is None:
                self._repairs[name] = self._repairs.get(name, 0) + 1
                self._repair = Repair(name)

    def _replace(self, collection: str, part: Part) -> None:
        before = {
            key: registers
            for key, registers in self.answered.items()
            if key.collection == collection and digest.bucket_of(key.id) == part.bucket
        }
        for key in before:
            self._answered.drop(key)
        for key, registers in part.documents.items():
            for path, register in registers.items():
                self._saw(register.stamp)
                self._answered.enter(key, path, register)
        self.seqs.update(part.seqs)
        self._send_again(before)

    def _send_again(self, held: Mapping[Key, Registers]) -> None:
        """Queue, under their own stamps, the registers that the server lost."""
        for key, registers in held.items():
            server = self.answered.get(key, {})
            by_stamp: dict[Stamp, dict[str, Value]] = {}
            for path, mine in registers.items():
                theirs = server.get(path)
                if theirs is None or document.wins(mine.value, mine.stamp, theirs.value, theirs.stamp):
                    by_stamp.setdefault(mine.stamp, {})[path] = mine.value
            for stamp, lost in by_stamp.items():
                self._queue(Unsent(derived_id(key, stamp), key, stamp, None, lost))

    def _saw(self, stamp: Stamp) -> None:
        self._told = max(self._told, stamp)
