from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics.samples import MAX_HOLD_MS, by_second, spans

series = st.lists(
    st.tuples(st.integers(1, 30_000), st.none() | st.integers(-5, 1_000).map(float)), min_size=1, max_size=60
)


def timed(steps: list[tuple[int, float | None]]) -> tuple[list[int], list[float | None]]:
    at_ms, times = 0, []
    for step_ms, _ in steps:
        at_ms += step_ms
        times.append(at_ms)
    return times, [value for _, value in steps]


def test_a_value_stands_until_the_next_one() -> None:
    assert list(spans([0, 1_000, 3_000], [100, 110, 120])) == [(100, 1_000), (110, 2_000), (120, 1_000)]


def test_a_gap_and_a_pause_are_no_time() -> None:
    assert list(spans([0, 1_000, 2_000, 90_000], [100, None, 120, 130])) == [
        (100, 1_000),
        (120, MAX_HOLD_MS),
        (130, 1_000),
    ]


def test_seconds_between_samples_have_the_latest_value() -> None:
    assert by_second([0, 3_000, 4_000], [100, 110, 120]) == [[100, 100, 100, 110, 120]]


def test_a_run_ends_at_a_gap_and_at_a_pause() -> None:
    assert by_second([0, 1_000, 2_000, 3_000, 60_000], [1, 2, None, 3, 4]) == [[1, 2], [3], [4]]


@given(series)
def test_no_more_time_passes_than_the_clock_tells(steps: list[tuple[int, float | None]]) -> None:
    times, values = timed(steps)
    held_ms = sum(held for _, held in spans(times, values))
    assert 0 <= held_ms <= times[-1] - times[0] + 1_000
    seconds = sum(len(run) for run in by_second(times, values))
    assert seconds <= (times[-1] - times[0]) // 1_000 + len(times)


@given(st.lists(st.integers(30, 220).map(float), min_size=1, max_size=200))
def test_a_sample_a_second_is_its_own_series(values: list[float]) -> None:
    times = [1_700_000_000_123 + 1_000 * n for n in range(len(values))]
    assert by_second(times, values) == [values]
    assert list(spans(times, values)) == [(value, 1_000) for value in values]
