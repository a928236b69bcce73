"""Track chunks: one stream's samples, immutable, with a time axis of their own.

They are no registers: a ride has 100,000 samples, and nobody edits one. A chunk is checked once, stored as `encode` gives it,
and known by its `digest`.

    chunk = check(stream="heart_rate", start_ms=…, offsets_ms=[0, 1000], values=[141, 142])
    assert decode(encode(chunk)) == chunk
"""

import hashlib
import struct
from collections.abc import Callable, Sequence
from itertools import accumulate, chain, pairwise
from math import copysign, isfinite
from typing import Any, Final, Literal, NamedTuple, TypeGuard, get_args

import zstandard
from msgspec import MsgspecError, Struct, json, msgpack

Stream = Literal["heart_rate", "rr", "position", "altitude", "speed", "cadence", "power", "temperature"]
STREAMS: Final[tuple[Stream, ...]] = get_args(Stream)

Number = int | float
Sample = Number | tuple[Number, Number] | None

MAX_SAMPLES: Final = (
    10_000  # nearly three hours at 1 Hz; as JSON under half a megabyte, the worst of positions included
)
MAX_ENCODED_BYTES: Final = 256 * 1024  # sixty in a reply of MongoDB's; real chunks take 5 to 60 KB
MAX_OFFSET_MS: Final = 31 * 86_400_000  # no recording takes longer; a chunk of a lost clock would
MAX_START_MS: Final = 253_402_300_799_999  # the last instant that RFC 3339 can write
MAX_INTEGER: Final = 2**53  # beyond it JavaScript would round

# What a chunk of MAX_SAMPLES takes before compression is under 300 KB: two columns of doubles, offsets, kinds.
_MAX_PLAIN_BYTES: Final = 1024 * 1024
_MAX_DECIMALS: Final = 9  # a sensor gives less; beyond it plain doubles pack as well
_LEVEL: Final = 9
_VERSION: Final = 1

_LATITUDE_DEGREES: Final = 90
_LONGITUDE_DEGREES: Final = 180


class Chunk(Struct, frozen=True, kw_only=True):
    """`values[i]` was measured `offsets_ms[i]` after `start_ms` (Unix): None where the sensor gave none.

    heart_rate and cadence 1/min (revolutions, or both feet's steps), rr ms, position (latitude, longitude) in degrees WGS 84,
    altitude m, speed m/s, power W, temperature °C.
    """

    stream: Stream
    start_ms: int
    offsets_ms: list[int]
    values: list[Sample]


class Wrong(NamedTuple):
    """One thing wrong: `pointer` is a JSON Pointer into the chunk as it was sent."""

    pointer: str
    detail: str


class ChunkInvalid(Exception):
    def __init__(self, *wrong: Wrong) -> None:
        super().__init__("; ".join(f"{place.pointer}: {place.detail}" for place in wrong))
        self.wrong = wrong


class ChunkDamaged(Exception):
    """Stored bytes are not what `encode` gave."""


def check(*, stream: str, start_ms: int, offsets_ms: Sequence[Any], values: Sequence[Any]) -> Chunk:
    """Return the chunk; a number stays the int or float that it is. Raises ChunkInvalid, with the first place that is wrong."""
    if not is_stream(stream):
        raise ChunkInvalid(Wrong("", f"{stream[:40]!r} is no stream; there are: {', '.join(STREAMS)}."))
    if not 0 <= start_ms <= MAX_START_MS:
        raise ChunkInvalid(Wrong("/start", "The start lies before 1970 or after 9999."))
    if not 0 < len(values) <= MAX_SAMPLES:
        raise ChunkInvalid(Wrong("/values", f"A chunk has 1 to {MAX_SAMPLES} samples."))
    if len(offsets_ms) != len(values):
        raise ChunkInvalid(Wrong("/offsets_ms", f"There are {len(offsets_ms)} offsets for {len(values)} values."))
    last = 0
    for index, offset in enumerate(offsets_ms):
        if type(offset) is not int or not last <= offset <= MAX_OFFSET_MS:
            detail = f"An offset is an integer, at least the one before it, and at most {MAX_OFFSET_MS}."
            raise ChunkInvalid(Wrong(f"/offsets_ms/{index}", detail))
        last = offset
    if start_ms + last > MAX_START_MS:
        raise ChunkInvalid(Wrong(f"/offsets_ms/{len(offsets_ms) - 1}", "A sample lies after the year 9999."))
    if stream == "position":
        checked: list[Sample] = [_position(value, index) for index, value in enumerate(values)]
    else:
        for index, value in enumerate(values):
            if value is not None and not is_number(value):
                raise ChunkInvalid(Wrong(f"/values/{index}", "A value is a finite number within 2^53, or null."))
        checked = list(values)
    return Chunk(stream=stream, start_ms=start_ms, offsets_ms=list(offsets_ms), values=checked)


def is_stream(name: str) -> TypeGuard[Stream]:
    return name in STREAMS


def is_number(value: Any) -> TypeGuard[Number]:
    """Whether it is a finite number within 2^53; a bool is none."""
    return (type(value) is int or (type(value) is float and isfinite(value))) and -MAX_INTEGER <= value <= MAX_INTEGER


def _position(value: Any, index: int) -> tuple[Number, Number] | None:
    if value is None:
        return None
    if isinstance(value, list | tuple) and len(value) == 2:
        latitude, longitude = value
        if (
            is_number(latitude)
            and is_number(longitude)
            and abs(latitude) <= _LATITUDE_DEGREES
            and abs(longitude) <= _LONGITUDE_DEGREES
        ):
            return latitude, longitude
    raise ChunkInvalid(Wrong(f"/values/{index}", "A position is [latitude, longitude] in degrees, or null."))


def digest(chunk: Chunk) -> str:
    """Return the SHA-256 of the content, in hex: 5 and 5.0 are one value, however JSON and msgpack carried them."""
    values = [
        None if value is None else [_canonical(part) for part in (value if isinstance(value, tuple) else (value,))]
        for value in chunk.values
    ]
    return hashlib.sha256(json.encode([chunk.stream, chunk.start_ms, chunk.offsets_ms, values])).hexdigest()


def _canonical(value: Number) -> Number:
    return int(value) if type(value) is float and value.is_integer() else value


class _Packed(Struct, array_like=True):
    """Integers as differences, in the narrowest width (bytes) that holds all, low bytes before high ones."""

    width: int
    planes: bytes


class _Column(Struct, array_like=True):
    """`kinds`: one byte a value (0 null, 1 int, 2 float), or a single one if all are of a kind.

    Floats that are decimals are integers of `decimals` places; else (None) `doubles` holds them, low bytes before high ones.
    """

    kinds: bytes
    ints: _Packed
    decimals: int | None
    scaled: _Packed
    doubles: bytes


class _Stored(Struct, array_like=True):
    version: int
    stream: Stream
    start_ms: int
    offsets_ms: _Packed
    columns: list[_Column]


_decode_stored: Final = msgpack.Decoder(_Stored).decode
_NO_INTS: Final = _Packed(1, b"")


def encode(chunk: Chunk) -> bytes:
    """Return the chunk as columns, compressed. Raises ChunkInvalid if that takes over MAX_ENCODED_BYTES."""
    if chunk.stream == "position":
        pairs = [value if isinstance(value, tuple) else (None, None) for value in chunk.values]
        columns = [_column([pair[axis] for pair in pairs]) for axis in (0, 1)]
    else:
        columns = [_column([value for value in chunk.values if not isinstance(value, tuple)])]
    stored = _Stored(_VERSION, chunk.stream, chunk.start_ms, _pack(chunk.offsets_ms), columns)
    encoded = zstandard.ZstdCompressor(level=_LEVEL).compress(msgpack.encode(stored))
    if len(encoded) > MAX_ENCODED_BYTES:
        raise ChunkInvalid(
            Wrong("/values", f"The chunk takes over {MAX_ENCODED_BYTES} bytes; send fewer samples in one.")
        )
    return encoded


def decode(encoded: bytes) -> Chunk:
    """Undo `encode`. Raises ChunkDamaged; whatever the bytes say, no more than a megabyte is built."""
    try:
        # Not `decompress`, which makes room for whatever size the frame claims.
        with zstandard.ZstdDecompressor().stream_reader(encoded) as reader:
            plain = reader.read(_MAX_PLAIN_BYTES + 1)
        if len(plain) > _MAX_PLAIN_BYTES:
            raise ChunkDamaged("The chunk is too large.")
        stored = _decode_stored(plain)
        if stored.version != _VERSION:
            raise ChunkDamaged(f"The chunk has format {stored.version}.")
        offsets_ms = _unpack(stored.offsets_ms)
        columns = [_values(column, len(offsets_ms)) for column in stored.columns]
        if len(columns) != (2 if stored.stream == "position" else 1):
            raise ChunkDamaged("The chunk has not its stream's columns.")
        values: Sequence[Any] = columns[0]
        if stored.stream == "position":
            values = [None if pair[0] is None else pair for pair in zip(*columns, strict=True)]
        return check(stream=stored.stream, start_ms=stored.start_ms, offsets_ms=offsets_ms, values=values)
    except (zstandard.ZstdError, MsgspecError, ChunkInvalid, struct.error, ValueError, StopIteration) as error:
        raise ChunkDamaged(f"The chunk cannot be read: {error}") from error


def _column(values: Sequence[Number | None]) -> _Column:
    kinds = bytes(0 if value is None else 1 if type(value) is int else 2 for value in values)
    ints = [value for value in values if type(value) is int]
    floats = [value for value in values if type(value) is float]
    decimals = _decimals(floats)
    return _Column(
        kinds=kinds[:1] if len(set(kinds)) == 1 else kinds,
        ints=_pack(ints),
        decimals=decimals,
        scaled=_NO_INTS if decimals is None else _pack([round(value * 10**decimals) for value in floats]),
        doubles=_shuffle(struct.pack(f"<{len(floats)}d", *floats), 8) if decimals is None else b"",
    )


def _decimals(values: Sequence[float]) -> int | None:
    """Return how many decimal places give back every value to the bit, or None if _MAX_DECIMALS do not."""
    decimals = 0
    for value in values:
        if value == 0 and copysign(1, value) < 0:
            return None
        while True:
            scaled = round(value * 10**decimals)
            # Both sides of this division are exact, so that it gives the double nearest to the decimal.
            if abs(scaled) <= MAX_INTEGER and scaled / 10**decimals == value:
                break
            if decimals == _MAX_DECIMALS:
                return None
            decimals += 1
    # A later value may have asked for places with which an earlier one leaves the exact range.
    exact = all(abs(scaled := round(v * 10**decimals)) <= MAX_INTEGER and scaled / 10**decimals == v for v in values)
    return decimals if exact else None


def _values(column: _Column, count: int) -> list[Number | None]:
    kinds = column.kinds * count if len(column.kinds) == 1 else column.kinds
    if column.decimals is None:
        doubles = struct.unpack(f"<{len(column.doubles) // 8}d", _unshuffle(column.doubles, 8))
    elif 0 <= column.decimals <= _MAX_DECIMALS:
        doubles = tuple(scaled / 10**column.decimals for scaled in _unpack(column.scaled))
    else:
        raise ChunkDamaged("A column has too many decimals.")
    ints, floats = iter(_unpack(column.ints)), iter(doubles)
    if len(kinds) != count or not set(kinds) <= {0, 1, 2}:
        raise ChunkDamaged("A column does not fit the offsets.")
    take: Sequence[Callable[[], Number | None]] = (lambda: None, ints.__next__, floats.__next__)
    values = [take[kind]() for kind in kinds]
    if next(ints, None) is not None or next(floats, None) is not None:
        raise ChunkDamaged("A column has values left over.")
    return values


_CODES: Final = {1: "b", 2: "h", 4: "i", 8: "q"}


def _pack(values: Sequence[int]) -> _Packed:
    deltas = [after - before for before, after in pairwise(chain((0,), values))]
    most = max((delta if delta >= 0 else ~delta for delta in deltas), default=0)
    width = next(width for width in _CODES if most < 1 << (8 * width - 1))
    return _Packed(width, _shuffle(struct.pack(f"<{len(deltas)}{_CODES[width]}", *deltas), width))


def _unpack(packed: _Packed) -> list[int]:
    if packed.width not in _CODES:
        raise ChunkDamaged("A column has no such width.")
    count = len(packed.planes) // packed.width
    if count > MAX_SAMPLES:
        raise ChunkDamaged("A column is too long.")
    raw = _unshuffle(packed.planes, packed.width)
    return list(accumulate(struct.unpack(f"<{count}{_CODES[packed.width]}", raw)))


def _shuffle(raw: bytes, width: int) -> bytes:
    """Put all first bytes before all second ones: high bytes are mostly alike, which is what compresses."""
    return b"".join(raw[plane::width] for plane in range(width))


def _unshuffle(planes: bytes, width: int) -> bytes:
    raw = bytearray(len(planes))
    count = len(planes) // width
    for plane in range(width):
        raw[plane::width] = planes[plane * count : (plane + 1) * count]
    return bytes(raw)


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Return chunks of one stream as one, in order of time; samples of one instant keep the order of their chunks.

    What comes out may be longer than a chunk may be. Raises ValueError if there are no chunks.
    """
    ordered = sorted(chunks, key=lambda chunk: chunk.start_ms + chunk.offsets_ms[0])
    start_ms = min(chunk.start_ms + chunk.offsets_ms[0] for chunk in ordered)
    offsets_ms = [chunk.start_ms - start_ms + offset for chunk in ordered for offset in chunk.offsets_ms]
    values = [value for chunk in ordered for value in chunk.values]
    if any(after < before for before, after in pairwise(offsets_ms)):
        order = sorted(range(len(offsets_ms)), key=offsets_ms.__getitem__)
        offsets_ms = [offsets_ms[index] for index in order]
        values = [values[index] for index in order]
    return Chunk(stream=ordered[0].stream, start_ms=start_ms, offsets_ms=offsets_ms, values=values)


MIN_POINTS: Final = 4  # the first, the last, the least, the greatest


def downsample(chunk: Chunk, points: int) -> Chunk:
    """Return at most `points` of the samples, as they are: the first, the last, and of each stretch the least and the greatest.

    So a peak is never lost, as averages would lose it. Of positions it keeps the most southern and northern and, from 6 points
    on, western and eastern. A stretch without values keeps one null, so that the gap shows. Raises ValueError below MIN_POINTS.
    """
    if points < MIN_POINTS:
        raise ValueError(f"at least {MIN_POINTS} points")
    count = len(chunk.values)
    if count <= points:
        return chunk
    axes = 2 if chunk.stream == "position" and points >= 6 else 1
    stretches = (points - 2) // (2 * axes)
    kept = {0, count - 1}
    for stretch in range(stretches):
        indices = range(1 + (count - 2) * stretch // stretches, 1 + (count - 2) * (stretch + 1) // stretches)
        present = [index for index in indices if chunk.values[index] is not None]
        if not present:
            kept.update(indices[:1])
            continue
        for axis in range(axes):
            key = _along(chunk.values, axis)
            kept.update((min(present, key=key), max(present, key=key)))
    order = sorted(kept)
    return Chunk(
        stream=chunk.stream,
        start_ms=chunk.start_ms,
        offsets_ms=[chunk.offsets_ms[index] for index in order],
        values=[chunk.values[index] for index in order],
    )


def _along(values: Sequence[Sample], axis: int) -> Callable[[int], Number]:
    def key(index: int) -> Number:
        value = values[index]
        if value is None:
            raise AssertionError("Samples without a value are left out.")
        return value[axis] if isinstance(value, tuple) else value

    return key
