from fitness_api.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_S, LONGEST_PAUSE_S, TRIAL_WITHIN_S, Breaker


def opened(at_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.admits(at_s)
        breaker.failed(at_s)
    assert breaker.is_open
    return breaker


def test_single_failures_change_nothing() -> None:
    breaker = Breaker()
    for at_s in range(100):
        assert breaker.admits(at_s)
        breaker.failed(at_s)
        breaker.succeeded()
    assert not breaker.is_open


def test_open_nobody_tries_then_one_does() -> None:
    breaker = opened()
    assert not breaker.admits(FIRST_PAUSE_S - 0.01)
    assert breaker.admits(FIRST_PAUSE_S)
    assert not breaker.admits(FIRST_PAUSE_S)
    breaker.succeeded()
    assert not breaker.is_open
    assert all(breaker.admits(FIRST_PAUSE_S) for _ in range(10))


def test_a_trial_that_fails_doubles_the_pause_up_to_a_bound() -> None:
    breaker, now_s, pauses = opened(), 0.0, []
    for _ in range(8):
        begun_s = now_s
        while not breaker.admits(now_s):
            now_s += 0.25
        pauses.append(now_s - begun_s)
        breaker.failed(now_s)
    assert pauses == [1, 2, 4, 8, 10, 10, 10, 10]
    assert LONGEST_PAUSE_S == 10


def test_the_failures_of_those_that_began_before_it_opened_count_once() -> None:
    breaker = opened()
    for _ in range(100):
        breaker.failed(0.5)
    assert breaker.admits(FIRST_PAUSE_S)


def test_a_trial_of_which_nothing_is_heard_is_followed_by_another() -> None:
    breaker = opened()
    assert breaker.admits(FIRST_PAUSE_S)
    assert not breaker.admits(FIRST_PAUSE_S + TRIAL_WITHIN_S - 0.01)
    assert breaker.admits(FIRST_PAUSE_S + TRIAL_WITHIN_S)
