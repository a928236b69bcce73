"""Sums over registers, by which a device finds out that it does not hold what the server holds.

A sum is taken modulo 2^64 over the first 8 bytes (big-endian) of SHA-256("<collection>/<id>/<path>=<stamp>"), paths escaped as on
the wire. Adding and subtracting keep it current, in any order. It tells accidents, not attackers: an account's owner may make
two states of one sum.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from struct import unpack
from typing import Final

from sync.clock import Stamp
from sync.document import Document, Key

MODULUS: Final = 1 << 64
BUCKETS: Final = 256


def of_registers(key: Key, registers: Iterable[tuple[str, Stamp]]) -> int:
    """Return the sum over some registers, (path, stamp), of one document."""
    prefix = f"{key.collection}/{key.id}/"
    hashes = [sha256(f"{prefix}{path}={stamp:016x}".encode()).digest() for path, stamp in registers]
    return int(sum(unpack(">" + "Q24x" * len(hashes), b"".join(hashes)))) % MODULUS


def of(document: Document) -> int:
    return of_registers(document.key, document.stamps())


def changed(before: Document | None, after: Document) -> int:
    """Return what the sum gains, modulo 2^64, when `after` takes the place of `before`, whose registers it has or replaces.

    The registers that changed are those of the document's new sequence.
    """
    if before is None:
        return of(after)
    new: list[tuple[str, Stamp]] = []
    old: list[tuple[str, Stamp]] = []
    for path, mark in after.marks.items():
        if mark.seq == after.seq:
            new.append((path, mark.stamp))
            if (replaced := before.mark(path)) is not None:
                old.append((path, replaced.stamp))
    return (of_registers(after.key, new) - of_registers(after.key, old)) % MODULUS


def bucket_of(document_id: str) -> int:
    """Return the part of a collection that a document is repaired with: 0 to 255."""
    return sha256(document_id.encode()).digest()[0]


def to_wire(digest: int) -> str:
    return f"{digest:016x}"


def all_to_wire(digests: Mapping[str, int], collections: Iterable[str]) -> dict[str, str]:
    return {name: to_wire(digests.get(name, 0)) for name in collections}
