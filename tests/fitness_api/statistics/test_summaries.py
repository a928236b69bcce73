from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics import heart_rate_load, summaries, training_load
from fitness_api.statistics.facts import Facts, Lift
from fitness_api.statistics.heart_rate_zones import Dated, Profile

TODAY = date(2026, 5, 1)  # a Friday
HISTORY = [
    Dated(from_day="2026-01-01", profile=Profile(hr_max_bpm=200, hr_rest_bpm=50)),
    Dated(from_day="2026-04-20", profile=Profile(hr_max_bpm=190, hr_rest_bpm=50)),
]


def one(ago: int = 0, workout_id: str = "w", **given: Any) -> Facts:
    day = TODAY - timedelta(days=ago)
    started_at_ms = 1_777_617_000_000 - 86_400_000 * ago
    return Facts(
        **{"workout_id": workout_id, "day": day.isoformat(), "started_at_ms": started_at_ms, "sport": "run", **given}
    )


def test_weeks_begin_on_monday_and_empty_ones_are_there() -> None:
    facts = [
        one(0, distance_m=5_000, elapsed_s=1_800, moving_s=1_700),
        one(4, elapsed_s=600, sport="ride"),
        one(5, distance_m=7),
    ]
    found = summaries.weeks([*facts, one(40)], upto=TODAY, count=3)
    assert [(week.week, week.from_day, week.workouts) for week in found] == [
        ("2026-W16", "2026-04-13", 0),
        ("2026-W17", "2026-04-20", 1),
        ("2026-W18", "2026-04-27", 2),
    ]
    last = found[-1]
    assert (last.distance_m, last.elapsed_s, last.moving_s, last.active_days) == (5_000, 2_400, 2_300, 2)
    assert last.by_sport == {"run": 1, "ride": 1}


def test_records_are_the_best_and_of_equal_ones_the_first() -> None:
    facts = [
        one(1, "b", efforts=((1_000.0, 240.0),), power_means=((60, 300.0),), distance_m=10.0, climb_m=5.0),
        one(3, "a", efforts=((1_000.0, 240.0), (5_000.0, 1_500.0)), power_means=((60, 280.0),), distance_m=10.0),
        one(2, "c", sport="ride", efforts=((1_000.0, 90.0),)),
        one(0, "d", lifts=(Lift("Squat", 100, 5, 0, 116.7),), volume_kg=500),
        one(5, "e", lifts=(Lift("Squat", 90, 5, 0, 105.0), Lift("Row", 50, 8, 0, 63.3))),
    ]
    found = summaries.records(facts)
    assert [(record.sport, record.distance_m, record.seconds, record.workout_id) for record in found.distances] == [
        ("ride", 1_000, 90, "c"),
        ("run", 1_000, 240, "a"),
        ("run", 5_000, 1_500, "a"),
    ]
    assert [record.vdot is not None for record in found.distances] == [False, True, True]
    assert [(record.watts, record.workout_id) for record in found.power] == [(300, "b")]
    assert [(record.exercise, record.one_rep_max_kg) for record in found.lifts] == [("Row", 63.3), ("Squat", 116.7)]
    assert (found.longest_distance_m and found.longest_distance_m.workout_id) == "a"
    assert (found.greatest_volume_kg and found.greatest_volume_kg.value) == 500
    assert found.longest_elapsed_s is None


def test_zones_are_those_of_the_day() -> None:
    """160 bpm are 80 % of 200 and 84 % of 190; 150 are 75 % and 79 %; 190 only then the maximum."""
    pulse = ((90, 1_000), (160, 60_000), (180, 30_000))
    facts = [one(0, pulse=pulse), one(20, pulse=pulse)]
    found = summaries.zones(facts, HISTORY, model="percent_hr_max", upto=TODAY)
    assert found.seconds == [2, 0, 0, 0, 120, 60]
    assert found.bounds_bpm == pytest.approx([95, 114, 133, 152, 171])
    assert summaries.zones(facts, [], model="percent_hr_max", upto=TODAY).unknown_s == 182
    lacking = [Dated(from_day="2026-01-01", profile=Profile(hr_max_bpm=200))]
    assert summaries.zones(facts, lacking, model="percent_hr_reserve", upto=TODAY).unknown_s == 182


def test_load_is_of_every_day_and_goes_back_beyond_what_was_asked_for() -> None:
    pulse = ((150, 3_600_000),)
    facts = [one(ago, pulse=pulse) for ago in (0, 1, 1, 30, 200)]
    found = summaries.load(facts, HISTORY, upto=TODAY, count=7, method="banister_men")
    assert (found.from_day, len(found.days), found.unknown) == ("2026-04-25", 7, 0)
    new, old = (heart_rate_load.trimp(60, 150, hr_max_bpm=hr_max, hr_rest_bpm=50) for hr_max in (190, 200))
    assert [day.load for day in found.days] == pytest.approx([0, 0, 0, 0, 0, 2 * new, new])
    loads = [0.0] * 201
    for ago, points in ((0, new), (1, 2 * new), (30, old), (200, old)):
        loads[200 - ago] += points
    assert found.days == training_load.series(loads)[-7:]


def test_a_workout_without_heart_rates_or_profile_counts_as_unknown() -> None:
    facts = [one(0), one(1, pulse=((150, 1_000),)), one(300)]
    assert summaries.load(facts, [], upto=TODAY, count=7, method="banister_men").unknown == 2
    same = [Dated(from_day="2026-01-01", profile=Profile(hr_max_bpm=50, hr_rest_bpm=50))]
    assert summaries.load(facts, same, upto=TODAY, count=7, method="banister_men").unknown == 2


def test_there_is_an_answer_before_the_first_workout() -> None:
    assert len(summaries.load([], HISTORY, upto=TODAY, count=30, method="banister_women").days) == 30
    assert summaries.records([]).distances == []
    assert len(summaries.weeks([], upto=TODAY, count=5)) == 5


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(60, 190)), max_size=30), st.integers(1, 60))
def test_days_do_not_depend_on_how_many_are_asked_for(workouts: list[tuple[int, int]], count: int) -> None:
    facts = [one(ago, pulse=((bpm, 1_800_000),)) for ago, bpm in workouts]
    short, long = (
        summaries.load(facts, HISTORY, upto=TODAY, count=days, method="banister_men").days
        for days in (count, count + 200)
    )
    for mine, theirs in zip(short, long[-count:], strict=True):
        assert (mine.load, mine.ctl, mine.atl) == pytest.approx((theirs.load, theirs.ctl, theirs.atl))
