"""What a file from a device holds, whatever its format: sessions of one sport each, with laps and sample streams.

Absent is None or an empty list, never zero. Times are Unix milliseconds, UTC.
"""

from typing import Final, Literal

from msgspec import Struct

from sync.tracks import Number, Sample, Stream

# Triathlons have five, with transitions. More is no recording of a person's day.
MAX_SESSIONS: Final = 50
# Records, beats and everything else a file may list: at two a second, 35 hours. 50 to 90 µs each, measured.
MAX_POINTS: Final = 250_000
# Importing keeps 200 of a workout. What a file of nothing but laps has is not carried out of the process that reads it.
MAX_LAPS: Final = 10_000

FileFormat = Literal["fit", "gpx", "tcx"]


class TooComplex(Exception):
    """More points, laps or sessions than one file may have."""


class Samples(Struct, frozen=True, array_like=True):
    """Of one stream, in order of time; `values` as in a `sync.tracks.Chunk`."""

    times_ms: list[int]
    values: list[Sample]


class Lap(Struct, frozen=True, kw_only=True):
    started_at_ms: int
    trigger: str | None = None
    distance_m: Number | None = None
    elapsed_time_s: Number | None = None
    timer_time_s: Number | None = None
    avg_hr_bpm: Number | None = None


class Session(Struct, frozen=True, kw_only=True):
    """The numbers are what the device claims: its distance may not be the sum of its positions.

    elapsed_time_s includes pauses, timer_time_s leaves out those of the timer, moving_time_s also those without movement.
    """

    sport: str
    started_at_ms: int
    ended_at_ms: int
    distance_m: Number | None = None
    elapsed_time_s: Number | None = None
    timer_time_s: Number | None = None
    moving_time_s: Number | None = None
    elevation_gain_m: Number | None = None
    energy_kcal: Number | None = None
    avg_hr_bpm: Number | None = None
    max_hr_bpm: Number | None = None
    avg_power_w: Number | None = None
    laps: list[Lap] = []
    streams: dict[Stream, Samples] = {}


class Recording(Struct, frozen=True, kw_only=True):
    """`is_damaged`: the file was not read to its end. `warnings` are sentences for the user: what is missing."""

    sessions: list[Session]
    format: FileFormat = "fit"
    device: str | None = None
    utc_offset_s: int | None = None
    is_damaged: bool = False
    warnings: list[str] = []
