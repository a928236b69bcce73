from sync.clock import ZERO
from sync.head import MAX_DEVICES, Head


def test_a_new_head_has_written_nothing() -> None:
    head = Head(epoch=1, devices={})
    assert (head.seq, head.clock, head.restamped) == (0, ZERO, ZERO)
    assert MAX_DEVICES < 4_095
