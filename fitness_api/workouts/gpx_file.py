"""GPX 1.0 and 1.1 to a Recording: one session a track, segments with pauses between them.

Heart rate and the like stand in vendors' extensions, which are told by their local names. Source: GPX 1.1 schema; Garmin
TrackPointExtension v1 and v2; files of Garmin Connect, Strava, Polar, Suunto, OpenTracks and Wahoo.
"""

from typing import Final

from fitness_api.workouts import track_points
from fitness_api.workouts.recording import Recording, Session
from fitness_api.workouts.track_points import Point, not_negative, number, positive, rounded
from fitness_api.workouts.xml_reader import Fields, Reader
from sync.tracks import Sample, Stream, is_number

_ELEMENTS: Final = ("gpx", "trk", "trkseg", "trkpt")

# Words of apps and sites, and the numbers of Strava.
_SPORTS: Final = {
    "running": "run", "run": "run", "trail_running": "run", "trail running": "run", "treadmill_running": "run", "9": "run",
    "cycling": "ride", "biking": "ride", "ride": "ride", "mountain_biking": "ride", "road_biking": "ride", "virtualride": "ride",
    "ebikeride": "ride", "indoor_cycling": "ride", "gravel_cycling": "ride", "1": "ride",
    "swimming": "swim", "swim": "swim", "open_water_swimming": "swim", "lap_swimming": "swim",
    "walking": "walk", "walk": "walk", "10": "walk", "hiking": "hike", "hike": "hike", "4": "hike",
    "rowing": "row", "indoor_rowing": "row",
}  # fmt: skip


class _Track:
    def __init__(self) -> None:
        self.points: list[Point] = []
        self.segments: list[tuple[int, int]] = []  # (first, last) in ms


class _Gpx(track_points.Tally):
    def __init__(self) -> None:
        super().__init__()
        self.reader = Reader(_ELEMENTS, begun=self._begun, ended=self._ended)
        self._track = _Track()
        self._segment: list[int] = []

    def _begun(self, name: str) -> None:
        if name == "trk":
            self._track = _Track()
        elif name == "trkseg":
            self._segment = []

    def _ended(self, name: str, fields: Fields) -> None:
        if name == "trkpt":
            self._point(fields)
        elif name == "trkseg" and self._segment:
            self._track.segments.append((min(self._segment), max(self._segment)))
            self._segment = []
        elif name == "trk":
            self.close_track(fields)
        elif name == "gpx":
            self.device = fields.get("@creator")

    def close_track(self, fields: Fields) -> None:
        """Make a session of what was read of the track; a file that is cut off ends in the middle of one."""
        if self._segment:
            self._track.segments.append((min(self._segment), max(self._segment)))
        track, self._track, self._segment = self._track, _Track(), []
        points = self.in_reach(track.points)
        if len(points) < 2:
            return
        sport = _SPORTS.get(fields.get("type", "").lower(), "other")
        pauses = _pauses(track.segments)
        session = track_points.session_of(
            points,
            sport=sport,
            timer_time_s=(points[-1].at_ms - points[0].at_ms - sum(ended - began for began, ended in pauses)) / 1000,
            pauses_ms=pauses,
        )
        self.sessions.append(_with_steps(session) if sport in track_points.ON_FOOT else session)

    def _point(self, fields: Fields) -> None:
        at_ms = self.instant_ms(fields.get("time"))
        if at_ms is None:
            return
        self._segment.append(at_ms)
        self._track.points.append(Point(at_ms, _values(fields)))


def recording(data: bytes) -> Recording:
    """Return the tracks that have times. Raises TooComplex."""
    gpx = _Gpx()
    is_whole = gpx.reader.read(data)
    gpx.close_track({})
    return gpx.recording("gpx", is_whole=is_whole, unit="track")


def _pauses(segments: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the time between segments, none where they overlap."""
    pauses: list[tuple[int, int]] = []
    ended: int | None = None
    for began, until in sorted(segments):
        if ended is not None and began > ended:
            pauses.append((ended, began))
        ended = until if ended is None else max(ended, until)
    return pauses


def _values(fields: Fields) -> dict[Stream, Sample]:
    values: dict[Stream, Sample | None] = {
        "heart_rate": positive(fields.get("hr", fields.get("heartrate"))),  # 0 is a strap without contact
        "position": track_points.position(fields.get("@lat"), fields.get("@lon")),
        "altitude": rounded(number(fields.get("ele")), 3),
        "speed": rounded(not_negative(fields.get("speed")), 3),
        "cadence": not_negative(fields.get("cad", fields.get("cadence"))),
        "power": not_negative(fields.get("power", fields.get("PowerInWatts", fields.get("watts")))),
        "temperature": rounded(number(fields.get("atemp", fields.get("temp"))), 3),
    }
    return {stream: value for stream, value in values.items() if value is not None}


def _with_steps(session: Session) -> Session:
    """Garmin writes strides, which are two steps, of whoever is on foot."""
    cadence = session.streams.get("cadence")
    if cadence is None:
        return session
    cadence.values[:] = [track_points.steps_of(value) if is_number(value) else None for value in cadence.values]
    return session
