from hypothesis import given
from hypothesis import strategies as st

from fitness_api.limits.gcra import Rate, take, untouched

RATES = st.builds(Rate, st.integers(1, 1000), st.integers(1, 10**9))
# Pauses that run back too, and asks of all sizes.
STEPS = st.lists(st.tuples(st.integers(-(10**7), 10**8), st.integers(1, 40), st.integers(0, 40)), max_size=60)


@given(RATES, STEPS)
def test_it_never_grants_more_than_the_quota_and_what_came_back_since(
    rate: Rate, steps: list[tuple[int, int, int]]
) -> None:
    now_us, full_at_us = 10**15, 0
    granted: list[tuple[int, int]] = []
    for pause_us, least, more in steps:
        now_us += abs(pause_us)
        full_at_us, taken = take(full_at_us, now_us, rate, least=least, wanted=least + more)
        granted.append((now_us, taken.granted))
    for first, (begun_us, _) in enumerate(granted):
        total = 0
        for at_us, tokens in granted[first:]:
            total += tokens
            assert total <= rate.quota + (at_us - begun_us) / rate.interval_us


@given(RATES, STEPS)
def test_what_it_says_is_so(rate: Rate, steps: list[tuple[int, int, int]]) -> None:
    now_us, full_at_us = 10**15, 0
    for pause_us, least, more in steps:
        now_us += pause_us
        before = full_at_us
        full_at_us, taken = take(full_at_us, now_us, rate, least=least, wanted=least + more)
        assert taken.granted == 0 or least <= taken.granted <= least + more
        assert 0 <= taken.remaining <= rate.quota
        # As many as remain are there, and no more.
        if taken.remaining:
            assert take(full_at_us, now_us, rate, least=taken.remaining, wanted=taken.remaining)[1].granted
        assert not take(full_at_us, now_us, rate, least=taken.remaining + 1, wanted=taken.remaining + 1)[1].granted
        # Full when it says so.
        assert take(full_at_us, now_us + taken.full_after_us, rate, least=1, wanted=1)[1].remaining == rate.quota - 1
        if taken.granted:
            assert taken.retry_after_us == 0
            back = untouched(taken, rate.interval_us)
            assert (
                back.remaining == take(before, now_us, rate, least=rate.quota + 1, wanted=rate.quota + 1)[1].remaining
            )
        else:
            assert taken.retry_after_us > 0
            if least <= rate.quota:
                at_us = now_us + taken.retry_after_us
                assert take(full_at_us, at_us, rate, least=least, wanted=least)[1].granted == least
                assert not take(full_at_us, at_us - 1, rate, least=least, wanted=least)[1].granted


@given(RATES, st.integers(1, 2000))
def test_a_full_bucket_gives_its_whole_quota_at_once(rate: Rate, wanted: int) -> None:
    _, taken = take(0, 10**15, rate, least=1, wanted=wanted)
    assert taken.granted == min(wanted, rate.quota)


def test_a_clock_that_runs_back_gives_nothing_and_takes_nothing_for_good() -> None:
    rate = Rate(2, 2_000_000)
    full_at_us, taken = take(0, 10_000_000, rate, least=2, wanted=2)
    assert taken.granted == 2
    earlier, refused = take(full_at_us, 4_000_000, rate, least=1, wanted=1)
    assert refused.granted == 0
    # Not by the old clock's five seconds: by what the bucket holds at most.
    assert refused.retry_after_us == 1_000_000
    assert take(earlier, 5_000_000, rate, least=1, wanted=1)[1].granted == 1
