import pytest

from fitness_api.statistics.energy import kcal_per_min, kcal_per_min_of_oxygen, leg_cycling, met, running, walking

MILE_PER_HOUR = 26.8  # m/min, as the tables of the source round it


def test_published_walk() -> None:
    assert walking(3.5 * MILE_PER_HOUR, 0.10) == pytest.approx(29.764)
    assert met(walking(3.5 * MILE_PER_HOUR, 0.10)) == pytest.approx(8.504, abs=5e-4)


def test_published_run_of_eight_met() -> None:
    assert met(running(122.5)) == pytest.approx(8)


def test_published_ride() -> None:
    assert leg_cycling(450, 62) == pytest.approx(20.0645, abs=5e-5)
    with pytest.raises(ValueError, match="weight"):
        leg_cycling(450, 0)


def test_published_energy_and_the_five_per_cent() -> None:
    assert kcal_per_min(7, 60) == 7
    assert kcal_per_min_of_oxygen(7, 60) / kcal_per_min(7, 60) == pytest.approx(1.05)
