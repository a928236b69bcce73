"""gzip, zstd and br, in both directions: bodies that arrive are undone piece by piece under a bound, answers are encoded.

    decoder = BoundedDecoder(("gzip",), limit_bytes=1_000_000)
    for chunk in arriving:
        for piece in decoder.feed(chunk): ...
    decoder.finish()

Nothing here does I/O. Source: RFC 9110 section 8.4, RFC 1952, RFC 7932, RFC 8878.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final, Literal, Protocol

import brotli
import zstandard

from fitness_api.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType

Coding = Literal["zstd", "br", "gzip"]

# In the order in which we like to answer: zstd is the cheapest to make at a given size.
CODINGS: Final[tuple[Coding, ...]] = ("zstd", "br", "gzip")

# "gzip, br" happens where a proxy compresses what the client already had; more is only ever an attack.
MAX_CODINGS: Final = 2

# A decoder gives at most this much at a time, so that a bound is seen before a bomb has grown.
PIECE_BYTES: Final = 64 * 1024

# zstandard has no bound on what one call gives. Four bytes of zstd can make 128 KiB, so that a slice makes at most 8 MiB.
ZSTD_SLICE_BYTES: Final = 256

# RFC 9659: a zstd content coding never needs a window over 8 MiB.
ZSTD_WINDOW_BYTES: Final = 8 * 1024 * 1024

# Members of a concatenated gzip, frames of a zstd: empty ones cost us time and the sender next to nothing.
MAX_MEMBERS: Final = 1_000

# Clients send the same few values of Accept-Encoding; of the latest short ones the outcome is known.
MAX_REMEMBERED: Final = 256
MAX_REMEMBERED_BYTES: Final = 128

_ALIASES: Final[Mapping[str, Coding]] = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd", "br": "br"}


def parse(content_encoding: str) -> tuple[Coding, ...]:
    """Return the codings in the order in which they were applied.

    Raises UnsupportedMediaType if one is not ours, or if there are more than MAX_CODINGS.
    """
    named = [name.strip().lower() for name in content_encoding.split(",")]
    applied = [name for name in named if name not in {"", "identity"}]
    if len(applied) > MAX_CODINGS or any(name not in _ALIASES for name in applied):
        raise UnsupportedMediaType(got=f"Content-Encoding: {content_encoding[:80]}", supported=CODINGS)
    return tuple(_ALIASES[name] for name in applied)


class _Undo(Protocol):
    """Undoes one coding. `feed` gives pieces of bounded size and raises MalformedBody; `finish` raises it if the end is missing."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def finish(self) -> None: ...


class _Gunzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._begun = False
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                self._members = _another(self._members)
                self._member = zlib.decompressobj(wbits=31)
            self._begun = True
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise MalformedBody("The body is not the gzip that Content-Encoding says.") from error
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if piece:
                yield piece
        # What zlib holds back in its window comes out with the next byte, of which the trailer guarantees eight.

    def finish(self) -> None:
        if self._begun and not self._member.eof:
            raise MalformedBody("The gzip body ends too early.")


class _Unzstd:
    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        self._frame = self._decompressor.decompressobj()
        self._begun = False
        self._frames = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZSTD_SLICE_BYTES):
            rest = data[start : start + ZSTD_SLICE_BYTES]
            while rest:
                if self._frame.eof:
                    self._frames = _another(self._frames)
                    self._frame = self._decompressor.decompressobj()
                self._begun = True
                try:
                    piece = self._frame.decompress(rest)
                except zstandard.ZstdError as error:
                    raise MalformedBody("The body is not the zstd that Content-Encoding says.") from error
                rest = self._frame.unused_data if self._frame.eof else b""
                if piece:
                    yield piece

    def finish(self) -> None:
        if self._begun and not self._frame.eof:
            raise MalformedBody("The zstd body ends too early.")


class _Unbrotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        while True:
            try:
                piece = self._stream.process(data, output_buffer_limit=PIECE_BYTES)
            except brotli.error as error:
                raise MalformedBody("The body is not the br that Content-Encoding says.") from error
            if piece:
                yield piece
            # That it takes more does not say that it gave all: it may have swallowed the rest and hold back what that makes.
            elif self._stream.can_accept_more_data():
                return
            data = b""

    def finish(self) -> None:
        if self._begun and not self._stream.is_finished():
            raise MalformedBody("The br body ends too early.")


_UNDO: Final[Mapping[Coding, Callable[[], _Undo]]] = {"gzip": _Gunzip, "zstd": _Unzstd, "br": _Unbrotli}


def _another(members: int) -> int:
    if members >= MAX_MEMBERS:
        raise MalformedBody(f"A compressed body may have at most {MAX_MEMBERS} members.")
    return members + 1


class BoundedDecoder:
    """Undoes `codings`, last applied first. Every stage is held to the bound, so that a bomb inside a bomb is no way around it.

    Raises BodyTooLarge as soon as a stage gave more than `limit_bytes`, MalformedBody if the bytes are not what they claim.
    """

    def __init__(self, codings: Iterable[Coding], *, limit_bytes: int) -> None:
        self._stages = [_UNDO[coding]() for coding in reversed(tuple(codings))]
        # An inner stage is still compressed, and compression may add a little to what cannot be compressed.
        self._bounds = [limit_bytes + PIECE_BYTES] * (len(self._stages) - 1) + [limit_bytes]
        self._given = [0] * len(self._stages)
        self._limit_bytes = limit_bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        return self._through(0, data)

    def _through(self, stage: int, data: bytes) -> Iterator[bytes]:
        if stage == len(self._stages):
            if data:
                yield data
            return
        # In slices: a decoder copies what it has not yet taken each time that it gives a piece.
        for start in range(0, len(data), PIECE_BYTES):
            for piece in self._stages[stage].feed(data[start : start + PIECE_BYTES]):
                self._given[stage] += len(piece)
                if self._given[stage] > self._bounds[stage]:
                    raise BodyTooLarge(limit_bytes=self._limit_bytes)
                yield from self._through(stage + 1, piece)

    def finish(self) -> None:
        for stage in self._stages:
            stage.finish()


class Encoder(Protocol):
    """Encodes an answer that comes in pieces; `feed` gives a whole flushed block, so that a stream is never held back."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.compressobj(5, zlib.DEFLATED, 31)

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(level=3).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Compressor(quality=4)

    def feed(self, data: bytes) -> bytes:
        return bytes(self._stream.process(data) + self._stream.flush())

    def finish(self) -> bytes:
        return bytes(self._stream.finish())


_ENCODERS: Final[Mapping[Coding, Callable[[], Encoder]]] = {"gzip": _Gzip, "zstd": _Zstd, "br": _Brotli}


def encoder(coding: Coding) -> Encoder:
    return _ENCODERS[coding]()


def encode(coding: Coding, body: bytes) -> bytes:
    """Encode a whole body; the levels are those at which each coding keeps up with a network card on one core."""
    match coding:
        case "gzip":
            return zlib.compress(body, 5, wbits=31)
        case "zstd":
            return zstandard.ZstdCompressor(level=3).compress(body)
        case "br":
            return bytes(brotli.compress(body, quality=4))


def negotiate(accept_encoding: str) -> Coding | None:
    """Return the coding to answer in, None for none: the greatest q wins, then our own order.

    Source: RFC 9110 section 12.5.3. A q of 0 refuses; `*` stands for every coding that is not named.
    """
    is_short = len(accept_encoding) <= MAX_REMEMBERED_BYTES
    return (_remembered if is_short else _negotiated)(accept_encoding)


def _negotiated(accept_encoding: str) -> Coding | None:
    given: dict[str, float] = {}
    for part in accept_encoding.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        if name:
            given[_ALIASES.get(name, name)] = quality(parameters)
    default = given.get("*", 0.0)
    ranked = [(given.get(coding, default), -index) for index, coding in enumerate(CODINGS)]
    q, index = max(ranked)
    # Identity is acceptable unless it is refused; one that is liked better than any coding is meant.
    if q <= 0 or given.get("identity", 0.0) > q:
        return None
    return CODINGS[-index]


_remembered = lru_cache(MAX_REMEMBERED)(_negotiated)


def quality(parameters: Iterable[str]) -> float:
    """Return the q of a member of an Accept header: 1 where there is none, 0 where it cannot be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                q = float(value)
            except ValueError:
                return 0.0
            return q if 0.0 <= q <= 1.0 else 0.0
    return 1.0
