"""Sums over registers, by which a device finds out that it does not hold what the server holds.

A sum is taken modulo 2^64 over the first 8 bytes (big-endian) of SHA-256("<collection>/<id>/<path>=<stamp>"), paths escaped as on
the wire. Adding and subtracting keep it current, in any order. It tells accidents, not attackers: an account's owner may make
two states of one sum.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import repeat
from struct import unpack
from typing import Final

from sync.clock import Stamp
from sync.document import Document, Key

MODULUS: Final = 1 << 64
BUCKETS: Final = 256


def of_registers(key: Key, registers: Iterable[tuple[str, Stamp]], *, less: Iterable[tuple[str, Stamp]] = ()) -> int:
    """Return the sum over some registers, (path, stamp), of one document, less that over others of it."""
    # What all begin with is hashed once: to copy that costs less than to begin a hash for each. Those of one stamp mostly come
    # together, so that few stamps are formatted: for each it took a third of the time.
    begun = sha256(f"{key.collection}/{key.id}/".encode())
    sums: list[int] = []
    for group in (registers, less):
        hashes: list[bytes] = []
        last, end = None, ""
        for path, stamp in group:
            if stamp != last:
                last, end = stamp, f"={stamp:016x}"
            register = begun.copy()
            register.update((path + end).encode())
            hashes.append(register.digest())
        sums.append(sum(unpack(">" + "Q24x" * len(hashes), b"".join(hashes))))
    return (sums[0] - sums[1]) % MODULUS


def of(document: Document) -> int:
    usual, marks = document.usual, document.marks
    if not marks:
        return of_registers(document.key, zip(document.values, repeat(usual.stamp)))
    return of_registers(document.key, [(path, marks.get(path, usual).stamp) for path in document.values])


def changed(before: Document | None, after: Document) -> int:
    """Return what the sum gains, modulo 2^64, when `after` takes the place of `before`, whose registers it has or replaces.

    The registers that changed are those of the document's new sequence.
    """
    if before is None:
        return of(after)
    seq, usual, marks = after.seq, after.usual, after.marks
    if usual.seq == seq:
        new = [(path, mark.stamp) for path in after.values if (mark := marks.get(path, usual)).seq == seq]
    else:
        new = [(path, mark.stamp) for path, mark in marks.items() if mark.seq == seq]
    held, usual, marks = before.values, before.usual, before.marks
    old = [(path, marks.get(path, usual).stamp) for path, _ in new if path in held]
    return of_registers(after.key, new, less=old)


def bucket_of(document_id: str) -> int:
    """Return the part of a collection that a document is repaired with: 0 to 255."""
    return sha256(document_id.encode()).digest()[0]


def to_wire(digest: int) -> str:
    return f"{digest:016x}"


def all_to_wire(digests: Mapping[str, int], collections: Iterable[str]) -> dict[str, str]:
    return {name: to_wire(digests.get(name, 0)) for name in collections}
