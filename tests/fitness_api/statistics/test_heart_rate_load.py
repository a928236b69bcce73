from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics.heart_rate_load import (
    Variant,
    edwards,
    hr_tss_lthr,
    hr_tss_reserve,
    session_rpe,
    trimp,
    trimp_of,
    trimp_score,
)

impulse = partial(trimp, hr_max_bpm=190, hr_rest_bpm=50)
score = partial(trimp_score, hr_max_bpm=190, hr_rest_bpm=50)


def test_the_published_example() -> None:
    assert trimp(30, 130, hr_max_bpm=200, hr_rest_bpm=40) == pytest.approx(31.8025, abs=5e-5)


@pytest.mark.parametrize(("variant", "ceiling"), [("banister_men", 4.3654), ("banister_women", 3.3998)])
def test_a_minute_at_the_maximum(variant: Variant, ceiling: float) -> None:
    assert trimp(1, 190, hr_max_bpm=190, hr_rest_bpm=50, variant=variant) == pytest.approx(ceiling, abs=5e-5)


def test_the_womens_variants_differ_by_their_factor() -> None:
    gc, morton = (impulse(10, 150, variant=one) for one in ("banister_women", "banister_women_086"))
    assert morton / gc == pytest.approx(0.86 / 0.64)


def test_below_rest_is_nothing_and_above_the_maximum_is_more() -> None:
    assert impulse(10, 40) == 0
    assert impulse(10, 195) > impulse(10, 190)


@given(st.lists(st.floats(50, 190), min_size=2, max_size=50))
def test_samples_give_no_less_than_their_mean(bpm: list[float]) -> None:
    times = [1_000 * n for n in range(len(bpm))]
    of_mean = impulse(len(bpm) / 60, sum(bpm) / len(bpm))
    assert trimp_of(times, bpm, hr_max_bpm=190, hr_rest_bpm=50) >= of_mean * (1 - 1e-9)


def test_edwards_weighs_fifths() -> None:
    times = [60_000 * n // 60 for n in range(61)]
    bpm = [95.0] * 20 + [150.0] * 20 + [180.0] * 20 + [None]
    # 20 s each below half of the maximum, at 75 % and at 90 %.
    assert edwards(times, bpm, hr_max_bpm=200) == pytest.approx((0 * 20 + 3 * 20 + 5 * 20) / 60)


def test_session_rpe() -> None:
    assert session_rpe(120, 6) == 720
    with pytest.raises(ValueError, match="0 to 10"):
        session_rpe(1, 11)


def test_an_hour_at_threshold_is_a_hundred() -> None:
    assert score(impulse(60, 170), lthr_bpm=170) == pytest.approx(100)
    assert hr_tss_lthr(1, 170, lthr_bpm=170) == 100
    with pytest.raises(ValueError, match="threshold"):
        score(1, lthr_bpm=40)


def test_the_published_hr_tss() -> None:
    assert hr_tss_reserve(2, 155, hr_max_bpm=185, hr_rest_bpm=45) == pytest.approx(179.227, abs=5e-4)


def test_a_maximum_below_rest_is_refused() -> None:
    with pytest.raises(ValueError, match="above"):
        trimp(1, 100, hr_max_bpm=50, hr_rest_bpm=50)
