"""A ride of 2 h 19 min by an Edge 1000, which computed some of these numbers itself: FTP 200 W, NP 267 W, mean 219 W."""

import msgspec
import pytest

from fitness_api.statistics.best_efforts import greatest_mean
from fitness_api.statistics.heart_rate_load import trimp, trimp_of
from fitness_api.statistics.heart_rate_zones import seconds_in_zones
from fitness_api.statistics.power_load import mean_power, normalized_power, training_stress_score
from fitness_api.workouts.decoder_process import decode
from fitness_api.workouts.recording import Session
from sync.tracks import Stream
from tests.fitness_api.workouts.recordings import RIDE, recorded

Series = tuple[list[int], list[float | None]]


def series(ride: Session, stream: Stream) -> Series:
    samples = ride.streams[stream]
    return samples.times_ms, msgspec.convert(samples.values, list[float | None])


@pytest.fixture(scope="module")
def ride() -> Session:
    return decode(recorded(RIDE)).sessions[0]


def test_power_is_what_the_watch_says(ride: Session) -> None:
    power = series(ride, "power")
    normalized = normalized_power(*power)
    assert normalized is not None
    assert normalized == pytest.approx(267, abs=0.5)
    assert normalized == pytest.approx(267.43, abs=0.005)
    assert mean_power(*power) == pytest.approx(219, abs=0.5)
    assert ride.timer_time_s is not None
    assert training_stress_score(ride.timer_time_s, normalized, 200) == pytest.approx(415, abs=0.1)


def test_every_second_is_in_one_zone(ride: Session) -> None:
    pulse = series(ride, "heart_rate")
    spent = seconds_in_zones(*pulse, (95, 114, 133, 152, 171))
    assert sum(spent) == 8_357
    assert spent[4] > sum(spent[:4])  # it was a hard one


def test_samples_weigh_more_than_their_mean(ride: Session) -> None:
    pulse = series(ride, "heart_rate")
    load = trimp_of(*pulse, hr_max_bpm=190, hr_rest_bpm=50)
    assert load > trimp(8_357 / 60, 1_376_485 / 8_357, hr_max_bpm=190, hr_rest_bpm=50)


def test_the_best_twenty_minutes_beat_the_mean_and_lose_to_the_best_minute(ride: Session) -> None:
    power = series(ride, "power")
    means = [greatest_mean(*power, seconds) for seconds in (5, 60, 1_200, 8_357)]
    watts = [mean[0] for mean in means if mean is not None]
    assert len(watts) == 4
    assert watts == sorted(watts, reverse=True)
    assert watts[-1] == pytest.approx(219.07, abs=0.005)
