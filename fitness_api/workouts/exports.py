"""A workout's document and samples, wherever they came from, as the session that a file is written of."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from fitness_api.workouts.recording import Lap, Samples, Session
from sync import tracks
from sync.schema import SPORTS
from sync.tracks import Chunk, Number, Sample, Stream, is_number

_MIN_MS: Final = -62_135_596_800_000  # the first instant of the year 1, before which UTC has no name for one


def session(document: Mapping[str, Any], chunks: Mapping[Stream, Sequence[Chunk]]) -> Session | None:
    """`document` is as `sync.document.read` gives it; what is not of its field's kind is as if it were not there.

    None: nothing tells when it was.
    """
    streams = {stream: samples for stream, parts in chunks.items() if (samples := _samples(parts)).times_ms}
    times = [at for samples in streams.values() for at in (samples.times_ms[0], samples.times_ms[-1])]
    started, ended = instant_ms(document.get("started_at")), instant_ms(document.get("ended_at"))
    began = min([*times, *([] if started is None else [started])], default=None)
    if began is None:
        return None
    elapsed = _number(document.get("elapsed_time_s"))
    over = max([began, *times, *([] if ended is None else [ended])])
    if over == began and elapsed is not None:
        over = min(began + round(1000 * elapsed), tracks.MAX_START_MS)
    sport = document.get("sport")
    return Session(
        sport=sport if sport in SPORTS else "other",
        started_at_ms=began,
        ended_at_ms=over,
        distance_m=_number(document.get("distance_m")),
        elapsed_time_s=elapsed if elapsed is not None else (over - began) / 1000,
        timer_time_s=_number(document.get("timer_time_s")),
        moving_time_s=_number(document.get("moving_time_s")),
        elevation_gain_m=_number(document.get("elevation_gain_m")),
        energy_kcal=_number(document.get("energy_kcal")),
        avg_hr_bpm=_number(document.get("avg_hr_bpm")),
        max_hr_bpm=_number(document.get("max_hr_bpm")),
        avg_power_w=_number(document.get("avg_power_w")),
        laps=sorted(_laps(document.get("laps")), key=lambda lap: lap.started_at_ms),
        streams=streams,
    )


def instant_ms(value: Any) -> int | None:
    """Return Unix milliseconds of an instant as documents hold it. None: it is none, or not of the years 1 to 9999 in UTC."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
        at_ms = None if at.tzinfo is None else round(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return at_ms if at_ms is not None and _MIN_MS <= at_ms <= tracks.MAX_START_MS else None


def _samples(chunks: Sequence[Chunk]) -> Samples:
    """Join the chunks; of several samples at one instant the first counts, and gaps are left out."""
    if not chunks:
        return Samples([], [])
    joined = tracks.join(chunks)
    times: list[int] = []
    values: list[Sample] = []
    is_rr = joined.stream == "rr"  # beats may share a millisecond
    for offset, value in zip(joined.offsets_ms, joined.values, strict=True):
        at = joined.start_ms + offset
        if value is not None and (is_rr or not times or times[-1] != at):
            times.append(at)
            values.append(value)
    return Samples(times, values)


def _laps(given: Any) -> list[Lap]:
    laps = []
    for lap in given if isinstance(given, list) else []:
        started = instant_ms(lap.get("started_at")) if isinstance(lap, dict) else None
        if started is not None:
            trigger = lap.get("trigger")
            laps.append(
                Lap(
                    started_at_ms=started,
                    trigger=trigger if isinstance(trigger, str) else None,
                    distance_m=_number(lap.get("distance_m")),
                    elapsed_time_s=_number(lap.get("elapsed_time_s")),
                    timer_time_s=_number(lap.get("timer_time_s")),
                    avg_hr_bpm=_number(lap.get("avg_hr_bpm")),
                )
            )
    return laps


def _number(value: Any) -> Number | None:
    return value if is_number(value) and value >= 0 else None
