"""The download of a round trip: what to read next, and when a page is full."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from sync.store import View
from sync.values import Value

_ENCODE: Final[Mapping[Format, Callable[[Any], bytes]]] = {
    "json": msgspec.json.Encoder().encode,
    "msgpack": msgspec.msgpack.Encoder().encode,
}
_SHOW: Final[Mapping[Format, Callable[[Value], Any]]] = {"json": values.for_json, "msgpack": values.to_python}

# Documents of 1 to 2 KB: a third of a page of them, after which it is known how many more will fit.
_FIRST_READ: Final = 200


class Carried(NamedTuple):
    """What the same request's upload knows, of which `head` is what it left.

    delta: the documents that it wrote if nobody else wrote since `before`, else None.
    has_restamped: some of what it wrote has another stamp than the request carries.
    changes: those that stand.
    """

    before: int
    head: Head
    delta: Sequence[Document] | None
    has_restamped: bool
    changes: Mapping[Key, Sequence[Change]]


class Page:
    """What one response gives, within its bounds."""

    def __init__(
        self, limit: int, answered: Format, carried: Mapping[Key, Sequence[Change]] = MappingProxyType({})
    ) -> None:
        self.documents: list[Raw] = []
        self.passed = 0  # documents, also those of which nothing was left to tell
        self._limit = limit
        self._encode = _ENCODE[answered]
        self._show = _SHOW[answered]
        self._carried = carried
        self._bytes = 0

    def room(self) -> int:
        """How many documents more there is room for, by the length of those that it has; and the one that is found not to fit."""
        count = len(self.documents)
        if not count:
            return min(self._limit + 1, _FIRST_READ)
        fitting = (changes.MAX_PAGE_BYTES - self._bytes) * count // self._bytes
        return max(1, min(self._limit - count, fitting) + 1)

    def takes(self, document: Document, *, began: int) -> bool:
        """Add the registers written after `began`, unless nothing is left to tell; False if the page is full before it."""
        fields = self._fields(document, began)
        if not fields and not document.purged:
            self.passed += 1
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
        self.passed += 1
        return True

    def _fields(self, document: Document, began: int) -> dict[str, Mapping[str, Any]]:
        sent = _by_path(self._carried[document.key]) if document.key in self._carried else {}
        usual, marks, stored = document.usual, document.marks, document.values
        if usual.seq > began and not marks and not sent:
            return {clock.to_wire(usual.stamp): self._shown(stored)} if stored else {}
        by_stamp: dict[Stamp, dict[str, Value]] = {}
        # Where the usual mark is older than the run, only the paths with marks of their own can be news.
        if usual.seq > began and len(marks) < len(stored):
            by_stamp[usual.stamp] = {path: value for path, value in stored.items() if path not in marks}
        for path, mark in marks.items():
            if mark.seq > began:
                by_stamp.setdefault(mark.stamp, {})[path] = stored[path]
        if sent:
            by_stamp = {stamp: _not_carried(group, stamp, sent) for stamp, group in by_stamp.items()}
        return {clock.to_wire(stamp): self._shown(group) for stamp, group in by_stamp.items() if group}

    def _shown(self, given: Mapping[str, Value]) -> Mapping[str, Any]:
        """Most documents have no arrays and objects, and are then shown as they are stored."""
        if bytes not in set(map(type, given.values())):
            return given
        return {path: self._show(value) for path, value in given.items()}


def _by_path(sent: Iterable[Change]) -> dict[str, list[Change]]:
    """Changes of one document; each of a thousand may be of any of its 2,000 paths, and none needs a look for all of them."""
    found: dict[str, list[Change]] = {}
    for change in sent:
        for path in change.values:
            found.setdefault(path, []).append(change)
    return found


def _not_carried(group: Mapping[str, Value], stamp: Stamp, sent: Mapping[str, Sequence[Change]]) -> dict[str, Value]:
    return {
        path: value for path, value in group.items() if path not in sent or not _carry(sent[path], path, stamp, value)
    }


def _carry(sent: Iterable[Change], path: str, stamp: Stamp, value: Value) -> bool:
    return any(change.stamp == stamp and values.same(change.values[path], value) for change in sent)


def is_at_hand(places: Sequence[Place], carried: Carried) -> bool:
    """Whether the device had everything before its own upload: then there is nothing to read."""
    return all(
        place.below is None
        and (place.at == carried.head.seq or (place.at == carried.before and carried.delta is not None))
        for place in places
    )


def from_upload(places: Sequence[Place], carried: Carried, page: Page) -> Cursor | None:
    """Fill the page with what is at hand. Return as `download` does."""
    done: list[Place] = []
    for index, place in enumerate(places):
        # Without restamps, all that was written since a run that begins here is what this very request carries.
        is_known = place.at == carried.head.seq or (place.began == place.at and not carried.has_restamped)
        at = place.at
        for document in () if is_known else carried.delta or ():
            if document.key.collection not in place.collections:
                continue
            if not page.takes(document, began=place.began):
                going_on = Place(place.collections, place.began, at)
                return Cursor(carried.head.epoch, carried.head.seq, (*done, going_on, *places[index + 1 :]))
            at = document.seq
        done.append(Place(place.collections, place.began, carried.head.seq))
    return None


async def download(view: View, places: Sequence[Place], page: Page) -> Cursor | None:
    """Fill the page. Return where the next one goes on, or None if everything up to the view's head was given.

    What is written after the view was opened is above its head, and follows with the next page or run.
    """
    done: list[Place] = []
    for index, start in enumerate(places):
        place = start
        if place.below is not None:
            async for document in view.changed(
                place.collections, after=0, upto=place.below - 1, snapshot=True, room=page.room
            ):
                if not page.takes(document, began=0):
                    return Cursor(view.head.epoch, view.head.seq, (*done, place, *places[index + 1 :]))
                place = Place(place.collections, place.began, place.at, document.seq)
            place = Place(place.collections, place.began, place.at)
        if place.at < view.head.seq and place.collections:
            async for document in view.changed(place.collections, after=place.at, upto=view.head.seq, room=page.room):
                if not page.takes(document, began=place.began):
                    return Cursor(view.head.epoch, view.head.seq, (*done, place, *places[index + 1 :]))
                place = Place(place.collections, place.began, document.seq)
        done.append(Place(place.collections, place.began, view.head.seq))
    return None


async def remaining(view: View, given: Cursor) -> int:
    """How many documents are to come."""
    count = 0
    for place in given.places:
        if place.below is not None:
            count += await view.count_changed(place.collections, after=0, upto=place.below - 1, snapshot=True)
        if place.at < view.head.seq:
            count += await view.count_changed(place.collections, after=place.at, upto=view.head.seq)
    return count
