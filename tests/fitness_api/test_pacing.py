from hypothesis import given
from hypothesis import strategies as st

from fitness_api.pacing import COMFORTABLE, LONGEST_S, STEP_S, Pacing


def test_there_is_no_need_to_wait_while_there_is_room() -> None:
    pacing = Pacing()
    pacing.in_flight = COMFORTABLE
    assert pacing.next_after_s(1.0) == 0


def test_serving_counts_also_what_fails() -> None:
    pacing = Pacing()
    with pacing.serving():
        try:
            with pacing.serving():
                assert pacing.in_flight == 2
                raise ValueError
        except ValueError:
            assert pacing.in_flight == 1
    assert pacing.in_flight == 0


@given(in_flight=st.integers(COMFORTABLE + 1, 10_000), dice=st.floats(0, 1))
def test_the_more_there_is_to_do_the_longer_devices_wait_and_never_for_ever(in_flight: int, dice: float) -> None:
    pacing = Pacing()
    pacing.in_flight = in_flight
    after_s = pacing.next_after_s(dice)
    assert 1 <= after_s <= LONGEST_S
    pacing.in_flight += COMFORTABLE
    assert pacing.next_after_s(dice) >= after_s
    assert pacing.next_after_s(1.0) - pacing.next_after_s(0.0) <= STEP_S * pacing.in_flight / COMFORTABLE + 1
