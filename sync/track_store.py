"""The port to track chunks. Adapter: `track_store_mongo`."""

from collections.abc import AsyncIterator, Collection
from typing import Final, Literal, NamedTuple, Protocol

from sync.tracks import Chunk, Stream

# A document lists its chunks within its 2,000 paths; half of them stay for laps, sets and what the user writes.
MAX_CHUNKS: Final = 1_000
# Eight streams at 1 Hz for three days. Bounds what one request for a workout's tracks may hold in memory.
MAX_SAMPLES: Final = 2_000_000


class Stored(NamedTuple):
    chunk_id: str
    chunk: Chunk


# The collection of documents that tracks belong to.
COLLECTION: Final = "workouts"


class TrackStore(Protocol):
    """What every adapter keeps to; tests/sync/test_track_store_mongo.py checks each bullet.

    - A chunk never changes: what was stored under an id is what that id gives, and racing writers agree on one content.
    - What `put` returned is durable (majority, journaled), and every later read sees it.
    - `put` knows of no erasure: who writes asks the account's store afterwards whether there was one, and then calls `erase`.
    - Accounts do not meet: the same ids under another account are other chunks.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def put(
        self, user_id: str, workout_id: str, stream: Stream, chunk_id: str, chunk: Chunk
    ) -> Literal["stored", "known"]:
        """Store the chunk, or find that it is there with the same content (`tracks.digest`).

        Raises TrackConflict if the id has other content, WorkoutTracksFull if the workout has MAX_CHUNKS or MAX_SAMPLES
        (writers that race may pass the bound by what each of them brings), ChunkInvalid if it cannot be encoded.
        """
        ...

    def read(self, user_id: str, workout_id: str, streams: Collection[Stream]) -> AsyncIterator[Stored]:
        """Give the workout's chunks of these streams, by stream, then start, then id."""
        ...

    async def next_workout(self, user_id: str, *, after: str) -> str | None:
        """Return the next workout, by id, that has chunks, whether or not its document is there."""
        ...

    async def listed(self, user_id: str, workout_id: str) -> dict[str, Stream]:
        """Return the workout's chunks by id, each with its stream."""
        ...

    async def holds(self, user_id: str, workout_id: str) -> bool:
        """Whether the workout has any chunk."""
        ...

    async def erase(self, user_id: str, workout_id: str | None = None) -> None:
        """Remove all chunks of the account, or of one workout (not atomically; cut off in between, it is called again)."""
        ...
