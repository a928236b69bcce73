"""All 26,460 histories of the small size: none is sampled."""

from tests.simulate.small_scopes import faults, orders, play


def test_every_history_of_two_devices_and_three_edits_ends_well() -> None:
    count = 0
    for order in orders():
        for fault in faults():
            try:
                play(order, fault)
            except Exception as error:
                raise AssertionError(f"{order}, {fault}") from error
            count += 1
    assert count == 26_460


def test_the_orders_are_all_there_and_each_once() -> None:
    all_orders = list(orders())
    # 15 words of A (2 edits among 4 other actions), 3 of B (1 among 2), and 84 ways to put 6 actions among 9.
    assert len(set(all_orders)) == len(all_orders) == 15 * 3 * 84
    # None, or one of three round trips in one of two ways.
    assert len(set(faults())) == 7
