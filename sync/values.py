"""Register values: what may be stored, and the canonical form that decides between two values of one stamp.

In memory and at rest a scalar is itself (None, bool, int, float, str), and an array or object is the `bytes` of its compact
JSON text as it was sent: opaque, key order and number forms kept, safe from what a database makes of `$` and `.` in names.
"""

from math import isfinite
from typing import Any, Final

import msgspec
import rfc8785

Value = None | bool | int | float | str | bytes

MAX_VALUE_BYTES: Final = 16 * 1024
MAX_INTEGER: Final = 2**53  # beyond it a double, which is all that JavaScript and RFC 8785 have, would round
MAX_DEPTH: Final = 100  # deeper than any sane value, and within every decoder's own limit

# A string of this many code points has at most MAX_VALUE_BYTES of canonical JSON (6 bytes each, as \u0000, and quotes).
SURELY_SMALL: Final = (MAX_VALUE_BYTES - 2) // 6

# How much shorter canonical JSON may be than the encoder's: -0.0 is 0.
_MOST_SHRINKAGE: Final = 4

_SCALAR_BYTES: Final = 8
# An array's or object's canonical form takes 0.3 to 0.8 µs a byte; what else is done with a byte takes a hundredth.
_CANONICAL_COST: Final = 8

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class ValueInvalid(Exception):
    """`code` is the rejection's: `invalid_value` or `too_large`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def from_wire(value: Any) -> Value:
    """Return the stored form of a decoded JSON or msgpack value.

    Raises ValueInvalid if it is none of JSON's types, an integer beyond 2^53, not finite, nested deeper than 100,
    or over 16 KiB as canonical JSON.
    """
    kind = type(value)
    if kind is str:
        if len(value) > SURELY_SMALL:
            _check_size(value)
        return value  # type: ignore[no-any-return]
    if value is None or kind is bool:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is float:
        _check_number(value)
        return value  # type: ignore[no-any-return]
    _check_tree(value)
    _check_size(value)
    return _encode(value)


def to_python(value: Value) -> Any:
    """Undo `from_wire`."""
    return _decode(value) if type(value) is bytes else value


def for_json(value: Value) -> Any:
    """What a msgspec JSON encoder writes as the value, without decoding it again."""
    return msgspec.Raw(value) if type(value) is bytes else value


def canonical(value: Value) -> bytes:
    """RFC 8785 form. 2^53 itself is written through a float: the library stops one short of what the protocol takes."""
    return rfc8785.dumps(_within_library(to_python(value)))


def same(one: Value, other: Value) -> bool:
    """Whether two values are the same JSON value: 1 and 1.0 are, true and 1 are not, key order does not count."""
    if type(one) is type(other) and one == other:
        return True
    if type(one) is str or type(other) is str or one is None or other is None:
        return False
    return canonical(one) == canonical(other)


def comparison_bytes(one: Value, other: Value) -> int:
    """Return what to compare the two takes, and to keep or give back one of them: their bytes, counted higher for a canonical form."""
    if type(one) is type(other) and one == other:
        return 0
    size_bytes = sum(len(value) if isinstance(value, str | bytes) else _SCALAR_BYTES for value in (one, other))
    return _CANONICAL_COST * size_bytes if type(one) is bytes or type(other) is bytes else size_bytes


def encoded_bytes(values: dict[str, Value]) -> int:
    """Length of the compact JSON object {path: value}: the measure of a document's size."""
    length = len(_encode(values))
    for value in values.values():
        if type(value) is bytes:  # the encoder wrote it in base64, with quotes
            length += len(value) - 2 - 4 * ((len(value) + 2) // 3)
    return length


def _check_number(value: float) -> None:
    if type(value) is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise ValueInvalid("invalid_value", "An integer lies beyond 2^53.")
    elif not isfinite(value):
        raise ValueInvalid("invalid_value", "A number is not finite.")


def _check_tree(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                if any(type(key) is not str for key in item):
                    raise ValueInvalid("invalid_value", "An object has a key that is not a string.")
                below.extend(item.values())
            elif kind is list:
                below.extend(item)
            elif kind is int or kind is float:
                _check_number(item)
            elif item is not None and kind is not str and kind is not bool:
                raise ValueInvalid("invalid_value", "A value is not JSON (msgpack bin or ext).")
        if not below:
            return
        level = below
    raise ValueInvalid("invalid_value", f"A value is nested deeper than {MAX_DEPTH}.")


def _check_size(value: Any) -> None:
    # The canonical form takes 0.3 µs a byte, of which a request may send 4 MiB.
    is_surely_over = len(_encode(value)) > _MOST_SHRINKAGE * MAX_VALUE_BYTES
    if is_surely_over or len(rfc8785.dumps(_within_library(value))) > MAX_VALUE_BYTES:
        raise ValueInvalid("too_large", f"A value is over {MAX_VALUE_BYTES} bytes as canonical JSON.")


def _within_library(value: Any) -> Any:
    kind = type(value)
    if kind is int:
        return float(value) if abs(value) == MAX_INTEGER else value
    if kind is list:
        return [_within_library(item) for item in value]
    if kind is dict:
        return {key: _within_library(item) for key, item in value.items()}
    return value
