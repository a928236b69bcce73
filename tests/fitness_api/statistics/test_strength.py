import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics.strength import Formula, one_rep_max, rir_of_rpe, volume_kg


@pytest.mark.parametrize(
    ("weight_kg", "reps", "formula", "expected"),
    [
        (100, 5, "epley", 116.6667),
        (100, 5, "brzycki", 112.5),
        (200, 6, "brzycki", 232.2581),
        (220, 4, "brzycki", 240),
    ],
)
def test_published_sets(weight_kg: float, reps: int, formula: Formula, expected: float) -> None:
    assert one_rep_max(weight_kg, reps, formula=formula) == pytest.approx(expected, abs=5e-5)


def test_published_intensity() -> None:
    maximum = one_rep_max(10, 5, formula="brzycki")
    assert maximum is not None
    assert 10 / maximum == pytest.approx(0.8888, abs=1e-4)


@given(st.floats(1, 500))
def test_both_formulas_agree_at_ten(weight_kg: float) -> None:
    assert one_rep_max(weight_kg, 10) == pytest.approx(one_rep_max(weight_kg, 10, formula="brzycki"))


@pytest.mark.parametrize("formula", ["epley", "brzycki"])
def test_one_repetition_is_itself_the_maximum(formula: Formula) -> None:
    assert one_rep_max(140, 1, formula=formula) == 140


def test_repetitions_in_reserve_count_as_done() -> None:
    assert one_rep_max(100, 3, rir=2) == one_rep_max(100, 5)
    assert rir_of_rpe(8) == 2


@pytest.mark.parametrize(
    ("weight_kg", "reps", "rir"), [(100, 0, 0), (100, 13, 0), (100, 10, 3), (0, 5, 0), (100, 5, -1)]
)
def test_where_no_formula_holds_there_is_none(weight_kg: float, reps: int, rir: float) -> None:
    assert one_rep_max(weight_kg, reps, rir=rir) is None


@given(st.floats(1, 500), st.integers(1, 11), st.sampled_from(["epley", "brzycki"]))
def test_more_repetitions_are_more(weight_kg: float, reps: int, formula: Formula) -> None:
    fewer, more = (one_rep_max(weight_kg, count, formula=formula) for count in (reps, reps + 1))
    assert fewer is not None
    assert more is not None
    assert fewer < more


def test_volume() -> None:
    assert volume_kg([(100, 5), (60, 10)]) == 1_100
    assert volume_kg([]) == 0
