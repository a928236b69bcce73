"""FIT messages, as garmin-fit-sdk decodes them, to a Recording.

A file may hold anything under any name: every field is checked here for what it must be, and else taken as absent.
Source: FIT Profile 21.218 (session, lap, record, hrv, activity, file_id, sport); the traps are named where they are met.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from fitness_api.workouts.recording import Lap, Recording, Samples, Session
from sync.tracks import MAX_OFFSET_MS, Number, Sample, Stream, is_number

Message = Mapping[Any, Any]
Messages = Mapping[str, Sequence[Message]]

# The fields that are read. A decoder may drop all others, which is most of what a file takes in memory.
RECORD_FIELDS: Final = frozenset(
    {
        "timestamp", "position_lat", "position_long", "distance", "altitude", "enhanced_altitude", "speed", "enhanced_speed",
        "heart_rate", "cadence", "fractional_cadence", "power", "temperature",
    }
)  # fmt: skip

FIT_EPOCH_S: Final = 631_065_600  # 1989-12-31T00:00:00Z
# Source: FIT types, date_time: a smaller one counts from when the device was switched on, and tells no time of day.
_MIN_TIME_MS: Final = (FIT_EPOCH_S + 0x10000000) * 1000

_DEGREES_OF_SEMICIRCLE: Final = 180 / 2**31

_OFFSETS_S: Final = range(-12 * 3600, 14 * 3600 + 1)  # the time zones that there are
_OFFSET_STEP_S: Final = 900  # all of today's zones are multiples of a quarter of an hour
_OFFSET_SLACK_S: Final = 120  # the two times are not always taken in the same moment

_SPORTS: Final[Mapping[str, str]] = {
    "running": "run", "cycling": "ride", "e_biking": "ride", "swimming": "swim", "walking": "walk", "hiking": "hike",
    "rowing": "row", "hiit": "hiit",
}  # fmt: skip
# Where the sport says no more than that one was in a gym.
_INDOOR_SPORTS: Final[Mapping[str, str]] = {
    "strength_training": "strength", "yoga": "yoga", "hiit": "hiit", "amrap": "hiit", "emom": "hiit", "tabata": "hiit",
    "treadmill": "run", "indoor_running": "run", "indoor_cycling": "ride", "spin": "ride", "indoor_rowing": "row",
    "indoor_walking": "walk", "lap_swimming": "swim",
}  # fmt: skip
_ON_FOOT: Final = frozenset({"run", "walk", "hike"})
_TRANSITION: Final = "transition"

# A watch that finds the time by GPS may record its first seconds under an old one; a broken clock may record any.
_MAX_BEFORE_MS: Final = 86_400_000
_MAX_AFTER_MS: Final = MAX_OFFSET_MS - _MAX_BEFORE_MS

# How long after a session's end a record must lie to be of another, whose own message was lost.
_STRAY_MS: Final = 60_000


class _Span(NamedTuple):
    """A session's message with its times; None for a session of which only records were left."""

    message: Message
    started_at_ms: int
    ended_at_ms: int


def recording(messages: Messages, *, damaged: bool = False) -> Recording:
    """Return the activity; without sessions where there is none. `damaged`: the file was not read to its end.

    An `hrv` message has no time of its own: whoever decodes gives it the `timestamp` of the record before it.
    """
    warnings = ["The file is damaged; what could be read of it was imported."] if damaged else []
    records = sorted(
        ((at, message) for message in messages.get("record_mesgs", ()) if (at := _time_ms(message)) is not None),
        key=lambda record: record[0],
    )
    untimed = len(messages.get("record_mesgs", ())) - len(records)
    if untimed:
        warnings.append(f"{untimed} records without a time were left out.")
    spans, stray_from_ms = _spans(messages, [at for at, _ in records], is_damaged=damaged)
    starts = [span.started_at_ms for span in spans]
    if stray_from_ms is not None:
        warnings.append("A session's summary is missing; it was made from the records.")
    records_of = _shared_out(records, starts)
    far = len(records) - sum(map(len, records_of))
    if far and starts:
        warnings.append(f"{far} records whose time is far from their session's were left out.")
    laps_of = _shared_out(
        (
            (at, message)
            for message in messages.get("lap_mesgs", ())
            if (at := _time_ms(message, "start_time")) is not None
        ),
        starts,
    )
    hrv_of = _shared_out(
        (
            (at if (at := _time_ms(message)) is not None else min(starts, default=0), message)
            for message in messages.get("hrv_mesgs", ())
        ),
        starts,
    )
    sessions = []
    for index, span in enumerate(spans):
        if _text(span.message.get("sport")) == _TRANSITION:
            warnings.append("A transition between two sports was left out.")
            continue
        sessions.append(_session(span, records_of[index], laps_of[index], hrv_of[index]))
    return Recording(
        sessions=sessions,
        device=_device(messages.get("file_id_mesgs", ())),
        utc_offset_s=_utc_offset_s(messages.get("activity_mesgs", ())),
        is_damaged=damaged,
        warnings=warnings,
    )


def _spans(messages: Messages, record_times_ms: Sequence[int], *, is_damaged: bool) -> tuple[list[_Span], int | None]:
    """Return the sessions in order of time, and from when on one had to be made up from the records, if so."""
    spans: list[_Span] = []
    for message in messages.get("session_mesgs", ()):
        elapsed_ms = round(1000 * (_positive(message.get("total_elapsed_time")) or 0))
        ended_at_ms = _time_ms(message)
        started_at_ms = _time_ms(message, "start_time")
        if started_at_ms is None and ended_at_ms is not None:
            started_at_ms = ended_at_ms - elapsed_ms
        if started_at_ms is not None:
            spans.append(_Span(message, started_at_ms, max(started_at_ms + elapsed_ms, ended_at_ms or 0)))
    spans.sort(key=lambda span: span.started_at_ms)
    stray = record_times_ms
    if spans:
        # A watch that died between two sports has written the first one's summary only.
        last_ms = max(span.ended_at_ms for span in spans)
        stray = record_times_ms[bisect_right(record_times_ms, last_ms + _STRAY_MS) :] if is_damaged else ()
    if len(stray) > 1:
        sport: Message = next(iter(reversed(messages.get("sport_mesgs", ()))), {})
        made_up = {name: sport[name] for name in ("sport", "sub_sport") if name in sport}
        spans.append(_Span(made_up, stray[0], stray[-1]))
        return spans, stray[0]
    return spans, None


def _shared_out(timed: Iterable[tuple[int, Message]], starts_ms: Sequence[int]) -> list[list[tuple[int, Message]]]:
    """Give each session what lies between its start and the next one's; the first also takes what lies a little before it."""
    shares: list[list[tuple[int, Message]]] = [[] for _ in starts_ms]
    for at, message in timed:
        index = max(0, bisect_right(starts_ms, at) - 1)
        if shares and starts_ms[index] - _MAX_BEFORE_MS <= at <= starts_ms[index] + _MAX_AFTER_MS:
            shares[index].append((at, message))
    return shares


def _session(
    span: _Span,
    records: Sequence[tuple[int, Message]],
    laps: Sequence[tuple[int, Message]],
    hrv: Sequence[tuple[int, Message]],
) -> Session:
    message, sport = span.message, _sport(span.message)
    streams = _streams(records, hrv, sport)
    times_ms = [at for at, _ in records]
    elapsed_time_s = _positive(message.get("total_elapsed_time"))
    # A session's own `timestamp` is when it was saved, minutes after the end if nobody pressed the button.
    ended_at_ms = max(
        [
            span.started_at_ms + round(1000 * elapsed_time_s) if elapsed_time_s is not None else span.ended_at_ms,
            *times_ms[-1:],
        ]
    )
    if elapsed_time_s is None and ended_at_ms > span.started_at_ms:
        elapsed_time_s = (ended_at_ms - span.started_at_ms) / 1000
    heart_rates = (
        [value for value in streams["heart_rate"].values if is_number(value)] if "heart_rate" in streams else []
    )
    distances = [far for _, record in records if (far := _not_negative(record.get("distance"))) is not None]
    return Session(
        sport=sport,
        started_at_ms=span.started_at_ms,
        ended_at_ms=ended_at_ms,
        distance_m=_first(
            _not_negative(message.get("total_distance")), distances[-1] - distances[0] if distances else None
        ),
        elapsed_time_s=elapsed_time_s,
        timer_time_s=_positive(message.get("total_timer_time")),
        moving_time_s=_positive(message.get("total_moving_time")),
        elevation_gain_m=_not_negative(message.get("total_ascent")),
        energy_kcal=_positive(message.get("total_calories")),
        avg_hr_bpm=_first(
            _positive(message.get("avg_heart_rate")),
            round(sum(heart_rates) / len(heart_rates)) if heart_rates else None,
        ),
        max_hr_bpm=_first(_positive(message.get("max_heart_rate")), max(heart_rates, default=None)),
        avg_power_w=_not_negative(message.get("avg_power")),
        laps=[_lap(at, lap) for at, lap in sorted(laps, key=lambda lap: lap[0])],
        streams=streams,
    )


def _lap(started_at_ms: int, message: Message) -> Lap:
    return Lap(
        started_at_ms=started_at_ms,
        trigger=_text(message.get("lap_trigger")),
        distance_m=_not_negative(message.get("total_distance")),
        elapsed_time_s=_positive(message.get("total_elapsed_time")),
        timer_time_s=_positive(message.get("total_timer_time")),
        avg_hr_bpm=_positive(message.get("avg_heart_rate")),
    )


def _streams(
    records: Sequence[tuple[int, Message]], hrv: Sequence[tuple[int, Message]], sport: str
) -> dict[Stream, Samples]:
    # FIT counts strides, which are two steps, of whoever is on foot; revolutions and strokes are what they are.
    cadence_factor = 2 if sport in _ON_FOOT else 1

    def cadence(record: Message) -> Number | None:
        whole = _not_negative(record.get("cadence"))
        if whole is None:
            return None
        value = (whole + (_not_negative(record.get("fractional_cadence")) or 0)) * cadence_factor
        return int(value) if value == int(value) else value

    readers: Mapping[Stream, Callable[[Message], Sample]] = {
        "heart_rate": lambda record: _positive(record.get("heart_rate")),  # 0 is a strap without contact
        "position": _position,
        "altitude": lambda record: _rounded(
            _first(_number(record.get("enhanced_altitude")), _number(record.get("altitude")))
        ),
        "speed": lambda record: _first(_not_negative(record.get("enhanced_speed")), _not_negative(record.get("speed"))),
        "cadence": cadence,
        "power": lambda record: _not_negative(record.get("power")),
        "temperature": lambda record: _number(record.get("temperature")),
    }
    streams: dict[Stream, Samples] = {}
    for stream, read in readers.items():
        present = [(at, value) for at, record in records if (value := read(record)) is not None]
        if present:
            streams[stream] = Samples([at for at, _ in present], [value for _, value in present])
    beats = [(at, rr_ms) for at, message in sorted(hrv, key=lambda beat: beat[0]) for rr_ms in _intervals_ms(message)]
    if beats:
        streams["rr"] = Samples([at for at, _ in beats], [rr_ms for _, rr_ms in beats])
    return streams


def _position(record: Message) -> tuple[float, float] | None:
    latitude, longitude = _number(record.get("position_lat")), _number(record.get("position_long"))
    if latitude is None or longitude is None:
        return None
    # A semicircle is 9 mm; the seventh decimal of a degree is 11 mm.
    degrees = (round(latitude * _DEGREES_OF_SEMICIRCLE, 7), round(longitude * _DEGREES_OF_SEMICIRCLE, 7))
    return degrees if abs(degrees[0]) <= 90 and abs(degrees[1]) <= 180 else None


def _intervals_ms(message: Message) -> list[int]:
    times_s = message.get("time")
    each = times_s if isinstance(times_s, list) else [times_s]
    return [round(1000 * time_s) for value in each if (time_s := _positive(value)) is not None]


def _sport(message: Message) -> str:
    sport, sub_sport = _text(message.get("sport")), _text(message.get("sub_sport"))
    return _SPORTS.get(sport or "") or _INDOOR_SPORTS.get(sub_sport or "") or "other"


def _device(file_ids: Sequence[Message]) -> str | None:
    for message in file_ids:
        product = _first(
            _text(message.get("garmin_product")), _text(message.get("product_name")), _number(message.get("product"))
        )
        words = [str(word) for word in (_text(message.get("manufacturer")), product) if word is not None]
        if words:
            return " ".join(words)
    return None


def _utc_offset_s(activities: Sequence[Message]) -> int | None:
    """`local_timestamp` is the local time as if it were UTC. Devices without a zone leave it out, or give the UTC time or nonsense."""
    for message in activities:
        local_s, at_ms = _number(message.get("local_timestamp")), _time_ms(message)
        if local_s is None or at_ms is None:
            continue
        difference_s = local_s + FIT_EPOCH_S - at_ms / 1000
        offset_s = _OFFSET_STEP_S * round(difference_s / _OFFSET_STEP_S)
        if offset_s in _OFFSETS_S and abs(difference_s - offset_s) <= _OFFSET_SLACK_S:
            return offset_s
    return None


def _time_ms(message: Message, field: str = "timestamp") -> int | None:
    value = message.get(field)
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    time_ms = round(value.timestamp() * 1000)
    return time_ms if time_ms >= _MIN_TIME_MS else None


def _number(value: Any) -> Number | None:
    return value if is_number(value) else None


def _not_negative(value: Any) -> Number | None:
    return value if is_number(value) and value >= 0 else None


def _positive(value: Any) -> Number | None:
    return value if is_number(value) and value > 0 else None


def _rounded(value: Number | None) -> Number | None:
    """Undo what subtracting an offset of 500 does to tenths: -20.19999999999999."""
    return round(value, 3) if value is not None else None


def _text(value: Any) -> str | None:
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str):
        return None
    return "".join(character for character in value if character.isprintable()).strip()[:64] or None


def _first(*values: Any) -> Any:
    """Return the first that is not None: what `or` would do if zero were no value."""
    return next((value for value in values if value is not None), None)
