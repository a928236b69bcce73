"""The server under test, beside the oracle. All that is committed is told to the oracle, in the order of commits, and compared."""

import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec

from sync import cursor, exchange, merge, repair, review, values
from sync.changes import Format, SyncRequest
from sync.conflicts import Conflict
from sync.document import Document
from sync.errors import DocumentFull, DocumentPurged, StoreUnavailable, UnknownDevice
from sync.head import Head
from sync.merge import Outcome, State
from sync.quarantine import Rejected
from sync.store import View
from sync.store_memory import MemoryStore, MemoryView
from tests.simulate.flight import Flight, FlightStore
from tests.simulate.oracle import COLLECTIONS, DAY_MS, Expected, Oracle, Wrong, canonical, digest, refusal
from tests.simulate.scheduler import Loop, Stepped

T = TypeVar("T")

USER: Final = "simulated"
CURSOR_KEY: Final = b"k" * 32
NOW_MS: Final = 1_767_225_600_000  # 2026-01-01
MOST_BACKUP_AGE_MS: Final = 30 * DAY_MS

_MOST_AHEAD_MS: Final = 60_002  # of the account's clock, with what the server wrote itself
_MOMENTS: Final = 3  # how many commits a server may lag behind
_ALL: Final = 1_000_000
_DECODE: Final = {
    "json": msgspec.json.Decoder(SyncRequest).decode,
    "msgpack": msgspec.msgpack.Decoder(SyncRequest).decode,
}
_ENCODE: Final = {"json": msgspec.json.Encoder().encode, "msgpack": msgspec.msgpack.Encoder().encode}


def encoded(request: Mapping[str, Any], format: Format) -> bytes:  # noqa: A002 - the field's word
    return _ENCODE[format](request)


def decoded(body: bytes, format: Format) -> dict[str, Any]:  # noqa: A002
    answer: dict[str, Any] = msgspec.json.decode(body) if format == "json" else msgspec.msgpack.decode(body)
    return answer


class Server:
    def __init__(self, seed: int, *, max_paths: int) -> None:
        self.dice = random.Random(seed)
        self.loop: Final = Loop()
        self.now_ms = NOW_MS
        self.store = MemoryStore(self.dice)
        self.oracle = Oracle(max_paths=max_paths)
        self.backups: list[tuple[int, MemoryStore, Oracle]] = []
        self._last_came: dict[str, Mapping[str, Any]] = {}
        self._moments: list[MemoryView] = []
        self.restores = 0
        self.max_paths = max_paths

    @contextmanager
    def running(self) -> Iterator[None]:
        """Documents and pages of a repair are small here, so that some are full."""
        limits = vars(merge)["MAX_PATHS"], vars(repair)["MAX_LIMIT"]
        vars(merge)["MAX_PATHS"], vars(repair)["MAX_LIMIT"] = self.max_paths, 1
        try:
            with self.loop.running():
                yield
        finally:
            vars(merge)["MAX_PATHS"], vars(repair)["MAX_LIMIT"] = limits

    def register(self, device_id: str) -> int:
        registering = Stepped(self.loop, lambda: self.store.register_device(USER, device_id))
        registering.finish()
        if registering.result is None:
            raise Wrong(f"{device_id} could not register: {registering.error!r}")
        return registering.result

    def forget(self, device_id: str) -> None:
        Stepped(self.loop, lambda: self.store.forget_device(USER, device_id)).finish()
        self.oracle.forget(device_id)

    def fill(self, collection: str, document: str, given: Mapping[str, Any]) -> None:
        """The server writes by itself what a document lacks."""
        stored = {path: values.from_wire(value) for path, value in given.items()}
        store = FlightStore(self, told=lambda: self.oracle.fill((collection, document), given, now_ms=self.now_ms))
        self._do(lambda: exchange.fill(store, USER, collection, document, stored, now_ms=self.now_ms))

    def retry(self, number: int) -> str | None:
        """A user has a change of the quarantine tried again. Return its id."""
        entries = self.quarantined()
        if not entries:
            return None
        entry = entries[number % len(entries)]
        change = decoded(entry.raw, entry.format)
        store = FlightStore(self, told=lambda: self.oracle.upload([change], now_ms=self.now_ms))
        self._do(lambda: review.retry(store, self.store, USER, entry.id, now_ms=self.now_ms))
        return entry.change_id

    def recover(self, number: int) -> Conflict | None:
        """A user brings back a value that lost."""
        listed = self.conflicts()
        if not listed:
            return None
        conflict = listed[number % len(listed)]
        key, value = (conflict.key.collection, conflict.key.id), values.to_python(conflict.lost_value)
        store = FlightStore(self, told=lambda: self.oracle.recover(key, conflict.path, value, now_ms=self.now_ms))
        self._do(lambda: review.restore(store, self.store, USER, conflict.id, now_ms=self.now_ms))
        return conflict

    def quarantined(self) -> list[Rejected]:
        listed = self._do(lambda: self.store.rejected(USER, below=None, limit=_ALL))
        return list(listed.entries) if listed is not None else []

    def conflicts(self) -> list[Conflict]:
        listed = self._do(lambda: self.store.conflicts(USER, below=None, limit=_ALL, now_ms=self.now_ms))
        return list(listed.entries) if listed is not None else []

    def _do(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """What the server does at once. None if the document was full or purged."""
        doing = Stepped(self.loop, begin)
        doing.finish()
        if doing.error is not None and not isinstance(doing.error, DocumentFull | DocumentPurged):
            raise Wrong(f"the server failed: {doing.error!r}") from doing.error
        return doing.result

    def serve_repair(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer what a device asks that holds something else."""
        serving = Stepped(self.loop, lambda: self._repair(path, body))
        serving.finish()
        if serving.result is None:
            raise Wrong(f"the server failed: {serving.error!r}") from serving.error
        return serving.result

    async def _repair(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        collection = body["collection"]
        if path == "/v1/sync/digest":
            sums = await repair.digests(self.store, USER, collection)
            return {"collection": collection, "digests": [f"{one:016x}" for one in sums]}
        page = await repair.fetch(
            self.store, USER, collection, body["bucket"], after=body.get("after", 0), answered="json"
        )
        answer: dict[str, Any] = {"documents": page.documents, "more": page.after is not None}
        if page.after is not None:
            answer["after"] = page.after
        return decoded(_ENCODE["json"](answer), "json")

    def serve(self, flight: Flight) -> None:
        """Begin to serve a request; nothing happens until it is stepped."""
        flight.expected = []
        for change in flight.sent["changes"]:
            code = refusal(change)
            flight.expected.append(None if code is None else Expected("rejected", code=code))
        flight.serving = Stepped(self.loop, lambda: self._answer(flight))

    def go_on(self, flight: Flight, stops: int | None = None) -> None:
        """Serve a request for so many awaits; None: to its end. Raises Wrong if the server fails as it must not."""
        if stops is None:
            flight.serving.finish()
        else:
            flight.serving.go_on(stops)
        error = flight.serving.error
        if error is not None and not isinstance(error, StoreUnavailable | UnknownDevice):
            raise Wrong(f"the server failed: {error}") from error

    async def _answer(self, flight: Flight) -> bytes:
        request = _DECODE[flight.received](flight.body)
        flight.now_ms = self.now_ms
        self._note_presented(flight.sent)
        response = await exchange.round_trip(
            FlightStore(self, flight),
            request,
            user_id=USER,
            cursor_key=CURSOR_KEY,
            received=flight.received,
            answered=flight.answered,
            now_ms=flight.now_ms,
        )
        self._note_seen(flight)
        return _ENCODE[flight.answered](response)

    def _note_presented(self, sent: Mapping[str, Any]) -> None:
        """What a request shows to hold counts as soon as it comes, its device's being seen only when it is answered."""
        head = self.head
        if head is None or sent["device_id"] not in head.devices:
            return
        presented = self.read_cursor(sent["cursor"])
        furthest: dict[str, int] = {}
        if presented is not None and presented.epoch == head.epoch:
            for place in presented.places:
                if place.below is None and place.at <= head.seq:
                    furthest.update(dict.fromkeys(place.collections, place.at))
        self.oracle.came(sent["device_id"], _collections_of(sent), furthest)
        self._last_came[sent["device_id"]] = sent

    def _note_seen(self, flight: Flight) -> None:
        head, device_id = self.head, flight.sent["device_id"]
        is_last = self._last_came.get(device_id) is flight.sent  # else the server may have noted them in either order
        if head is not None and device_id in head.devices and is_last:
            self.oracle.answered(device_id, _collections_of(flight.sent), now_ms=flight.now_ms)

    def read_cursor(self, text: str) -> cursor.Cursor | None:
        return cursor.decode(text, key=CURSOR_KEY, user_id=USER) if text else None

    def _is_foreign(self, text: str, head: Head) -> bool:
        presented = self.read_cursor(text)
        if presented is None:
            return bool(text)
        return presented.epoch != head.epoch or presented.shown > head.seq

    def upload_committed(self, flight: Flight, state: State) -> None:
        keys = {(key.collection, key.id) for key in state.keys}
        changes = flight.sent["changes"]
        if self._is_foreign(flight.sent["cursor"], state.head):
            # Its device knows sequences of another history.
            changes = [{name: value for name, value in change.items() if name != "base"} for change in changes]
        for change, expected in zip(changes, flight.expected, strict=True):
            if expected is not None and expected.code is not None and not flight.is_refused:
                self.oracle.refuse(change, expected.code)
        flight.is_refused = True  # with the first step
        good = [
            index
            for index, change in enumerate(changes)
            if refusal(change) is None and (change["collection"], change["doc"]) in keys
        ]
        for index, expected in zip(
            good, self.oracle.upload([changes[index] for index in good], now_ms=flight.now_ms), strict=True
        ):
            flight.expected[index] = expected

    def purge_committed(self, flight: Flight, outcome: Outcome) -> None:
        for document in outcome.written:
            if document.purged:
                self.oracle.purge((document.key.collection, document.key.id), now_ms=flight.now_ms)

    def compare(self, outcome: Outcome) -> None:
        """Raise Wrong unless what was just committed is what the oracle holds."""
        oracle, head = self.oracle, outcome.head
        if (head.seq, head.clock) != (oracle.seq, oracle.clock):
            raise Wrong(f"head: {head.seq}, {head.clock:x}; expected {oracle.seq}, {oracle.clock:x}")
        if head.clock >> 21 > self.now_ms + _MOST_AHEAD_MS + len(oracle.restamps):
            raise Wrong(f"the account's clock is at {head.clock:x}, too far ahead of {self.now_ms} ms")
        for document in outcome.written:
            key = document.key.collection, document.key.id
            if document.seq != oracle.seqs.get(key):
                raise Wrong(f"{key} has sequence {document.seq}; expected {oracle.seqs.get(key)}")
            expected = oracle.documents.get(key, {})
            found = _registers(document)
            if found != expected:
                raise Wrong(f"{key} is {found}; expected {expected}")
        for name in {key[0] for key in oracle.documents} | head.digests.keys():
            if f"{head.digests.get(name, 0):016x}" != digest(oracle.documents, name):
                raise Wrong(f"the digest of {name} is not its registers'")

    def remember(self) -> None:
        """Keep what is stored now, for a server that shows less than was acknowledged."""
        head = self.head
        if head is not None:
            self._moments.append(MemoryView(head, self.store._accounts[USER].documents.copy()))
            del self._moments[:-_MOMENTS]

    def earlier_view(self, view: View, at_least: int) -> View:
        """What a newly elected server may show: an earlier moment, but none before `at_least`."""
        for moment in self._moments:
            if moment.head.epoch == view.head.epoch and moment.head.seq >= at_least:
                return moment
        return view

    @property
    def head(self) -> Head | None:
        reading = Stepped(self.loop, lambda: self.store.head(USER))
        reading.finish()
        return reading.result

    def back_up(self) -> None:
        self.backups.append((self.now_ms, _copy(self.store, self.dice), self.oracle.copy()))

    def restore(self, number: int) -> bool:
        """Go back to an earlier copy, under a new epoch; False if there is none that is young enough."""
        young = [backup for backup in self.backups if backup[0] >= self.now_ms - MOST_BACKUP_AGE_MS]
        if not young:
            return False
        _, store, oracle = young[number % len(young)]
        self.store, self.oracle = _copy(store, self.dice), oracle.copy()
        Stepped(self.loop, lambda: self.store.bump_epoch(USER)).finish()
        self.restores += 1
        return True


def _collections_of(sent: Mapping[str, Any]) -> list[str]:
    return [name for name in COLLECTIONS if name in sent.get("collections", COLLECTIONS)]


def _copy(store: MemoryStore, dice: random.Random) -> MemoryStore:
    """A copy of every container; what is in them is never altered in place."""
    copy = MemoryStore(dice)
    for user_id, account in store._accounts.items():
        copied = copy._accounts[user_id] = type(account)()
        for name, value in vars(account).items():
            if name != "lane":
                setattr(copied, name, value.copy() if isinstance(value, dict | set) else value)
    return copy


def _registers(document: Document) -> dict[str, tuple[int, bytes, int]]:
    found: dict[str, tuple[int, bytes, int]] = {}
    for path, value in document.values.items():
        mark = document.marks.get(path, document.usual)
        python = msgspec.json.decode(value) if type(value) is bytes else value
        found[path] = (mark.stamp, canonical(python), mark.seq)
    return found
