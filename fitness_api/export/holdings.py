"""Everything that we hold of an account, as the entries of its archive.

What is added to the database joins TABLES or HOLDINGS; tests/fitness_api/export/test_holdings.py looks for what is in neither.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from fitness_api.export import track_files
from fitness_api.export.rows import Rows
from fitness_api.export.tables import TABLES
from fitness_api.review_entries import of_conflict, of_rejected
from fitness_api.workouts.import_store import ImportRecord, ImportStore
from sync import clock, document, values
from sync.changes import Delta
from sync.clock import Stamp
from sync.document import Document, Key
from sync.head import Head
from sync.log import Listed, Log, Place
from sync.schema import COLLECTIONS
from sync.store import Store
from sync.track_store import COLLECTION, TrackStore
from sync.values import Value

# Lines that are encoded at once, in a thread: some 5 ms of work, in which the event loop has others to serve.
LINES_AT_ONCE: Final = 100
LINE_BYTES_AT_ONCE: Final = 512 * 1024
_LOG_PAGE: Final = 100

_encode: Final = msgspec.json.Encoder().encode

T = TypeVar("T")


class Sources(NamedTuple):
    rows: Rows
    sync: Store
    log: Log
    tracks: TrackStore
    imports: ImportStore


class Entry(NamedTuple):
    """A file of the archive. What is optional is left out of it where there are no pieces."""

    name: str
    pieces: AsyncIterator[bytes]
    is_optional: bool = False


class Holding(NamedTuple):
    """`collections`: those of the database that it is read from.

    is_of_one_moment: what it is read from stays open from its first entry to its last, so that these wait for no client.
    """

    collections: tuple[str, ...]
    entries: Callable[[Sources, str, int], AsyncGenerator[Entry]]
    about: str
    is_of_one_moment: bool = False


async def _tables(sources: Sources, user_id: str, _: int) -> AsyncGenerator[Entry]:
    for table in TABLES:
        yield Entry(table.entry, _lines(sources.rows.of(user_id, table), _encode))


async def _documents(sources: Sources, user_id: str, now_ms: int) -> AsyncGenerator[Entry]:
    async with sources.sync.view(user_id) as view:
        if view is not None:
            yield Entry("sync/state.json", _one(_state(view.head)))
            for collection in COLLECTIONS:
                found = view.changed([collection], after=0, upto=view.head.seq)
                yield Entry(f"documents/{collection}.ndjson", _lines(found, _document_line, _document_bytes))
    yield Entry(
        "sync/rejected.ndjson",
        _lines(
            _paged(
                lambda below: sources.log.rejected(user_id, below=below, limit=_LOG_PAGE),
                lambda entry: Place(entry.received_ms, entry.id),
            ),
            lambda entry: _encode(of_rejected(entry)),
            lambda entry: entry.size_bytes,
        ),
    )
    yield Entry(
        "sync/conflicts.ndjson",
        _lines(
            _paged(
                lambda below: sources.log.conflicts(user_id, below=below, limit=_LOG_PAGE, now_ms=now_ms),
                lambda conflict: Place(conflict.at_ms, conflict.id),
            ),
            lambda conflict: _encode(of_conflict(conflict)),
        ),
    )


async def _tracks(sources: Sources, user_id: str, _: int) -> AsyncGenerator[Entry]:
    after = ""
    while (workout_id := await sources.tracks.next_workout(user_id, after=after)) is not None:
        after = workout_id
        yield Entry(f"tracks/{workout_id}.ndjson", track_files.lines(sources.tracks, user_id, workout_id))
        found = await sources.sync.document(user_id, Key(COLLECTION, workout_id))
        read = {} if found is None else document.read(found)
        text = track_files.gpx_text(sources.tracks, user_id, workout_id, read)
        yield Entry(f"tracks/{workout_id}.gpx", text, is_optional=True)
        if read.get("source") != "fit_import":  # else the file itself is among the imports
            file = track_files.fit_file(sources.tracks, user_id, workout_id, read)
            yield Entry(f"tracks/{workout_id}.fit", file, is_optional=True)


async def _imports(sources: Sources, user_id: str, _: int) -> AsyncGenerator[Entry]:
    yield Entry("imports/imports.ndjson", _lines(_import_records(sources, user_id), _encode))
    async for record in _import_records(sources, user_id):
        yield Entry(f"imports/{record.import_id}.{record.format}", sources.imports.read_file(record))


async def _import_records(sources: Sources, user_id: str) -> AsyncIterator[ImportRecord]:
    after = ""
    while (record := await sources.imports.next(user_id, after=after)) is not None:
        yield record
        after = record.sha256


HOLDINGS: Final[Mapping[str, Holding]] = {
    "account": Holding(
        tuple(table.collection for table in TABLES),
        _tables,
        "account/: the account, and what is known of its logins and devices, as rows.",
        is_of_one_moment=True,
    ),
    "documents": Holding(
        ("sync_records",),
        _documents,
        "documents/: the documents that your devices sync, all of one moment, deleted ones included. `value` is the document as apps "
        "read it; `fields` is what it is made of, each value under the time and device that wrote it ({stamp: {path: value}}). "
        "sync/: what was refused, what lost to another device, and how far each device was.",
        is_of_one_moment=True,
    ),
    "tracks": Holding(
        ("tracks",),
        _tracks,
        "tracks/: samples of sensors. <workout>.ndjson has all of them, chunk by chunk: values[i] was measured offsets_ms[i] after "
        "start. <workout>.gpx is there where positions were recorded, and has what was measured at them; <workout>.fit where the "
        "workout was not imported as FIT.",
    ),
    "imports": Holding(
        ("imports", "import_files"),
        _imports,
        "imports/: the files that were imported, to the byte (decompressed), and what became of them.",
    ),
}


async def _one(value: Any) -> AsyncIterator[bytes]:
    yield _encode(value) + b"\n"


async def _lines(
    found: AsyncIterator[T], line: Callable[[T], bytes], size_bytes: Callable[[T], int] = lambda _: 0
) -> AsyncIterator[bytes]:
    batch: list[T] = []
    batch_bytes = 0
    async for one in found:
        batch.append(one)
        batch_bytes += size_bytes(one)
        if len(batch) >= LINES_AT_ONCE or batch_bytes >= LINE_BYTES_AT_ONCE:
            yield await asyncio.to_thread(_joined, batch, line)
            batch, batch_bytes = [], 0
    if batch:
        yield await asyncio.to_thread(_joined, batch, line)


def _joined(batch: Iterable[T], line: Callable[[T], bytes]) -> bytes:
    return b"".join(line(one) + b"\n" for one in batch)


async def _paged(page: "Callable[[Place | None], Any]", place_of: Callable[[Any], Place]) -> AsyncIterator[Any]:
    below: Place | None = None
    while True:
        listed: Listed[Any] = await page(below)
        for one in listed.entries:
            yield one
        if not listed.has_more:
            return
        below = place_of(listed.entries[-1])


def _document_bytes(one: Document) -> int:
    return one.most_bytes


def _document_line(one: Document) -> bytes:
    delta = Delta(collection=one.key.collection, id=one.key.id, seq=one.seq, purged=one.purged, fields=_fields(one))
    if one.purged:
        return _encode(delta)
    return _encode({**msgspec.structs.asdict(delta), "value": document.read(one)})


def _fields(one: Document) -> dict[str, dict[str, Any]]:
    by_stamp: dict[Stamp, dict[str, Value]] = {}
    for path, (value, stamp) in one.registers().items():
        by_stamp.setdefault(stamp, {})[path] = values.for_json(value)
    return {clock.to_wire(stamp): by_stamp[stamp] for stamp in sorted(by_stamp)}


def _state(head: Head) -> dict[str, Any]:
    return {
        "seq": head.seq,
        "clock": clock.to_wire(head.clock),
        "devices": {
            device_id: {
                "replica": one.replica,
                "seen_ms": one.seen_ms,
                "presented": one.presented,
                "collections": one.collections,
            }
            for device_id, one in head.devices.items()
        },
    }


def withheld() -> Sequence[tuple[str, str]]:
    """What is left out, and why, for whoever reads the archive."""
    return [
        (f"{table.entry}: {field}", reason)
        for table in TABLES
        for field, reason in table.withheld.items()
        if field != "_id"
    ]
