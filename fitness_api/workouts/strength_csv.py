"""Training logs of the apps Strong and Hevy, as their CSV exports, to workouts of sets. Every row that is not understood is told.

Neither writes time zones, and Strong not always units: the caller says them. Source: exports of Strong 2.5 to 6 (three header variants)
and Hevy 1.x and 2.x (metric and imperial, two forms of times).
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

App = Literal["strong", "hevy"]
WeightUnit = Literal["kg", "lb"]
DistanceUnit = Literal["km", "mi"]
SetKind = Literal["normal", "warmup", "drop", "failure"]

KG_A_POUND: Final = 0.45359237
M_A_MILE: Final = 1_609.344

# Twenty years of five sets of six exercises every other day are 110,000.
MAX_ROWS: Final = 200_000
# Three a day for twenty years are 22,000; each is a document to write before the answer.
MAX_WORKOUTS: Final = 25_000
# A log of as many is another language's or none; each costs a try of every form of times.
MAX_WRONG_ROWS: Final = 10_000
# A document has 2,000 paths, and a set takes up to nine.
MAX_SETS_A_WORKOUT: Final = 200
MAX_TEXT: Final = 500
# No app writes thirty. A row is as wide as its header, however short it is.
MAX_COLUMNS: Final = 100

_MIN_MS: Final = 0  # 1970: no app's log is older
_MAX_MS: Final = 4_102_444_800_000  # 2100

_STRONG: Final = frozenset({"Date", "Workout Name", "Exercise Name", "Set Order"})
_HEVY: Final = frozenset({"title", "start_time", "exercise_title", "set_index"})

# Narrow no-break spaces stand before AM and PM since ICU 72.
_SPACES: Final = re.compile(r"[\s\u00a0\u202f]+")
_TIMES: Final = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%d %b %Y, %H:%M", "%b %d, %Y, %I:%M %p",
    "%b %d, %Y at %I:%M:%S %p", "%b %d, %Y at %I:%M %p", "%d %b %Y at %H:%M", "%Y-%m-%d %I:%M:%S %p",
)  # fmt: skip
_DURATION: Final = re.compile(r"(?:(\d{1,3})\s*h(?:ours?|r)?)?\s*(?:(\d{1,4})\s*m(?:in)?)?\s*(?:(\d{1,6})\s*s(?:ec)?)?")
_NUMBER: Final = re.compile(r"-?\d{1,9}(?:[.,]\d{1,6})?")

_STRONG_KINDS: Final[Mapping[str, SetKind]] = {"W": "warmup", "D": "drop", "F": "failure"}
_HEVY_KINDS: Final[Mapping[str, SetKind]] = {
    "normal": "normal", "warmup": "warmup", "dropset": "drop", "drop": "drop", "failure": "failure",
}  # fmt: skip


class NotALog(Exception):
    """The text is no export of an app that is known here; says what was looked for."""


class UnitMissing(Exception):
    """The export does not tell its units, and the caller did not either. `unit`: "weight" or "distance"."""

    def __init__(self, unit: Literal["weight", "distance"]) -> None:
        super().__init__(f"The export does not tell its unit of {unit}.")
        self.unit = unit


class RowError(Struct, frozen=True):
    """`row` counts lines of the file as spreadsheets do: the header is 1."""

    row: int
    detail: str


class LoggedSet(Struct, frozen=True, kw_only=True):
    """`weight_kg` is 0 or None where it was the body's; `rpe` from 1 to 10."""

    exercise: str
    kind: SetKind = "normal"
    reps: int | None = None
    weight_kg: float | None = None
    distance_m: float | None = None
    duration_s: float | None = None
    rpe: float | None = None


class LoggedWorkout(Struct, frozen=True, kw_only=True):
    """`local_start` is as the app wrote it, by which the workout is known again; times are Unix milliseconds."""

    title: str
    local_start: str
    started_at_ms: int
    ended_at_ms: int | None
    notes: str | None
    sets: list[LoggedSet]


class Log(Struct, frozen=True, kw_only=True):
    """Workouts in the order in which they began. A row that had an error is no part of them."""

    app: App
    workouts: list[LoggedWorkout]
    errors: list[RowError]


class _RowInvalid(Exception):
    pass


class _Workout:
    def __init__(self, title: str, local_start: str, started_at_ms: int) -> None:
        self.title = title
        self.local_start = local_start
        self.started_at_ms = started_at_ms
        self.ended_at_ms: int | None = None
        self.notes: str | None = None
        self.sets: list[LoggedSet] = []


def parsed(
    text: str, *, timezone: str, weight_unit: WeightUnit | None = None, distance_unit: DistanceUnit | None = None
) -> Log:
    """Read a log whose local times are of this IANA zone. A unit that the file tells goes before the caller's.

    Raises NotALog, or UnitMissing if neither tells a unit of which the file has numbers.
    """
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), delimiter=_delimiter(text), restval="")
    header = _header(rows)
    app: App
    if header >= _STRONG:
        app, read = "strong", _Strong(ZoneInfo(timezone), weight_unit, distance_unit).read
    elif header >= _HEVY:
        app, read = "hevy", _Hevy(ZoneInfo(timezone)).read
    else:
        raise NotALog("The first line has to name the columns of a Strong or a Hevy export.")
    workouts: dict[tuple[str, str], _Workout] = {}
    errors: list[RowError] = []
    for number, row in _numbered(rows, errors):
        try:
            read(
                {name.strip(): value.strip() for name, value in row.items() if name and isinstance(value, str)},
                workouts,
            )
        except _RowInvalid as invalid:
            errors.append(RowError(number, str(invalid)))
            if len(errors) == MAX_WRONG_ROWS:
                errors.append(RowError(number, f"{MAX_WRONG_ROWS} rows are wrong; the rest was not read."))
                break
    ordered = sorted(workouts.values(), key=lambda workout: (workout.started_at_ms, workout.title))
    return Log(
        app=app,
        workouts=[
            LoggedWorkout(
                title=workout.title,
                local_start=workout.local_start,
                started_at_ms=workout.started_at_ms,
                ended_at_ms=workout.ended_at_ms,
                notes=workout.notes,
                sets=workout.sets,
            )
            for workout in ordered
            if workout.sets
        ],
        errors=sorted(errors, key=lambda error: error.row),
    )


class _Strong:
    def __init__(self, zone: ZoneInfo, weight_unit: WeightUnit | None, distance_unit: DistanceUnit | None) -> None:
        self._zone = zone
        self._weight_unit = weight_unit
        self._distance_unit = distance_unit

    def read(self, row: Mapping[str, str], workouts: dict[tuple[str, str], _Workout]) -> None:
        order = row["Set Order"]
        if order in {"Rest Timer", "Note"}:
            return
        kind = _STRONG_KINDS.get(order.upper(), "normal")
        if kind == "normal" and not order.isdecimal():
            raise _RowInvalid(f"Set Order: {_quoted(order)} is neither a number nor W, D or F.")
        workout = _workout_of(workouts, row["Workout Name"], row["Date"], self._zone)
        seconds = _duration_s(row.get("Workout Duration") or row.get("Duration") or "")
        if seconds is not None:
            workout.ended_at_ms = workout.started_at_ms + 1000 * seconds
        workout.notes = workout.notes or _text(row.get("Workout Notes"))
        weight, distance = _number(row, "Weight"), _number(row, "Distance")
        _add(
            workout,
            LoggedSet(
                exercise=_exercise(row["Exercise Name"]),
                kind=kind,
                reps=_whole(row, "Reps"),
                weight_kg=None if weight is None else _kg(weight, self._unit_of(row, "Weight Unit", self._weight_unit)),
                distance_m=None
                if not distance
                else _m(distance, self._unit_of(row, "Distance Unit", self._distance_unit)),
                duration_s=_number(row, "Seconds") or None,
                rpe=_rpe(row, "RPE"),
            ),
        )

    def _unit_of(self, row: Mapping[str, str], column: str, told: str | None) -> str:
        unit = row.get(column) or told
        if unit is None:
            raise UnitMissing("weight" if column == "Weight Unit" else "distance")
        return unit


class _Hevy:
    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone

    def read(self, row: Mapping[str, str], workouts: dict[tuple[str, str], _Workout]) -> None:
        kind = _HEVY_KINDS.get(row.get("set_type", "normal") or "normal")
        if kind is None:
            raise _RowInvalid(f"set_type: {_quoted(row['set_type'])} is none that is known.")
        workout = _workout_of(workouts, row["title"], row["start_time"], self._zone)
        if row.get("end_time"):
            ended_at_ms = _instant_ms(row["end_time"], self._zone)
            if ended_at_ms < workout.started_at_ms:
                raise _RowInvalid("end_time: lies before start_time.")
            workout.ended_at_ms = ended_at_ms
        workout.notes = workout.notes or _text(row.get("description"))
        _add(
            workout,
            LoggedSet(
                exercise=_exercise(row["exercise_title"]),
                kind=kind,
                reps=_whole(row, "reps"),
                weight_kg=_first(_in(row, "weight_kg", "kg", _kg), _in(row, "weight_lbs", "lb", _kg)),
                distance_m=_first(_in(row, "distance_km", "km", _m), _in(row, "distance_miles", "mi", _m)) or None,
                duration_s=_number(row, "duration_seconds") or None,
                rpe=_rpe(row, "rpe"),
            ),
        )


def _header(rows: "csv.DictReader[str]") -> set[str]:
    try:
        names = rows.fieldnames or ()
    except csv.Error as error:
        raise NotALog(f"The first line cannot be taken apart ({error}).") from None
    if len(names) > MAX_COLUMNS:
        raise NotALog(f"The first line names over {MAX_COLUMNS} columns.")
    return {name.strip() for name in names if name}


def _numbered(
    rows: "csv.DictReader[str]", errors: list[RowError]
) -> Iterator[tuple[int, Mapping[str | None, str | list[str] | None]]]:
    """Give rows with the line on which they end; what the reader cannot take apart ends them, and is told."""
    try:
        for count, row in enumerate(rows):
            if count == MAX_ROWS:
                errors.append(RowError(rows.line_num, f"A log may have {MAX_ROWS} rows; the rest was not read."))
                return
            yield rows.line_num, row
    except csv.Error as error:
        errors.append(RowError(rows.line_num, f"The line cannot be taken apart ({error}); the rest was not read."))


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return ";" if first.count(";") > first.count(",") else ","


def _workout_of(workouts: dict[tuple[str, str], _Workout], title: str, local_start: str, zone: ZoneInfo) -> _Workout:
    key = (local_start, title)
    if key not in workouts:
        if len(workouts) >= MAX_WORKOUTS:
            raise _RowInvalid(f"A log may have {MAX_WORKOUTS} workouts.")
        workouts[key] = _Workout(_text(title) or "Workout", local_start[:MAX_TEXT], _instant_ms(local_start, zone))
    return workouts[key]


def _add(workout: _Workout, one: LoggedSet) -> None:
    if len(workout.sets) >= MAX_SETS_A_WORKOUT:
        raise _RowInvalid(f"A workout may have {MAX_SETS_A_WORKOUT} sets.")
    if one.reps is None and one.duration_s is None and one.distance_m is None:
        raise _RowInvalid("A set has repetitions, a duration or a distance.")
    workout.sets.append(one)


def _instant_ms(text: str, zone: ZoneInfo) -> int:
    """A local time that the clocks skipped is read as if they had not; of one that came twice the first is meant."""
    plain = _SPACES.sub(" ", text).strip()
    for form in _TIMES:
        try:
            at_ms = round(datetime.strptime(plain, form).replace(tzinfo=zone).timestamp() * 1000)
        except (ValueError, OverflowError):
            continue
        if _MIN_MS <= at_ms <= _MAX_MS:
            return at_ms
    raise _RowInvalid(f"{_quoted(text)} is no date and time that is known.")


def _duration_s(text: str) -> int | None:
    plain = text.strip()
    if not plain:
        return None
    if plain.isdecimal() and len(plain) <= 6:
        return int(plain)
    found = _DURATION.fullmatch(plain)
    if found is None or not any(found.groups()):
        raise _RowInvalid(f"{_quoted(text)} is no duration, such as 1h 5m.")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _number(row: Mapping[str, str], column: str) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise _RowInvalid(f"{column}: {_quoted(text)} is no number.")
    value = float(text.replace(",", "."))
    if value < 0:
        raise _RowInvalid(f"{column}: is not below 0.")
    return value


def _whole(row: Mapping[str, str], column: str) -> int | None:
    value = _number(row, column)
    if value is None or value == 0:
        return None
    if value != int(value):
        raise _RowInvalid(f"{column}: is a whole number.")
    return int(value)


def _rpe(row: Mapping[str, str], column: str) -> float | None:
    value = _number(row, column)
    if value is not None and not 1 <= value <= 10:
        raise _RowInvalid(f"{column}: is from 1 to 10.")
    return value


def _in(row: Mapping[str, str], column: str, unit: str, convert: Callable[[float, str], float]) -> float | None:
    value = _number(row, column)
    return None if value is None else convert(value, unit)


def _kg(weight: float, unit: str) -> float:
    match unit.lower():
        case "kg" | "kgs":
            return round(weight, 3)
        case "lb" | "lbs":
            return round(weight * KG_A_POUND, 3)
        case _:
            raise _RowInvalid(f"{_quoted(unit)} is no unit of weight that is known.")


def _m(distance: float, unit: str) -> float:
    match unit.lower():
        case "km":
            return round(distance * 1000, 1)
        case "mi" | "miles":
            return round(distance * M_A_MILE, 1)
        case "m" | "meters":
            return round(distance, 1)
        case _:
            raise _RowInvalid(f"{_quoted(unit)} is no unit of distance that is known.")


def _exercise(text: str) -> str:
    name = _text(text)
    if name is None:
        raise _RowInvalid("The exercise has no name.")
    return name


def _text(text: str | None) -> str | None:
    return (
        "".join(character for character in text or "" if character.isprintable() or character == "\n").strip()[
            :MAX_TEXT
        ]
        or None
    )


def _quoted(text: str) -> str:
    return repr(text[:40])


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one
