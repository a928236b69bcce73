"""Hybrid logical clock readings ("stamps"), as 63-bit unsigned integers.

43 bits of Unix milliseconds, 9 bits of counter, 12 bits of replica; a full counter carries into the milliseconds.
Stamps order as numbers. On the wire a stamp is 16 lower-case hex digits, whose order as strings is the same.
Source: Kulkarni et al., "Logical Physical Clocks" (2014), for the rule; the layout is ours.
"""

import re
from typing import Final, NewType

Stamp = NewType("Stamp", int)

REPLICA_BITS: Final = 12
COUNTER_BITS: Final = 9
SERVER_REPLICA: Final = 0
MAX_REPLICA: Final = (1 << REPLICA_BITS) - 1
MAX_STAMP: Final = Stamp((1 << 63) - 1)
ZERO: Final = Stamp(0)

# How far ahead of the server's wall clock a stamp is still believed. A phone on network time is within seconds;
# more would let one wrong clock win against every other device for as long as it is wrong.
MAX_AHEAD_MS: Final = 60_000

_WIRE = re.compile(r"[0-7][0-9a-f]{15}")


def from_wire(text: object) -> Stamp | None:
    """Return the stamp, or None if `text` is not 16 lower-case hex digits below 2^63, or is zero."""
    if type(text) is not str or _WIRE.fullmatch(text) is None:
        return None
    return Stamp(int(text, 16)) or None


def to_wire(stamp: Stamp) -> str:
    return f"{stamp:016x}"


def replica_of(stamp: Stamp) -> int:
    return stamp & MAX_REPLICA


def milliseconds_of(stamp: Stamp) -> int:
    """Unix milliseconds; with a carried counter, later than the wall clock was."""
    return stamp >> (REPLICA_BITS + COUNTER_BITS)


def tick(last: Stamp, *, now_ms: int, replica: int) -> Stamp:
    """Return the next reading: above `last` whatever its replica, and not below `now_ms`.

    Adding to the time and counter as one number is what carries a full counter into the milliseconds.
    """
    reading = max(now_ms << COUNTER_BITS, (last >> REPLICA_BITS) + 1)
    return Stamp(reading << REPLICA_BITS | replica)


def latest_believed(now_ms: int) -> Stamp:
    """Return the greatest stamp that is not too far ahead of the wall clock to be believed."""
    return Stamp(((now_ms + MAX_AHEAD_MS + 1) << (REPLICA_BITS + COUNTER_BITS)) - 1)
