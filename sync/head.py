"""The head of an account's sync state: what all of its devices' round trips share, and what puts its writers in line."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sync.clock import ZERO, Stamp

# Enough for a household of phones, watches and browsers; bounds the head, which every upload reads and writes.
MAX_DEVICES: Final = 100

# How exactly it is known when a device was last seen, so that a device that only reads makes one write a day.
SEEN_EVERY_MS: Final = 86_400_000


class Device(Struct, frozen=True):
    """A device that may sync, and what its last cursor told.

    presented: the device holds everything up to this sequence, of `collections`; 0 where that is not known (it never presented
    a cursor, a snapshot is still going on, or the cursor was not of this epoch).
    seen_ms: when it last synced, to a day; 0 for never.
    """

    replica: int
    seen_ms: int = 0
    presented: int = 0
    collections: tuple[str, ...] = ()


class Head(Struct, frozen=True, kw_only=True):
    """`seq` is the newest sequence given to a document, `clock` the greatest stamp accepted or given.

    epoch: drawn when the head is made, and again after a restore; a cursor of another epoch is foreign.
    restamped: the greatest stamp that was ever replaced as too far ahead; above it none needs looking up.
    digests: by collection; one without registers may be left out.
    quarantined_bytes: at least what the quarantine holds; 0 only where it is empty.
    purge_at_ms: when to look for documents to purge; 0 while none was ever deleted.
    wall_ms: the wall clock by which stamps were last believed or not; no later one is held to an earlier time, but for a clock of
    ours that ran ahead.
    """

    epoch: int
    seq: int = 0
    clock: Stamp = ZERO
    restamped: Stamp = ZERO
    digests: Mapping[str, int] = {}
    quarantined_bytes: int = 0
    purge_at_ms: int = 0
    wall_ms: int = 0
    devices: dict[str, Device]

    def with_device(self, device_id: str, device: Device) -> "Head":
        return replace(self, devices={**self.devices, device_id: device})


def day_of(now_ms: int) -> int:
    return now_ms - now_ms % SEEN_EVERY_MS
