"""A file to workouts, once: every id follows from the account and the file's content. What is there already is added to.

So the same file gives the same workouts, concurrently too, and an import that was cut off at any step is made good by
sending the file again: chunks first, then the documents that list them, then the record that says all of it is there.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Final, Literal, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from msgspec.structs import replace

from fitness_api.bodies import rfc3339
from fitness_api.leases import Leases
from fitness_api.workouts import containers
from fitness_api.workouts.containers import File
from fitness_api.workouts.decoder import Decoder
from fitness_api.workouts.decoder_process import MAX_FILE_BYTES
from fitness_api.workouts.duplicates import STARTS_WITHIN_MS, found
from fitness_api.workouts.errors import DecoderBusy, FileUnreadable
from fitness_api.workouts.import_store import ImportRecord, ImportStore, Merged
from fitness_api.workouts.recording import Lap, Recording, Session
from sync import clock, exchange, merge, tracks
from sync.document import Document, Key
from sync.errors import AccountDeleted, DocumentPurged, TrackConflict
from sync.listing import Listing
from sync.merge import Outcome, State
from sync.patch import position
from sync.store import Store
from sync.track_store import COLLECTION, TrackStore
from sync.tracks import Chunk
from sync.values import Value
from sync.values import same as values_same

# Seven paths each, in a document of 2,000, which is also the user's to write in.
MAX_LAPS: Final = 200

# Each more is a file imported, deleted, and purged after a month, without a record of it: two is more than ever happens.
MAX_GENERATIONS: Final = 10

# Workouts that begin within two minutes of one another; a person has one or two.
_MOST_ALIKE: Final = 20

# One import's writes take a second or two; a process that died in between holds the account's next one up for so long.
_LEASE_S: Final = 30
_TURN_S: Final = 0.1
_TURNS: Final = 100

# What becomes of an activity that is there already: it is added to, or made once more.
Duplicates = Literal["merge", "keep"]

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


class Importer(NamedTuple):
    """What importing needs of a process."""

    decoder: Decoder
    store: Store
    listing: Listing
    track_store: TrackStore
    imports: ImportStore
    leases: Leases

    async def import_file(
        self, body: bytes, *, user_id: str, now_ms: int, duplicates: Duplicates = "merge"
    ) -> Imported:
        """Make the file's workouts, or add to those that they are of, or restore those of a file that is known.

        Raises FormatUnknown, BodyTooLarge, what Decoder.decode raises, DecoderBusy if another import of the account takes long, and
        what the stores raise: AccountDeleted also if the account was erased while the file was imported, and then nothing of it
        stays.
        """
        file = await asyncio.to_thread(containers.opened, body, limit_bytes=MAX_FILE_BYTES)
        async with self._erasing_what_is_erased(user_id):
            if (known := await self._known(file, user_id, now_ms)) is not None:
                return known
            recording = await self.decoder.decode(file.data)
            # One after the other, so that the second of two recordings of one ride finds the first's workout.
            async with self._alone(user_id):
                if (known := await self._known(file, user_id, now_ms)) is not None:
                    return known
                return await self._imported(file, recording, user_id, now_ms, duplicates)

    async def separate(self, user_id: str, import_id: str, *, now_ms: int) -> Imported | None:
        """Give the import workouts of its own, and take what it added to others away. None: there is no such import.

        A register that was written anew since stays as it is. Cut off, it is finished by another call. Raises as `import_file`.
        """
        record = await self.imports.find_by_id(user_id, import_id)
        if record is None:
            return None
        if not record.merged:
            return Imported(record.import_id, record.workouts, record.warnings, is_new=False)
        with self.decoder.room() as keep:
            keep(record.size_bytes)
            file = b"".join([piece async for piece in self.imports.read_file(record)])
            recording = await self.decoder.decode(file)
        if len(recording.sessions) != len(record.workouts):
            raise FileUnreadable("The file is read otherwise by now, and what it added cannot be told apart.")
        async with self._erasing_what_is_erased(user_id), self._alone(user_id):
            workouts = list(record.workouts)
            for index, (workout_id, session) in enumerate(zip(workouts, recording.sessions, strict=True)):
                if workout_id in record.merged:
                    workouts[index] = await self._own(UUID(import_id), index, session, recording, user_id, now_ms)
            for workout_id, added in record.merged.items():
                await self._take_away(user_id, workout_id, UUID(import_id), added, recording, record.workouts, now_ms)
            await self.imports.separate(replace(record, workouts=workouts, merged={}))
        return Imported(record.import_id, workouts, record.warnings, is_new=False)

    async def _known(self, file: File, user_id: str, now_ms: int) -> Imported | None:
        known = await self.imports.find(user_id, file.sha256)
        if known is None:
            return None
        try:
            for workout_id in known.workouts:
                await exchange.fill(self.store, user_id, COLLECTION, workout_id, {}, now_ms=now_ms)
        except DocumentPurged:
            return None
        return Imported(known.import_id, known.workouts, known.warnings, is_new=False)

    async def _imported(
        self, file: File, recording: Recording, user_id: str, now_ms: int, duplicates: Duplicates
    ) -> Imported:
        warnings = list(recording.warnings)
        too_many = (len(session.laps) - MAX_LAPS for session in recording.sessions)
        warnings += [f"{count} laps over {MAX_LAPS} were left out." for count in too_many if count > 0]
        earlier = await self.imports.find(user_id, file.sha256)
        first = 0 if earlier is None else earlier.generation + 1
        for generation in range(first, first + MAX_GENERATIONS):
            import_id = uuid5(_NAMESPACE, f"{user_id}/{file.sha256}" + (f"/{generation}" if generation else ""))
            try:
                workouts, merged = await self._place(import_id, recording, user_id, now_ms, duplicates)
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
            merged=merged,
        )
        is_new = await self.imports.record(record, file.data)
        return Imported(str(import_id), workouts, warnings, is_new=is_new and len(merged) < len(workouts))

    async def _place(
        self, import_id: UUID, recording: Recording, user_id: str, now_ms: int, duplicates: Duplicates
    ) -> tuple[list[str], dict[str, Merged]]:
        """Find or make a workout for each session. Raises what the stores raise, and DocumentPurged where an id is barred."""
        workouts: list[str] = []
        merged: dict[str, Merged] = {}
        for index, session in enumerate(recording.sessions):
            there = None if duplicates == "keep" else await self._same(user_id, session)
            # Its own half-made one, of an attempt that was cut off, or one that another session of the file is: not a duplicate.
            if there is None or there.key.id in (own_id(import_id, index), *workouts):
                workouts.append(await self._own(import_id, index, session, recording, user_id, now_ms))
            else:
                workouts.append(there.key.id)
                merged[there.key.id] = await self._add(there, import_id, index, session, recording, user_id, now_ms)
        return workouts, merged

    async def _same(self, user_id: str, session: Session) -> Document | None:
        page = await self.listing.began(
            user_id,
            since=rfc3339(session.started_at_ms - STARTS_WITHIN_MS),
            before=rfc3339(session.started_at_ms + STARTS_WITHIN_MS + 1),
            limit=_MOST_ALIKE,
        )
        return found(session, page.workouts)

    async def _own(
        self, import_id: UUID, index: int, session: Session, recording: Recording, user_id: str, now_ms: int
    ) -> str:
        workout_id = own_id(import_id, index)
        chunk_ids = await self._put_chunks(user_id, workout_id, chunks(UUID(workout_id), session))
        values = document_values(workout_id, session, recording)
        await self._fill(user_id, workout_id, values, chunk_ids, import_id, now_ms)
        return workout_id

    async def _add(
        self,
        there: Document,
        import_id: UUID,
        index: int,
        session: Session,
        recording: Recording,
        user_id: str,
        now_ms: int,
    ) -> Merged:
        """Add the streams and registers that the workout lacks. Laps are added where it has none."""
        workout_id = there.key.id
        source = uuid5(import_id, str(index))
        mine = await asyncio.to_thread(
            lambda: {chunk_id for chunk_id, _ in chunks(source, session)}
        )  # of one that was cut off
        stored = await self.track_store.listed(user_id, workout_id)
        recorded = {stream for chunk_id, stream in stored.items() if chunk_id not in mine}
        has_laps = any(path.startswith("laps/") for path in there.values)
        missing = replace(
            session,
            streams={stream: samples for stream, samples in session.streams.items() if stream not in recorded},
            laps=[] if has_laps else session.laps,
        )
        chunk_ids = await self._put_chunks(user_id, workout_id, chunks(source, missing))
        lacking = {
            path: value
            for path, value in document_values(str(source), missing, recording).items()
            if path not in there.values
        }
        await self._fill(user_id, workout_id, lacking, chunk_ids, import_id, now_ms)
        return Merged(paths=sorted(lacking), chunks=chunk_ids)

    async def _fill(
        self,
        user_id: str,
        workout_id: str,
        values: Mapping[str, Value],
        chunk_ids: Iterable[str],
        import_id: UUID,
        now_ms: int,
    ) -> None:
        given = {**values, **{f"tracks/{chunk_id}": True for chunk_id in chunk_ids}, f"imports/{import_id}": True}
        await exchange.fill(self.store, user_id, COLLECTION, workout_id, given, now_ms=now_ms)

    async def _take_away(
        self,
        user_id: str,
        workout_id: str,
        import_id: UUID,
        added: Merged,
        recording: Recording,
        workouts: Sequence[str],
        now_ms: int,
    ) -> None:
        index = list(workouts).index(workout_id)
        source = str(uuid5(import_id, str(index)))
        filled = document_values(source, recording.sessions[index], recording)
        key = Key(COLLECTION, workout_id)

        def step(state: State) -> Outcome:
            there = state.documents.get(key)
            if there is None or there.purged:
                return Outcome(state.head)
            taken: dict[str, Value] = {f"imports/{import_id}": False}
            taken |= {f"tracks/{chunk_id}": False for chunk_id in added.chunks}
            for path in added.paths:
                mark = there.mark(path)
                as_filled = path in filled and path in there.values and values_same(filled[path], there.values[path])
                if as_filled and mark is not None and clock.replica_of(mark.stamp) == clock.SERVER_REPLICA:
                    taken[path] = None
            differing = {path: value for path, value in taken.items() if there.values.get(path, value) != value}
            return merge.write(key, differing, state, now_ms=now_ms)

        await self.store.update(user_id, [key], (), step)

    async def _put_chunks(self, user_id: str, workout_id: str, parts: Iterable[tuple[str, Chunk]]) -> list[str]:
        chunk_ids = []
        for chunk_id, chunk in parts:
            chunk_ids.append(chunk_id)
            try:
                await self.track_store.put(user_id, workout_id, chunk.stream, chunk_id, chunk)
            except TrackConflict:
                # An import was cut off, and a newer version reads the file otherwise. What the older one stored stays: a chunk
                # never changes, and it was read from the same file.
                continue
        return chunk_ids

    @asynccontextmanager
    async def _alone(self, user_id: str) -> AsyncIterator[None]:
        """Raises DecoderBusy if another import of the account does not end in time."""
        name, holder = f"imports/{user_id}", str(uuid4())
        for _ in range(_TURNS):
            if await self.leases.take(name, holder, for_s=_LEASE_S):
                break
            await asyncio.sleep(_TURN_S)
        else:
            raise DecoderBusy(retry_after_s=_LEASE_S)
        try:
            yield
        finally:
            await self.leases.leave(name, holder)

    @asynccontextmanager
    async def _erasing_what_is_erased(self, user_id: str) -> AsyncIterator[None]:
        """Chunks, file and record are written outside the account's transactions, perhaps after an erasure has passed."""
        try:
            yield
            await self.store.head(user_id)
        except AccountDeleted:
            await self.track_store.erase(user_id)
            await self.imports.erase(user_id)
            raise


def own_id(import_id: UUID, index: int) -> str:
    """Return the id of the workout that an import makes of the file's session of this number."""
    return str(uuid5(import_id, str(index)))


def chunks(source: UUID, session: Session) -> Iterator[tuple[str, Chunk]]:
    """Give a session's samples as chunks, with their ids, which follow from the source's."""
    for stream, samples in session.streams.items():
        for index, begin in enumerate(range(0, len(samples.values), tracks.MAX_SAMPLES)):
            times_ms = samples.times_ms[begin : begin + tracks.MAX_SAMPLES]
            yield (
                str(uuid5(source, f"{stream}/{index}")),
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
