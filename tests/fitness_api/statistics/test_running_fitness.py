import pytest

from fitness_api.statistics.running_fitness import is_valid, vdot


@pytest.mark.parametrize(
    ("distance_m", "seconds", "expected"),
    [
        (5_000, 24 * 60 + 34, 39.11039839652726),
        (5_000, 1_200, 49.8062),
        (10_000, 2_400, 51.9441),
        (5_000, 1_350, 43.38),
    ],
)
def test_published_races(distance_m: float, seconds: float, expected: float) -> None:
    assert vdot(distance_m, seconds) == pytest.approx(expected, abs=5e-3 if expected == 43.38 else 5e-5)


@pytest.mark.parametrize(("distance_m", "seconds"), [(0, 60), (5_000, 0), (-1, 60)])
def test_no_race(distance_m: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        vdot(distance_m, seconds)


def test_where_it_holds() -> None:
    assert [is_valid(seconds) for seconds in (209, 210, 14_400, 14_401)] == [False, True, True, False]
