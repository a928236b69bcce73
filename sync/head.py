"""The head of an account's sync state: what all of its devices' round trips share, and what puts its writers in line."""

from typing import Final

from msgspec import Struct

from sync.clock import ZERO, Stamp

# Enough for a household of phones, watches and browsers; bounds the head, which every upload reads and writes.
MAX_DEVICES: Final = 100


class Device(Struct, frozen=True):
    """A device that may sync. A record of its own, so that what it was given can be told here too."""

    replica: int


class Head(Struct, frozen=True, kw_only=True):
    """`seq` is the newest sequence given to a document, `clock` the greatest stamp accepted or given.

    epoch: drawn when the head is made; a cursor of another epoch is foreign.
    restamped: the greatest stamp that was ever replaced as too far ahead; above it none needs looking up.
    """

    epoch: int
    seq: int = 0
    clock: Stamp = ZERO
    restamped: Stamp = ZERO
    devices: dict[str, Device]
