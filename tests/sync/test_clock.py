import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import clock
from sync.clock import MAX_STAMP, ZERO, Stamp

any_stamps = st.integers(1, MAX_STAMP).map(Stamp)
# Far from the end of the 43 bits, which is in the year 2248.
plausible = st.integers(1, 2**62).map(Stamp)
instants_ms = st.integers(0, 2**42)
replicas = st.integers(0, clock.MAX_REPLICA)


@given(any_stamps)
def test_the_wire_form_is_read_back(stamp: Stamp) -> None:
    wire = clock.to_wire(stamp)
    assert len(wire) == 16
    assert clock.from_wire(wire) == stamp


@given(any_stamps, any_stamps)
def test_stamps_order_as_their_strings(one: Stamp, other: Stamp) -> None:
    assert (one < other) == (clock.to_wire(one) < clock.to_wire(other))


@pytest.mark.parametrize(
    "text",
    [
        "", "0" * 16, "0" * 15, "1" * 17, "8" + "0" * 15, "f" * 16, "A" * 16, "0x" + "1" * 14, " " + "1" * 15, "1" * 16 + "\n",
        "\u0661" * 16, "+" + "1" * 15, "1_1" + "1" * 13, 5, None, True, b"1" * 16, ["1" * 16], 1.0,
    ],
)  # fmt: skip
def test_what_is_no_stamp(text: object) -> None:
    assert clock.from_wire(text) is None


def test_the_bits_of_a_stamp() -> None:
    stamp = clock.tick(ZERO, now_ms=1_767_225_600_000, replica=5)
    assert stamp == 1_767_225_600_000 << 21 | 5
    assert clock.to_wire(stamp) == f"{1_767_225_600_000 * 2**21 + 5:016x}"
    assert (clock.milliseconds_of(stamp), clock.replica_of(stamp)) == (1_767_225_600_000, 5)
    assert clock.from_wire("7" + "f" * 15) == MAX_STAMP
    assert clock.milliseconds_of(MAX_STAMP) == 2**42 - 1


@given(plausible, instants_ms, replicas)
def test_a_tick_exceeds_the_last_reading_and_the_wall_clock(last: Stamp, now_ms: int, replica: int) -> None:
    stamp = clock.tick(last, now_ms=now_ms, replica=replica)
    assert stamp > last
    assert clock.milliseconds_of(stamp) >= now_ms
    assert clock.replica_of(stamp) == replica
    # Greater whatever the replicas: time and counter alone decide.
    assert stamp >> clock.REPLICA_BITS > last >> clock.REPLICA_BITS


@given(plausible, st.lists(instants_ms, min_size=2, max_size=20), replicas)
def test_readings_rise_while_the_wall_clock_goes_where_it_likes(last: Stamp, walls: list[int], replica: int) -> None:
    readings = [last]
    for now_ms in walls:
        readings.append(clock.tick(readings[-1], now_ms=now_ms, replica=replica))
    assert readings == sorted(set(readings))
    # It runs ahead of all that it saw by no more than the counters.
    assert clock.milliseconds_of(readings[-1]) <= max(*walls, clock.milliseconds_of(last)) + 1


def test_a_full_counter_carries_into_the_milliseconds() -> None:
    stamp = clock.tick(Stamp((1_000 << 9 | 511) << 12 | 4095), now_ms=1_000, replica=1)
    assert (clock.milliseconds_of(stamp), stamp >> 12 & 511, clock.replica_of(stamp)) == (1_001, 0, 1)
    # Back in 1970 the clock stays where it was, and counts.
    assert clock.tick(stamp, now_ms=0, replica=1) == stamp + (1 << 12)


def test_sixty_seconds_ahead_are_believed_and_not_a_millisecond_more() -> None:
    latest = clock.latest_believed(1_000_000)
    assert clock.milliseconds_of(latest) == 1_060_000
    assert clock.milliseconds_of(Stamp(latest + 1)) == 1_060_001
