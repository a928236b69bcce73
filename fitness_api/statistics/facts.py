"""What one workout comes to, kept so that no statistic reads its samples again.

Heart rates are kept as a histogram: of it zones and impulses follow exactly, for whatever profile is in force on that day.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from fitness_api.statistics import best_efforts, calendars, power_load, samples, strength
from fitness_api.statistics.samples import Value

VERSION: Final = 2  # of how facts are drawn; another one draws all anew

# No heart beats faster. Other numbers of a heart-rate stream are faults of the sensor, and of any number of them.
_MAX_BPM: Final = 300

_TOO_FAST_MPS: Final = 60.0  # a GPS jump; no athlete, and no descent either


class Lift(Struct, frozen=True, array_like=True):
    """The best set of one exercise, by its estimated maximum."""

    exercise: str
    weight_kg: float
    reps: int
    rir: float
    one_rep_max_kg: float


class Facts(Struct, frozen=True, kw_only=True):
    """pulse: (bpm, milliseconds), rising. efforts: (metres, seconds). power_means: (seconds, W). day: local, ISO 8601.

    elapsed_s with pauses, moving_s without rests where the device or the samples tell.
    """

    workout_id: str
    day: str
    started_at_ms: int
    tells_zone: bool = True
    sport: str
    elapsed_s: float = 0.0
    moving_s: float | None = None
    distance_m: float | None = None
    climb_m: float | None = None
    energy_kcal: float | None = None
    rpe: float | None = None
    pulse: tuple[tuple[int, int], ...] = ()
    normalized_w: float | None = None
    efforts: tuple[tuple[float, float], ...] = ()
    power_means: tuple[tuple[int, float], ...] = ()
    sets: int = 0
    volume_kg: float = 0.0
    lifts: tuple[Lift, ...] = ()


class Series(Struct, frozen=True):
    """One stream, in order of time."""

    times_ms: Sequence[int]
    values: Sequence[Value]


def drawn(
    workout_id: str,
    document: Mapping[str, Any],
    *,
    started_at_ms: int | None,
    ended_at_ms: int | None,
    pulse: Series | None = None,
    power: Series | None = None,
    way_m: Series | None = None,
) -> Facts | None:
    """Return the facts of a workout as `sync.document.read` gives it. None: nothing tells when it was, or no plausible time.

    way_m: the distance so far, cumulative. The day of a workout that tells neither zone nor offset is that of UTC.
    """
    if started_at_ms is None or not calendars.MIN_MS <= started_at_ms <= calendars.MAX_MS:
        return None
    zone, offset_s = document.get("timezone"), document.get("utc_offset_s")
    told_zone = zone if isinstance(zone, str) and calendars.is_zone(zone) else None
    told_offset_s = offset_s if type(offset_s) is int and abs(offset_s) <= calendars.MAX_OFFSET_S else None
    day = calendars.local_day(started_at_ms, timezone=told_zone, utc_offset_s=told_offset_s)
    elapsed = _number(document, "elapsed_time_s")
    if elapsed is None:
        elapsed = max(0, (ended_at_ms or started_at_ms) - started_at_ms) / 1000
    lifts, volume, count = _strength(document.get("sets"))
    sport = document.get("sport")
    return Facts(
        workout_id=workout_id,
        day=day.isoformat(),
        started_at_ms=started_at_ms,
        tells_zone=told_zone is not None or told_offset_s is not None,
        sport=sport if isinstance(sport, str) else "other",
        elapsed_s=elapsed,
        moving_s=_first(_number(document, "moving_time_s"), _number(document, "timer_time_s")),
        distance_m=_number(document, "distance_m"),
        climb_m=_number(document, "elevation_gain_m"),
        energy_kcal=_number(document, "energy_kcal"),
        rpe=_number(document, "rpe"),
        pulse=() if pulse is None else _histogram(pulse),
        normalized_w=None if power is None else power_load.normalized_power(power.times_ms, power.values),
        efforts=() if way_m is None else _efforts(way_m),
        power_means=() if power is None else _power_means(power),
        sets=count,
        volume_kg=volume,
        lifts=lifts,
    )


def in_zone(facts: Iterable[Facts], timezone: str) -> list[Facts]:
    """Return them with the days of the account's present zone where the workout told none: a new zone moves those, and them alone."""
    return [
        one
        if one.tells_zone
        else replace(one, day=calendars.local_day(one.started_at_ms, timezone=timezone, utc_offset_s=None).isoformat())
        for one in facts
    ]


def _histogram(pulse: Series) -> tuple[tuple[int, int], ...]:
    spent: dict[int, int] = {}
    for bpm, held_ms in samples.spans(pulse.times_ms, pulse.values):
        if 0 < round(bpm) <= _MAX_BPM:
            spent[round(bpm)] = spent.get(round(bpm), 0) + held_ms
    return tuple(sorted(spent.items()))


def _efforts(way_m: Series) -> tuple[tuple[float, float], ...]:
    known = [(at, far) for at, far in zip(way_m.times_ms, way_m.values, strict=True) if far is not None]
    times, distances = [at for at, _ in known], [far for _, far in known]
    found = []
    for target in best_efforts.DISTANCES_M:
        effort = best_efforts.fastest(times, distances, target)
        if effort is not None and effort.seconds > 0 and target / effort.seconds <= _TOO_FAST_MPS:
            found.append((float(target), effort.seconds))
    return tuple(found)


def _power_means(power: Series) -> tuple[tuple[int, float], ...]:
    means = (
        (seconds, best_efforts.greatest_mean(power.times_ms, power.values, seconds))
        for seconds in best_efforts.DURATIONS_S
    )
    return tuple((seconds, mean[0]) for seconds, mean in means if mean is not None)


def _strength(sets: Any) -> tuple[tuple[Lift, ...], float, int]:
    """Warm-ups and sets that were not completed count for nothing."""
    best: dict[str, Lift] = {}
    volume, count = 0.0, 0
    for one in sets if isinstance(sets, list) else []:
        if not isinstance(one, dict) or one.get("kind") == "warmup" or one.get("completed") is False:
            continue
        count += 1
        weight, reps, exercise = _number(one, "weight_kg"), one.get("reps"), one.get("exercise")
        if weight is None or type(reps) is not int or reps < 1:
            continue
        volume += weight * reps
        rir = _number(one, "rir")
        if rir is None and (rpe := _number(one, "rpe")) is not None and rpe <= 10:
            rir = strength.rir_of_rpe(rpe)
        maximum = strength.one_rep_max(weight, reps, rir=rir or 0)
        if maximum is None or not isinstance(exercise, str):
            continue
        if exercise not in best or maximum > best[exercise].one_rep_max_kg:
            best[exercise] = Lift(exercise, weight, reps, rir or 0, maximum)
    return tuple(sorted(best.values(), key=lambda lift: lift.exercise)), volume, count


def _number(members: Mapping[str, Any], name: str) -> float | None:
    value = members.get(name)
    return float(value) if isinstance(value, int | float) and value is not True and 0 <= value < 2**53 else None


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one
