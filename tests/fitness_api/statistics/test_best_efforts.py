from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics.best_efforts import Effort, fastest, greatest_mean


def test_the_fastest_kilometre_lies_where_it_was_run() -> None:
    # 5 m/s but for 1,000 m at 10 m/s from second 100 on.
    speeds = [5.0] * 100 + [10.0] * 100 + [5.0] * 100
    distance = [0.0, *accumulate(speeds)]
    times = [1_000 * n for n in range(len(distance))]
    assert fastest(times, distance, 1_000) == Effort(100_000, 100)


def test_a_pause_counts() -> None:
    assert fastest([0, 10_000, 610_000, 620_000], [0, 100, 100, 200], 200) == Effort(0, 620)
    assert fastest([0, 10_000, 610_000, 620_000], [0, 100, 100, 200], 100) == Effort(0, 10)


def test_between_samples_it_grows_evenly() -> None:
    effort = fastest([0, 60_000, 70_000], [0, 100, 200], 150)
    assert effort == Effort(30_000, 40)


def test_a_distance_that_was_not_reached_has_none() -> None:
    assert fastest([0, 1_000], [0, 99], 100) is None
    assert fastest([], [], 100) is None
    with pytest.raises(ValueError, match="above 0"):
        fastest([0], [0], 0)


tracks = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 30)), min_size=1, max_size=25)


@given(tracks, st.integers(1, 200))
def test_no_stretch_is_faster(steps: list[tuple[int, int]], target: int) -> None:
    """Against every pair of instants, to the tenth of a second."""
    times, distance = [0], [0.0]
    for seconds, metres in steps:
        times.append(times[-1] + seconds * 1_000)
        distance.append(distance[-1] + metres)
    best = fastest(times, distance, target)
    if distance[-1] < target:
        assert best is None
        return
    assert best is not None

    def at(ms: float) -> float:
        index = max(n for n in range(len(times)) if times[n] <= ms)
        if index == len(times) - 1:
            return distance[-1]
        share = (ms - times[index]) / (times[index + 1] - times[index])
        return distance[index] + share * (distance[index + 1] - distance[index])

    for began in range(0, times[-1] - int(best.seconds * 1_000) + 1, 100):
        covered = at(began + best.seconds * 1_000 - 1) - at(began)
        assert covered < target + 1e-6
    assert at(min(times[-1], best.started_ms + best.seconds * 1_000 + 1)) - at(best.started_ms) >= target - 0.05


@given(st.lists(st.floats(0, 1_500), min_size=1, max_size=80), st.integers(1, 90))
def test_the_greatest_mean_is_that_of_some_window_and_of_no_other(watts: list[float], seconds: int) -> None:
    found = greatest_mean([1_000 * n for n in range(len(watts))], watts, seconds)
    means = [sum(watts[n : n + seconds]) / seconds for n in range(len(watts) - seconds + 1)]
    if not means:
        assert found is None
        return
    assert found is not None
    assert found[0] == pytest.approx(max(means))
    assert means[found[1]] == pytest.approx(max(means))


def test_no_mean_is_taken_over_a_pause() -> None:
    times = [0, 1_000, 100_000, 101_000, 102_000]
    assert greatest_mean(times, [500.0, 500.0, 100.0, 100.0, 100.0], 3) == (100, 2)
    with pytest.raises(ValueError, match="one second"):
        greatest_mean([0], [1.0], 0)
