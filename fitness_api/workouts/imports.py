"""A file to workouts, once: every id follows from the account and the file's content.

So the same file gives the same workouts, concurrently too, and an import that was cut off at any step is made good by
sending the file again: chunks first, then the documents that list them, then the record that says all of it is there.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from fitness_api.bodies import rfc3339
from fitness_api.workouts import containers
from fitness_api.workouts.decoder import Decoder
from fitness_api.workouts.decoder_process import MAX_FILE_BYTES
from fitness_api.workouts.import_store import ImportRecord, ImportStore
from fitness_api.workouts.recording import Lap, Recording, Session
from sync import exchange, tracks
from sync.errors import AccountDeleted, DocumentPurged, TrackConflict
from sync.patch import position
from sync.store import Store
from sync.track_store import COLLECTION, TrackStore
from sync.tracks import Chunk
from sync.values import Value

# Seven paths each, in a document of 2,000, which is also the user's to write in.
MAX_LAPS: Final = 200

# Each more is a file imported, deleted, and purged after a month, without a record of it: two is more than ever happens.
MAX_GENERATIONS: Final = 10

_NAMESPACE: Final = uuid5(NAMESPACE_URL, "urn:fitness-api:imports")

_NOUNS: Final = {
    "run": "run", "ride": "ride", "swim": "swim", "walk": "walk", "hike": "hike", "row": "row",
    "strength": "strength workout", "yoga": "yoga", "hiit": "HIIT workout", "other": "workout",
}  # fmt: skip


class Imported(NamedTuple):
    import_id: str
    workouts: list[str]
    warnings: list[str]
    is_new: bool


async def import_file(
    body: bytes,
    *,
    user_id: str,
    now_ms: int,
    decoder: Decoder,
    store: Store,
    track_store: TrackStore,
    imports: ImportStore,
) -> Imported:
    """Make the file's workouts, or restore those of a file that is known.

    Raises FormatUnknown, BodyTooLarge, what Decoder.decode raises, and what the stores raise: AccountDeleted also if the
    account was erased while the file was imported, and then nothing of it stays.
    """
    try:
        imported = await _imported(
            body,
            user_id=user_id,
            now_ms=now_ms,
            decoder=decoder,
            store=store,
            track_store=track_store,
            imports=imports,
        )
        await store.head(user_id)
    except AccountDeleted:
        # Chunks, file and record are written outside the account's transactions, perhaps after the erasure has passed.
        await track_store.erase(user_id)
        await imports.erase(user_id)
        raise
    return imported


async def _imported(
    body: bytes,
    *,
    user_id: str,
    now_ms: int,
    decoder: Decoder,
    store: Store,
    track_store: TrackStore,
    imports: ImportStore,
) -> Imported:
    file = await asyncio.to_thread(containers.opened, body, limit_bytes=MAX_FILE_BYTES)
    known = await imports.find(user_id, file.sha256)
    first = 0
    if known is not None:
        try:
            for workout_id in known.workouts:
                await exchange.fill(store, user_id, COLLECTION, workout_id, {}, now_ms=now_ms)
        except DocumentPurged:
            first = known.generation + 1
        else:
            return Imported(known.import_id, known.workouts, known.warnings, is_new=False)
    recording = await decoder.decode(file.data)
    warnings = list(recording.warnings)
    too_many = (len(session.laps) - MAX_LAPS for session in recording.sessions)
    warnings += [f"{count} laps over {MAX_LAPS} were left out." for count in too_many if count > 0]
    for generation in range(first, first + MAX_GENERATIONS):
        import_id = uuid5(_NAMESPACE, f"{user_id}/{file.sha256}" + (f"/{generation}" if generation else ""))
        try:
            workouts = await _make(store, track_store, user_id, import_id, recording, now_ms=now_ms)
            break
        except DocumentPurged:
            continue  # an import that was cut off, so that nobody recorded it, and deleted long ago
    else:
        raise DocumentPurged(str(import_id))
    record = ImportRecord(
        user_id=user_id,
        sha256=file.sha256,
        format=file.format,
        import_id=str(import_id),
        generation=generation,
        workouts=workouts,
        warnings=warnings,
        size_bytes=len(file.data),
        created_at_ms=now_ms,
    )
    is_new = await imports.record(record, file.data)
    return Imported(str(import_id), workouts, warnings, is_new=is_new)


async def _make(
    store: Store, track_store: TrackStore, user_id: str, import_id: UUID, recording: Recording, *, now_ms: int
) -> list[str]:
    """Write one workout a session. Raises what the stores raise, and DocumentPurged where an id is barred."""
    workouts = [str(uuid5(import_id, str(index))) for index in range(len(recording.sessions))]
    for workout_id, session in zip(workouts, recording.sessions, strict=True):
        chunk_ids = await _put_chunks(track_store, user_id, workout_id, session)
        values = document_values(workout_id, session, recording)
        values |= {f"tracks/{chunk_id}": True for chunk_id in chunk_ids}
        await exchange.fill(store, user_id, COLLECTION, workout_id, values, now_ms=now_ms)
    return workouts


async def _put_chunks(track_store: TrackStore, user_id: str, workout_id: str, session: Session) -> list[str]:
    chunk_ids = []
    for chunk_id, chunk in chunks(workout_id, session):
        chunk_ids.append(chunk_id)
        try:
            await track_store.put(user_id, workout_id, chunk.stream, chunk_id, chunk)
        except TrackConflict:
            # An import was cut off, and a newer version reads the file otherwise. What the older one stored stays: a chunk
            # never changes, and it was read from the same file.
            continue
    return chunk_ids


def chunks(workout_id: str, session: Session) -> Iterator[tuple[str, Chunk]]:
    """Give a session's samples as chunks, with their ids."""
    for stream, samples in session.streams.items():
        for index, begin in enumerate(range(0, len(samples.values), tracks.MAX_SAMPLES)):
            times_ms = samples.times_ms[begin : begin + tracks.MAX_SAMPLES]
            yield (
                str(uuid5(UUID(workout_id), f"{stream}/{index}")),
                tracks.check(
                    stream=stream,
                    start_ms=times_ms[0],
                    offsets_ms=[time_ms - times_ms[0] for time_ms in times_ms],
                    values=samples.values[begin : begin + tracks.MAX_SAMPLES],
                ),
            )


def document_values(workout_id: str, session: Session, recording: Recording) -> dict[str, Value]:
    """Return the registers of a session's document; what the file does not tell has none."""
    given: dict[str, Value] = {
        "title": title(session.sport, session.started_at_ms, recording.utc_offset_s),
        "sport": session.sport,
        "source": f"{recording.format}_import",
        "source_device": recording.device,
        "started_at": rfc3339(session.started_at_ms),
        "ended_at": rfc3339(session.ended_at_ms),
        "utc_offset_s": recording.utc_offset_s,
        "distance_m": session.distance_m,
        "elapsed_time_s": session.elapsed_time_s,
        "timer_time_s": session.timer_time_s,
        "moving_time_s": session.moving_time_s,
        "elevation_gain_m": session.elevation_gain_m,
        "energy_kcal": session.energy_kcal,
        "avg_hr_bpm": session.avg_hr_bpm,
        "max_hr_bpm": session.max_hr_bpm,
        "avg_power_w": session.avg_power_w,
    }
    for index, lap in enumerate(session.laps[:MAX_LAPS]):
        lap_id = uuid5(UUID(workout_id), f"laps/{index}")
        given |= {f"laps/{lap_id}/{field}": value for field, value in _lap_values(lap, index).items()}
    return {path: value for path, value in given.items() if value is not None}


def _lap_values(lap: Lap, index: int) -> dict[str, Value]:
    return {
        "trigger": lap.trigger,
        "started_at": rfc3339(lap.started_at_ms),
        "distance_m": lap.distance_m,
        "elapsed_time_s": lap.elapsed_time_s,
        "timer_time_s": lap.timer_time_s,
        "avg_hr_bpm": lap.avg_hr_bpm,
        "pos": position(index),
    }


def title(sport: str, started_at_ms: int, utc_offset_s: int | None) -> str:
    """Return "Morning ride"; without the time of day where the file does not tell the local time."""
    noun = _NOUNS[sport]
    if utc_offset_s is None:
        return noun[0].upper() + noun[1:]
    hour = datetime.fromtimestamp(started_at_ms / 1000, timezone(timedelta(seconds=utc_offset_s))).hour
    time_of_day = (
        "Morning" if 5 <= hour < 12 else "Afternoon" if 12 <= hour < 17 else "Evening" if 17 <= hour < 22 else "Night"
    )
    return f"{time_of_day} {noun}"
