"""Changes and stored documents in, new documents and results out: the only place that decides a conflict. Pure.

The state that comes in was read under the account's lock; nothing of it is altered, so that a conflicting transaction may run
the same step again on what it reads then.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from sync import clock, conflicts, digest, values
from sync.changes import MAX_CHANGES, MAX_REQUEST_BYTES, Change, Result, Status
from sync.clock import Stamp
from sync.conflicts import Conflict
from sync.document import MAX_DOCUMENT_BYTES, MAX_PATHS, Document, Key, Mark, wins
from sync.errors import BatchTooLarge
from sync.head import SEEN_EVERY_MS, Device, Head
from sync.quarantine import Rejected
from sync.values import Value

# A tombstone stays so long, and longer while a device that may still write to it has not shown that it knows of it.
PURGE_AFTER_MS: Final = 30 * 86_400_000
# A device that was not seen for so long holds up nothing any more.
EXPIRED_AFTER_MS: Final = 180 * 86_400_000

# What the changes of one step may be compared with, and be answered by: a change of a whole document passes always. Each of a thousand
# small ones may lose to all that its document holds, which would be an answer of 256 MB, or be compared with arrays for minutes.
_MAX_CONTESTED_BYTES: Final = 20 * MAX_DOCUMENT_BYTES

# How much longer a change may be as the store counts it than as it was sent: 1e9 is counted as 1000000000.0.
_MOST_GROWTH: Final = 6

_NOTHING: Final[Mapping[str, tuple[str, Any]]] = {}


class State(NamedTuple):
    """What the store read: `documents` holds those of `keys` that exist, `restamps` old stamp → new."""

    head: Head
    keys: Sequence[Key]
    documents: Mapping[Key, Document]
    restamps: Mapping[Stamp, Stamp]


class Outcome(NamedTuple):
    """What the store must write, all of it or nothing. `results` are in the order of the changes.

    rejected: entries for the quarantine, which the store adds if they are not there, and counts in `head.quarantined_bytes`;
    `accepted`: ids of entries that leave it, before others are added.
    conflicts: to add; one that is there already is left as it is, unless this one was restored.
    """

    head: Head
    written: Sequence[Document] = ()
    restamps: Mapping[Stamp, Stamp] = {}
    results: Sequence[Result] = ()
    rejected: Sequence[Rejected] = ()
    conflicts: Sequence[Conflict] = ()
    accepted: Sequence[str] = ()

    @property
    def writes(self) -> bool:
        return bool(self.written or self.restamps or self.rejected or self.conflicts or self.accepted)

    def with_added(self, entries: Sequence[Rejected]) -> "Outcome":
        """Return the outcome with those of `rejected` that were not in quarantine yet."""
        size_bytes = sum(entry.size_bytes for entry in entries)
        head = replace(self.head, quarantined_bytes=self.head.quarantined_bytes + size_bytes)
        return self._replace(head=head, rejected=entries)


def apply(changes: Sequence[Change], state: State, *, now_ms: int) -> Outcome:
    """Merge changes in stamp order; every document written gets the next sequence of the account.

    Raises BatchTooLarge if the changes together lose to, or are to be compared with, too much of what is stored.
    """
    merging = _Merging(state, now_ms)
    results: list[Result | None] = [None] * len(changes)
    for index in sorted(range(len(changes)), key=lambda index: changes[index].stamp):
        results[index] = merging.merge(changes[index])
    return merging.outcome([result for result in results if result is not None])


def fill(key: Key, given: Mapping[str, Value], state: State, *, now_ms: int, restores: bool = True) -> Outcome:
    """Write, as the server, the registers that the document lacks; if it `restores`, a deleted document comes back."""
    document = state.documents.get(key)
    lacking = {path: value for path, value in given.items() if document is None or path not in document.values}
    if restores and document is not None and (document.deleted or document.purged):
        lacking["deleted"] = False
    return write(key, lacking, state, now_ms=now_ms)


def fill_all(given: Mapping[Key, Mapping[str, Value]], state: State, *, now_ms: int) -> Outcome:
    """As `fill`, of the documents that the state has; those that were deleted stay so."""
    lacking: dict[Key, Mapping[str, Value]] = {}
    for key in state.keys:
        document = state.documents.get(key)
        if document is None:
            lacking[key] = given[key]
        elif not (document.deleted or document.purged):
            lacking[key] = {path: value for path, value in given[key].items() if path not in document.values}
    return _written(lacking, state, now_ms=now_ms)


def write(key: Key, given: Mapping[str, Value], state: State, *, now_ms: int) -> Outcome:
    """Write registers as the server: under the next reading of the account's clock, over all that was accepted."""
    return _written({key: given}, state, now_ms=now_ms)


def _written(given: Mapping[Key, Mapping[str, Value]], state: State, *, now_ms: int) -> Outcome:
    stamp = clock.tick(state.head.clock, now_ms=now_ms, replica=clock.SERVER_REPLICA)
    changes = [
        Change("", key, stamp, None, dict(values), MAX_DOCUMENT_BYTES) for key, values in given.items() if values
    ]
    if not changes:
        return Outcome(state.head)
    # A clock that is ahead (of restamped changes) must not make the server doubt itself, nor be taken for the time.
    outcome = apply(changes, state, now_ms=max(now_ms, clock.milliseconds_of(stamp)))
    return outcome._replace(head=replace(outcome.head, wall_ms=state.head.wall_ms))


def purge(state: State, *, now_ms: int) -> Outcome:
    """Take the registers of the deleted documents that are due; the mark that stays gets a sequence of its own.

    Every device then drops the document, also one that holds it as deleted, and whose digest would differ else.
    """
    head = state.head
    digests = dict(head.digests)
    purged: list[Document] = []
    for key in state.keys:
        document = state.documents.get(key)
        if document is None or not is_due(key, document.seq, document.deleted_ms, head, now_ms=now_ms):
            continue
        purged.append(Document(key, seq=head.seq + len(purged) + 1, purged=True))
        digests[key.collection] = (digests.get(key.collection, 0) - digest.of(document)) % digest.MODULUS
    if not purged:
        return Outcome(head)
    return Outcome(replace(head, seq=head.seq + len(purged), digests=digests), purged)


def is_due(key: Key, seq: int, deleted_ms: int, head: Head, *, now_ms: int) -> bool:
    """Whether a document that was last changed at `seq` was deleted long enough ago, and every device knows that it is."""
    if not deleted_ms or deleted_ms > now_ms - PURGE_AFTER_MS:
        return False
    return all(_knows(device, key.collection, seq, now_ms) for device in head.devices.values())


def _knows(device: Device, collection: str, seq: int, now_ms: int) -> bool:
    """Whether the device knows what was written at `seq`, or need not know."""
    return (
        device.presented >= seq
        or collection not in device.collections
        or device.seen_ms < now_ms - EXPIRED_AFTER_MS - SEEN_EVERY_MS
    )


class _Merging:
    """One step's working state, over a `State` that stays as it is."""

    def __init__(self, state: State, now_ms: int) -> None:
        self.head = state.head
        self.stored = state.documents
        self.known_restamps = state.restamps
        self.now_ms = now_ms
        # A request may be merged after its repetition, or by a server whose clock is behind: a stamp that was believed once would then
        # be replaced, over what its device has written since.
        self.wall_ms = max(now_ms, min(state.head.wall_ms, now_ms + clock.MAX_AHEAD_MS))
        self.latest_believed = clock.latest_believed(self.wall_ms)
        self.seq = state.head.seq
        self.clock = state.head.clock
        self.restamped = state.head.restamped
        self.restamps: dict[Stamp, Stamp] = {}
        self.written: dict[Key, Document] = {}
        self.conflicts: dict[str, Conflict] = {}
        self.contested_bytes = 0

    def merge(self, change: Change) -> Result:
        document = self.written.get(change.key) or self.stored.get(change.key)
        if document is not None and document.purged:
            return Result(
                id=change.id, status="rejected", code="document_purged",
                detail="The document was deleted for good; its id is not given again.",
            )  # fmt: skip
        stamp, is_new_pair = self._believed(change.stamp)
        won: Mapping[str, Value] = change.values
        lost: Mapping[str, tuple[str, Any]] = _NOTHING
        unseen: Sequence[tuple[str, Mark]] = ()
        if document is not None:
            unseen = conflicts.unseen(change, stamp, document)
            won, contested = _uncontested(document, change.values, stamp)
            if contested or unseen:
                self._count_contested(change, document, contested, unseen)
            if contested:
                more, lost = _contest(document, change.values, stamp, contested)
                won = {**won, **more}
        if won:
            merged = self._with(document, change.key, won, stamp)
            merged.most_bytes += _MOST_GROWTH * change.encoded_bytes
            if (detail := _over_full(merged, change)) is not None:
                return Result(id=change.id, status="rejected", code="document_full", detail=detail)
            self.written[change.key] = merged
            self.seq = max(self.seq, merged.seq)
        if document is not None and unseen:
            self._note_conflicts(change, stamp, document, unseen)
        self.clock = max(self.clock, stamp)
        if is_new_pair:
            self.restamps[change.stamp] = stamp
            self.restamped = max(self.restamped, change.stamp)
        status: Status = "superseded" if lost else "applied" if won else "unchanged"
        # Also when the next reading happens to be the old stamp itself: what a retry is told may not depend on it.
        restamped = change.stamp in self.restamps or change.stamp in self.known_restamps
        return Result(
            id=change.id,
            status="restamped" if restamped else status,
            stamp=clock.to_wire(stamp) if restamped else UNSET,
            superseded=dict(lost) or UNSET,
        )

    def outcome(self, results: Sequence[Result]) -> Outcome:
        written: list[Document] = []
        digests = dict(self.head.digests)
        purge_at_ms = self.head.purge_at_ms
        for key, document in self.written.items():
            gained = digest.changed(self.stored.get(key), document)
            digests[key.collection] = (digests.get(key.collection, 0) + gained) % digest.MODULUS
            document.deleted_ms = self.now_ms if document.deleted else 0
            if document.deleted_ms and not purge_at_ms:
                purge_at_ms = self.now_ms + PURGE_AFTER_MS
            written.append(document.compacted())
        head = replace(
            self.head,
            seq=self.seq,
            clock=self.clock,
            restamped=self.restamped,
            digests=digests,
            purge_at_ms=purge_at_ms,
            wall_ms=self.wall_ms if written or self.restamps else self.head.wall_ms,
        )
        return Outcome(head, written, self.restamps, results, conflicts=list(self.conflicts.values()))

    def _count_contested(
        self, change: Change, document: Document, contested: Sequence[str], unseen: Sequence[tuple[str, Mark]]
    ) -> None:
        for path in (*contested, *(path for path, _ in unseen)):
            self.contested_bytes += values.comparison_bytes(change.values[path], document.values[path])
        if self.contested_bytes > _MAX_CONTESTED_BYTES:
            raise BatchTooLarge(max_changes=MAX_CHANGES, max_bytes=MAX_REQUEST_BYTES)

    def _note_conflicts(
        self, change: Change, stamp: Stamp, document: Document, unseen: Sequence[tuple[str, Mark]]
    ) -> None:
        for conflict in conflicts.between(change, stamp, document, unseen, now_ms=self.now_ms):
            if len(self.conflicts) < conflicts.MAX_CONFLICTS:
                self.conflicts.setdefault(conflict.id, conflict)

    def _believed(self, stamp: Stamp) -> tuple[Stamp, bool]:
        """Return the stamp to merge under, and whether it is a replacement not yet remembered."""
        known = self.known_restamps.get(stamp) or self.restamps.get(stamp)
        if known is not None:
            return known, False
        if stamp <= self.latest_believed:
            return stamp, False
        return clock.tick(self.clock, now_ms=self.now_ms, replica=clock.replica_of(stamp)), True

    def _with(self, document: Document | None, key: Key, won: Mapping[str, Value], stamp: Stamp) -> Document:
        if document is None:
            seq = self.seq + 1
            return Document(key, seq=seq, values=dict(won), usual=Mark(stamp, seq))
        merged = document.copy()
        if key not in self.written:
            merged.seq = self.seq + 1
        mark = Mark(stamp, merged.seq)
        merged.values.update(won)
        merged.marks.update(dict.fromkeys(won, mark))
        return merged


def _uncontested(document: Document, given: Mapping[str, Value], stamp: Stamp) -> tuple[dict[str, Value], list[str]]:
    """Return the registers that win by being new or later, and the paths of the others, whose values are to be compared."""
    won: dict[str, Value] = {}
    contested: list[str] = []
    stored, marks, usual = document.values, document.marks, document.usual
    for path, value in given.items():
        if path not in stored or stamp > marks.get(path, usual).stamp:
            won[path] = value
        else:
            contested.append(path)
    return won, contested


def _contest(
    document: Document, given: Mapping[str, Value], stamp: Stamp, paths: Sequence[str]
) -> tuple[dict[str, Value], dict[str, tuple[str, Any]]]:
    """Return the contested registers that win, and for those that lose the greater one; equal ones are in neither."""
    won: dict[str, Value] = {}
    lost: dict[str, tuple[str, Any]] = {}
    stored, marks, usual = document.values, document.marks, document.usual
    for path in paths:
        value, mine = given[path], marks.get(path, usual).stamp
        if stamp == mine and wins(value, stamp, stored[path], mine):
            won[path] = value
        elif stamp < mine or not values.same(value, stored[path]):
            lost[path] = (clock.to_wire(mine), values.to_python(stored[path]))
    return won, lost


def _over_full(merged: Document, change: Change) -> str | None:
    """What is too large, if anything. Measures the document only if it may be; what it measured then counts on."""
    if len(merged.values) <= MAX_PATHS and merged.most_bytes <= MAX_DOCUMENT_BYTES:
        return None
    if change.values.keys() == {"deleted"}:
        return None  # deleting and restoring are never refused for size
    if merged.path_count > MAX_PATHS:
        return f"A document holds at most {MAX_PATHS} paths; with this change it would be {merged.path_count}."
    if merged.most_bytes > MAX_DOCUMENT_BYTES:
        merged.most_bytes = merged.encoded_bytes
    if merged.most_bytes > MAX_DOCUMENT_BYTES:
        return f"A document holds at most {MAX_DOCUMENT_BYTES} bytes; with this change it would be {merged.most_bytes}."
    return None
