"""TCX, Garmin's Training Center XML, to a Recording: one session an activity, with its laps.

Source: TrainingCenterDatabase v2 and ActivityExtension v2 schemas; files of Garmin Connect, Polar Flow and rowing apps.
"""

from typing import Final

from fitness_api.workouts import track_points
from fitness_api.workouts.recording import Lap, Recording, Session
from fitness_api.workouts.track_points import Point, not_negative, number, positive, rounded
from fitness_api.workouts.xml_reader import Fields, Reader
from sync.tracks import MAX_OFFSET_MS, Number, Sample, Stream, is_number

_ELEMENTS: Final = ("Activity", "Lap", "Trackpoint", "Creator")
_SPORTS: Final = {
    "running": "run",
    "biking": "ride",
    "swimming": "swim",
    "walking": "walk",
    "hiking": "hike",
    "rowing": "row",
}


class _Tcx(track_points.Tally):
    def __init__(self) -> None:
        super().__init__()
        self.reader = Reader(_ELEMENTS, begun=self._begun, ended=self._ended)
        self._points: list[Point] = []
        self._laps: list[Fields] = []

    def _begun(self, name: str) -> None:
        if name == "Activity":
            self._points, self._laps = [], []

    def _ended(self, name: str, fields: Fields) -> None:
        match name:
            case "Trackpoint":
                self._point(fields)
            case "Lap":
                self._laps.append(fields)
            case "Activity":
                self.close_activity(fields)
            case "Creator":
                self.device = self.device or fields.get("Name")

    def close_activity(self, fields: Fields) -> None:
        """Make a session of what was read of the activity; a file that is cut off ends in the middle of one."""
        read, laps = self._points, self._laps
        self._points, self._laps = [], []
        points = self.in_reach(read)
        sport = _SPORTS.get(fields.get("@Sport", "").lower(), "other")
        timed = [
            _lap(started, lap)
            for lap in laps
            if (started := track_points.instant_ms(lap.get("@StartTime"))) is not None
        ]
        if not points:
            session = _without_points(timed, laps, sport)
        else:
            if sport in track_points.ON_FOOT:
                _double_cadence(points)
            near = [lap for lap in timed if abs(lap.started_at_ms - points[0].at_ms) <= _DAY_MS * _DAYS]
            session = track_points.session_of(
                points,
                sport=sport,
                started_at_ms=min((lap.started_at_ms for lap in near), default=None),
                distance_m=_sum(laps, "DistanceMeters"),
                timer_time_s=_sum(laps, "TotalTimeSeconds"),
                energy_kcal=_sum(laps, "Calories"),
                laps=near,
            )
        if session is not None:
            self.sessions.append(session)

    def _point(self, fields: Fields) -> None:
        at_ms = self.instant_ms(fields.get("Time"))
        if at_ms is None:
            return
        distance = not_negative(fields.get("DistanceMeters"))
        self._points.append(Point(at_ms, _values(fields), None if distance is None else float(distance)))


# A lap whose clock is further off than this is no lap of these points.
_DAY_MS: Final = 86_400_000
_DAYS: Final = 7


def recording(data: bytes) -> Recording:
    """Return the activities. Raises TooComplex."""
    tcx = _Tcx()
    is_whole = tcx.reader.read(data)
    tcx.close_activity({})
    return tcx.recording("tcx", is_whole=is_whole, unit="activity")


def _without_points(laps: list[Lap], fields: list[Fields], sport: str) -> Session | None:
    """A treadmill's file may have laps and no points."""
    if not laps:
        return None
    began = min(lap.started_at_ms for lap in laps)
    ends = [lap.started_at_ms + round(1000 * (lap.timer_time_s or 0)) for lap in laps]
    ended = max((end for end in ends if end - began <= MAX_OFFSET_MS), default=began)  # as of points: within a month
    if ended == began:
        return None
    return Session(
        sport=sport,
        started_at_ms=began,
        ended_at_ms=ended,
        distance_m=_sum(fields, "DistanceMeters"),
        elapsed_time_s=(ended - began) / 1000,
        timer_time_s=_sum(fields, "TotalTimeSeconds"),
        energy_kcal=_sum(fields, "Calories"),
        laps=laps,
    )


def _lap(started_at_ms: int, fields: Fields) -> Lap:
    trigger = fields.get("TriggerMethod")
    return Lap(
        started_at_ms=started_at_ms,
        trigger=None if trigger is None else trigger.lower()[:64],
        distance_m=not_negative(fields.get("DistanceMeters")),
        timer_time_s=positive(fields.get("TotalTimeSeconds")),
        avg_hr_bpm=positive(fields.get("AverageHeartRateBpm")),
    )


def _sum(laps: list[Fields], name: str) -> Number | None:
    values = [value for lap in laps if (value := not_negative(lap.get(name))) is not None]
    total = rounded(sum(values), 3) if values else None
    return total if total and is_number(total) else None


def _values(fields: Fields) -> dict[Stream, Sample]:
    values: dict[Stream, Sample | None] = {
        "heart_rate": positive(fields.get("HeartRateBpm")),  # 0 is a strap without contact
        "position": track_points.position(fields.get("LatitudeDegrees"), fields.get("LongitudeDegrees")),
        "altitude": rounded(number(fields.get("AltitudeMeters")), 3),
        "speed": rounded(not_negative(fields.get("Speed")), 3),
        "cadence": not_negative(fields.get("Cadence", fields.get("RunCadence"))),
        "power": not_negative(fields.get("Watts")),
    }
    return {stream: value for stream, value in values.items() if value is not None}


def _double_cadence(points: list[Point]) -> None:
    """TCX counts strides, which are two steps, of whoever is on foot."""
    for point in points:
        cadence = point.values.get("cadence")
        if isinstance(cadence, int | float):
            point.values["cadence"] = track_points.steps_of(cadence)
