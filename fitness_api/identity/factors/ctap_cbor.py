"""CBOR as authenticators may write it: definite lengths, no tags, four levels deep. Source: CTAP 2.1 section 8.

Everything that an authenticator is said to have sent passes here before the WebAuthn library reads it. That one takes all of
CBOR, and writes what it has read once more: 231 bytes of shared references keep it busy for eleven seconds.
"""

from typing import Any, Final

MAX_DEPTH: Final = 4

# Major types, RFC 8949 section 3.1.
_UNSIGNED: Final = 0
_NEGATIVE: Final = 1
_BYTES: Final = 2
_TEXT: Final = 3
_MAP: Final = 5
_TAG: Final = 6
_SIMPLE: Final = 7

_SIMPLE_VALUES: Final = {20: False, 21: True, 22: None}
_LENGTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}


class CborRefused(Exception):
    """Not what an authenticator may write."""


def decode(data: bytes, at: int = 0) -> tuple[Any, int]:
    """Return the item that begins there, and where it ends. Raises CborRefused."""
    return _item(data, at, MAX_DEPTH)


def _item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    kind, short = divmod(_taken(data, at, 1)[0], 32)
    at += 1
    if kind == _SIMPLE:
        if short not in _SIMPLE_VALUES:
            raise CborRefused("a float, or a simple value that is none of false, true and null")
        return _SIMPLE_VALUES[short], at
    if kind == _TAG:
        raise CborRefused("a tag")
    if short < 24:
        number = short
    elif short in _LENGTHS:
        number = int.from_bytes(_taken(data, at, _LENGTHS[short]))
        at += _LENGTHS[short]
    else:
        raise CborRefused("an indefinite length")
    if kind in {_UNSIGNED, _NEGATIVE}:
        return (-1 - number if kind == _NEGATIVE else number), at
    if kind in {_BYTES, _TEXT}:
        raw = _taken(data, at, number)
        return (_text(raw) if kind == _TEXT else raw), at + number
    return _collection(data, at, depth, number, is_map=kind == _MAP)


def _collection(data: bytes, at: int, depth: int, count: int, *, is_map: bool) -> tuple[Any, int]:
    if depth == 0:
        raise CborRefused("too many levels")
    # Each item has a byte at least: a count beyond that is a lie, found out before anything is made for it.
    if count * (2 if is_map else 1) > len(data) - at:
        raise CborRefused("cut off")
    if not is_map:
        items = []
        for _ in range(count):
            item, at = _item(data, at, depth - 1)
            items.append(item)
        return items, at
    found: dict[int | str, Any] = {}
    for _ in range(count):
        key, at = _item(data, at, depth - 1)
        if isinstance(key, bool) or not isinstance(key, int | str) or key in found:
            raise CborRefused("a key that is no number or text, or comes twice")
        found[key], at = _item(data, at, depth - 1)
    return found, at


def _taken(data: bytes, at: int, count: int) -> bytes:
    if at + count > len(data):
        raise CborRefused("cut off")
    return data[at : at + count]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CborRefused("text that is not UTF-8") from None
