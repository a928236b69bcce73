"""What all workouts of an account come to: weeks, records, zones, load and streaks. Days are local to each workout."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Final, Literal

from msgspec import Struct

from fitness_api.statistics import calendars, heart_rate_load, heart_rate_zones, running_fitness, training_load
from fitness_api.statistics.facts import Facts
from fitness_api.statistics.heart_rate_zones import Dated, Model, Profile
from fitness_api.statistics.training_load import Day

# Means of 42 days forget nine tenths of what lies a hundred days back: two years before the first day asked for say all.
_WARM_UP_DAYS: Final = 730
_MAX_LIFTS: Final = 500  # exercises of one account; more are typing errors

LoadMethod = Literal["banister_men", "banister_women"]


class Week(Struct, frozen=True, kw_only=True):
    """An ISO 8601 week from Monday on. `moving_s`: elapsed where nothing tells how long of it was moved."""

    week: str
    from_day: str
    workouts: int
    active_days: int
    elapsed_s: float
    moving_s: float
    distance_m: float
    climb_m: float
    energy_kcal: float
    sets: int
    volume_kg: float
    by_sport: dict[str, int]


class Record(Struct, frozen=True, kw_only=True):
    """`value` in the unit that the list names; of equal ones the first counts."""

    value: float
    workout_id: str
    day: str
    sport: str


class DistanceRecord(Struct, frozen=True, kw_only=True):
    """`vdot` where the effort was a run of a length for which the formula holds."""

    distance_m: float
    sport: str
    seconds: float
    workout_id: str
    day: str
    vdot: float | None


class PowerRecord(Struct, frozen=True, kw_only=True):
    seconds: int
    watts: float
    workout_id: str
    day: str


class LiftRecord(Struct, frozen=True, kw_only=True):
    """`one_rep_max_kg` after Epley, repetitions in reserve included."""

    exercise: str
    one_rep_max_kg: float
    weight_kg: float
    reps: int
    workout_id: str
    day: str


class Records(Struct, frozen=True, kw_only=True):
    distances: list[DistanceRecord]
    power: list[PowerRecord]
    lifts: list[LiftRecord]
    longest_distance_m: Record | None
    longest_elapsed_s: Record | None
    greatest_climb_m: Record | None
    greatest_volume_kg: Record | None


class Zones(Struct, frozen=True, kw_only=True):
    """seconds[0] below the first zone, seconds[n] in zone n; each workout by the profile of its day.

    bounds_bpm: of the last day's profile. unknown_s: recorded on days without a profile that the model can be reckoned from.
    """

    model: Model
    seconds: list[float]
    unknown_s: float
    bounds_bpm: list[float] | None


class Load(Struct, frozen=True, kw_only=True):
    """method: of a workout's load, in its own points. unknown: workouts of the time without heart rates or profile, which count 0."""

    method: LoadMethod
    weighting: training_load.Variant
    from_day: str
    days: list[Day]
    unknown: int


def weeks(facts: Iterable[Facts], *, upto: date, count: int) -> list[Week]:
    """Return so many weeks, the last one that of `upto`, empty ones too, in order."""
    monday = upto - timedelta(days=upto.weekday())
    mondays = [monday - timedelta(weeks=back) for back in range(count - 1, -1, -1)]
    of_week: dict[str, list[Facts]] = {calendars.week_of(day): [] for day in mondays}
    for one in facts:
        of_week.get(calendars.week_of(date.fromisoformat(one.day)), []).append(one)
    return [_week(day, of_week[calendars.week_of(day)]) for day in mondays]


def records(facts: Sequence[Facts]) -> Records:
    ordered = sorted(facts, key=lambda one: (one.started_at_ms, one.workout_id))
    distances: dict[tuple[float, str], DistanceRecord] = {}
    power: dict[int, PowerRecord] = {}
    lifts: dict[str, LiftRecord] = {}
    for one in ordered:
        for metres, seconds in one.efforts:
            key = (metres, one.sport)
            if key not in distances or seconds < distances[key].seconds:
                vdot = (
                    running_fitness.vdot(metres, seconds)
                    if one.sport == "run" and running_fitness.is_valid(seconds)
                    else None
                )
                distances[key] = DistanceRecord(
                    distance_m=metres,
                    sport=one.sport,
                    seconds=seconds,
                    workout_id=one.workout_id,
                    day=one.day,
                    vdot=vdot,
                )
        for length, watts in one.power_means:
            if length not in power or watts > power[length].watts:
                power[length] = PowerRecord(seconds=length, watts=watts, workout_id=one.workout_id, day=one.day)
        for lift in one.lifts:
            best = lifts.get(lift.exercise)
            if best is None or lift.one_rep_max_kg > best.one_rep_max_kg:
                lifts[lift.exercise] = LiftRecord(
                    exercise=lift.exercise,
                    one_rep_max_kg=lift.one_rep_max_kg,
                    weight_kg=lift.weight_kg,
                    reps=lift.reps,
                    workout_id=one.workout_id,
                    day=one.day,
                )
    return Records(
        distances=sorted(distances.values(), key=lambda one: (one.sport, one.distance_m)),
        power=sorted(power.values(), key=lambda one: one.seconds),
        lifts=sorted(lifts.values(), key=lambda one: one.exercise)[:_MAX_LIFTS],
        longest_distance_m=_greatest(ordered, [one.distance_m for one in ordered]),
        longest_elapsed_s=_greatest(ordered, [one.elapsed_s for one in ordered]),
        greatest_climb_m=_greatest(ordered, [one.climb_m for one in ordered]),
        greatest_volume_kg=_greatest(ordered, [one.volume_kg or None for one in ordered]),
    )


def zones(facts: Iterable[Facts], history: Sequence[Dated], *, model: Model, upto: date) -> Zones:
    seconds, unknown = [0.0] * 6, 0.0
    for one in facts:
        bounds = _bounds(history, one.day, model)
        if bounds is None:
            unknown += sum(ms for _, ms in one.pulse) / 1000
            continue
        for bpm, ms in one.pulse:
            seconds[sum(bpm >= bound for bound in bounds)] += ms / 1000
    last = _bounds(history, upto.isoformat(), model)
    return Zones(model=model, seconds=seconds, unknown_s=unknown, bounds_bpm=None if last is None else list(last))


def load(
    facts: Sequence[Facts],
    history: Sequence[Dated],
    *,
    upto: date,
    count: int,
    method: LoadMethod,
    weighting: training_load.Variant = "exponential",
) -> Load:
    """Return the last `count` days up to `upto`."""
    first = upto - timedelta(days=count - 1)
    begin = min((date.fromisoformat(one.day) for one in facts), default=first)
    begin = max(min(begin, first), first - timedelta(days=_WARM_UP_DAYS))
    loads = [0.0] * ((upto - begin).days + 1)
    unknown = 0
    for one in facts:
        day = date.fromisoformat(one.day)
        if not begin <= day <= upto:
            continue
        points = impulse(one, heart_rate_zones.in_force(history, one.day), method)
        if points is None:
            unknown += first <= day
        else:
            loads[(day - begin).days] += points
    days = training_load.series(loads, variant=weighting)[-count:]
    return Load(method=method, weighting=weighting, from_day=first.isoformat(), days=days, unknown=unknown)


def impulse(facts: Facts, profile: Profile | None, method: LoadMethod) -> float | None:
    """Return the workout's load. None: it has no heart rates, or the profile of its day lacks what is needed."""
    if not facts.pulse or profile is None or profile.hr_max_bpm is None or profile.hr_rest_bpm is None:
        return None
    if profile.hr_max_bpm <= profile.hr_rest_bpm:
        return None
    of = (profile.hr_max_bpm, profile.hr_rest_bpm)
    return sum(
        heart_rate_load.trimp(ms / 60_000, bpm, hr_max_bpm=of[0], hr_rest_bpm=of[1], variant=method)
        for bpm, ms in facts.pulse
    )


def active_days(facts: Iterable[Facts]) -> list[date]:
    return [date.fromisoformat(one.day) for one in facts]


def _week(monday: date, facts: Sequence[Facts]) -> Week:
    by_sport: dict[str, int] = {}
    for one in facts:
        by_sport[one.sport] = by_sport.get(one.sport, 0) + 1
    return Week(
        week=calendars.week_of(monday),
        from_day=monday.isoformat(),
        workouts=len(facts),
        active_days=len({one.day for one in facts}),
        elapsed_s=sum(one.elapsed_s for one in facts),
        moving_s=sum(one.elapsed_s if one.moving_s is None else one.moving_s for one in facts),
        distance_m=sum(one.distance_m or 0 for one in facts),
        climb_m=sum(one.climb_m or 0 for one in facts),
        energy_kcal=sum(one.energy_kcal or 0 for one in facts),
        sets=sum(one.sets for one in facts),
        volume_kg=sum(one.volume_kg for one in facts),
        by_sport=by_sport,
    )


def _greatest(facts: Sequence[Facts], values: Sequence[float | None]) -> Record | None:
    known = [(value, one) for value, one in zip(values, facts, strict=True) if value]
    if not known:
        return None
    value, one = max(known, key=lambda pair: pair[0])
    return Record(value=value, workout_id=one.workout_id, day=one.day, sport=one.sport)


def _bounds(history: Sequence[Dated], day: str, model: Model) -> tuple[float, ...] | None:
    profile = heart_rate_zones.in_force(history, day)
    return None if profile is None else heart_rate_zones.lower_bounds(model, profile)
