import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics.training_load import Variant, monotony, series


def test_published_exponential_days() -> None:
    days = series([100] * 42)
    assert [days[n].ctl for n in (0, 1, 6, 41)] == pytest.approx([2.352831, 4.650305, 15.351828, 63.212056], abs=5e-7)
    assert [days[n].atl for n in (0, 6)] == pytest.approx([13.312210, 63.212056], abs=5e-7)
    assert days[7].tsb == pytest.approx(-47.860228, abs=5e-7)


def test_published_reciprocal_days() -> None:
    days = series([100] * 7, variant="reciprocal")
    assert (days[0].ctl, days[6].ctl, days[6].atl) == pytest.approx((2.380952, 15.522323, 66.008332), abs=5e-7)


def test_form_is_of_the_morning() -> None:
    first, second = series([100, 0])
    assert first.tsb == 0
    assert second.tsb == first.ctl - first.atl < 0


@given(st.lists(st.floats(0, 1_000), max_size=80), st.integers(0, 80), st.sampled_from(["exponential", "reciprocal"]))
def test_a_series_can_be_gone_on_with(loads: list[float], cut: int, variant: Variant) -> None:
    whole = series(loads, variant=variant)
    head = series(loads[:cut], variant=variant)
    last = head[-1] if head else None
    tail = series(loads[cut:], variant=variant, ctl=last.ctl if last else 0, atl=last.atl if last else 0)
    assert [*head, *tail] == whole


@given(st.lists(st.floats(0, 1_000), min_size=1, max_size=200))
def test_no_mean_exceeds_the_greatest_load(loads: list[float]) -> None:
    assert all(0 <= value <= max(loads) + 1e-9 for day in series(loads) for value in (day.ctl, day.atl))


def test_monotony() -> None:
    assert monotony([100] * 7) is None
    assert monotony([0, 200]) == 1
