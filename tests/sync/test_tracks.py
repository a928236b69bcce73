"""Chunks: what is refused and where, that packing loses nothing, that hostile bytes build nothing, that peaks survive."""

import contextlib
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json, msgpack

from sync import tracks
from sync.tracks import MAX_ENCODED_BYTES, MAX_SAMPLES, Chunk, ChunkDamaged, ChunkInvalid, Number, Sample

START_MS = 1_700_000_000_000

numbers: st.SearchStrategy[Number] = st.one_of(
    st.integers(-(2**53), 2**53),
    st.floats(-(2.0**53), 2.0**53, allow_nan=False),
    st.integers(-(10**9), 10**9).map(lambda value: value / 1000),
    st.sampled_from([0, 0.0, -0.0, 1, 1.0, 5e-324, 0.1 + 0.2, 2**53, float(2**53)]),
)
positions = st.tuples(
    st.one_of(st.integers(-90, 90), st.floats(-90, 90)), st.one_of(st.integers(-180, 180), st.floats(-180, 180))
)


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    stream = draw(st.sampled_from(tracks.STREAMS))
    values = draw(st.lists(st.none() | (positions if stream == "position" else numbers), min_size=1, max_size=60))
    steps = draw(st.lists(st.integers(0, 2_000_000), min_size=len(values), max_size=len(values)))
    offsets_ms = [sum(steps[: index + 1]) for index in range(len(steps))]
    start_ms = draw(st.integers(0, tracks.MAX_START_MS - offsets_ms[-1]))
    return tracks.check(stream=stream, start_ms=start_ms, offsets_ms=offsets_ms, values=values)


def exact(chunk: Chunk) -> list[str]:
    """Tells ints from floats and zero from minus zero, which == does not."""
    return [repr(value) for value in (chunk.stream, chunk.start_ms, chunk.offsets_ms, chunk.values)]


@given(chunks())
def test_packing_gives_back_every_value_exactly(chunk: Chunk) -> None:
    assert exact(tracks.decode(tracks.encode(chunk))) == exact(chunk)


@given(chunks(), st.integers(0, 400), st.integers(1, 255))
def test_damaged_bytes_are_told_or_give_a_chunk(chunk: Chunk, place: int, flip: int) -> None:
    packed = bytearray(tracks.encode(chunk))
    packed[place % len(packed)] ^= flip
    with contextlib.suppress(ChunkDamaged):
        assert len(tracks.decode(bytes(packed)).values) <= MAX_SAMPLES


@given(chunks(), st.integers(0, 400))
def test_a_changed_structure_is_told_or_gives_a_chunk(chunk: Chunk, place: int) -> None:
    plain = bytearray(zstandard.decompress(tracks.encode(chunk)))
    plain[place % len(plain)] ^= 0xFF
    with contextlib.suppress(ChunkDamaged):
        assert len(tracks.decode(zstandard.compress(bytes(plain))).values) <= MAX_SAMPLES


def test_a_bomb_and_a_frame_that_claims_a_size_build_nothing() -> None:
    with pytest.raises(ChunkDamaged, match="too large"):
        tracks.decode(zstandard.compress(bytes(200 * 1024 * 1024)))
    # A frame header with a content size of 1 TiB and nothing after it.
    with pytest.raises(ChunkDamaged):
        tracks.decode(bytes.fromhex("28b52ffd e0 0000000000010000 010000".replace(" ", "")))


def test_no_column_may_be_longer_than_a_chunk() -> None:
    planes = bytes(MAX_SAMPLES + 1)
    stored = [1, "power", 0, [1, planes], [[b"\1", [1, planes], 0, [1, b""], b""]]]
    with pytest.raises(ChunkDamaged, match="too long"):
        tracks.decode(zstandard.compress(msgpack.encode(stored)))


def test_a_full_chunk_of_a_ride_is_small_and_of_noise_still_fits() -> None:
    steady = range(MAX_SAMPLES)
    ride = tracks.check(
        stream="position",
        start_ms=START_MS,
        offsets_ms=[1000 * second for second in steady],
        values=[[round(50 + second * 3.1e-5, 7), round(6 + second * 1.7e-5, 7)] for second in steady],
    )
    assert len(tracks.encode(ride)) < 20_000
    noise = tracks.check(
        stream="position",
        start_ms=START_MS,
        offsets_ms=[second * 260_000 + hash((second,)) % 260_000 for second in steady],
        values=[
            [(hash((second, 1)) % 10**12) / 10**10 / 1.2, (hash((second, 2)) % 10**12) / 10**10] for second in steady
        ],
    )
    assert len(tracks.encode(noise)) <= MAX_ENCODED_BYTES


def given_chunk(**change: Any) -> dict[str, Any]:
    return {"stream": "power", "start_ms": START_MS, "offsets_ms": [0, 1000, 1000], "values": [1, 2.5, None], **change}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"stream": "mood"}, ""),
        ({"start_ms": -1}, "/start"),
        ({"start_ms": tracks.MAX_START_MS + 1}, "/start"),
        ({"offsets_ms": [], "values": []}, "/values"),
        ({"offsets_ms": [0] * (MAX_SAMPLES + 1), "values": [1] * (MAX_SAMPLES + 1)}, "/values"),
        ({"offsets_ms": [0]}, "/offsets_ms"),
        ({"offsets_ms": [0, 1000, 999]}, "/offsets_ms/2"),
        ({"offsets_ms": [-1, 0, 1]}, "/offsets_ms/0"),
        ({"offsets_ms": [0, 1.0, 2]}, "/offsets_ms/1"),
        ({"offsets_ms": [0, True, 2]}, "/offsets_ms/1"),
        ({"offsets_ms": [0, 1, tracks.MAX_OFFSET_MS + 1]}, "/offsets_ms/2"),
        ({"start_ms": tracks.MAX_START_MS - 999}, "/offsets_ms/2"),
        ({"values": [1, "2", 3]}, "/values/1"),
        ({"values": [1, True, 3]}, "/values/1"),
        ({"values": [1, 2, float("nan")]}, "/values/2"),
        ({"values": [1, 2, float("inf")]}, "/values/2"),
        ({"values": [2**53 + 1, 2, 3]}, "/values/0"),
        ({"values": [1, [50.0, 6.0], 3]}, "/values/1"),
        ({"stream": "position", "values": [None, [50.0, 6.0], 3]}, "/values/2"),
        ({"stream": "position", "values": [None, [50.0], None]}, "/values/1"),
        ({"stream": "position", "values": [[90.1, 0], None, None]}, "/values/0"),
        ({"stream": "position", "values": [[0, -180.5], None, None]}, "/values/0"),
        ({"stream": "position", "values": [[None, 0], None, None]}, "/values/0"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ChunkInvalid) as refused:
        tracks.check(**given_chunk(**change))
    assert [wrong.pointer for wrong in refused.value.wrong] == [pointer]


@given(chunks())
def test_the_digest_is_that_of_the_content_however_numbers_were_carried(chunk: Chunk) -> None:
    floats = [float(value) if isinstance(value, int) and abs(value) < 2**53 else value for value in chunk.values]
    again = tracks.check(stream=chunk.stream, start_ms=chunk.start_ms, offsets_ms=chunk.offsets_ms, values=floats)
    assert tracks.digest(again) == tracks.digest(chunk)
    through_json = json.decode(json.encode(chunk.values))
    assert tracks.digest(
        tracks.check(stream=chunk.stream, start_ms=chunk.start_ms, offsets_ms=chunk.offsets_ms, values=through_json)
    ) == tracks.digest(chunk)


@pytest.mark.parametrize(
    "change", [{"start_ms": 1}, {"offsets_ms": [0, 1000, 1001]}, {"values": [1, 2.6, None]}, {"stream": "speed"}]
)
def test_other_content_has_another_digest(change: dict[str, Any]) -> None:
    assert tracks.digest(tracks.check(**given_chunk(**change))) != tracks.digest(tracks.check(**given_chunk()))


def power(*values: Sample, start_ms: int = START_MS, step_ms: int = 1000) -> Chunk:
    offsets_ms = [step_ms * index for index in range(len(values))]
    return Chunk(stream="power", start_ms=start_ms, offsets_ms=offsets_ms, values=list(values))


def test_chunks_join_in_order_of_time_also_where_they_overlap() -> None:
    late, early = power(3, 4, start_ms=START_MS + 2000), power(1, 2)
    assert tracks.join([late, early]) == power(1, 2, 3, 4)
    overlapping = tracks.join([power(1, 3, step_ms=2000), power(2, 4, start_ms=START_MS + 1000, step_ms=2000)])
    assert overlapping == power(1, 2, 3, 4)
    assert tracks.join([power(5)]) == power(5)


@given(st.lists(st.none() | st.integers(-50, 2000), min_size=1, max_size=400), st.integers(tracks.MIN_POINTS, 60))
def test_down_sampling_keeps_first_last_least_and_greatest(values: list[Sample], points: int) -> None:
    whole = power(*values)
    kept = tracks.downsample(whole, points)
    samples = list(zip(kept.offsets_ms, kept.values, strict=True))
    assert len(samples) <= max(points, 1)
    assert set(samples) <= set(zip(whole.offsets_ms, whole.values, strict=True))
    assert kept.offsets_ms == sorted(set(kept.offsets_ms))
    assert samples[0] == (0, values[0])
    assert samples[-1] == (whole.offsets_ms[-1], values[-1])
    present = [value for value in values if isinstance(value, int)]
    if present:
        shown = [value for value in kept.values if isinstance(value, int)]
        assert (min(shown), max(shown)) == (min(present), max(present))
    assert kept == whole or len(values) > points


@given(st.lists(st.none() | positions, min_size=1, max_size=300), st.integers(6, 60))
def test_down_sampled_positions_keep_the_bounding_box(values: list[Sample], points: int) -> None:
    whole = tracks.check(stream="position", start_ms=0, offsets_ms=list(range(len(values))), values=values)
    kept = tracks.downsample(whole, points)
    assert len(kept.values) <= points
    for axis in (0, 1):
        present = [value[axis] for value in values if isinstance(value, tuple)]
        shown = [value[axis] for value in kept.values if isinstance(value, tuple)]
        if present:
            assert (min(shown), max(shown)) == (min(present), max(present))


def test_a_gap_shows_and_too_few_points_are_refused() -> None:
    kept = tracks.downsample(power(*[1] * 100, *[None] * 100, *[2] * 100), 20)
    assert None in kept.values
    with pytest.raises(ValueError, match="at least"):
        tracks.downsample(power(1, 2), 3)
