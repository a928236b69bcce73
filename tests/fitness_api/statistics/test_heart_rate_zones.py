import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics.heart_rate_zones import (
    Dated,
    Profile,
    estimated_hr_max,
    in_force,
    karvonen,
    lower_bounds,
    seconds_in_zones,
)

PROFILE = Profile(hr_max_bpm=200, hr_rest_bpm=50, lthr_bpm=170)


def test_expected_maxima() -> None:
    assert estimated_hr_max(30, "fox") == 190
    assert estimated_hr_max(30) == pytest.approx(187)
    assert estimated_hr_max(30, "gellish") == pytest.approx(186)


@pytest.mark.parametrize(
    ("share", "hr_max", "hr_rest", "bpm"), [(0.7, 187, 60, 148.9), (0.5, 180, 70, 125), (0.85, 180, 70, 163.5)]
)
def test_karvonens_examples(share: float, hr_max: float, hr_rest: float, bpm: float) -> None:
    assert karvonen(share, hr_max_bpm=hr_max, hr_rest_bpm=hr_rest) == pytest.approx(bpm)


def test_bounds_of_each_model() -> None:
    assert lower_bounds("percent_hr_max", PROFILE) == pytest.approx((100, 120, 140, 160, 180))
    assert lower_bounds("percent_hr_reserve", PROFILE) == pytest.approx((125, 140, 155, 170, 185))
    assert lower_bounds("percent_lthr", PROFILE) == pytest.approx((0, 115.6, 141.1, 159.8, 178.5))


def test_a_model_needs_what_it_is_reckoned_from() -> None:
    assert lower_bounds("percent_hr_max", Profile(hr_rest_bpm=50)) is None
    assert lower_bounds("percent_hr_reserve", Profile(hr_max_bpm=200)) is None
    assert lower_bounds("percent_lthr", Profile(hr_max_bpm=200)) is None


def test_a_workout_keeps_the_profile_of_its_day() -> None:
    old, new = Profile(hr_max_bpm=190), Profile(hr_max_bpm=185)
    history = [Dated(from_day="2026-03-01", profile=new), Dated(from_day="2025-01-01", profile=old)]
    found = [in_force(history, day) for day in ("2024-12-31", "2025-01-01", "2026-02-28", "2026-03-01", "2027-01-01")]
    assert found == [old, old, old, new, new]
    assert in_force([], "2026-01-01") is None


def test_time_in_zones() -> None:
    times = [0, 1_000, 2_000, 3_000, 4_000, 5_000]
    bpm = [90, 100, 119.9, 120, None, 250]
    assert seconds_in_zones(times, bpm, (100, 120, 140, 160, 180)) == [1, 2, 1, 0, 0, 1]


def test_bounds_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="rise"):
        seconds_in_zones([0], [100], (120, 120))


@given(st.lists(st.floats(30, 220), min_size=1, max_size=100), st.lists(st.integers(30, 220), unique=True, max_size=6))
def test_zones_share_out_all_of_the_time(bpm: list[float], bounds: list[int]) -> None:
    spent = seconds_in_zones([1_000 * n for n in range(len(bpm))], bpm, sorted(bounds))
    assert len(spent) == len(bounds) + 1
    assert sum(spent) == len(bpm)
