"""A chunk and the document that lists it: first the samples, then, through the merge, their place in `tracks`."""

from typing import Literal

from sync import merge
from sync.document import Document, Key
from sync.errors import WorkoutTracksFull
from sync.store import Store
from sync.track_store import MAX_CHUNKS, MAX_SAMPLES, TrackStore
from sync.tracks import Chunk

COLLECTION = "workouts"


async def attach(
    store: Store, tracks: TrackStore, *, user_id: str, workout_id: str, chunk_id: str, chunk: Chunk, now_ms: int
) -> Literal["stored", "known"]:
    """Store the chunk and list it, both at most once; a call that was cut off is made good by another.

    Unlike `exchange.fill` it leaves a deleted document deleted: a phone may bring late what another has thrown away.
    Raises what `TrackStore.put` does, and WorkoutTracksFull if the document has no room for one more path.
    """
    done = await tracks.put(user_id, workout_id, chunk.stream, chunk_id, chunk)
    key = Key(COLLECTION, workout_id)

    def step(state: merge.State) -> merge.Outcome:
        return merge.fill(key, {f"tracks/{chunk_id}": True}, state, now_ms=now_ms, restores=False)

    _, outcome = await store.update(user_id, [key], (), step)
    if any(result.status == "rejected" for result in outcome.results):
        raise WorkoutTracksFull(max_chunks=MAX_CHUNKS, max_samples=MAX_SAMPLES)
    return done


async def find_workout(store: Store, user_id: str, workout_id: str) -> Document | None:
    """Return the document as it is now, deleted or not."""
    key = Key(COLLECTION, workout_id)

    def step(state: merge.State) -> merge.Outcome:
        return merge.Outcome(state.head, (), {}, ())

    state, _ = await store.update(user_id, [key], (), step)
    return state.documents.get(key)
