"""One activity, several recordings: recognised, added to, marked, and undone."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.workouts import decoder, duplicates, imports
from fitness_api.workouts.errors import DecoderBusy, FileUnreadable
from fitness_api.workouts.recording import Recording, Samples, Session
from sync import edit
from sync.document import Document, Key, read
from sync.errors import StoreUnavailable
from sync.tracks import STREAMS
from tests.fitness_api.workouts.recordings import RIDE_OF_EIGHT_LAPS, START_MS, File, recorded
from tests.fitness_api.workouts.test_imports import Bench
from tests.sync.model import NOW_MS, new_id

STARTED = "2026-05-01T06:30:00.000Z"


def ride(**changed: Any) -> Session:
    given = {"sport": "ride", "started_at_ms": START_MS, "ended_at_ms": START_MS + 3_600_000, "elapsed_time_s": 3_600}
    return Session(**{**given, **changed})


def workout(**values: Any) -> Document:
    given = {"started_at": STARTED, "ended_at": "2026-05-01T07:30:00.000Z", "sport": "ride"}
    return Document(Key("workouts", new_id()), values={**given, **values})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"started_at": "2026-05-01T06:29:00.000Z"},
        {"started_at": "2026-05-01T06:31:00.000Z"},
        {"ended_at": None, "elapsed_time_s": 3_600},
        {"elapsed_time_s": 3_300},
        {"elapsed_time_s": 3_999},
        {"sport": "other"},
        {"sport": None},
    ],
)
def test_what_is_the_same_activity(values: dict[str, Any]) -> None:
    one = workout(**values)
    assert duplicates.found(ride(), [one]) is one


@pytest.mark.parametrize(
    "values",
    [
        {"started_at": "2026-05-01T06:28:59.999Z"},
        {"started_at": "2026-05-01T06:31:00.001Z"},
        {"started_at": None},
        {"started_at": "yesterday"},
        {"ended_at": None},
        {"elapsed_time_s": 3_200},
        {"elapsed_time_s": 4_001},
        {"sport": "run"},
        {"deleted": True},
    ],
)
def test_what_is_another(values: dict[str, Any]) -> None:
    assert duplicates.found(ride(), [workout(**values)]) is None


def test_the_nearest_is_meant() -> None:
    far, near = workout(started_at="2026-05-01T06:30:40.000Z"), workout(started_at="2026-05-01T06:29:50.000Z")
    assert duplicates.found(ride(), [far, near]) is near
    assert duplicates.found(ride(sport="other", streams={"power": Samples([], [])}), [far]) is far


@pytest.fixture
def bench(database: AsyncDatabase[dict[str, Any]]) -> Bench:
    return Bench(database)


NAMES = [RIDE_OF_EIGHT_LAPS, "activity_4801048867.tcx", "activity_4801048867.gpx", "4801048867_strava.gpx"]


async def streams(bench: Bench, workout_id: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for stored in await bench.stored(workout_id, STREAMS):
        counts[stored.chunk.stream] = counts.get(stored.chunk.stream, 0) + len(stored.chunk.values)
    return counts


@pytest.mark.parametrize("first", range(4))
async def test_one_ride_in_four_files_is_one_workout(bench: Bench, first: int) -> None:
    order = NAMES[first:] + NAMES[:first]
    made = [await bench.send(recorded(name)) for name in order]
    assert [one.is_new for one in made] == [True, False, False, False]
    assert len({tuple(one.workouts) for one in made}) == 1
    [workout_id] = made[0].workouts
    shown = read(await bench.document(workout_id))
    assert shown["imports"] == sorted(one.import_id for one in made)
    found = await streams(bench, workout_id)
    assert set(found) >= {"heart_rate", "position", "altitude", "speed", "temperature"}
    assert set(found.values()) <= {5_159}  # each stream once
    assert shown["source"] == f"{order[0].rpartition('.')[2]}_import"


async def test_several_at_once_are_one_workout(bench: Bench) -> None:
    made = await asyncio.gather(*(bench.send(recorded(name)) for name in NAMES))
    assert sorted(one.is_new for one in made) == [False, False, False, True]
    assert len({tuple(one.workouts) for one in made}) == 1


async def test_a_synced_workout_gets_what_it_lacks_and_keeps_what_it_has(bench: Bench) -> None:
    key = Key("workouts", new_id())
    own = {
        "title": "My ride",
        "sport": "ride",
        "started_at": STARTED,
        "ended_at": "2026-05-01T06:31:00.000Z",
        "distance_m": 7,
    }
    await edit.create(bench.store, bench.user, key, own, now_ms=NOW_MS, new_id=new_id)
    file = File().records(0, 30, 60, heart_rate=120, distance=500.0).session("cycling", total_distance=500.0).close()
    imported = await bench.send(file)
    assert (imported.workouts, imported.is_new) == ([key.id], False)
    shown = read(await bench.document(key.id))
    assert (shown["title"], shown["distance_m"], shown["avg_hr_bpm"]) == ("My ride", 7, 120)
    assert await streams(bench, key.id) == {"heart_rate": 3}
    assert (await bench.send(file)).workouts == [key.id]


async def test_keep_makes_a_workout_of_its_own(bench: Bench) -> None:
    first = await bench.send(recorded(NAMES[0]))
    kept = await bench.importer.import_file(recorded(NAMES[1]), user_id=bench.user, now_ms=NOW_MS, duplicates="keep")
    assert kept.is_new
    assert kept.workouts != first.workouts


async def test_a_merge_can_be_undone(bench: Bench) -> None:
    first, second = [await bench.send(recorded(name)) for name in ("activity_4801048867.gpx", RIDE_OF_EIGHT_LAPS)]
    [workout_id] = first.workouts
    before = read(await bench.document(workout_id))
    assert (before["energy_kcal"], len(before["laps"])) == (773, 8)
    await edit.change(
        bench.store, bench.user, Key("workouts", workout_id), {"energy_kcal": 800}, now_ms=NOW_MS, new_id=new_id
    )
    for _ in range(2):
        separated = await bench.importer.separate(bench.user, second.import_id, now_ms=NOW_MS)
        assert separated is not None
        [own] = separated.workouts
        assert own != workout_id
    left, mine = read(await bench.document(workout_id)), read(await bench.document(own))
    assert left["imports"] == [first.import_id]
    assert mine["imports"] == [second.import_id]
    assert set(await streams(bench, own)) >= {"heart_rate", "position", "speed"}
    assert left["energy_kcal"] == 800 or left["energy_kcal"] is None
    assert left["title"] == before["title"]
    assert len(left["tracks"]) < len(before["tracks"])
    assert (mine["energy_kcal"], len(mine["laps"])) == (773, 8)
    assert (await bench.send(recorded(RIDE_OF_EIGHT_LAPS))).workouts == [own]
    assert await bench.importer.separate(bench.user, new_id(), now_ms=NOW_MS) is None
    assert await bench.importer.separate(new_id(), second.import_id, now_ms=NOW_MS) is None


async def test_a_file_that_is_read_otherwise_by_now_cannot_be_taken_apart(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.send(recorded("activity_5039744860.gpx"))
    merged = await bench.send(recorded("activity_5039744860.tcx"))
    before = read(await bench.document(merged.workouts[0]))
    one = await bench.importer.decoder.decode(recorded("activity_5039744860.tcx"))

    async def decode(_: bytes) -> Recording:
        return replace(one, sessions=[*one.sessions, *one.sessions])

    monkeypatch.setattr(bench.importer.decoder, "decode", decode)
    with pytest.raises(FileUnreadable):
        await bench.importer.separate(bench.user, merged.import_id, now_ms=NOW_MS)
    assert read(await bench.document(merged.workouts[0])) == before


@pytest.mark.parametrize("writes", range(8))
async def test_a_merge_that_was_cut_off_is_finished_by_the_same_file(bench: Bench, writes: int) -> None:
    first = await bench.send(recorded("activity_5039744860.gpx"))
    bench.power.writes_left = writes
    with suppress(StoreUnavailable):
        await bench.send(recorded("activity_5039744860.tcx"))
    bench.power.writes_left = None
    again = await bench.send(recorded("activity_5039744860.tcx"))
    assert again.workouts == first.workouts
    assert set((await streams(bench, first.workouts[0])).values()) <= {95, 96}


async def test_an_import_that_does_not_end_holds_up_others_for_so_long_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_TURNS", 2)
    assert await bench.leases.take(f"imports/{bench.user}", "somebody", for_s=30)
    with pytest.raises(DecoderBusy):
        await bench.send(recorded("activity_5039744860.gpx"))
    assert (await bench.send(recorded("activity_5039744860.gpx"), user=new_id())).is_new
    await bench.leases.leave(f"imports/{bench.user}", "somebody")
    assert (await bench.send(recorded("activity_5039744860.gpx"))).is_new


async def test_an_import_to_take_apart_waits_for_room_before_its_file_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = [await bench.send(recorded(name)) for name in ("activity_4801048867.gpx", RIDE_OF_EIGHT_LAPS)]
    monkeypatch.setattr(decoder, "MAX_HELD_BYTES", 1)
    with pytest.raises(DecoderBusy):
        await bench.importer.separate(bench.user, second.import_id, now_ms=NOW_MS)
