"""The round trip: upload, merge, purge what is due, download."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from sync import changes, clock, cursor, digest, download, merge, quarantine
from sync.changes import Change, Format, Limits, Refusal, Result, SyncRequest, SyncResponse
from sync.cursor import Cursor, Place
from sync.document import Document, Key
from sync.download import Carried, Page
from sync.errors import BatchTooLarge, DocumentFull, DocumentPurged, UnknownDevice
from sync.head import SEEN_EVERY_MS, Head, day_of
from sync.merge import PURGE_AFTER_MS, Outcome, State
from sync.quarantine import Rejected
from sync.schema import COLLECTIONS
from sync.store import Store
from sync.values import Value

# Documents purged in one round trip, so that a device that comes after a year is not kept waiting; the others go with the next.
_PURGED_AT_ONCE: Final = 100
# Tombstones looked at for them, some 100 bytes each: many, as those that a device holds up stay in front.
_LOOKED_AT: Final = 2_000
# When to look again for what was due and could not be purged, as a device does not know yet that it was deleted.
_PURGE_AGAIN_AFTER_MS: Final = 86_400_000


async def round_trip(
    store: Store,
    request: SyncRequest,
    *,
    user_id: str,
    cursor_key: bytes,
    received: Format,
    answered: Format,
    now_ms: int,
    limits: Limits = Limits(),  # noqa: B008 - immutable
) -> SyncResponse:
    """Merge the request's changes, then give what is new since its cursor.

    The upload is durable before the download is read. Raises BatchTooLarge, UnknownDevice, AccountDeleted, StoreUnavailable.
    """
    if len(request.changes) > changes.MAX_CHANGES:
        raise BatchTooLarge(max_changes=changes.MAX_CHANGES, max_bytes=changes.MAX_REQUEST_BYTES)
    presented = cursor.decode(request.cursor, key=cursor_key, user_id=user_id) if request.cursor else None
    caller = _Caller(request.device_id, bool(request.cursor), presented, _wanted(request), now_ms)
    results: list[Result] = []
    carried = None
    if request.changes:
        results, carried = await _upload(store, request, caller, user_id, received)
    page = Page(request.limit, answered, {} if carried is None else carried.changes)
    read = await _read(store, user_id, caller, carried, page)
    more = read.next is not None
    given = read.next or cursor.close_run(read.head.epoch, caller.wanted, at=read.head.seq)
    return SyncResponse(
        results=results,
        documents=page.documents,
        cursor=cursor.encode(given, key=cursor_key, user_id=user_id),
        more=more,
        reset=read.was_refused or (caller.has_cursor and presented is None),
        remaining=read.remaining,
        digests=UNSET if more else digest.all_to_wire(read.head.digests, caller.wanted),
        server_time=_rfc3339(now_ms),
        stamp=clock.to_wire(read.head.clock),
        limits=limits,
    )


class _Read(NamedTuple):
    """`next`: where the next page goes on; None if everything up to `head` was given."""

    head: Head
    next: Cursor | None
    was_refused: bool
    remaining: int


async def _read(store: Store, user_id: str, caller: "_Caller", carried: Carried | None, page: Page) -> _Read:
    least = 0 if caller.presented is None else caller.presented.shown
    if carried is not None:
        head = await _keep_house(store, user_id, caller, carried.head)
        places, was_refused = caller.open_run(head)
        if head is carried.head and not was_refused and download.is_at_hand(places, carried):
            if (going_on := download.from_upload(places, carried, page)) is None:
                return _Read(head, None, was_refused=False, remaining=0)
            async with store.view(user_id, at_least=head.seq) as view:
                count = 0 if view is None else await download.remaining(view, going_on)
                return _Read(head, going_on, was_refused=False, remaining=count)
        least = max(least, head.seq)
    is_kept = carried is not None
    while True:
        async with store.view(user_id, at_least=least) as view:
            if view is None or caller.device_id not in view.head.devices:
                raise UnknownDevice(caller.device_id)
            head = view.head
            if is_kept or not caller.is_house_to_be_kept(head):
                places, was_refused = caller.open_run(head)
                going_on = await download.download(view, places, page)
                if going_on is None:
                    return _Read(head, None, was_refused, 0)
                known = cursor.remaining(caller.presented, places, newest=head.seq, passed=page.passed)
                count = await download.remaining(view, going_on) if was_refused or known is None else known
                return _Read(head, replace(going_on, remaining=count), was_refused, count)
        head = await _keep_house(store, user_id, caller, head)
        least, is_kept = max(least, head.seq), True


async def _keep_house(store: Store, user_id: str, caller: "_Caller", head: Head) -> Head:
    """Do what is due beside the request. Return the head after it; the same one where nothing was due."""
    if head.quarantined_bytes > quarantine.MAX_BYTES:
        # Well under its bound, so that this is not done at every request.
        head = await store.trim_rejected(user_id, most_bytes=quarantine.MAX_BYTES // 2)
    if caller.is_to_be_noted(head):
        _, outcome = await store.update(user_id, (), (), lambda state: Outcome(caller.noted(state.head)))
        head = outcome.head
    if 0 < head.purge_at_ms <= caller.now_ms:
        head = await purge(store, user_id, head, now_ms=caller.now_ms)
    return head


async def fill(
    store: Store, user_id: str, collection: str, document_id: str, given: Mapping[str, Value], *, now_ms: int
) -> None:
    """Write, as the server and through the merge, those of `given` that the document lacks; restore it if it is deleted.

    Values are stored forms (`values.from_wire`). Does nothing, and gives no sequence, when nothing is lacking.
    Raises DocumentFull or DocumentPurged, having written nothing, and StoreUnavailable.
    """
    key = Key(collection, document_id)

    def step(state: State) -> Outcome:
        return merge.fill(key, given, state, now_ms=now_ms)

    _, outcome = await store.update(user_id, [key], (), step)
    for result in outcome.results:
        if result.status == "rejected":
            raise (DocumentPurged if result.code == "document_purged" else DocumentFull)(document_id)


async def purge(store: Store, user_id: str, head: Head, *, now_ms: int) -> Head:
    """Purge what is due, a bounded number of documents, and note when to look again. Return the head after it."""
    tombstones = await store.tombstones(user_id, limit=_LOOKED_AT)
    old = [one for one in tombstones if one.deleted_ms <= now_ms - PURGE_AFTER_MS]
    due = [one.key for one in old if merge.is_due(one.key, one.seq, one.deleted_ms, head, now_ms=now_ms)]
    if len(due) > _PURGED_AT_ONCE:
        next_ms = now_ms
    elif len(due) < len(old):
        next_ms = now_ms + _PURGE_AGAIN_AFTER_MS
    else:
        # Looked for again also where nothing is left: what was deleted since the list was read is due by then.
        young = (one.deleted_ms for one in tombstones[len(old) :])
        next_ms = PURGE_AFTER_MS + min(young, default=now_ms)
    due = sorted(due[:_PURGED_AT_ONCE])

    def step(state: State) -> Outcome:
        outcome = merge.purge(state, now_ms=now_ms)
        left = sum(document.deleted_ms > 0 for document in state.documents.values()) - len(outcome.written)
        again_ms = now_ms if len(state.keys) < len(due) else now_ms + _PURGE_AGAIN_AFTER_MS if left else next_ms
        return outcome._replace(head=replace(outcome.head, purge_at_ms=again_ms))

    _, outcome = await store.update(user_id, due, (), step)
    return outcome.head


class _Caller(NamedTuple):
    """The device that calls, and what it shows to hold."""

    device_id: str
    has_cursor: bool
    presented: Cursor | None  # None also where it was not made here, or for another account
    wanted: tuple[str, ...]
    now_ms: int

    def noted(self, head: Head) -> Head:
        """Return the head with what this call tells of the device. Raises UnknownDevice."""
        device = head.devices.get(self.device_id)
        if device is None:
            raise UnknownDevice(self.device_id)
        presented = cursor.presented(self.presented, epoch=head.epoch, newest=head.seq, collections=self.wanted)
        seen = replace(device, seen_ms=day_of(self.now_ms), presented=presented, collections=self.wanted)
        return head if seen == device else head.with_device(self.device_id, seen)

    def open_run(self, head: Head) -> tuple[tuple[Place, ...], bool]:
        return cursor.open_run(self.presented, epoch=head.epoch, newest=head.seq, collections=self.wanted)

    def is_refused(self, head: Head) -> bool:
        """Whether it presented a cursor, and that is foreign."""
        return self.has_cursor and (self.presented is None or self.open_run(head)[1])

    def is_house_to_be_kept(self, head: Head) -> bool:
        return (
            self.is_to_be_noted(head)
            or 0 < head.purge_at_ms <= self.now_ms
            or head.quarantined_bytes > quarantine.MAX_BYTES
        )

    def is_to_be_noted(self, head: Head) -> bool:
        """Whether a call that wrote nothing is news enough for a write: one a day, or when it asks for other collections."""
        device = head.devices.get(self.device_id)
        return device is not None and (
            abs(self.now_ms - device.seen_ms) >= SEEN_EVERY_MS or device.collections != self.wanted
        )


async def _upload(
    store: Store, request: SyncRequest, caller: _Caller, user_id: str, received: Format
) -> tuple[list[Result], Carried]:
    """Return the results, and what they tell the download."""
    sent = [bytes(raw) for raw in request.changes]
    if sum(map(len, sent)) > changes.CHECKED_INLINE_BYTES:
        results, good = await asyncio.to_thread(_checked, sent, received)
    else:
        results, good = _checked(sent, received)

    def entry(index: int, result: Result) -> Rejected:
        return quarantine.entry(sent[index], received, result, device_id=caller.device_id, now_ms=caller.now_ms)

    # With the first step, which commits them with what they came with.
    malformed = [entry(index, result) for index, result in enumerate(results) if result is not None]
    stamps = {change.stamp for _, change in good}
    remaining = sorted({change.key for _, change in good})
    first: Head | None = None
    newest: Head | None = None
    delta: list[Document] | None = []
    while remaining or newest is None:
        refused = malformed if newest is None else []

        def step(state: State, refused: Sequence[Rejected] = refused) -> Outcome:
            head = caller.noted(state.head)
            covered = set(state.keys)
            these = [(index, change) for index, change in good if change.key in covered]
            if caller.is_refused(state.head):
                # The sequences that it knows are of another history.
                these = [(index, change._replace(base=None)) for index, change in these]
            outcome = merge.apply([change for _, change in these], state._replace(head=head), now_ms=caller.now_ms)
            accepted = []
            rejected = [*refused]
            for (index, change), result in zip(these, outcome.results, strict=True):
                if result.status == "rejected":
                    rejected.append(entry(index, result))
                elif head.quarantined_bytes:
                    accepted.append(change.id)
            return outcome._replace(rejected=rejected, accepted=accepted)

        state, outcome = await store.update(user_id, remaining, stamps, step)
        covered = set(state.keys)
        positions = [index for index, change in good if change.key in covered]
        for index, result in zip(positions, outcome.results, strict=True):
            results[index] = result
        if newest is not None and state.head.seq != newest.seq:
            delta = None
        elif delta is not None:
            delta.extend(outcome.written)
        first = first or state.head
        newest = outcome.head
        remaining = remaining[len(state.keys) :]
    if first is None:
        raise AssertionError("There was a step.")
    complete = _complete(results)
    # A change that was refused as a whole is no answer to what the server holds of it already.
    standing: dict[Key, list[Change]] = {}
    for index, change in good:
        if complete[index].status != "rejected":
            standing.setdefault(change.key, []).append(change)
    has_restamped = any(result.status == "restamped" for result in complete)
    return complete, Carried(first.seq, newest, delta, has_restamped, standing)


def _checked(sent: Sequence[bytes], received: Format) -> tuple[list[Result | None], list[tuple[int, Change]]]:
    """Return the rejections, each in its place, and the well-formed changes with theirs."""
    results: list[Result | None] = [None] * len(sent)
    good: list[tuple[int, Change]] = []
    for index, raw in enumerate(sent):
        try:
            good.append((index, changes.check(raw, received)))
        except Refusal as refusal:
            results[index] = refusal.result()
    return results, good


def _complete(results: Sequence[Result | None]) -> list[Result]:
    complete = [result for result in results if result is not None]
    if len(complete) != len(results):
        raise AssertionError("Every change has its result: it was rejected, or a step covered its document.")
    return complete


def _wanted(request: SyncRequest) -> tuple[str, ...]:
    """The collections to download, in the schema's order; those of a newer app that this server lacks are passed over."""
    if request.collections is UNSET:
        return tuple(COLLECTIONS)
    return tuple(name for name in COLLECTIONS if name in request.collections)


def _rfc3339(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
