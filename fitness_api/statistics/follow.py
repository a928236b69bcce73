"""Facts follow an account by its sequence: what changed since they were last drawn is drawn again, however late it arrives.

Nothing is decided by a clock or a message. A workout that comes late, or is imported once more, has a new sequence, and so have its samples, as its document lists them.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from fitness_api.statistics import facts
from fitness_api.statistics.fact_store import Drawn, FactStore, Followed
from fitness_api.statistics.facts import Facts, Series
from fitness_api.workouts import exports, geodesy
from sync import tracks
from sync.document import Document, read
from sync.errors import AccountDeleted
from sync.store import Store
from sync.track_store import COLLECTION, TrackStore
from sync.tracks import Chunk, Stream, is_number

# So many workouts are drawn before how far one came is written down: what is cut off repeats some seconds of work.
_AT_ONCE: Final = 200
_NEEDED: Final[tuple[Stream, ...]] = ("heart_rate", "power", "position", "speed")


class FactSources(NamedTuple):
    store: Store
    tracks: TrackStore
    facts: FactStore


async def up_to_date(sources: FactSources, user_id: str, *, places: asyncio.Semaphore) -> Followed:
    """Draw what is missing, and return how far the facts go: at least to what was written before this was called.

    `places` bounds how many samples a process holds. Raises AccountDeleted and StoreUnavailable.
    """
    try:
        return await _drawn_up(sources, user_id, places)
    except AccountDeleted:
        # The erasure may have passed before the last facts were written.
        await sources.facts.erase(user_id)
        raise


async def _drawn_up(sources: FactSources, user_id: str, places: asyncio.Semaphore) -> Followed:
    followed = await sources.facts.followed(user_id)
    head = await sources.store.head(user_id)
    if head is None:
        return Followed(epoch=0, seq=0, version=facts.VERSION)
    is_of_it = followed is not None and (followed.epoch, followed.version) == (head.epoch, facts.VERSION)
    after = followed.seq if followed is not None and is_of_it else 0
    if followed is not None and is_of_it and after == head.seq:
        return followed
    if after > head.seq:  # it was restored to a state of before, without a new epoch
        await sources.facts.erase(user_id)
        after = 0
    epoch = head.epoch
    while True:
        async with sources.store.view(user_id) as view:
            if view is None:
                return Followed(epoch=0, seq=0, version=facts.VERSION)
            if view.head.epoch != epoch:  # a backup was restored meanwhile, whose sequences are others
                after, epoch = 0, view.head.epoch
            changed: list[Document] = []
            async for document in view.changed([COLLECTION], after=after, upto=view.head.seq):
                changed.append(document)
                if len(changed) == _AT_ONCE:
                    break
            after = changed[-1].seq if len(changed) == _AT_ONCE else view.head.seq
            reached = Followed(epoch=view.head.epoch, seq=after, version=facts.VERSION)
        drawn = [
            Drawn(document.key.id, document.seq, await _drawn(sources, user_id, document, places))
            for document in changed
        ]
        # Nothing is erased before: another process, which draws the same, may have come to the end meanwhile.
        await sources.facts.keep(user_id, drawn, reached)
        await sources.facts.advance(user_id, reached)
        if len(changed) < _AT_ONCE:
            await sources.store.head(user_id)  # raises if the account was erased meanwhile
            return reached


async def _drawn(sources: FactSources, user_id: str, document: Document, places: asyncio.Semaphore) -> Facts | None:
    if document.purged or document.deleted:
        return None
    shown = read(document)
    chunks: dict[Stream, list[Chunk]] = {}
    async with places:
        if shown.get("tracks"):
            async for one in sources.tracks.read(user_id, document.key.id, _NEEDED):
                chunks.setdefault(one.chunk.stream, []).append(one.chunk)
        return await asyncio.to_thread(_facts, document.key.id, shown, chunks)


def _facts(workout_id: str, shown: dict[str, object], chunks: dict[Stream, list[Chunk]]) -> Facts | None:
    session = exports.session(shown, chunks)
    return facts.drawn(
        workout_id,
        shown,
        started_at_ms=exports.instant_ms(shown.get("started_at"))
        or (None if session is None else session.started_at_ms),
        ended_at_ms=None if session is None else session.ended_at_ms,
        pulse=_series(chunks.get("heart_rate")),
        power=_series(chunks.get("power")),
        way_m=_way(chunks),
    )


def _series(chunks: Sequence[Chunk] | None) -> Series | None:
    if not chunks:
        return None
    times: list[int] = []
    values: list[float | None] = []
    joined = tracks.join(chunks)
    for offset, value in zip(joined.offsets_ms, joined.values, strict=True):
        at = joined.start_ms + offset
        if offset > tracks.MAX_OFFSET_MS:
            break  # a chunk of another month: no workout goes on until then, and a value for each second of it would
        if not times or at > times[-1]:
            times.append(at)
            values.append(value if is_number(value) else None)
    return Series(times, values)


def _way(chunks: dict[Stream, list[Chunk]]) -> Series | None:
    """The distance so far: by positions, else by speeds."""
    if positions := chunks.get("position"):
        joined = tracks.join(positions)
        way = geodesy.cumulative_m(joined.values)
        return _rising([joined.start_ms + offset for offset in joined.offsets_ms], way)
    speeds = _series(chunks.get("speed"))
    if speeds is None:
        return None
    far, distances = 0.0, []
    for index, at in enumerate(speeds.times_ms):
        before = speeds.values[index - 1] if index else None
        if before is not None and before > 0:  # a sensor may say anything, and the way never shrinks
            far += before * min(at - speeds.times_ms[index - 1], 10_000) / 1000
        distances.append(far)
    return _rising(speeds.times_ms, distances)


def _rising(times: Sequence[int], distances: Sequence[float]) -> Series:
    kept = [
        (at, far)
        for index, (at, far) in enumerate(zip(times, distances, strict=True))
        if not index or at > times[index - 1]
    ]
    return Series([at for at, _ in kept], [far for _, far in kept])
