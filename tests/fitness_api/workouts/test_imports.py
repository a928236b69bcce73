"""Files to workouts, once: over real stores, concurrently, and cut off at every step."""

import asyncio
import gzip
from collections.abc import Callable, Collection
from typing import Any, Literal

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.errors import BodyTooLarge
from fitness_api.leases_mongo import MongoLeases
from fitness_api.workouts import imports
from fitness_api.workouts.decoder import Decoder
from fitness_api.workouts.decoder_process import MAX_FILE_BYTES
from fitness_api.workouts.errors import FileDamaged, FileUnreadable, FormatUnknown
from fitness_api.workouts.import_store import ImportRecord
from fitness_api.workouts.import_store_mongo import MongoImportStore
from fitness_api.workouts.imports import MAX_LAPS, Imported, Importer, title
from sync import exchange, tracks
from sync.document import Document, Key, read
from sync.errors import DocumentPurged, StoreUnavailable
from sync.listing_mongo import MongoListing
from sync.merge import PURGE_AFTER_MS
from sync.patch import position
from sync.store_mongo import MongoStore
from sync.track_store import Stored
from sync.track_store_mongo import MongoTrackStore
from sync.tracks import Chunk, Stream
from sync.values import Value
from tests.fitness_api.workouts.recordings import (
    MULTISPORT,
    RIDE,
    RIDE_OF_EIGHT_LAPS,
    RIDE_WITH_PAUSE,
    File,
    at,
    recorded,
)
from tests.sync.model import new_id

NOW_MS = 1_780_000_000_000


class Power:
    """Goes off after so many writes, as a machine's does."""

    def __init__(self) -> None:
        self.writes_left: int | None = None

    def use(self) -> None:
        if self.writes_left == 0:
            raise StoreUnavailable("The power went off.")
        if self.writes_left is not None:
            self.writes_left -= 1


class FailingTracks(MongoTrackStore):
    def __init__(self, database: AsyncDatabase[dict[str, Any]], power: Power) -> None:
        super().__init__(database)
        self._power = power

    async def put(
        self, user_id: str, workout_id: str, stream: Stream, chunk_id: str, chunk: Chunk
    ) -> Literal["stored", "known"]:
        self._power.use()
        return await super().put(user_id, workout_id, stream, chunk_id, chunk)


class FailingStore(MongoStore):
    def __init__(self, database: AsyncDatabase[dict[str, Any]], power: Power) -> None:
        super().__init__(database)
        self._power = power

    async def update(self, *given: Any) -> Any:
        self._power.use()
        return await super().update(*given)


class FailingImports(MongoImportStore):
    def __init__(self, database: AsyncDatabase[dict[str, Any]], power: Power) -> None:
        super().__init__(database)
        self._power = power

    async def record(self, record: ImportRecord, file: bytes) -> bool:
        self._power.use()
        return await super().record(record, file)


class Bench:
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self.power = Power()
        self.user = new_id()
        self.store = FailingStore(database, self.power)
        self.tracks = FailingTracks(database, self.power)
        self.imports = FailingImports(database, self.power)
        self.leases = MongoLeases(database)
        self.importer = Importer(
            Decoder(workers=2), self.store, MongoListing(database), self.tracks, self.imports, self.leases
        )

    async def send(self, body: bytes, user: str | None = None) -> Imported:
        return await self.importer.import_file(body, user_id=user or self.user, now_ms=NOW_MS)

    async def document(self, workout_id: str) -> Document:
        document = await self.store.document(self.user, Key("workouts", workout_id))
        assert document is not None
        return document

    async def stored(self, workout_id: str, streams: Collection[Stream] = tracks.STREAMS) -> list[Stored]:
        return [stored async for stored in self.tracks.read(self.user, workout_id, streams)]


@pytest.fixture
def bench(database: AsyncDatabase[dict[str, Any]]) -> Bench:
    return Bench(database)


async def test_a_ride_becomes_a_document_with_summary_laps_and_tracks(bench: Bench) -> None:
    imported = await bench.send(recorded(RIDE_OF_EIGHT_LAPS))
    assert (imported.is_new, imported.warnings, len(imported.workouts)) == (True, [], 1)
    (workout_id,) = imported.workouts
    shown = read(await bench.document(workout_id))
    laps, chunk_ids = shown.pop("laps"), shown.pop("tracks")
    assert shown.pop("imports") == [imported.import_id]
    assert shown == {
        "title": "Afternoon ride", "sport": "ride", "source": "fit_import", "source_device": "garmin fr935",
        "started_at": "2020-04-18T11:10:44.000Z", "ended_at": "2020-04-18T12:36:42.557Z", "utc_offset_s": 7200,
        "distance_m": 36322.85, "elapsed_time_s": 5158.557, "timer_time_s": 5158.557, "elevation_gain_m": 79,
        "energy_kcal": 773, "avg_hr_bpm": 130, "max_hr_bpm": 160,
    }  # fmt: skip
    assert [lap["distance_m"] for lap in laps] == [5000.0] * 7 + [1322.85]
    assert laps[1].keys() == {
        "id", "trigger", "started_at", "distance_m", "elapsed_time_s", "timer_time_s", "avg_hr_bpm", "pos",
    }  # fmt: skip
    stored = await bench.stored(workout_id)
    assert sorted(chunk_ids) == sorted(chunk_id for chunk_id, _ in stored)
    assert {chunk.stream for _, chunk in stored} == {"heart_rate", "position", "altitude", "speed", "temperature"}


async def test_every_heart_beat_counts(bench: Bench) -> None:
    (workout_id,) = (await bench.send(recorded(RIDE))).workouts
    ((_, chunk),) = await bench.stored(workout_id, ["heart_rate"])
    assert sum(value for value in chunk.values if isinstance(value, int)) == 1_376_485


async def test_long_streams_are_cut_into_chunks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks, "MAX_SAMPLES", 40)
    (workout_id,) = (await bench.send(recorded(RIDE_WITH_PAUSE))).workouts
    chunks = [chunk for _, chunk in await bench.stored(workout_id, ["heart_rate"])]
    assert [len(chunk.values) for chunk in chunks] == [40, 40, 16]
    assert len(tracks.join(chunks).values) == 96


async def test_a_multisport_file_gives_a_workout_for_each_sport(bench: Bench) -> None:
    imported = await bench.send(recorded(MULTISPORT))
    sports = [read(await bench.document(workout_id))["sport"] for workout_id in imported.workouts]
    assert sports == ["run", "row"]
    assert imported.warnings == ["A transition between two sports was left out."]


async def test_a_known_file_gives_the_same_however_it_was_packed(bench: Bench) -> None:
    first = await bench.send(recorded(RIDE_WITH_PAUSE))
    before = await bench.document(first.workouts[0])
    for body in (recorded(RIDE_WITH_PAUSE), gzip.compress(recorded(RIDE_WITH_PAUSE))):
        assert await bench.send(body) == first._replace(is_new=False)
    assert (await bench.document(first.workouts[0])).seq == before.seq


async def test_a_deleted_workout_is_restored_and_nothing_overwritten(bench: Bench) -> None:
    first = await bench.send(recorded(MULTISPORT))
    mine: dict[str, Value] = {"deleted": True, "notes": "mine"}
    await exchange.fill(bench.store, bench.user, "workouts", first.workouts[0], mine, now_ms=NOW_MS)
    assert (await bench.document(first.workouts[0])).deleted
    await bench.send(recorded(MULTISPORT))
    restored = await bench.document(first.workouts[0])
    assert not restored.deleted
    assert restored.values["notes"] == "mine"


async def purge(bench: Bench, *workouts: str) -> None:
    """As a month after they were deleted."""
    for workout_id in workouts:
        await exchange.fill(bench.store, bench.user, "workouts", workout_id, {"deleted": True}, now_ms=NOW_MS)
    head = await bench.store.head(bench.user)
    assert head is not None
    await exchange.purge(bench.store, bench.user, head, now_ms=NOW_MS + PURGE_AFTER_MS)
    for workout_id in workouts:
        assert (await bench.document(workout_id)).purged


async def test_a_known_file_whose_workouts_were_purged_makes_new_ones(bench: Bench) -> None:
    body = recorded(MULTISPORT)
    generations = [await bench.send(body)]
    for _ in range(2):
        await purge(bench, *generations[-1].workouts)
        generations.append(await bench.send(body))
        assert generations[-1].is_new
        # From then on that generation is what the file is.
        assert await bench.send(body) == generations[-1]._replace(is_new=False)
    made = [workout_id for one in generations for workout_id in one.workouts]
    assert len(set(made)) == len(made) == 6
    assert len({one.import_id for one in generations}) == 3
    for workout_id in generations[-1].workouts:
        shown = read(await bench.document(workout_id))
        assert sorted(shown["tracks"]) == sorted(chunk_id for chunk_id, _ in await bench.stored(workout_id))
    # Those of before stay barred; each import is still found.
    assert [(await bench.document(workout_id)).purged for workout_id in made] == [True] * 4 + [False] * 2
    record = await bench.imports.find_by_id(bench.user, generations[-1].import_id)
    assert record is not None
    assert (record.generation, record.workouts) == (2, generations[-1].workouts)


async def test_one_purged_workout_of_several_makes_the_whole_file_new(bench: Bench) -> None:
    body = recorded(MULTISPORT)
    first = await bench.send(body)
    await purge(bench, first.workouts[1])
    again = await bench.send(body)
    assert again.is_new
    assert again.workouts[0] == first.workouts[0]  # it is there, and recognised
    assert again.workouts[1] != first.workouts[1]


async def test_purged_workouts_are_made_anew_once_by_many(bench: Bench) -> None:
    body = recorded(MULTISPORT)
    first = await bench.send(body)
    await purge(bench, *first.workouts)
    outcomes = await asyncio.gather(*(bench.send(body) for _ in range(4)))
    assert len({(outcome.import_id, *outcome.workouts) for outcome in outcomes}) == 1
    assert [outcome.is_new for outcome in outcomes].count(True) == 1
    assert outcomes[0].import_id != first.import_id


async def test_an_import_that_nobody_recorded_and_that_was_purged_is_passed_over(bench: Bench) -> None:
    """Cut off before its record, deleted and purged: its ids are barred, and no record tells."""
    body = recorded(RIDE_WITH_PAUSE)
    first = await bench.send(body)
    await purge(bench, *first.workouts)
    await bench.store._database["imports"].delete_many({"user_id": bench.user})
    again = await bench.send(body)
    assert (again.is_new, again.workouts != first.workouts) == (True, True)
    assert not (await bench.document(again.workouts[0])).purged
    assert await bench.send(body) == again._replace(is_new=False)


async def test_generations_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "MAX_GENERATIONS", 2)
    body = recorded(RIDE_WITH_PAUSE)
    for _ in range(2):
        await purge(bench, *(await bench.send(body)).workouts)
        await bench.store._database["imports"].delete_many({"user_id": bench.user})
    with pytest.raises(DocumentPurged):
        await bench.send(body)


async def test_what_a_device_wrote_before_is_not_overwritten(bench: Bench) -> None:
    first = await bench.send(recorded(RIDE_WITH_PAUSE), user=bench.user)
    other = Bench(bench.store._database)
    # The same ids, before the import: what a retry after a crash finds when the user was quicker.
    record = await bench.imports.find_by_id(bench.user, first.import_id)
    assert record is not None
    await bench.store._database["imports"].delete_many({"user_id": bench.user})
    await bench.store._database["sync_records"].delete_many({"user_id": bench.user})
    mine = {"title": "Commute"}
    await exchange.fill(bench.store, bench.user, "workouts", first.workouts[0], mine, now_ms=NOW_MS)
    other.user = bench.user
    assert (await other.send(recorded(RIDE_WITH_PAUSE))).workouts == first.workouts
    shown = read(await bench.document(first.workouts[0]))
    assert (shown["title"], shown["distance_m"]) == ("Commute", 668.19)


async def test_the_same_file_at_once_gives_the_same_workouts(bench: Bench) -> None:
    outcomes = await asyncio.gather(*(bench.send(recorded(MULTISPORT)) for _ in range(5)))
    assert len({(outcome.import_id, *outcome.workouts) for outcome in outcomes}) == 1
    assert [outcome.is_new for outcome in outcomes].count(True) == 1


async def test_accounts_have_workouts_of_their_own(bench: Bench) -> None:
    mine = await bench.send(recorded(MULTISPORT))
    theirs = await bench.send(recorded(MULTISPORT), user=new_id())
    assert theirs.is_new
    assert not {mine.import_id, *mine.workouts} & {theirs.import_id, *theirs.workouts}


async def test_an_import_cut_off_at_any_step_is_made_good_by_another(bench: Bench) -> None:
    body = recorded(MULTISPORT)
    whole = await bench.send(body, user=new_id())
    assert whole.is_new
    for writes in range(100):
        bench.user = new_id()
        bench.power.writes_left = writes
        try:
            await bench.send(body)
            break
        except StoreUnavailable:
            bench.power.writes_left = None
            imported = await bench.send(body)
            assert imported.is_new
            for workout_id in imported.workouts:
                listed = read(await bench.document(workout_id))["tracks"]
                stored = await bench.stored(workout_id)
                assert sorted(listed) == sorted(chunk_id for chunk_id, _ in stored)
    assert writes > 8  # chunks of two workouts, their documents, the record


async def test_chunks_that_an_older_version_left_stay(bench: Bench) -> None:
    body = recorded(MULTISPORT)
    first = await bench.send(body)
    database = bench.store._database
    await database["imports"].delete_many({"user_id": bench.user})
    await database["tracks"].update_many(
        {"user_id": bench.user, "workout_id": first.workouts[0]}, {"$set": {"digest": "another"}}
    )
    assert (await bench.send(body)).workouts == first.workouts


async def test_more_laps_than_a_document_takes_are_told(bench: Bench) -> None:
    file = File().records(0, 1, heart_rate=100)
    for second in range(MAX_LAPS + 3):
        file.add("LAP", timestamp=at(second + 1), start_time=at(second), total_elapsed_time=1.0, total_timer_time=1.0)
    imported = await bench.send(file.session(elapsed_s=MAX_LAPS + 3).close())
    assert imported.warnings == [f"3 laps over {MAX_LAPS} were left out."]
    laps = read(await bench.document(imported.workouts[0]))["laps"]
    assert len(laps) == MAX_LAPS
    assert [lap["started_at"] for lap in laps] == sorted(lap["started_at"] for lap in laps)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (lambda: b"", FormatUnknown),
        (lambda: b"<gpx/>", FileUnreadable),
        (lambda: recorded(RIDE)[:11], FormatUnknown),
        (lambda: recorded(RIDE)[:30], FileDamaged),
        (lambda: gzip.compress(recorded(RIDE))[:-9], FileDamaged),
        (lambda: b"\x1f\x8b" + bytes(30), FileDamaged),
        (lambda: gzip.compress(b"<gpx/>"), FileUnreadable),
        (lambda: gzip.compress(b"<html/>"), FormatUnknown),
        (lambda: gzip.compress(bytes(MAX_FILE_BYTES + 1)), BodyTooLarge),
        (lambda: File().close(), FileUnreadable),
        (lambda: File().session("transition").close(), FileUnreadable),
    ],
)
async def test_what_cannot_be_imported_is_refused_and_leaves_nothing(
    bench: Bench, body: Callable[[], bytes], refusal: type[Exception]
) -> None:
    bench.power.writes_left = 0
    with pytest.raises(refusal):
        await bench.send(body())


def test_positions_sort_as_the_laps_do() -> None:
    positions = [position(index) for index in range(MAX_LAPS)]
    assert positions == sorted(positions)
    assert len(set(positions)) == MAX_LAPS
    assert positions[:2] == ["c000", "c001"]
    assert positions[62] == "c010"


@pytest.mark.parametrize(
    ("hour", "expected"),
    [(0, "Night"), (4, "Night"), (5, "Morning"), (12, "Afternoon"), (17, "Evening"), (22, "Night")],
)
def test_titles_go_by_local_time(hour: int, expected: str) -> None:
    started_at_ms = (hour * 3600 + 86_400 - 7200) * 1000
    assert title("ride", started_at_ms, 7200) == f"{expected} ride"
    assert title("strength", started_at_ms, None) == "Strength workout"
