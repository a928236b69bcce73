"""The stores of one world: in memory, and no more forgiving than the database is."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Literal

import bson

from sync import tracks
from sync.clock import Stamp
from sync.conflicts import Conflict
from sync.document import Document, Key
from sync.errors import TrackConflict, WorkoutTracksFull
from sync.head import Head
from sync.log import Listed, Place
from sync.merge import Outcome, State
from sync.quarantine import Rejected
from sync.store import Step, View
from sync.store_memory import MemoryStore
from sync.track_store import MAX_CHUNKS, MAX_SAMPLES, Stored
from sync.tracks import Chunk, Stream


def storable(*values: Any) -> None:
    """Raises what the driver raises for a value that MongoDB has no form for: an integer beyond 64 bits, half a surrogate pair."""
    bson.encode({"values": list(values)})


class StrictStore(MemoryStore):
    """A MemoryStore that takes as arguments only what an adapter could send to a database.

    As one may whose documents are too large to be held at once, it gives a step a part of the keys now and then.
    """

    def __init__(self, dice: Random) -> None:
        super().__init__(dice)
        self._parts = Random(dice.random())

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        storable(user_id, [list(key) for key in keys], list(stamps))
        if len(keys) > 1 and self._parts.random() < 0.2:
            keys = keys[: self._parts.randint(1, len(keys))]
        return await super().update(user_id, keys, stamps, step)

    @asynccontextmanager
    async def view(self, user_id: str, *, at_least: int = 0) -> AsyncIterator["View | None"]:  # type: ignore[override]
        storable(user_id, at_least)
        async with super().view(user_id, at_least=at_least) as view:
            yield None if view is None else StrictView(view)

    async def document(self, user_id: str, key: Key) -> Document | None:
        storable(user_id, list(key))
        return await super().document(user_id, key)

    async def rejected(self, user_id: str, *, below: Place | None, limit: int) -> Listed[Rejected]:
        storable(user_id, below and list(below), limit)
        return await super().rejected(user_id, below=below, limit=limit)

    async def rejected_one(self, user_id: str, entry_id: str) -> Rejected | None:
        storable(user_id, entry_id)
        return await super().rejected_one(user_id, entry_id)

    async def conflicts(self, user_id: str, *, below: Place | None, limit: int, now_ms: int) -> Listed[Conflict]:
        storable(user_id, below and list(below), limit, now_ms)
        return await super().conflicts(user_id, below=below, limit=limit, now_ms=now_ms)

    async def conflict(self, user_id: str, conflict_id: str, *, now_ms: int) -> Conflict | None:
        storable(user_id, conflict_id)
        return await super().conflict(user_id, conflict_id, now_ms=now_ms)


class StrictView:
    def __init__(self, view: View) -> None:
        self._view = view

    @property
    def head(self) -> Head:
        return self._view.head

    def changed(
        self,
        collections: Collection[str],
        *,
        after: int,
        upto: int,
        snapshot: bool = False,
        room: Callable[[], int] | None = None,
    ) -> AsyncIterator[Document]:
        storable(list(collections), after, upto)
        return self._view.changed(collections, after=after, upto=upto, snapshot=snapshot, room=room)

    async def count_changed(
        self, collections: Collection[str], *, after: int, upto: int, snapshot: bool = False
    ) -> int:
        storable(list(collections), after, upto)
        return await self._view.count_changed(collections, after=after, upto=upto, snapshot=snapshot)

    def in_bucket(self, collection: str, bucket: int | None, *, after: int) -> AsyncIterator[Document]:
        storable(collection, bucket, after)
        return self._view.in_bucket(collection, bucket, after=after)


class MemoryTracks:
    """Chunks as they would be stored: encoded, under their digest."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, Stream, str], tuple[str, int, bytes]] = {}

    async def put(
        self, user_id: str, workout_id: str, stream: Stream, chunk_id: str, chunk: Chunk
    ) -> Literal["stored", "known"]:
        key = (user_id, workout_id, stream, chunk_id)
        digest, data = tracks.digest(chunk), tracks.encode(chunk)
        storable(*key, chunk.start_ms + chunk.offsets_ms[0], digest, data)
        if key in self._held:
            if self._held[key][0] != digest:
                raise TrackConflict(chunk_id)
            return "known"
        counts = [samples for (user, workout, *_), (_, samples, _) in self._held.items() if (user, workout) == key[:2]]
        if len(counts) >= MAX_CHUNKS or sum(counts) + len(chunk.values) > MAX_SAMPLES:
            raise WorkoutTracksFull(max_chunks=MAX_CHUNKS, max_samples=MAX_SAMPLES)
        self._held[key] = (digest, len(chunk.values), data)
        return "stored"

    async def read(self, user_id: str, workout_id: str, streams: Collection[Stream]) -> AsyncIterator[Stored]:
        storable(user_id, workout_id, list(streams))
        for (user, workout, stream, chunk_id), (_, _, data) in sorted(self._held.items()):
            if (user, workout) == (user_id, workout_id) and stream in streams:
                yield Stored(chunk_id, tracks.decode(data))

    async def next_workout(self, user_id: str, *, after: str) -> str | None:
        return min((key[1] for key in self._held if key[0] == user_id and key[1] > after), default=None)

    async def listed(self, user_id: str, workout_id: str) -> dict[str, Stream]:
        return {key[3]: key[2] for key in self._held if key[:2] == (user_id, workout_id)}

    async def holds(self, user_id: str, workout_id: str) -> bool:
        return any(key[:2] == (user_id, workout_id) for key in self._held)

    async def erase(self, user_id: str, workout_id: str | None = None) -> None:
        for key in [key for key in self._held if key[0] == user_id and workout_id in {None, key[1]}]:
            del self._held[key]
