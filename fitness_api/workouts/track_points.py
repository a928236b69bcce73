"""Points of GPX and TCX files to streams: numbers that are none are absent, points of one instant are one."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from fitness_api.workouts import geodesy
from fitness_api.workouts.recording import MAX_POINTS, FileFormat, Lap, Recording, Samples, Session, TooComplex
from sync.tracks import MAX_OFFSET_MS, Number, Sample, Stream, is_number

# FIT, TCX and GPX count their strides; ours are steps.
ON_FOOT: Final = frozenset({"run", "walk", "hike"})

MIN_TIME_MS: Final = 315_532_800_000  # 1980, when GPS time begins; nothing was recorded before
MAX_TIME_MS: Final = 4_102_444_800_000  # 2100; a clock that says more is wrong

_DIGITS: Final = 6  # of a second's fraction, which datetime takes at most


class Tally:
    """What was read of a file, and how many points of it had to be left out."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.device: str | None = None
        self._seen = self._untimed = self._far = 0

    def instant_ms(self, text: str | None) -> int | None:
        """Count a point, and return its time. None: it has none, and is left out. Raises TooComplex."""
        self._seen += 1
        if self._seen > MAX_POINTS:
            raise TooComplex(f"The file has over {MAX_POINTS} points.")
        at_ms = instant_ms(text)
        self._untimed += at_ms is None
        return at_ms

    def in_reach(self, read: Iterable["Point"]) -> list["Point"]:
        """Return the points in order, without those that lie beyond a track's greatest length from the first."""
        ordered = in_order(read)
        points = within_reach(ordered)
        self._far += len(ordered) - len(points)
        return points

    def recording(self, file_format: FileFormat, *, is_whole: bool, unit: str) -> Recording:
        """`unit`: what a session is called in this format."""
        warnings = [] if is_whole else ["The file is damaged; what could be read of it was imported."]
        if self._untimed:
            warnings.append(f"{self._untimed} points without a time were left out.")
        if self._far:
            warnings.append(f"{self._far} points whose time is far from their {unit}'s were left out.")
        return Recording(
            sessions=sorted(self.sessions, key=lambda session: session.started_at_ms),
            format=file_format,
            device=self.device,
            is_damaged=not is_whole,
            warnings=warnings,
        )


class Point:
    """One instant, and what was measured then by stream; `distance_m` is what the device says of the way so far."""

    __slots__ = ("at_ms", "distance_m", "values")

    def __init__(self, at_ms: int, values: dict[Stream, Sample], distance_m: float | None = None) -> None:
        self.at_ms = at_ms
        self.values = values
        self.distance_m = distance_m


def instant_ms(text: str | None) -> int | None:
    """Return Unix milliseconds of an XML Schema dateTime; one without a zone is taken as UTC. None: it is none."""
    if text is None:
        return None
    seconds, dot, rest = text.partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        text = f"{seconds}.{rest[:digits][:_DIGITS]}{rest[digits:]}"
    try:
        at = datetime.fromisoformat(text)
        at_ms = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return at_ms if MIN_TIME_MS <= at_ms <= MAX_TIME_MS else None


def number(text: str | None) -> Number | None:
    """Return a number that a track can hold, whole ones as int. None: it is none."""
    if text is None or len(text) > 64 or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    if not is_number(value):
        return None
    return int(value) if value.is_integer() else value


def positive(text: str | None) -> Number | None:
    value = number(text)
    return value if value is not None and value > 0 else None


def not_negative(text: str | None) -> Number | None:
    value = number(text)
    return value if value is not None and value >= 0 else None


def steps_of(strides: Number) -> Number | None:
    """Return the steps of so many strides, which are two each. None: more than a track can hold."""
    return strides * 2 if is_number(strides * 2) else None


def rounded(value: Number | None, digits: int) -> Number | None:
    """Undo single precision: 473.79998779296875 is 473.8."""
    if value is None:
        return None
    near = round(value, digits)
    return int(near) if near == int(near) else near


def position(latitude: str | None, longitude: str | None) -> tuple[float, float] | None:
    """Return degrees to seven decimals, which is 11 mm. None: they are none, or no place on earth."""
    north, east = number(latitude), number(longitude)
    if north is None or east is None or abs(north) > 90 or abs(east) > 180:
        return None
    return round(float(north), 7), round(float(east), 7)


def in_order(points: Iterable[Point]) -> list[Point]:
    """Return them by time, one an instant: TCX repeats the last point of a lap as the first of the next.

    Of two values of one stream at one instant the first counts.
    """
    ordered: list[Point] = []
    for point in sorted(points, key=lambda point: point.at_ms):
        if ordered and ordered[-1].at_ms == point.at_ms:
            ordered[-1].values = {**point.values, **ordered[-1].values}
            if ordered[-1].distance_m is None:
                ordered[-1].distance_m = point.distance_m
        else:
            ordered.append(point)
    return ordered


def within_reach(points: Sequence[Point]) -> list[Point]:
    """Return what lies within a track's greatest length of the first of them: one point with a wrong clock is no month's run."""
    return [point for point in points if point.at_ms - points[0].at_ms <= MAX_OFFSET_MS] if points else []


def streams_of(points: Sequence[Point]) -> dict[Stream, Samples]:
    streams: dict[Stream, Samples] = {}
    for point in points:
        for stream, value in point.values.items():
            samples = streams.setdefault(stream, Samples([], []))
            samples.times_ms.append(point.at_ms)
            samples.values.append(value)
    return streams


def points_of(session: Session) -> list[Point]:
    """Return every instant at which anything was measured but RR intervals, which have times of their own."""
    points: dict[int, Point] = {}
    for stream, samples in session.streams.items():
        if stream == "rr":
            continue
        for at_ms, value in zip(samples.times_ms, samples.values, strict=True):
            if value is not None:
                points.setdefault(at_ms, Point(at_ms, {})).values.setdefault(stream, value)
    return sorted(points.values(), key=lambda point: point.at_ms)


def printable(text: str) -> str:
    """Return the text without what XML has no form for."""
    return "".join(character for character in text if character.isprintable())


def session_of(
    points: Sequence[Point],
    *,
    sport: str,
    started_at_ms: int | None = None,
    distance_m: Number | None = None,
    timer_time_s: Number | None = None,
    energy_kcal: Number | None = None,
    laps: Sequence[Lap] = (),
    pauses_ms: Sequence[tuple[int, int]] = (),
) -> Session:
    """Make a session of points in order, at least one. What the device does not claim is reckoned from the points."""
    streams = streams_of(points)
    began = min(points[0].at_ms, started_at_ms) if started_at_ms is not None else points[0].at_ms
    ended = points[-1].at_ms
    way = _way_m(points)
    if distance_m is None and way is not None:
        distance_m = round(way[1][-1], 2)
    heart_rates = _numbers(streams, "heart_rate")
    power = _numbers(streams, "power")
    climbed = geodesy.climb_m(streams["altitude"].values) if "altitude" in streams else None
    return Session(
        sport=sport,
        started_at_ms=began,
        ended_at_ms=ended,
        distance_m=distance_m,
        elapsed_time_s=(ended - began) / 1000,
        timer_time_s=timer_time_s,
        moving_time_s=None if way is None else geodesy.moving_s(*way, pauses_ms=pauses_ms),
        elevation_gain_m=None if climbed is None else round(climbed, 1),
        energy_kcal=energy_kcal,
        avg_hr_bpm=_mean(heart_rates),
        max_hr_bpm=max(heart_rates, default=None),
        avg_power_w=_mean(power),
        laps=list(laps),
        streams=streams,
    )


def _way_m(points: Sequence[Point]) -> tuple[list[int], list[float]] | None:
    """Return times and the way so far, as the device tells it, else by the positions; None where neither does."""
    told = [(point.at_ms, point.distance_m) for point in points if point.distance_m is not None]
    if len(told) > 1:
        return [at for at, _ in told], [float(far) for _, far in told]
    placed = [point for point in points if "position" in point.values]
    if len(placed) < 2:
        return None
    return [point.at_ms for point in placed], geodesy.cumulative_m([point.values["position"] for point in placed])


def _numbers(streams: Mapping[Stream, Samples], stream: Stream) -> list[Number]:
    return [value for value in streams[stream].values if is_number(value)] if stream in streams else []


def _mean(values: Sequence[Number]) -> Number | None:
    return round(sum(values) / len(values)) if values else None
