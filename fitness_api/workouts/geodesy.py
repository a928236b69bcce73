"""What positions and altitudes add up to: distance, climb and time in motion, for files that tell none of these themselves."""

from collections.abc import Sequence
from math import asin, cos, radians, sin, sqrt
from typing import Final

from sync.tracks import Sample, is_number

EARTH_RADIUS_M: Final = 6_371_008.8  # the mean radius of the GRS 80 ellipsoid

# Below this one stands: GPS drifts by some decimetres a second.
MIN_SPEED_MPS: Final = 0.5
# Slower stretches count as rest from this length on: a traffic light, not a bend. Source: Strava, "Moving time".
MIN_REST_S: Final = 15

# Barometers and GPS waver by a metre or two; a hill is what rises by more.
CLIMB_NOISE_M: Final = 3.0

Position = tuple[float, float]


def between_m(one: Position, other: Position) -> float:
    """Return the great-circle distance of two (latitude, longitude) in degrees; within 0.5 % of that on the ellipsoid."""
    latitude, other_latitude = radians(one[0]), radians(other[0])
    north = sin((other_latitude - latitude) / 2) ** 2
    east = sin(radians(other[1] - one[1]) / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(north + cos(latitude) * cos(other_latitude) * east)))


def cumulative_m(positions: Sequence[Sample]) -> list[float]:
    """Return the way up to each position; a gap (None) is bridged straight."""
    far = 0.0
    before: Position | None = None
    way: list[float] = []
    for position in positions:
        if isinstance(position, tuple):
            if before is not None:
                far += between_m(before, position)
            before = position
        way.append(far)
    return way


def moving_s(
    times_ms: Sequence[int], distance_m: Sequence[float], *, pauses_ms: Sequence[tuple[int, int]] = ()
) -> float:
    """Return the seconds in which the distance grew at MIN_SPEED_MPS or more, or was slower for less than MIN_REST_S.

    `distance_m` is cumulative and as long as `times_ms`, which rises. What lies in a pause is not in motion, however far it went;
    pauses are in order and apart.
    """
    moving_ms = rest_ms = pause = 0
    for index in range(1, len(times_ms)):
        began, ended = times_ms[index - 1], times_ms[index]
        while pause < len(pauses_ms) and pauses_ms[pause][1] <= began:
            pause += 1
        if pause < len(pauses_ms) and pauses_ms[pause][0] <= began and ended <= pauses_ms[pause][1]:
            continue
        step_ms = ended - began
        if (distance_m[index] - distance_m[index - 1]) * 1000 >= MIN_SPEED_MPS * step_ms:
            moving_ms += step_ms + (rest_ms if rest_ms < MIN_REST_S * 1000 else 0)
            rest_ms = 0
        else:
            rest_ms += step_ms
    return moving_ms / 1000


def climb_m(altitudes_m: Sequence[Sample]) -> float | None:
    """Return the metres climbed, in steps of at least CLIMB_NOISE_M; None without two altitudes."""
    known = [altitude for altitude in altitudes_m if is_number(altitude)]
    if len(known) < 2:
        return None
    level, climbed = known[0], 0.0
    for altitude in known:
        if abs(altitude - level) >= CLIMB_NOISE_M:
            climbed += max(0.0, altitude - level)
            level = altitude
    return climbed
