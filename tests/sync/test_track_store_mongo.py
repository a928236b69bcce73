"""The port's contract, on a real mongod."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from sync import track_store_mongo, tracks
from sync.errors import StoreUnavailable, TrackConflict, WorkoutTracksFull
from sync.track_store import Stored
from sync.track_store_mongo import TRACKS, MongoTrackStore
from sync.tracks import Chunk, Stream
from tests.sync.model import new_id

START_MS = 1_700_000_000_000


@pytest.fixture
def store(database: AsyncDatabase[dict[str, Any]]) -> MongoTrackStore:
    return MongoTrackStore(database)


@pytest.fixture
def user() -> str:
    return new_id()


@pytest.fixture
def workout() -> str:
    return new_id()


def beats(*values: int, start_ms: int = START_MS, stream: Stream = "heart_rate") -> Chunk:
    return tracks.check(
        stream=stream, start_ms=start_ms, offsets_ms=[1000 * index for index in range(len(values))], values=values
    )


async def read(
    store: MongoTrackStore, user: str, workout: str, streams: Collection[Stream] = tracks.STREAMS
) -> list[Stored]:
    return [stored async for stored in store.read(user, workout, streams)]


async def test_a_chunk_is_stored_once_and_comes_back(store: MongoTrackStore, user: str, workout: str) -> None:
    chunk_id, chunk = new_id(), beats(120, 121)
    assert not await store.holds(user, workout)
    assert await store.put(user, workout, "heart_rate", chunk_id, chunk) == "stored"
    assert await store.put(user, workout, "heart_rate", chunk_id, chunk) == "known"
    assert await read(store, user, workout) == [Stored(chunk_id, chunk)]
    assert await store.holds(user, workout)


async def test_an_id_with_other_content_is_a_conflict_and_nothing_changes(
    store: MongoTrackStore, user: str, workout: str
) -> None:
    chunk_id = new_id()
    await store.put(user, workout, "heart_rate", chunk_id, beats(120))
    with pytest.raises(TrackConflict):
        await store.put(user, workout, "heart_rate", chunk_id, beats(121))
    assert await read(store, user, workout) == [Stored(chunk_id, beats(120))]


async def test_racing_writers_agree_on_one_content(store: MongoTrackStore, user: str, workout: str) -> None:
    chunk_id = new_id()
    contents = [beats(120), beats(121)]
    outcomes = await asyncio.gather(
        *(store.put(user, workout, "heart_rate", chunk_id, contents[turn % 2]) for turn in range(20)),
        return_exceptions=True,
    )
    (stored,) = await read(store, user, workout)
    winner = contents.index(stored.chunk)
    assert outcomes.count("stored") == 1
    assert outcomes.index("stored") % 2 == winner
    for turn, outcome in enumerate(outcomes):
        assert outcome in {"stored", "known"} if turn % 2 == winner else isinstance(outcome, TrackConflict)


async def test_accounts_and_workouts_do_not_meet(store: MongoTrackStore, user: str, workout: str) -> None:
    chunk_id = new_id()
    for owner, place, value in ((user, workout, 120), (new_id(), workout, 121), (user, new_id(), 122)):
        assert await store.put(owner, place, "heart_rate", chunk_id, beats(value)) == "stored"
    assert await read(store, user, workout) == [Stored(chunk_id, beats(120))]
    assert not await store.holds(new_id(), workout)


async def test_chunks_are_read_by_stream_then_start(store: MongoTrackStore, user: str, workout: str) -> None:
    placed: list[tuple[Stream, int]] = [("power", 2), ("heart_rate", 5), ("power", 1), ("heart_rate", 3), ("rr", 0)]
    for stream, minute in placed:
        await store.put(
            user, workout, stream, new_id(), beats(minute, start_ms=START_MS + 60_000 * minute, stream=stream)
        )
    found = await read(store, user, workout, ["power", "heart_rate"])
    assert [(stored.chunk.stream, stored.chunk.values[0]) for stored in found] == [
        ("heart_rate", 3), ("heart_rate", 5), ("power", 1), ("power", 2),
    ]  # fmt: skip


async def test_more_chunks_than_one_reply_are_read(store: MongoTrackStore, user: str, workout: str) -> None:
    for minute in range(40):
        await store.put(user, workout, "heart_rate", new_id(), beats(minute, start_ms=START_MS + 60_000 * minute))
    found = await read(store, user, workout)
    assert [stored.chunk.values[0] for stored in found] == list(range(40))


@pytest.mark.parametrize(("bound", "value"), [("MAX_CHUNKS", 2), ("MAX_SAMPLES", 5)])
async def test_a_workout_has_its_bounds(
    store: MongoTrackStore, user: str, workout: str, bound: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track_store_mongo, bound, value)
    first = new_id()
    await store.put(user, workout, "heart_rate", first, beats(120, 121))
    await store.put(user, workout, "power", new_id(), beats(200, 201, stream="power"))
    with pytest.raises(WorkoutTracksFull):
        await store.put(user, workout, "heart_rate", new_id(), beats(122, 123))
    assert await store.put(user, workout, "heart_rate", first, beats(120, 121)) == "known"
    assert await store.put(user, new_id(), "heart_rate", new_id(), beats(122, 123)) == "stored"


async def test_the_bound_and_the_reads_use_the_index(
    store: MongoTrackStore, user: str, workout: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await store.put(user, workout, "heart_rate", new_id(), beats(120))
    pipeline = [
        {"$match": {"user_id": user, "workout_id": workout}},
        {"$group": {"_id": None, "chunks": {"$sum": 1}, "samples": {"$sum": "$samples"}}},
    ]
    explained = await database.command(
        {
            "explain": {"aggregate": TRACKS, "pipeline": pipeline, "cursor": {}, "hint": "workout"},
            "verbosity": "executionStats",
        }
    )
    assert "'FETCH'" not in str(explained)
    assert "'COLLSCAN'" not in str(explained)


async def test_a_lost_database_is_unavailable(user: str, workout: str, tmp_path: Path) -> None:
    # A socket that is not there: the driver leaks the TCP sockets of connections that were refused.
    nowhere = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}/?directConnection=true"
    async with AsyncMongoClient[dict[str, Any]](nowhere, serverSelectionTimeoutMS=50) as client:
        store = MongoTrackStore(client["nowhere"])
        answers = await asyncio.gather(
            store.put(user, workout, "heart_rate", new_id(), beats(120)),
            read(store, user, workout),
            store.holds(user, workout),
            return_exceptions=True,
        )
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3


async def test_an_accounts_chunks_are_erased_in_all_its_workouts(store: MongoTrackStore, user: str) -> None:
    workouts, other = [new_id(), new_id()], new_id()
    for owner in (user, other):
        for workout in workouts:
            await store.put(owner, workout, "heart_rate", new_id(), beats(120))
    await store.erase(user)
    await store.erase(user)
    assert [await store.holds(user, workout) for workout in workouts] == [False, False]
    assert [await store.holds(other, workout) for workout in workouts] == [True, True]
