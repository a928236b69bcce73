import itertools
from math import pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.workouts.geodesy import EARTH_RADIUS_M, between_m, climb_m, cumulative_m, moving_s

places = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def test_known_distances() -> None:
    assert between_m((0, 0), (0, 180)) == pytest.approx(pi * EARTH_RADIUS_M)
    assert between_m((90, 7), (-90, 99)) == pytest.approx(pi * EARTH_RADIUS_M)
    assert between_m((52.5163, 13.3777), (48.8738, 2.2950)) == pytest.approx(879_700, rel=0.005)  # Berlin to Paris


@given(places, places, places)
def test_it_is_a_distance(one: tuple[float, float], other: tuple[float, float], third: tuple[float, float]) -> None:
    there = between_m(one, other)
    assert 0 <= there <= pi * EARTH_RADIUS_M + 1e-6
    assert there == pytest.approx(between_m(other, one), abs=1e-6)
    assert there <= between_m(one, third) + between_m(third, other) + 1e-3
    assert between_m(one, one) == 0


def test_the_way_bridges_gaps() -> None:
    way = cumulative_m([(0.0, 0.0), None, (0.0, 0.001), (0.0, 0.002)])
    assert way[:2] == [0, 0]
    assert way[3] == pytest.approx(2 * way[2])


def test_short_rests_move_and_long_ones_do_not() -> None:
    def run(rest_s: int) -> float:
        times = [0, 10_000, 10_000 + rest_s * 1_000, 20_000 + rest_s * 1_000]
        return moving_s(times, [0, 30, 30, 60])

    assert run(14) == 34
    assert run(15) == 20


def test_a_pause_is_no_motion_however_far_it_went() -> None:
    assert moving_s([0, 10_000, 100_000, 110_000], [0, 30, 900, 930], pauses_ms=[(10_000, 100_000)]) == 20


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 100)), max_size=40))
def test_no_more_is_moved_than_time_passed(steps: list[tuple[int, int]]) -> None:
    times, far = [0], [0.0]
    for seconds, metres in steps:
        times.append(times[-1] + 1_000 * seconds)
        far.append(far[-1] + metres)
    assert 0 <= moving_s(times, far) <= times[-1] / 1_000


def test_climbs_are_hills_and_not_wavers() -> None:
    assert climb_m([100, 101, 99, 100, 102, 100]) == 0
    assert climb_m([100, 110, 105, 120]) == 25
    assert climb_m([float(n) for n in range(100)]) == 99
    assert climb_m([100, None]) is None


@given(st.lists(st.floats(-400, 8_000), min_size=2, max_size=50))
def test_no_more_is_climbed_than_all_rises(altitudes: list[float]) -> None:
    climbed = climb_m(altitudes)
    assert climbed is not None
    rises = sum(max(0.0, after - before) for before, after in itertools.pairwise(altitudes))
    assert 0 <= climbed <= rises + 1e-6
