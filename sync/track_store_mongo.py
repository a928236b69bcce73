"""Track chunks on MongoDB.

A chunk is `{_id: "<user>/<workout>/<stream>/<chunk>", user_id, workout_id, stream, chunk_id, start_ms, samples, digest, data}`.
Equal `_id`s have equal shard keys, so that they meet on one shard, whose index on `_id` decides races.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, Final, Literal

from bson.binary import Binary
from pymongo import ASCENDING
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from sync import tracks
from sync.errors import TrackConflict, WorkoutTracksFull
from sync.errors_mongo import translated
from sync.removal_mongo import remove_all
from sync.track_store import MAX_CHUNKS, MAX_SAMPLES, Stored
from sync.tracks import Chunk, Stream

TRACKS: Final = "tracks"

COLLECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    TRACKS: {
        "shard_key": [("user_id", 1), ("workout_id", 1)],
        # In the order of `read`; with `samples`, so that a workout's bound is checked in the index alone.
        "indexes": [
            (
                [("user_id", 1), ("workout_id", 1), ("stream", 1), ("start_ms", 1), ("chunk_id", 1), ("samples", 1)],
                {"name": "workout"},
            )
        ],
    },
}

_READ_AT_ONCE: Final = 16  # chunks of at most 256 KiB: 4 MiB in memory beside what the caller keeps


class MongoTrackStore:
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self._tracks = database.get_collection(
            TRACKS, write_concern=WriteConcern("majority", j=True), read_concern=ReadConcern("majority")
        )

    async def put(
        self, user_id: str, workout_id: str, stream: Stream, chunk_id: str, chunk: Chunk
    ) -> Literal["stored", "known"]:
        key = {"_id": f"{user_id}/{workout_id}/{stream}/{chunk_id}", "user_id": user_id, "workout_id": workout_id}
        # Milliseconds of pure computing, in which the event loop has others to serve.
        digest, data = await asyncio.to_thread(lambda: (tracks.digest(chunk), tracks.encode(chunk)))
        with translated():
            known = await self._tracks.find_one(key, {"digest": 1})
            if known is None:
                await self._require_room(user_id, workout_id, len(chunk.values))
                try:
                    await self._tracks.insert_one(
                        {
                            **key,
                            "stream": stream,
                            "chunk_id": chunk_id,
                            "start_ms": chunk.start_ms + chunk.offsets_ms[0],
                            "samples": len(chunk.values),
                            "digest": digest,
                            "data": Binary(data),
                        }
                    )
                    return "stored"
                except DuplicateKeyError:
                    known = await self._tracks.find_one(key, {"digest": 1})
        if known is None or known["digest"] != digest:
            raise TrackConflict(chunk_id)
        return "known"

    async def _require_room(self, user_id: str, workout_id: str, samples: int) -> None:
        cursor = await self._tracks.aggregate(
            [
                {"$match": {"user_id": user_id, "workout_id": workout_id}},
                {"$group": {"_id": None, "chunks": {"$sum": 1}, "samples": {"$sum": "$samples"}}},
            ],
            hint="workout",
        )
        async for held in cursor:
            if held["chunks"] >= MAX_CHUNKS or held["samples"] + samples > MAX_SAMPLES:
                raise WorkoutTracksFull(max_chunks=MAX_CHUNKS, max_samples=MAX_SAMPLES)

    async def read(self, user_id: str, workout_id: str, streams: Collection[Stream]) -> AsyncIterator[Stored]:
        cursor = self._tracks.find(
            {"user_id": user_id, "workout_id": workout_id, "stream": {"$in": sorted(streams)}},
            {"chunk_id": 1, "data": 1},
            sort=[("stream", ASCENDING), ("start_ms", ASCENDING), ("chunk_id", ASCENDING)],
            hint="workout",
            batch_size=_READ_AT_ONCE,
        )
        with translated():
            async with cursor:
                async for record in cursor:
                    yield Stored(record["chunk_id"], await asyncio.to_thread(tracks.decode, record["data"]))

    async def next_workout(self, user_id: str, *, after: str) -> str | None:
        with translated():
            found = await self._tracks.find_one(
                {"user_id": user_id, "workout_id": {"$gt": after}},
                {"_id": 0, "workout_id": 1},  # from the index alone
                sort=[("user_id", ASCENDING), ("workout_id", ASCENDING)],
                hint="workout",
            )
        return None if found is None else str(found["workout_id"])

    async def listed(self, user_id: str, workout_id: str) -> dict[str, Stream]:
        cursor = self._tracks.find(
            {"user_id": user_id, "workout_id": workout_id},
            {"_id": 0, "chunk_id": 1, "stream": 1},  # from the index alone
            hint="workout",
        )
        with translated():
            async with cursor:
                return {record["chunk_id"]: record["stream"] async for record in cursor}

    async def holds(self, user_id: str, workout_id: str) -> bool:
        with translated():
            found = await self._tracks.find_one(
                {"user_id": user_id, "workout_id": workout_id}, {"_id": 1}, hint="workout"
            )
        return found is not None

    async def erase(self, user_id: str, workout_id: str | None = None) -> None:
        with translated():
            if workout_id is None:
                await remove_all(self._tracks, user_id)
            else:
                await self._tracks.delete_many({"user_id": user_id, "workout_id": workout_id})
