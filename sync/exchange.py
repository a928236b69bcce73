"""The round trip: upload, merge, download. Talks to the store port; all it decides is what to read next and when a page is full."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from sync import changes, clock, cursor, merge, values
from sync.changes import Change, Delta, Format, Limits, Refusal, Result, SyncRequest, SyncResponse
from sync.clock import Stamp
from sync.cursor import Cursor, Place
from sync.document import Document, Key
from sync.errors import BatchTooLarge, DocumentFull, UnknownDevice
from sync.head import Head
from sync.schema import COLLECTIONS
from sync.store import Store
from sync.values import Value

# How often a download that was overtaken by other devices' uploads goes on by itself before the device must ask.
_MAX_READINGS: Final = 4

_ENCODE: Final[Mapping[Format, Callable[[Any], bytes]]] = {
    "json": msgspec.json.Encoder().encode,
    "msgpack": msgspec.msgpack.Encoder().encode,
}
_SHOW: Final[Mapping[Format, Callable[[Value], Any]]] = {"json": values.for_json, "msgpack": values.to_python}


# A batch of some hundred workouts is checked in a few milliseconds. One of 4 MiB, of arrays whose canonical form is measured, takes
# more than a second, in which the other requests of this process should go on.
_CHECKED_INLINE_BYTES: Final = 512 * 1024


class Uploaded(NamedTuple):
    """What an upload did. `delta` holds the documents it wrote if nobody else wrote since `head_before`, else None.

    has_restamped: some of what it wrote has another stamp than the request carries.
    """

    results: list[Result]
    head: Head
    head_before: Head
    delta: list[Document] | None
    has_restamped: bool
    carried: Mapping[Key, Sequence[Change]]


async def round_trip(
    store: Store,
    request: SyncRequest,
    *,
    user_id: str,
    cursor_key: bytes,
    received: Format,
    answered: Format,
    now_ms: int,
) -> SyncResponse:
    """Merge the request's changes, then give what is new since its cursor.

    The upload is durable before the download is read. Raises BatchTooLarge, UnknownDevice, StoreUnavailable.
    """
    if len(request.changes) > changes.MAX_CHANGES:
        raise BatchTooLarge(max_changes=changes.MAX_CHANGES, max_bytes=changes.MAX_REQUEST_BYTES)
    uploaded = await _upload(store, request, user_id, received, now_ms)
    head = uploaded.head

    wanted = _wanted(request)
    presented = cursor.decode(request.cursor, key=cursor_key, user_id=user_id) if request.cursor else None
    is_foreign = bool(request.cursor) and presented is None
    if presented is not None and cursor.is_ahead(presented, epoch=head.epoch, newest=head.seq):
        # A restored server, or a primary so new that it does not yet show all that an older one acknowledged.
        head = await store.head(user_id, surely_newest=True) or head
        uploaded = uploaded._replace(head=head)
    places, was_refused = cursor.open_run(presented, epoch=head.epoch, newest=head.seq, collections=wanted)
    page = _Page(request.limit, answered, uploaded.carried)
    next_cursor, head = await _download(store, user_id, places, uploaded, page)
    more = next_cursor is not None
    given = next_cursor or cursor.close_run(head.epoch, wanted, at=head.seq)
    return SyncResponse(
        results=uploaded.results,
        documents=page.documents,
        cursor=cursor.encode(given, key=cursor_key, user_id=user_id),
        more=more,
        reset=is_foreign or was_refused,
        remaining=await _remaining(store, user_id, given, head) if more else 0,
        server_time=_rfc3339(now_ms),
        stamp=clock.to_wire(head.clock),
        limits=Limits(),
    )


async def fill(
    store: Store, user_id: str, collection: str, document_id: str, given: Mapping[str, Value], *, now_ms: int
) -> None:
    """Write, as the server and through the merge, those of `given` that the document lacks; restore it if it is deleted.

    Values are stored forms (`values.from_wire`). Does nothing, and gives no sequence, when nothing is lacking.
    Raises DocumentFull, having written nothing, and StoreUnavailable.
    """
    key = Key(collection, document_id)

    def step(state: merge.State) -> merge.Outcome:
        return merge.fill(key, given, state, now_ms=now_ms)

    _, outcome = await store.update(user_id, [key], (), step)
    if any(result.status == "rejected" for result in outcome.results):
        raise DocumentFull(document_id)


async def _upload(store: Store, request: SyncRequest, user_id: str, received: Format, now_ms: int) -> Uploaded:
    sent = [bytes(raw) for raw in request.changes]
    if sum(map(len, sent)) > _CHECKED_INLINE_BYTES:
        results, good = await asyncio.to_thread(_checked, sent, received)
    else:
        results, good = _checked(sent, received)
    carried: dict[Key, list[Change]] = {}
    for _, change in good:
        carried.setdefault(change.key, []).append(change)
    if not good:
        head = await store.head(user_id)
        if head is None or request.device_id not in head.devices:
            raise UnknownDevice(request.device_id)
        return Uploaded(_complete(results), head, head, [], has_restamped=False, carried=carried)

    def step(state: merge.State) -> merge.Outcome:
        if request.device_id not in state.head.devices:
            raise UnknownDevice(request.device_id)
        covered = set(state.keys)
        return merge.apply([change for _, change in good if change.key in covered], state, now_ms=now_ms)

    remaining = sorted(carried)
    stamps = {change.stamp for _, change in good}
    first: Head | None = None
    newest: Head | None = None
    delta: list[Document] | None = []
    while remaining:
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
        newest = outcome.head if outcome.writes else state.head
        remaining = remaining[len(state.keys) :]
    if first is None or newest is None:
        raise AssertionError("There were changes, so there was a step.")
    complete = _complete(results)
    has_restamped = any(result.status == "restamped" for result in complete)
    return Uploaded(complete, newest, first, delta, has_restamped, carried)


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


class _Page:
    """What one response gives, within its bounds."""

    def __init__(self, limit: int, answered: Format, carried: Mapping[Key, Sequence[Change]]) -> None:
        self.documents: list[Raw] = []
        self._limit = limit
        self._encode = _ENCODE[answered]
        self._show = _SHOW[answered]
        self._carried = carried
        self._bytes = 0

    def takes(self, document: Document, *, began: int) -> bool:
        """Add the registers written after `began`, unless nothing is left to tell; False if the page is full before it."""
        fields = self._fields(document, began)
        if not fields:
            return True
        if len(self.documents) >= self._limit:
            return False
        encoded = self._encode(
            Delta(collection=document.key.collection, id=document.key.id, seq=document.seq, fields=fields)
        )
        if self.documents and self._bytes + len(encoded) > changes.MAX_PAGE_BYTES:
            return False
        self.documents.append(Raw(encoded))
        self._bytes += len(encoded)
        return True

    def _fields(self, document: Document, began: int) -> dict[str, dict[str, Any]]:
        # Where the usual mark is older than the run, only the paths with marks of their own can be news.
        paths = document.values if document.usual.seq > began else document.marks
        sent = self._carried.get(document.key, ())
        by_stamp: dict[Stamp, dict[str, Any]] = {}
        for path in paths:
            mark = document.marks.get(path, document.usual)
            value = document.values[path]
            if mark.seq <= began or any(_carries(change, path, mark.stamp, value) for change in sent):
                continue
            by_stamp.setdefault(mark.stamp, {})[path] = self._show(value)
        return {clock.to_wire(stamp): group for stamp, group in by_stamp.items()}


def _carries(change: Change, path: str, stamp: Stamp, value: Value) -> bool:
    return change.stamp == stamp and path in change.values and values.same(change.values[path], value)


async def _download(
    store: Store, user_id: str, places: Sequence[Place], uploaded: Uploaded, page: _Page
) -> tuple[Cursor | None, Head]:
    """Fill the page. Return where the next one goes on, or None if everything up to the head, returned too, was given.

    A document written while the feed is read moves above the head and out of sight, and takes along those of its registers
    that are as old as this run. The run must not end before they were given: the next one, which begins at its end, gives
    only what is newer. So it ends at a head that has not moved while the feed was read up to it.
    """
    head = uploaded.head
    for _ in range(_MAX_READINGS):
        given = await _read_places(store, user_id, places, head, uploaded, page)
        if not given.is_whole:
            return Cursor(head.epoch, given.places), head
        if not given.read_feed:
            return None, head
        newest = await store.head(user_id)
        if newest is None or newest.seq <= head.seq:
            return None, head
        head, places, uploaded = newest, given.places, uploaded._replace(delta=None)
    return Cursor(uploaded.head.epoch, tuple(places)), head


class _Given(NamedTuple):
    """The places after a reading; whether all were read up to the head, and whether the store was asked for documents."""

    places: tuple[Place, ...]
    is_whole: bool
    read_feed: bool


async def _read_places(
    store: Store, user_id: str, places: Sequence[Place], head: Head, uploaded: Uploaded, page: _Page
) -> _Given:
    done: list[Place] = []
    read_feed = False
    for index, start in enumerate(places):
        place = start
        if place.below is not None:
            read_feed = True
            snapshot = store.changed(user_id, place.collections, after=0, upto=place.below - 1, newest_first=True)
            async for document in snapshot:
                if not page.takes(document, began=0):
                    return _Given((*done, place, *places[index + 1 :]), is_whole=False, read_feed=True)
                place = Place(place.collections, place.began, place.at, document.seq)
            place = Place(place.collections, place.began, place.at)
        if place.at < head.seq and place.collections:
            if uploaded.delta is not None and place.at == uploaded.head_before.seq:
                news = _written(uploaded, uploaded.delta, place)
            else:
                read_feed = True
                news = store.changed(user_id, place.collections, after=place.at, upto=head.seq, newest_first=False)
            async for document in news:
                if not page.takes(document, began=place.began):
                    return _Given((*done, place, *places[index + 1 :]), is_whole=False, read_feed=True)
                place = Place(place.collections, place.began, document.seq)
        done.append(Place(place.collections, place.began, head.seq))
    return _Given(tuple(done), is_whole=True, read_feed=read_feed)


async def _written(uploaded: Uploaded, delta: Sequence[Document], place: Place) -> AsyncIterator[Document]:
    """What this request wrote last is at hand and need not be read again."""
    if place.began == place.at and not uploaded.has_restamped:
        return  # all that was written since the run began is what this very request carries
    for document in delta:
        if document.key.collection in place.collections:
            yield document


async def _remaining(store: Store, user_id: str, given: Cursor, head: Head) -> int:
    """How many documents are to come."""
    count = 0
    for place in given.places:
        if place.below is not None:
            count += await store.count_changed(user_id, place.collections, after=0, upto=place.below - 1)
        if place.at < head.seq:
            count += await store.count_changed(user_id, place.collections, after=place.at, upto=head.seq)
    return count


def _rfc3339(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
