"""The generic cell rate algorithm: one number a bucket, the instant at which it will be full again.

A bucket of `quota` tokens in `window_us` gives its whole quota at once, and then one token every interval: never more than
quota + rate * t in any time t. Source: ITU-T I.371 annex A, the virtual scheduling form.
"""

from typing import NamedTuple


class Rate(NamedTuple):
    quota: int
    window_us: int

    @property
    def interval_us(self) -> int:
        """Rounded up, so that rounding never gives a token more."""
        return -(-self.window_us // self.quota)

    @property
    def depth_us(self) -> int:
        return self.quota * self.interval_us


class Taken(NamedTuple):
    """`granted`: the tokens given, 0 if fewer than asked for were there; then nothing was taken.

    retry_after_us: when as many will be there, 0 if they were given. full_after_us: when the bucket will be full.
    """

    granted: int
    remaining: int
    retry_after_us: int
    full_after_us: int


def take(full_at_us: int, now_us: int, rate: Rate, *, least: int, wanted: int) -> tuple[int, Taken]:
    """Take as many as there are, `wanted` at most; nothing if there are fewer than `least`. Return the bucket's new state too.

    A clock that runs back finds the bucket as it was left: no tokens come of it, and none are lost for good.
    """
    interval_us, depth_us = rate.interval_us, rate.depth_us
    used_us = min(depth_us, max(0, full_at_us - now_us))
    granted = min(wanted, (depth_us - used_us) // interval_us)
    if granted < least:
        lacking_us = used_us + least * interval_us - depth_us
        return now_us + used_us, Taken(0, (depth_us - used_us) // interval_us, lacking_us, used_us)
    used_us += granted * interval_us
    return now_us + used_us, Taken(granted, (depth_us - used_us) // interval_us, 0, used_us)


def untouched(taken: Taken, interval_us: int) -> Taken:
    """What to say of a bucket that would have granted, had not another refused."""
    return Taken(
        0, taken.remaining + taken.granted, taken.retry_after_us, taken.full_after_us - taken.granted * interval_us
    )
