"""VDOT: the running fitness that a race result tells, after Daniels and Gilbert."""

from math import exp
from typing import Final

# The regression is of races from 1500 m to the marathon: some 3.5 minutes to 4 hours.
MIN_MINUTES: Final = 3.5
MAX_MINUTES: Final = 240.0


def vdot(distance_m: float, seconds: float) -> float:
    """Return VDOT, in mL of oxygen per kg and minute.

    Valid for all-out races of 3.5 to 240 min; outside it is extrapolated. Raises ValueError unless both are above 0.
    Source: Daniels and Gilbert 1979; worked example 5 km in 24:34 → 39.1104.
    """
    if distance_m <= 0 or seconds <= 0:
        raise ValueError("distance and time are above 0")
    minutes = seconds / 60
    speed = distance_m / minutes
    cost = -4.60 + 0.182258 * speed + 0.000104 * speed**2
    share = 0.8 + 0.1894393 * exp(-0.012778 * minutes) + 0.2989558 * exp(-0.1932605 * minutes)
    return cost / share


def is_valid(seconds: float) -> bool:
    return MIN_MINUTES <= seconds / 60 <= MAX_MINUTES
