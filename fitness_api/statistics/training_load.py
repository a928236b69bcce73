"""Fitness, fatigue and form: two exponentially weighted means of the daily load, and what lies between them.

Sources disagree on the weight of a new day. "exponential" is GoldenCheetah's (PMCData.cpp), 1 - e^(-1/τ); "reciprocal" is 1/τ, as
TrainingPeaks publishes it. Form is yesterday's fitness less yesterday's fatigue: what one starts the day with.
"""

from collections.abc import Iterable, Sequence
from math import exp
from typing import Final, Literal

from msgspec import Struct

CTL_DAYS: Final = 42
ATL_DAYS: Final = 7

Variant = Literal["exponential", "reciprocal"]


class Day(Struct, frozen=True):
    """ctl: fitness, atl: fatigue, both after the day; tsb: form, before it."""

    load: float
    ctl: float
    atl: float
    tsb: float


def series(
    loads: Iterable[float],
    *,
    variant: Variant = "exponential",
    ctl_days: float = CTL_DAYS,
    atl_days: float = ATL_DAYS,
    ctl: float = 0.0,
    atl: float = 0.0,
) -> list[Day]:
    """Return a Day for each of the daily loads, days without training (0) included. `ctl` and `atl` are those of the day before."""
    weigh_ctl, weigh_atl = _weight(ctl_days, variant), _weight(atl_days, variant)
    days: list[Day] = []
    for load in loads:
        tsb = ctl - atl
        ctl += (load - ctl) * weigh_ctl
        atl += (load - atl) * weigh_atl
        days.append(Day(load, ctl, atl, tsb))
    return days


def monotony(week: Sequence[float]) -> float | None:
    """Return Foster's monotony: the mean daily load over its standard deviation (n); None where all days are alike."""
    mean = sum(week) / len(week)
    deviation = (sum((load - mean) ** 2 for load in week) / len(week)) ** 0.5
    return mean / deviation if deviation else None


def _weight(days: float, variant: Variant) -> float:
    return 1 - exp(-1 / days) if variant == "exponential" else 1 / days
