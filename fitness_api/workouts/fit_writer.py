"""A session as a FIT activity file, by garmin-fit-sdk's encoder.

A record's time is a whole second: of several samples of a stream within one, the first is written. Numbers that a field cannot hold
are left out. Encoding takes some 0.1 ms a record: whoever serves others meanwhile does it in another thread or process.
Source: FIT Profile 21.218, activity file.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from garmin_fit_sdk import Encoder, Profile

from fitness_api.workouts import track_points
from fitness_api.workouts.fit import FIT_EPOCH_S
from fitness_api.workouts.recording import Lap, Session
from fitness_api.workouts.track_points import ON_FOOT
from sync.tracks import Number, Sample, Stream, is_number

_NUMBERS: Final[Mapping[str, int]] = Profile["mesg_num"]
_SPORTS: Final = {
    "run": ("running", "generic"), "ride": ("cycling", "generic"), "swim": ("swimming", "generic"), "walk": ("walking", "generic"),
    "hike": ("hiking", "generic"), "row": ("rowing", "generic"), "hiit": ("hiit", "generic"),
    "strength": ("training", "strength_training"), "yoga": ("training", "yoga"),
}  # fmt: skip
_TRIGGERS: Final = frozenset({"manual", "time", "distance", "session_end", "fitness_equipment"})
_SEMICIRCLES_A_DEGREE: Final = 2**31 / 180

# 0xFF.., the greatest of each width, says that there is none.
_U8: Final = 254
_U16: Final = 65_534
_U32: Final = 2**32 - 2


def written(session: Session, *, utc_offset_s: int | None = None) -> bytes:
    encoder = Encoder()

    def write(name: str, fields: Mapping[str, Any]) -> None:
        encoder.write_mesg(
            {"mesg_num": _NUMBERS[name]} | {key: value for key, value in fields.items() if value is not None}
        )

    began, ended = _instant(session.started_at_ms), _instant(session.ended_at_ms)
    write(
        "FILE_ID",
        {"type": "activity", "manufacturer": "development", "product": 0, "serial_number": 1, "time_created": began},
    )
    write("EVENT", {"timestamp": began, "event": "timer", "event_type": "start"})
    for at_s, fields in _records(session):
        write("RECORD", {"timestamp": _instant(at_s * 1000), **fields})
    for at_ms, rr_ms in _beats(session):
        write("RECORD", {"timestamp": _instant(at_ms)})
        write("HRV", {"time": [rr_ms / 1000]})
    write("EVENT", {"timestamp": ended, "event": "timer", "event_type": "stop_all"})
    for lap in session.laps:
        write("LAP", _lap(lap, session))
    sport, sub_sport = _SPORTS.get(session.sport, ("generic", "generic"))
    write(
        "SESSION",
        {
            "timestamp": ended,
            "start_time": began,
            "sport": sport,
            "sub_sport": sub_sport,
            "total_elapsed_time": _seconds(session.elapsed_time_s),
            "total_timer_time": _seconds(session.timer_time_s),
            "total_moving_time": _seconds(session.moving_time_s),
            "total_distance": _within(session.distance_m, _U32 / 100),
            "total_ascent": _whole(session.elevation_gain_m, _U16),
            "total_calories": _whole(session.energy_kcal, _U16),
            "avg_heart_rate": _whole(session.avg_hr_bpm, _U8),
            "max_heart_rate": _whole(session.max_hr_bpm, _U8),
            "avg_power": _whole(session.avg_power_w, _U16),
        },
    )
    local = None if utc_offset_s is None else session.ended_at_ms // 1000 + utc_offset_s - FIT_EPOCH_S
    write("ACTIVITY", {"timestamp": ended, "num_sessions": 1, "type": "manual", "local_timestamp": local})
    return bytes(encoder.close())


def _records(session: Session) -> list[tuple[int, dict[str, Any]]]:
    on_foot = session.sport in ON_FOOT
    seconds: dict[int, dict[str, Any]] = {}
    for point in track_points.points_of(session):
        fields = _fields(point.values, on_foot=on_foot)
        if fields:
            seconds[point.at_ms // 1000] = fields | seconds.get(point.at_ms // 1000, {})
    return sorted(seconds.items())


def _fields(values: Mapping[Stream, Sample], *, on_foot: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "heart_rate": _whole(values.get("heart_rate"), _U8, least=1),
        "enhanced_altitude": _within(values.get("altitude"), _U32 / 5 - 500, least=-500),
        "enhanced_speed": _within(values.get("speed"), _U32 / 1000),
        "power": _whole(values.get("power"), _U16),
        "temperature": _whole(values.get("temperature"), 126, least=-127),
    }
    position = values.get("position")
    if isinstance(position, tuple):
        fields["position_lat"], fields["position_long"] = (_semicircles(degrees) for degrees in position)
    cadence = values.get("cadence")
    if is_number(cadence):
        turns = cadence / 2 if on_foot else cadence
        if 0 <= turns <= _U8:
            fields["cadence"] = int(turns)
            fields["fractional_cadence"] = round((turns - int(turns)) * 128) / 128 or None
    return {name: value for name, value in fields.items() if value is not None}


def _beats(session: Session) -> list[tuple[int, Number]]:
    rr = session.streams.get("rr")
    if rr is None:
        return []
    beats = zip(rr.times_ms, rr.values, strict=True)
    return [(at_ms, value) for at_ms, value in beats if is_number(value) and 0 < value <= _U16]


def _lap(lap: Lap, session: Session) -> dict[str, Any]:
    length_s = lap.elapsed_time_s if lap.elapsed_time_s is not None else lap.timer_time_s or 0
    return {
        "timestamp": _instant(min(session.ended_at_ms, lap.started_at_ms + round(1000 * length_s))),
        "start_time": _instant(lap.started_at_ms),
        "lap_trigger": lap.trigger if lap.trigger in _TRIGGERS else None,
        "total_distance": _within(lap.distance_m, _U32 / 100),
        "total_elapsed_time": _seconds(lap.elapsed_time_s),
        "total_timer_time": _seconds(lap.timer_time_s),
        "avg_heart_rate": _whole(lap.avg_hr_bpm, _U8),
    }


def _semicircles(degrees: Number) -> int:
    return min(2**31 - 2, max(-(2**31), round(degrees * _SEMICIRCLES_A_DEGREE)))


def _seconds(value: Number | None) -> Number | None:
    return _within(value, _U32 / 1000)


def _within(value: Sample, greatest: float, *, least: float = 0) -> Number | None:
    return value if is_number(value) and least <= value <= greatest else None


def _whole(value: Sample, greatest: int, *, least: int = 0) -> int | None:
    return round(value) if is_number(value) and least <= round(value) <= greatest else None


def _instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
