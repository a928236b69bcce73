"""A chunk and the document that lists it: first the samples, then, through the merge, their place in `tracks`."""

from typing import Literal

from sync import merge
from sync.document import Key
from sync.errors import AccountDeleted, DocumentPurged, WorkoutTracksFull
from sync.store import Store
from sync.track_store import COLLECTION, MAX_CHUNKS, MAX_SAMPLES, TrackStore
from sync.tracks import Chunk


async def attach(
    store: Store, tracks: TrackStore, *, user_id: str, workout_id: str, chunk_id: str, chunk: Chunk, now_ms: int
) -> Literal["stored", "known"]:
    """Store the chunk and list it, both at most once; a call that was cut off is made good by another.

    Unlike `exchange.fill` it leaves a deleted document deleted: a phone may bring late what another has thrown away.
    Raises what `TrackStore.put` does, WorkoutTracksFull if the document has no room for one more path, DocumentPurged,
    and AccountDeleted.
    """
    done = await tracks.put(user_id, workout_id, chunk.stream, chunk_id, chunk)
    key = Key(COLLECTION, workout_id)

    def step(state: merge.State) -> merge.Outcome:
        return merge.fill(key, {f"tracks/{chunk_id}": True}, state, now_ms=now_ms, restores=False)

    try:
        _, outcome = await store.update(user_id, [key], (), step)
    except AccountDeleted:
        # The erasure may have passed before the chunk was written; had it come later, the update would not have failed.
        await tracks.erase(user_id)
        raise
    for result in outcome.results:
        if result.status == "rejected":
            if result.code == "document_purged":
                await tracks.erase(user_id, workout_id)
                raise DocumentPurged(workout_id)
            raise WorkoutTracksFull(max_chunks=MAX_CHUNKS, max_samples=MAX_SAMPLES)
    return done
