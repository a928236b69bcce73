from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity.factors.ctap_cbor import MAX_DEPTH, CborRefused, decode

leaves = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=40)
keys = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=10)
level: st.SearchStrategy[Any] = leaves
for _ in range(MAX_DEPTH):
    level = leaves | st.lists(level, max_size=4) | st.dictionaries(keys, level, max_size=4)


@given(level, st.binary(max_size=4), st.binary(max_size=4))
def test_what_an_authenticator_may_write_is_read(value: Any, before: bytes, after: bytes) -> None:
    written = cbor2.dumps(value)
    assert decode(before + written + after, len(before)) == (value, len(before) + len(written))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value, end = decode(data)
    except CborRefused:
        return
    assert 0 < end <= len(data)
    assert cbor2.loads(data[:end]) == value


@given(level)
def test_what_is_cut_off_is_refused(value: Any) -> None:
    written = cbor2.dumps(value)
    for end in range(len(written)):
        with pytest.raises(CborRefused):
            decode(written[:end])


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"\xd8\x1c\x80",  # a shared value
        b"\xc2\x41\x01",  # a big number
        b"\xc1\x01",  # an instant
        b"\x9f\xff",  # an array without a length
        b"\x5f\x41a\xff",  # bytes without a length
        b"\xfb" + bytes(8),  # a float
        b"\xf7",  # undefined
        b"\xff",
        b"\x1c",  # a length that is reserved
        b"\x9b" + b"\xff" * 8,  # an array of 2^64 - 1
        b"\xbb" + b"\xff" * 8,
        b"\x5b" + b"\xff" * 8,
        b"\xa2\x01\x01\x01\x02",  # a key twice
        b"\xa1\xf4\x01",  # false as a key
        b"\xa1\x80\x01",
        b"\x61\xff",  # text that is not UTF-8
        b"\x81" * (MAX_DEPTH + 1) + b"\x01",
        b"\x81" * 5000,
    ],
)
def test_anything_else_is_refused(written: bytes) -> None:
    with pytest.raises(CborRefused):
        decode(written)
