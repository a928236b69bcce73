"""Exports from real stores, taken at the pace of the test."""

import asyncio
import gc
import io
import json
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.errors import ExportInProgress, NotAuthenticated
from fitness_api.export import exports
from fitness_api.export.exports import Exports
from fitness_api.export.holdings import Sources
from fitness_api.export.rows_mongo import MongoRows
from fitness_api.leases_mongo import LEASES, MongoLeases
from fitness_api.workouts.import_store_mongo import MongoImportStore
from sync import exchange, tracks
from sync.log_mongo import MongoLog
from sync.store_mongo import MongoStore
from sync.track_store_mongo import MongoTrackStore
from tests.fitness_api.erasing import NOW_MS
from tests.sync.model import new_id
from tests.sync.test_track_store_mongo import beats


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


@pytest.fixture
def sources(database: AsyncDatabase[dict[str, Any]]) -> Sources:
    return Sources(
        MongoRows(database),
        MongoStore(database),
        MongoLog(database),
        MongoTrackStore(database),
        MongoImportStore(database),
    )


@pytest.fixture
def made(sources: Sources, database: AsyncDatabase[dict[str, Any]]) -> Exports:
    return Exports(sources, MongoLeases(database))


async def whole(pieces: AsyncIterator[bytes]) -> dict[str, bytes]:
    content = b"".join([piece async for piece in pieces])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


async def test_documents_are_all_of_one_moment(made: Exports, sources: Sources) -> None:
    """Two that are always written together are never seen apart, though thousands are read between them."""
    user_id = new_id()
    await sources.sync.register_device(user_id, new_id())
    goal, workout = new_id(), new_id()
    stop = asyncio.Event()

    async def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            await exchange.fill(sources.sync, user_id, "workouts", workout, {f"turn{turn}": turn}, now_ms=NOW_MS)
            await exchange.fill(sources.sync, user_id, "goals", goal, {f"turn{turn}": turn}, now_ms=NOW_MS)

    writing = asyncio.create_task(write())
    counts = set()
    for _ in range(8):
        files = await whole(made.of(user_id, now_ms=NOW_MS, goes_on=yes))
        found = [
            len(json.loads(files[f"documents/{collection}.ndjson"] or b"{}").get("value", {}))
            for collection in ("workouts", "goals")
        ]
        # Read one after the other, the goals could be ahead.
        assert found[0] - found[1] in {0, 1}
        state = json.loads(files["sync/state.json"])
        assert state["seq"] == sum(found)
        counts.add(state["seq"])
    stop.set()
    await writing
    assert len(counts) > 1


async def test_who_breaks_it_off_leaves_nothing_behind(made: Exports, database: AsyncDatabase[dict[str, Any]]) -> None:
    user_id = new_id()
    pieces = made.of(user_id, now_ms=NOW_MS, goes_on=yes)
    await anext(pieces)
    with pytest.raises(ExportInProgress):
        await anext(made.of(user_id, now_ms=NOW_MS, goes_on=yes))
    assert await database[LEASES].count_documents({}) == 1
    await pieces.aclose()
    assert await database[LEASES].count_documents({}) == 0
    assert "manifest.json" in await whole(made.of(user_id, now_ms=NOW_MS, goes_on=yes))


@pytest.mark.parametrize(("seconds", "goes_on"), [(3, no), (3 * 3600, yes)])
async def test_it_ends_with_its_session_and_does_not_last_for_ever(
    sources: Sources, database: AsyncDatabase[dict[str, Any]], seconds: int, goes_on: Any
) -> None:
    user_id = new_id()
    await sources.sync.register_device(user_id, new_id())
    for _ in range(4):
        await sources.tracks.put(user_id, new_id(), "heart_rate", new_id(), beats(120))
    now = iter(range(0, 10**9, seconds))
    ending = Exports(sources, MongoLeases(database), monotonic_s=lambda: next(now))
    got: list[bytes] = []

    async def take() -> None:
        async for piece in ending.of(user_id, now_ms=NOW_MS, goes_on=goes_on):
            got.append(piece)  # noqa: PERF401  what came before it ended

    with pytest.raises(NotAuthenticated):
        await take()
    assert got
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(b"".join(got)))
    assert await database[LEASES].count_documents({}) == 0


async def test_the_lease_is_kept_as_long_as_it_is_taken(
    sources: Sources, database: AsyncDatabase[dict[str, Any]]
) -> None:
    user_id = new_id()
    for _ in range(4):
        await sources.tracks.put(user_id, new_id(), "heart_rate", new_id(), beats(120))
    now = iter(range(0, 10**9, exports.KEPT_EVERY_S + 1))
    made = Exports(sources, MongoLeases(database), monotonic_s=lambda: next(now))
    ends = []
    async for _ in made.of(user_id, now_ms=NOW_MS, goes_on=yes):
        lease = await database[LEASES].find_one({})
        assert lease is not None
        ends.append(lease["expires_at"])
    assert ends == sorted(ends)
    assert ends[0] < ends[-1]


async def with_tracks(sources: Sources, dice: Random, *, workouts: int) -> str:
    user_id = new_id()
    for _ in range(workouts):
        chunk = tracks.check(
            stream="position",
            start_ms=NOW_MS,
            offsets_ms=[1000 * second for second in range(600)],
            values=[(dice.uniform(-90, 90), dice.uniform(-180, 180)) for _ in range(600)],
        )
        await sources.tracks.put(user_id, str(uuid4()), "position", new_id(), chunk)
    return user_id


async def test_memory_does_not_grow_with_what_an_account_holds(
    made: Exports, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fitness_api.export.archive.HELD_BYTES", 64 * 1024)
    dice = Random(1)
    # What is made once in a process is none of an account's.
    await whole(made.of(await with_tracks(sources, dice, workouts=1), now_ms=NOW_MS, goes_on=yes))
    peaks, sizes = [], []
    for workouts in (2, 8):
        user_id = await with_tracks(sources, dice, workouts=workouts)
        tracemalloc.start()
        size = 0
        async for piece in made.of(user_id, now_ms=NOW_MS, goes_on=yes):
            size += len(piece)
            gc.collect()  # the FIT encoder leaves cycles behind, which are freed whenever the collector comes
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append(size)
    assert sizes[1] > 3 * sizes[0]
    assert peaks[1] < 1.2 * peaks[0] + 50_000
