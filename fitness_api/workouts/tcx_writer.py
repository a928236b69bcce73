"""A session as TCX, which our own reader and Garmin's, Strava's and Polar's take.

Source: TrainingCenterDatabase v2 and ActivityExtension v2 schemas. They name no sport but two, count a run's strides, bound
heart rate and cadence to a byte, and have no place for temperature or RR intervals.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

from fitness_api.workouts import track_points
from fitness_api.workouts.recording import Lap, Session
from fitness_api.workouts.track_points import Point
from sync.tracks import Number, Sample, is_number

_SPORTS: Final = {"run": "Running", "ride": "Biking"}  # the schema has no other
_TRIGGERS: Final = {"manual": "Manual", "distance": "Distance", "location": "Location", "time": "Time"}
_BYTE: Final = 255
_WORD: Final = 65_535

_HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"
  xmlns:ns3="http://www.garmin.com/xmlschemas/ActivityExtension/v2">
<Activities>
"""
_TAIL: Final = "</Activities>\n</TrainingCenterDatabase>\n"


def written(session: Session, *, device: str | None = None) -> Iterator[str]:
    """Give the file piece by piece: its head, each lap, its tail."""
    points = track_points.points_of(session)
    laps = session.laps or [_whole(session)]
    starts = [lap.started_at_ms for lap in laps]
    shares: list[list[Point]] = [[] for _ in laps]
    for point in points:
        shares[max(0, bisect_right(starts, point.at_ms) - 1)].append(point)
    yield _HEAD
    yield f'<Activity Sport="{_SPORTS.get(session.sport, "Other")}">\n<Id>{_instant(session.started_at_ms)}</Id>\n'
    for index, (lap, share) in enumerate(zip(laps, shares, strict=True)):
        yield _lap(lap, share, energy_kcal=session.energy_kcal if index == 0 else None, on_foot=session.sport == "run")
    if device is not None:
        yield _creator(device)
    yield "</Activity>\n"
    yield _TAIL


def _whole(session: Session) -> Lap:
    return Lap(
        started_at_ms=session.started_at_ms,
        distance_m=session.distance_m,
        timer_time_s=session.timer_time_s if session.timer_time_s is not None else session.elapsed_time_s,
        avg_hr_bpm=session.avg_hr_bpm,
    )


def _lap(lap: Lap, points: Sequence[Point], *, energy_kcal: Number | None, on_foot: bool) -> str:
    seconds = lap.timer_time_s if lap.timer_time_s is not None else lap.elapsed_time_s or 0
    parts = [
        f'<Lap StartTime="{_instant(lap.started_at_ms)}">\n<TotalTimeSeconds>{_decimal(seconds)}</TotalTimeSeconds>\n',
        f"<DistanceMeters>{_decimal(lap.distance_m or 0)}</DistanceMeters>\n",
        f"<Calories>{min(round(energy_kcal or 0), _WORD)}</Calories>\n",
    ]
    if (pulse := _whole_number(lap.avg_hr_bpm, 1, _BYTE)) is not None:
        parts.append(f"<AverageHeartRateBpm><Value>{pulse}</Value></AverageHeartRateBpm>\n")
    parts.append(
        f"<Intensity>Active</Intensity>\n<TriggerMethod>{_TRIGGERS.get(lap.trigger or '', 'Manual')}</TriggerMethod>\n"
    )
    if points:
        parts.append("<Track>\n")
        parts += [_point(point, on_foot=on_foot) for point in points]
        parts.append("</Track>\n")
    parts.append("</Lap>\n")
    return "".join(parts)


def _point(point: Point, *, on_foot: bool) -> str:
    values = point.values
    parts = [f"<Trackpoint><Time>{_instant(point.at_ms)}</Time>"]
    position = values.get("position")
    if isinstance(position, tuple):
        parts.append(
            f"<Position><LatitudeDegrees>{_decimal(position[0])}</LatitudeDegrees>"
            f"<LongitudeDegrees>{_decimal(position[1])}</LongitudeDegrees></Position>"
        )
    if is_number(altitude := values.get("altitude")):
        parts.append(f"<AltitudeMeters>{_decimal(altitude)}</AltitudeMeters>")
    if (pulse := _whole_number(values.get("heart_rate"), 1, _BYTE)) is not None:
        parts.append(f"<HeartRateBpm><Value>{pulse}</Value></HeartRateBpm>")
    cadence = values.get("cadence")
    if is_number(cadence) and on_foot:
        cadence = cadence / 2
    turns = _whole_number(cadence, 0, _BYTE - 1)
    if turns is not None and not on_foot:
        parts.append(f"<Cadence>{turns}</Cadence>")
    inner = ""
    if is_number(speed := values.get("speed")):
        inner += f"<ns3:Speed>{_decimal(speed)}</ns3:Speed>"
    if turns is not None and on_foot:
        inner += f"<ns3:RunCadence>{turns}</ns3:RunCadence>"
    if (watts := _whole_number(values.get("power"), 0, _WORD)) is not None:
        inner += f"<ns3:Watts>{watts}</ns3:Watts>"
    if inner:
        parts.append(f"<Extensions><ns3:TPX>{inner}</ns3:TPX></Extensions>")
    parts.append("</Trackpoint>\n")
    return "".join(parts)


def _creator(device: str) -> str:
    # The schema wants a device to have a number, an id and a version, which are not told.
    return (
        '<Creator xsi:type="Device_t" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<Name>{escape(track_points.printable(device))}</Name><UnitId>0</UnitId><ProductID>0</ProductID>"
        "<Version><VersionMajor>0</VersionMajor><VersionMinor>0</VersionMinor></Version></Creator>\n"
    )


def _whole_number(value: Sample, least: int, greatest: int) -> int | None:
    return round(value) if is_number(value) and least <= round(value) <= greatest else None


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _decimal(value: Number) -> str:
    text = repr(value)
    return f"{value:.9f}" if "e" in text else text
