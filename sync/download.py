"""The download of a round trip: what to read next, and when a page is full."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from sync import changes, clock, values
from sync.changes import Change, Delta, Format
from sync.clock import Stamp
from sync.cursor import Cursor, Place
from sync.document import Document, Key
from sync.head import Head
from sync.store import Store
from sync.values import Value

# How often a download that was overtaken by other devices' uploads goes on by itself before the device must ask.
_MAX_READINGS: Final = 4

_ENCODE: Final[Mapping[Format, Callable[[Any], bytes]]] = {
    "json": msgspec.json.Encoder().encode,
    "msgpack": msgspec.msgpack.Encoder().encode,
}
_SHOW: Final[Mapping[Format, Callable[[Value], Any]]] = {"json": values.for_json, "msgpack": values.to_python}


class Carried(NamedTuple):
    """What the same request's upload knows. `delta` holds the documents it wrote if nobody else wrote since `head_before`, else None.

    has_restamped: some of what it wrote has another stamp than the request carries.
    """

    head_before: Head
    delta: Sequence[Document] | None
    has_restamped: bool
    changes: Mapping[Key, Sequence[Change]]


class Page:
    """What one response gives, within its bounds."""

    def __init__(
        self, limit: int, answered: Format, carried: Mapping[Key, Sequence[Change]] = MappingProxyType({})
    ) -> None:
        self.documents: list[Raw] = []
        self._limit = limit
        self._encode = _ENCODE[answered]
        self._show = _SHOW[answered]
        self._carried = carried
        self._bytes = 0

    def takes(self, document: Document, *, began: int) -> bool:
        """Add the registers written after `began`, unless nothing is left to tell; False if the page is full before it."""
        fields = self._fields(document, began)
        if not fields and not document.purged:
            return True
        if len(self.documents) >= self._limit:
            return False
        encoded = self._encode(
            Delta(
                collection=document.key.collection,
                id=document.key.id,
                seq=document.seq,
                purged=document.purged,
                fields=fields,
            )
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


async def download(
    store: Store, user_id: str, places: Sequence[Place], head: Head, carried: Carried, page: Page
) -> tuple[Cursor | None, Head]:
    """Fill the page. Return where the next one goes on, or None if everything up to the head, returned too, was given.

    A document written while the feed is read moves above the head and out of sight, and takes along those of its registers
    that are as old as this run. The run must not end before they were given: the next one, which begins at its end, gives
    only what is newer. So it ends at a head that has not moved while the feed was read up to it.
    """
    epoch = head.epoch
    for _ in range(_MAX_READINGS):
        given = await _read_places(store, user_id, places, head, carried, page)
        if not given.is_whole:
            return Cursor(epoch, given.places), head
        if not given.read_feed:
            return None, head
        newest = await store.head(user_id)
        if newest is None or newest.seq <= head.seq:
            return None, head
        head, places, carried = newest, given.places, carried._replace(delta=None)
    return Cursor(epoch, tuple(places)), head


class _Given(NamedTuple):
    """The places after a reading; whether all were read up to the head, and whether the store was asked for documents."""

    places: tuple[Place, ...]
    is_whole: bool
    read_feed: bool


async def _read_places(
    store: Store, user_id: str, places: Sequence[Place], head: Head, carried: Carried, page: Page
) -> _Given:
    done: list[Place] = []
    read_feed = False
    for index, start in enumerate(places):
        place = start
        if place.below is not None:
            read_feed = True
            snapshot = store.changed(user_id, place.collections, after=0, upto=place.below - 1, snapshot=True)
            async for document in snapshot:
                if not page.takes(document, began=0):
                    return _Given((*done, place, *places[index + 1 :]), is_whole=False, read_feed=True)
                place = Place(place.collections, place.began, place.at, document.seq)
            place = Place(place.collections, place.began, place.at)
        if place.at < head.seq and place.collections:
            if carried.delta is not None and place.at == carried.head_before.seq:
                news = _written(carried, carried.delta, place)
            else:
                read_feed = True
                news = store.changed(user_id, place.collections, after=place.at, upto=head.seq)
            async for document in news:
                if not page.takes(document, began=place.began):
                    return _Given((*done, place, *places[index + 1 :]), is_whole=False, read_feed=True)
                place = Place(place.collections, place.began, document.seq)
        done.append(Place(place.collections, place.began, head.seq))
    return _Given(tuple(done), is_whole=True, read_feed=read_feed)


async def _written(carried: Carried, delta: Sequence[Document], place: Place) -> AsyncIterator[Document]:
    """What this request wrote last is at hand and need not be read again."""
    if place.began == place.at and not carried.has_restamped:
        return  # all that was written since the run began is what this very request carries
    for document in delta:
        if document.key.collection in place.collections:
            yield document


async def remaining(store: Store, user_id: str, given: Cursor, head: Head) -> int:
    """How many documents are to come."""
    count = 0
    for place in given.places:
        if place.below is not None:
            count += await store.count_changed(user_id, place.collections, after=0, upto=place.below - 1, snapshot=True)
        if place.at < head.seq:
            count += await store.count_changed(user_id, place.collections, after=place.at, upto=head.seq)
    return count
