"""Content codings: what was encoded comes back, in any slicing; a bomb is stopped early; a lie is told."""

import gzip
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.content_codings import (
    CODINGS,
    MAX_MEMBERS,
    BoundedDecoder,
    Coding,
    encode,
    encoder,
    negotiate,
    parse,
)
from fitness_api.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType

codings = st.sampled_from(CODINGS)
MIB = 1024 * 1024


def decoded(applied: Iterable[Coding], data: bytes, *, limit_bytes: int = MIB, slice_bytes: int = 1000) -> bytes:
    decoder = BoundedDecoder(applied, limit_bytes=limit_bytes)
    out = bytearray()
    for start in range(0, len(data), slice_bytes):
        for piece in decoder.feed(data[start : start + slice_bytes]):
            out += piece
    decoder.finish()
    return bytes(out)


@given(st.binary(max_size=3000), st.lists(codings, max_size=2), st.integers(1, 700))
def test_what_was_encoded_comes_back_in_any_slicing(body: bytes, applied: list[Coding], slice_bytes: int) -> None:
    data = body
    for coding in applied:
        data = encode(coding, data)
    assert decoded(applied, data, slice_bytes=slice_bytes) == body


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size_bytes", [60_000, 150_000, 900_000])
def test_a_large_body_of_text_comes_back_from_one_slice(coding: Coding, size_bytes: int) -> None:
    body = b" ".join(b"%d" % number for number in range(size_bytes // 6))
    data = encode(coding, body)
    assert decoded((coding,), data, slice_bytes=len(data)) == body


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), codings)
def test_a_stream_is_flushed_with_each_piece(pieces: list[bytes], coding: Coding) -> None:
    stream, decoder = encoder(coding), BoundedDecoder((coding,), limit_bytes=MIB)
    for piece in pieces:
        assert b"".join(decoder.feed(stream.feed(piece))) == piece
    assert b"".join(decoder.feed(stream.finish())) == b""
    decoder.finish()


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_stopped_at_the_bound(coding: Coding) -> None:
    bomb = encode(coding, bytes(64 * MIB))
    pieces: list[bytes] = []
    with pytest.raises(BodyTooLarge):
        pieces.extend(BoundedDecoder((coding,), limit_bytes=100_000).feed(bomb))
    assert sum(map(len, pieces)) <= 100_000


@pytest.mark.parametrize("inner", CODINGS)
@pytest.mark.parametrize("outer", CODINGS)
def test_a_bomb_inside_a_bomb_is_stopped_too(inner: Coding, outer: Coding) -> None:
    bomb = encode(outer, encode(inner, bytes(32 * MIB)))
    with pytest.raises(BodyTooLarge):
        decoded((inner, outer), bomb, limit_bytes=100_000)


def test_an_inner_stage_that_decodes_to_nothing_is_bounded() -> None:
    endless_file_name = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * MIB
    with pytest.raises(BodyTooLarge):
        decoded(("gzip", "gzip"), gzip.compress(endless_file_name), limit_bytes=1000)


@pytest.mark.parametrize(("coding", "empty"), [("gzip", gzip.compress(b"")), ("zstd", zstandard.compress(b""))])
def test_members_without_end_are_refused(coding: Literal["gzip", "zstd"], empty: bytes) -> None:
    assert decoded((coding,), empty * MAX_MEMBERS) == b""
    with pytest.raises(MalformedBody):
        decoded((coding,), empty * (MAX_MEMBERS + 2))


@given(codings, st.data())
def test_a_body_cut_short_is_malformed(coding: Coding, data: st.DataObject) -> None:
    whole = encode(coding, b"a body of some length, and then some more of it")
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(MalformedBody):
        decoded((coding,), whole[:cut])


@given(codings, st.binary(min_size=1, max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(coding: Coding, junk: bytes) -> None:
    with suppress(MalformedBody, BodyTooLarge):
        decoded((coding,), junk, limit_bytes=10_000)


@pytest.mark.parametrize("coding", CODINGS)
def test_bytes_after_the_end_are_malformed(coding: Coding) -> None:
    with pytest.raises(MalformedBody):
        decoded((coding,), encode(coding, b"body") + b"and more")


def test_a_zstd_window_over_eight_mib_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=25)
    wide = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = wide.compress(b"x" * 100) + wide.flush()
    with pytest.raises(MalformedBody):
        decoded(("zstd",), frame)


def test_no_body_at_all_is_whole() -> None:
    for coding in CODINGS:
        assert decoded((coding,), b"") == b""


def test_concatenated_gzip_members_are_one_body() -> None:
    assert decoded(("gzip",), gzip.compress(b"one, ") + gzip.compress(b"two")) == b"one, two"


@pytest.mark.parametrize(
    ("header", "applied"),
    [
        ("", ()),
        ("identity", ()),
        ("gzip", ("gzip",)),
        ("X-GZIP", ("gzip",)),
        ("gzip, br", ("gzip", "br")),
        ("identity, zstd", ("zstd",)),
    ],
)
def test_content_encoding_names_codings(header: str, applied: tuple[Coding, ...]) -> None:
    assert parse(header) == applied


@pytest.mark.parametrize("header", ["deflate", "gzip, gzip, gzip", "gzip;q=1", "compress, br"])
def test_other_content_encodings_are_refused(header: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        parse(header)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("gzip, br, zstd", "zstd"),
        ("gzip;q=1, zstd;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("*", "zstd"),
        ("*, zstd;q=0", "br"),
        ("*;q=0", None),
        ("identity", None),
        ("identity;q=1, gzip;q=0.5", None),
        ("identity;q=0.5, br;q=1.0", "br"),
        ("br;q=high", None),
        ("br;q=2", None),
        ("deflate", None),
        ("X-gzip", "gzip"),
    ],
)
def test_accept_encoding_chooses(header: str, coding: Coding | None) -> None:
    assert negotiate(header) == coding


@given(st.text(alphabet="gzipbrstd*;=q0.15,- ", max_size=40))
def test_any_accept_encoding_has_an_answer(header: str) -> None:
    assert negotiate(header) in {None, *CODINGS}


@pytest.mark.parametrize("coding", CODINGS)
def test_other_libraries_read_what_we_write(coding: Coding) -> None:
    body = b"a heart beats" * 100
    undo = {"gzip": gzip.decompress, "br": brotli.decompress, "zstd": zstandard.decompress}[coding]
    assert undo(encode(coding, body)) == body
    assert zlib.crc32(body) == zlib.crc32(decoded((coding,), encode(coding, body)))
