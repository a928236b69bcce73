"""A chunk and the document that lists it."""

from typing import Any

import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from sync import exchange, merge
from sync.attach import attach
from sync.clock import Stamp
from sync.document import MAX_PATHS, Document, Key, Mark, read
from sync.errors import TrackConflict, WorkoutTracksFull
from sync.store import Store
from sync.store_memory import MemoryStore
from sync.store_mongo import MongoStore
from sync.track_store_mongo import MongoTrackStore
from sync.tracks import Chunk
from tests.sync.model import NOW_MS, new_id
from tests.sync.test_track_store_mongo import beats


@pytest.fixture(params=["memory", "mongo"])
def store(request: pytest.FixtureRequest, database: AsyncDatabase[dict[str, Any]]) -> Store:
    return MemoryStore() if request.param == "memory" else MongoStore(database)


@pytest.fixture
def track_store(database: AsyncDatabase[dict[str, Any]]) -> MongoTrackStore:
    return MongoTrackStore(database)


@pytest.fixture
def user() -> str:
    return new_id()


class Bench:
    """One workout, and what the tests do to it."""

    def __init__(self, store: Store, track_store: MongoTrackStore, user: str) -> None:
        self.store, self.track_store, self.user, self.workout = store, track_store, user, new_id()

    async def attach(self, chunk_id: str, chunk: Chunk) -> str:
        return await attach(
            self.store,
            self.track_store,
            user_id=self.user,
            workout_id=self.workout,
            chunk_id=chunk_id,
            chunk=chunk,
            now_ms=NOW_MS,
        )

    async def document(self) -> Document:
        document = await self.store.document(self.user, Key("workouts", self.workout))
        assert document is not None
        return document


@pytest.fixture
def bench(store: Store, track_store: MongoTrackStore, user: str) -> Bench:
    return Bench(store, track_store, user)


async def test_the_document_lists_the_chunk_though_it_comes_later(bench: Bench) -> None:
    chunk_id = new_id()
    assert await bench.store.document(bench.user, Key("workouts", bench.workout)) is None
    assert await bench.attach(chunk_id, beats(120)) == "stored"
    assert read(await bench.document()) == {"tracks": [chunk_id]}


async def test_attaching_again_changes_nothing(bench: Bench) -> None:
    chunk_id = new_id()
    await bench.attach(chunk_id, beats(120))
    before = await bench.document()
    assert await bench.attach(chunk_id, beats(120)) == "known"
    assert (await bench.document()).seq == before.seq
    with pytest.raises(TrackConflict):
        await bench.attach(chunk_id, beats(121))


async def test_a_chunk_that_was_stored_and_not_listed_is_listed_by_the_next_call(bench: Bench) -> None:
    chunk_id = new_id()
    await bench.track_store.put(bench.user, bench.workout, "heart_rate", chunk_id, beats(120))
    assert await bench.attach(chunk_id, beats(120)) == "known"
    assert read(await bench.document()) == {"tracks": [chunk_id]}


async def test_a_deleted_workout_stays_deleted(bench: Bench) -> None:
    first, late = new_id(), new_id()
    await bench.attach(first, beats(120))
    await exchange.fill(bench.store, bench.user, "workouts", bench.workout, {"deleted": True}, now_ms=NOW_MS)
    assert (await bench.document()).deleted
    await bench.attach(late, beats(121))
    assert (await bench.document()).deleted
    assert set(read(await bench.document())["tracks"]) == {first, late}


async def test_a_full_document_is_told(bench: Bench) -> None:
    key = Key("workouts", bench.workout)
    full = {f"x/{index}": True for index in range(MAX_PATHS)}

    def step(state: merge.State) -> merge.Outcome:
        document = Document(key, seq=state.head.seq + 1, values=dict(full), usual=Mark(Stamp(4096), state.head.seq + 1))
        return exchange_outcome(state, document)

    await bench.store.update(bench.user, [key], (), step)
    with pytest.raises(WorkoutTracksFull):
        await bench.attach(new_id(), beats(120))


def exchange_outcome(state: merge.State, document: Document) -> merge.Outcome:
    return merge.Outcome(replace(state.head, seq=document.seq), [document], {}, ())
