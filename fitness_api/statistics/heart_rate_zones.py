"""Heart-rate zones by share of the maximum, of the reserve, or of the lactate threshold, and the time spent in each."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

from msgspec import Struct

from fitness_api.statistics.samples import Value, spans

Model = Literal["percent_hr_max", "percent_hr_reserve", "percent_lthr"]
Estimate = Literal["fox", "tanaka", "gellish"]

# Lower bounds. Five zones of the maximum and of the reserve begin at 50 %; below lies no zone.
_OF_MAX: Final = (0.50, 0.60, 0.70, 0.80, 0.90)
# Source: GoldenCheetah's default zones, HrZones.cpp: all of what is below 68 % of the threshold is the first.
_OF_LTHR: Final = (0.0, 0.68, 0.83, 0.94, 1.05)


class Profile(Struct, frozen=True, kw_only=True):
    """What zones are reckoned from, in bpm; None where it is not known. It is of a day: later changes leave earlier workouts."""

    hr_max_bpm: float | None = None
    hr_rest_bpm: float | None = None
    lthr_bpm: float | None = None


class Dated(Struct, frozen=True, kw_only=True):
    """A profile, and the first local day (ISO 8601) for which it holds."""

    from_day: str
    profile: Profile


def estimated_hr_max(age_years: float, estimate: Estimate = "tanaka") -> float:
    """Return the expected maximum in bpm; a measured one always goes before.

    Single people lie 10 to 12 bpm (one standard deviation) beside it. Source: Fox 1971, Tanaka 2001, Gellish 2007.
    """
    match estimate:
        case "fox":
            return 220 - age_years
        case "tanaka":
            return 208 - 0.7 * age_years
        case "gellish":
            return 207 - 0.7 * age_years


def karvonen(share: float, *, hr_max_bpm: float, hr_rest_bpm: float) -> float:
    """Return the heart rate in bpm at this share (0 to 1) of the reserve. Source: Karvonen 1957."""
    return hr_rest_bpm + share * (hr_max_bpm - hr_rest_bpm)


def in_force(history: Sequence[Dated], day: str) -> Profile | None:
    """Return the profile of a local day; a workout of before the first one has the first. `history` may come in any order."""
    if not history:
        return None
    ordered = sorted(history, key=lambda dated: dated.from_day)
    index = bisect_right([dated.from_day for dated in ordered], day)
    return ordered[max(0, index - 1)].profile


def lower_bounds(model: Model, profile: Profile) -> tuple[float, ...] | None:
    """Return the five zones' lower bounds in bpm; None if the profile lacks what the model is reckoned from."""
    match model:
        case "percent_hr_max" if profile.hr_max_bpm is not None:
            return tuple(share * profile.hr_max_bpm for share in _OF_MAX)
        case "percent_hr_reserve" if profile.hr_max_bpm is not None and profile.hr_rest_bpm is not None:
            of = {"hr_max_bpm": profile.hr_max_bpm, "hr_rest_bpm": profile.hr_rest_bpm}
            return tuple(karvonen(share, **of) for share in _OF_MAX)
        case "percent_lthr" if profile.lthr_bpm is not None:
            return tuple(share * profile.lthr_bpm for share in _OF_LTHR)
        case _:
            return None


def seconds_in_zones(times_ms: Sequence[int], bpm: Sequence[Value], bounds: Sequence[float]) -> list[float]:
    """Return the seconds below the first bound, then those in each zone; together they are the time that was recorded.

    A zone holds its lower bound and not its upper one; the last has no upper bound. Raises ValueError if the bounds do not rise.
    """
    if any(low >= high for low, high in pairwise(bounds)):
        raise ValueError("bounds rise")
    spent_ms = [0] * (len(bounds) + 1)
    for value, held_ms in spans(times_ms, bpm):
        spent_ms[bisect_right(bounds, value)] += held_ms
    return [ms / 1000 for ms in spent_ms]
