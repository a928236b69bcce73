"""One workout's samples as text, chunk by chunk: never more of them in memory than a few chunks of each stream."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final

from msgspec import json

from fitness_api.bodies import rfc3339
from fitness_api.workouts import exports, fit_writer, gpx
from sync.track_store import Stored, TrackStore
from sync.tracks import STREAMS, Chunk, Stream

# Of one stream, beside the chunk of positions that is written: an hour of positions spans one or two. More are there where
# recordings of several devices overlap; what is beyond is in the lines all the same.
MAX_BESIDE: Final = 8
# Seven streams at 1 Hz for eight hours: some 20 MB while a file is made of them, and 3 s of a thread.
MAX_FIT_SAMPLES: Final = 200_000


async def lines(tracks: TrackStore, user_id: str, workout_id: str) -> AsyncIterator[bytes]:
    """Give a line of JSON for each chunk."""
    async with aclosing(_chunks(tracks, user_id, workout_id, *STREAMS)) as stored:
        async for one in stored:
            yield await asyncio.to_thread(_line, one)


def _line(stored: Stored) -> bytes:
    chunk = stored.chunk
    shown = {
        "stream": chunk.stream,
        "chunk": stored.chunk_id,
        "start": rfc3339(chunk.start_ms),
        "offsets_ms": chunk.offsets_ms,
        "values": chunk.values,
    }
    return json.encode(shown) + b"\n"


async def gpx_text(
    tracks: TrackStore, user_id: str, workout_id: str, document: Mapping[str, Any]
) -> AsyncIterator[bytes]:
    """Give the workout as GPX; nothing at all where it has no positions. `document` is as `sync.document.read` gives it."""
    async with AsyncExitStack() as opened:
        positions = await opened.enter_async_context(aclosing(_chunks(tracks, user_id, workout_id, "position")))
        beside = {
            stream: _Beside(await opened.enter_async_context(aclosing(_chunks(tracks, user_id, workout_id, stream))))
            for stream in gpx.BESIDE
        }
        is_begun = False
        async for stored in positions:
            chunk = stored.chunk
            if not is_begun:
                is_begun = True
                name, sport = _text(document.get("title")), _text(document.get("sport"))
                at_ms = chunk.start_ms + chunk.offsets_ms[0]
                yield gpx.head(name=name, sport=sport, at_ms=at_ms).encode()
            begin_ms = chunk.start_ms + chunk.offsets_ms[0] - gpx.STANDS_MS
            end_ms = chunk.start_ms + chunk.offsets_ms[-1]
            others = {stream: await one.within(begin_ms, end_ms) for stream, one in beside.items()}
            yield await asyncio.to_thread(_segment, chunk, others)
        if is_begun:
            yield gpx.TAIL.encode()


async def fit_file(
    tracks: TrackStore, user_id: str, workout_id: str, document: Mapping[str, Any]
) -> AsyncIterator[bytes]:
    """Give the workout as FIT, which needs no positions; nothing where that would take too much, or nothing tells when it was."""
    held: dict[Stream, list[Chunk]] = {}
    samples = 0
    async with aclosing(_chunks(tracks, user_id, workout_id, *STREAMS)) as found:
        async for stored in found:
            samples += len(stored.chunk.values)
            if samples > MAX_FIT_SAMPLES:
                return
            held.setdefault(stored.chunk.stream, []).append(stored.chunk)
    file = await asyncio.to_thread(_fit, document, held)
    if file is not None:
        yield file


def _fit(document: Mapping[str, Any], held: Mapping[Stream, list[Chunk]]) -> bytes | None:
    session = exports.session(document, held)
    offset_s = document.get("utc_offset_s")
    if session is None:
        return None
    return fit_writer.written(session, utc_offset_s=offset_s if type(offset_s) is int else None)


def _segment(chunk: Chunk, others: Mapping[Stream, list[Chunk]]) -> bytes:
    return "".join(gpx.segment(chunk, others)).encode()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


async def _chunks(tracks: TrackStore, user_id: str, workout_id: str, *streams: Stream) -> AsyncGenerator[Stored]:
    async for stored in tracks.read(user_id, workout_id, streams):
        yield stored


class _Beside:
    """A stream's chunks as windows of time go by, of which none begins before the one that went."""

    def __init__(self, chunks: AsyncIterator[Stored]) -> None:
        self._chunks = chunks
        self._held: list[Chunk] = []
        self._next: Chunk | None = None
        self._is_over = False

    async def within(self, begin_ms: int, end_ms: int) -> list[Chunk]:
        self._held = [chunk for chunk in self._held if chunk.start_ms + chunk.offsets_ms[-1] >= begin_ms]
        while len(self._held) < MAX_BESIDE:
            if self._next is None and not self._is_over:
                stored = await anext(self._chunks, None)
                self._next, self._is_over = (None, True) if stored is None else (stored.chunk, False)
            if self._next is None or self._next.start_ms + self._next.offsets_ms[0] > end_ms:
                break
            if self._next.start_ms + self._next.offsets_ms[-1] >= begin_ms:
                self._held.append(self._next)
            self._next = None
        return self._held
