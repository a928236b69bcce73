from msgspec.structs import replace

from sync.clock import ZERO
from sync.head import MAX_DEVICES, SEEN_EVERY_MS, Device, Head, day_of


def test_a_new_head_has_written_nothing() -> None:
    head = Head(epoch=1, devices={})
    assert (head.seq, head.clock, head.restamped) == (0, ZERO, ZERO)
    assert (head.digests, head.quarantined_bytes, head.purge_at_ms) == ({}, 0, 0)
    assert MAX_DEVICES < 4_095


def test_a_device_is_noted_without_altering_the_head_before() -> None:
    head = Head(epoch=1, seq=5, devices={"a": Device(1)})
    after = head.with_device("b", Device(2, 3, 4, ("goals",))).with_device("a", Device(1, presented=5))
    assert head.devices == {"a": Device(1)}
    assert after.devices == {"a": Device(1, presented=5), "b": Device(2, 3, 4, ("goals",))}
    assert replace(after, devices=head.devices) == head


def test_a_day_begins_at_midnight() -> None:
    assert day_of(SEEN_EVERY_MS - 1) == 0
    assert day_of(SEEN_EVERY_MS) == day_of(2 * SEEN_EVERY_MS - 1) == SEEN_EVERY_MS
