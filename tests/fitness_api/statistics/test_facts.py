from typing import Any

import pytest

from fitness_api.statistics.facts import Facts, Lift, Series, drawn, in_zone

START_MS = 1_777_617_000_000


def facts(document: dict[str, Any], **given: Any) -> Facts:
    found = drawn("w", document, **{"started_at_ms": START_MS, "ended_at_ms": START_MS + 3_600_000, **given})
    assert found is not None
    return found


def test_what_the_document_tells() -> None:
    told = facts(
        {
            "sport": "run",
            "elapsed_time_s": 3_500,
            "timer_time_s": 3_400,
            "distance_m": 10_000,
            "rpe": 7,
            "energy_kcal": "many",
        }
    )
    assert (told.sport, told.elapsed_s, told.moving_s, told.distance_m, told.rpe) == ("run", 3_500, 3_400, 10_000, 7)
    assert (told.energy_kcal, told.climb_m, told.pulse) == (None, None, ())


def test_what_it_does_not_tell_follows_from_its_times_or_is_absent() -> None:
    told = facts({})
    assert (told.elapsed_s, told.sport, told.moving_s) == (3_600, "other", None)
    assert drawn("w", {}, started_at_ms=None, ended_at_ms=None) is None
    assert facts({"distance_m": -5, "rpe": True, "elapsed_time_s": 2**60}).distance_m is None


@pytest.mark.parametrize(
    ("document", "account", "day"),
    [
        ({}, "UTC", "2026-05-01"),
        ({}, "Pacific/Kiritimati", "2026-05-01"),
        ({}, "America/Los_Angeles", "2026-04-30"),
        ({"utc_offset_s": 0}, "America/Los_Angeles", "2026-05-01"),
        ({"timezone": "America/Los_Angeles"}, "UTC", "2026-04-30"),
        ({"utc_offset_s": -7 * 3_600}, "UTC", "2026-04-30"),
        ({"timezone": "Mars/Olympus", "utc_offset_s": 10**9}, "UTC", "2026-05-01"),
        ({"timezone": 7, "utc_offset_s": "x"}, "UTC", "2026-05-01"),
    ],
)
def test_the_day_is_where_it_was(document: dict[str, Any], account: str, day: str) -> None:
    [told] = in_zone([facts(document)], account)
    assert told.day == day


def test_heart_rates_are_a_histogram() -> None:
    pulse = Series([START_MS + 1_000 * n for n in range(5)], [120, 121, 121, None, 130.4])
    assert facts({}, pulse=pulse).pulse == ((120, 1_000), (121, 2_000), (130, 1_000))


def test_efforts_are_of_what_was_run() -> None:
    seconds = list(range(0, 601, 10))
    way = Series([START_MS + 1_000 * second for second in seconds], [4.0 * second for second in seconds])
    assert facts({}, way_m=way).efforts == ((400.0, 100.0), (1_000.0, 250.0), (1_609.344, 402.336))
    jump = Series([START_MS, START_MS + 1_000], [0, 5_000])
    assert facts({}, way_m=jump).efforts == ()


def test_power_is_summed_up() -> None:
    power = Series([START_MS + 1_000 * second for second in range(61)], [200.0] * 61)
    told = facts({}, power=power)
    assert told.normalized_w == pytest.approx(200)
    assert told.power_means == ((5, 200.0), (60, 200.0))


def test_sets_count_but_for_warm_ups() -> None:
    sets = [
        {"exercise": "Squat", "weight_kg": 60, "reps": 5, "kind": "warmup"},
        {"exercise": "Squat", "weight_kg": 100, "reps": 5},
        {"exercise": "Squat", "weight_kg": 100, "reps": 3, "rpe": 8},
        {"exercise": "Squat", "weight_kg": 100, "reps": 30},
        {"exercise": "Plank", "duration_s": 60},
        {"exercise": "Row", "weight_kg": 50, "reps": 5, "completed": False},
        {"weight_kg": 10, "reps": 10},
        "nonsense",
    ]
    told = facts({"sets": sets})
    assert (told.sets, told.volume_kg) == (5, 100 * 5 + 100 * 3 + 100 * 30 + 10 * 10)
    assert told.lifts == (Lift("Squat", 100, 5, 0, 100 * (1 + 5 / 30)),)


@pytest.mark.parametrize("started_at_ms", [-62_135_596_800_000, 253_402_300_799_999, -(2**53), 2**53])
def test_a_clock_of_another_century_tells_no_day(started_at_ms: int) -> None:
    document = {"utc_offset_s": -3_600}
    assert drawn("w", document, started_at_ms=started_at_ms, ended_at_ms=None) is None
    assert drawn("w", {"timezone": "Asia/Tokyo"}, started_at_ms=started_at_ms, ended_at_ms=None) is None


def test_heart_rates_of_no_heart_are_left_out() -> None:
    """A number for each of two million samples would be no histogram, and e to the power of a million is no load."""
    times, values = [0, 1000, 2000, 3000, 4000], [0, 140, 10**6, -5, 300]
    assert facts({}, pulse=Series(times, values)).pulse == ((140, 1000), (300, 1000))
