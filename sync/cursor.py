"""The opaque, signed cursor: which documents and registers a device has been given, collection by collection.

A cursor holds places. All collections of one place have been read alike; usually there is one place. A *run* is all pages
up to `more: false`: `began` is the sequence at which the place's run began (0 in a snapshot) and picks the registers,
`at` is the sequence up to which documents were given. While a snapshot is read, most recently changed first, `below` is the
sequence that the next page must stay under; what changes meanwhile moves above `at`, and follows.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

_MAC_BYTES: Final = 16
_MAX_LENGTH: Final = 2_048  # far above what we make; longer ones are not ours
UNCOUNTED: Final = -1  # of `Cursor.remaining`


class Place(Struct, frozen=True, array_like=True):
    collections: tuple[str, ...]
    began: int
    at: int
    below: int | None = None


class Cursor(Struct, frozen=True, array_like=True):
    """shown: the account's newest sequence when this was given. What the places tell was read of the account as it was then; just
    after an election an older state might be shown, in which a document still stands where it was already passed by.
    remaining: how many documents were to come then, so that they need not be counted for every page; UNCOUNTED in an ended run.
    """

    epoch: int
    shown: int
    places: tuple[Place, ...]
    remaining: int = UNCOUNTED


_decoder = msgspec.msgpack.Decoder(Cursor)


def derive_key(master_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fitness sync cursors v1").derive(master_key)


def encode(cursor: Cursor, *, key: bytes, user_id: str) -> str:
    body = msgspec.msgpack.encode(cursor)
    return urlsafe_b64encode(_mac(body, key, user_id) + body).decode().rstrip("=")


def decode(text: str, *, key: bytes, user_id: str) -> Cursor | None:
    """Return the cursor, or None if it was not made with `key` for this account."""
    if len(text) > _MAX_LENGTH:
        return None
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, _mac(body, key, user_id)):
            return None
        return _decoder.decode(body)
    except (ValueError, msgspec.MsgspecError):
        return None


def _mac(body: bytes, key: bytes, user_id: str) -> bytes:
    return hmac.digest(key, user_id.encode() + b"\0" + body, sha256)[:_MAC_BYTES]


def start(collections: tuple[str, ...], *, newest: int) -> Place:
    """Return the place from which a snapshot of `collections` begins."""
    return Place(collections, began=0, at=newest, below=newest + 1)


def is_ahead(cursor: Cursor, *, epoch: int, newest: int) -> bool:
    """Whether a cursor of this epoch was given when the account had more than now."""
    return cursor.epoch == epoch and cursor.shown > newest


def open_run(
    cursor: Cursor | None, *, epoch: int, newest: int, collections: tuple[str, ...]
) -> tuple[tuple[Place, ...], bool]:
    """Return the places to read for this set of collections, and whether the cursor was refused.

    A collection that the cursor does not know gets its snapshot; one that is not asked for loses its place. A cursor of
    another epoch, or ahead of the account (which then was restored from a backup), is refused: all start anew.
    """
    if cursor is None:
        return (start(collections, newest=newest),), False
    if cursor.epoch != epoch or is_ahead(cursor, epoch=epoch, newest=newest):
        return (start(collections, newest=newest),), True
    wanted = set(collections)
    kept = []
    for place in cursor.places:
        remaining = tuple(name for name in place.collections if name in wanted)
        if remaining:
            kept.append(Place(remaining, place.began, place.at, place.below))
            wanted.difference_update(remaining)
    if wanted:
        kept.append(start(tuple(name for name in collections if name in wanted), newest=newest))
    return tuple(kept), False


def presented(cursor: Cursor | None, *, epoch: int, newest: int, collections: tuple[str, ...]) -> int:
    """Return the sequence up to which the cursor's device surely holds all of these collections."""
    if cursor is None or cursor.epoch != epoch or is_ahead(cursor, epoch=epoch, newest=newest):
        return 0
    held = {name: 0 if place.below is not None else place.at for place in cursor.places for name in place.collections}
    return min((held.get(name, 0) for name in collections), default=0)


def remaining(cursor: Cursor | None, places: tuple[Place, ...], *, newest: int, passed: int) -> int | None:
    """Return how many documents are to come after a page that passed so many; None where they have to be counted.

    They need not be while nothing was written since the cursor was given, and it goes on where it ended.
    """
    if cursor is None or cursor.remaining == UNCOUNTED or cursor.shown != newest or cursor.places != places:
        return None
    return cursor.remaining - passed


def close_run(epoch: int, collections: tuple[str, ...], *, at: int) -> Cursor:
    """Return the cursor of a device that was given everything up to `at`: its next run begins there."""
    return Cursor(epoch, at, (Place(collections, began=at, at=at),))
