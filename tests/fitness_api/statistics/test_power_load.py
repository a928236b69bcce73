import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics.power_load import (
    intensity_factor,
    mean_power,
    normalized_power,
    training_stress_score,
    work_kj,
)


def seconds(count: int) -> list[int]:
    return [1_000 * n for n in range(count)]


@given(st.floats(0, 2_000), st.integers(30, 120))
def test_steady_power_is_its_own(watts: float, count: int) -> None:
    assert normalized_power(seconds(count), [watts] * count) == pytest.approx(watts)
    assert mean_power(seconds(count), [watts] * count) == pytest.approx(watts)


@given(st.lists(st.floats(0, 1_000), min_size=60, max_size=200))
def test_it_is_at_least_the_mean_of_its_windows(watts: list[float]) -> None:
    windows = [sum(watts[n : n + 30]) / 30 for n in range(len(watts) - 29)]
    got = normalized_power(seconds(len(watts)), watts)
    assert got is not None
    assert got == pytest.approx((sum(one**4 for one in windows) / len(windows)) ** 0.25)
    assert got >= sum(windows) / len(windows) - 1e-6


def test_under_thirty_seconds_there_is_none() -> None:
    assert normalized_power(seconds(29), [200.0] * 29) is None
    assert normalized_power([], []) is None
    assert mean_power([], []) is None


def test_no_window_reaches_over_a_pause() -> None:
    times = [*seconds(30), *(at + 3_600_000 for at in seconds(30))]
    assert normalized_power(times, [100.0] * 30 + [300.0] * 30) == pytest.approx(((100**4 + 300**4) / 2) ** 0.25)


def test_a_negative_reading_is_none() -> None:
    assert normalized_power(seconds(30), [-10.0] * 15 + [30.0] * 15) == pytest.approx(15)


@pytest.mark.parametrize(("watts", "ftp", "score"), [(270, 300, 81), (200, 300, 44.4444)])
def test_published_scores_of_an_hour(watts: float, ftp: float, score: float) -> None:
    assert training_stress_score(3600, watts, ftp) == pytest.approx(score, abs=1e-4)


def test_what_the_watch_computed_of_its_ride() -> None:
    """FTP 200 W, NP 267.43 W of 8,357 s: the watch says IF 1.337 and TSS 413.7, of its own seconds."""
    assert intensity_factor(267.43, 200) == pytest.approx(1.337, abs=5e-4)
    assert training_stress_score(8_357, 267.43, 200) == pytest.approx(415.0, abs=0.1)


def test_a_threshold_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        intensity_factor(200, 0)


def test_work() -> None:
    assert work_kj(seconds(3600), [250.0] * 3600) == pytest.approx(900)
