from collections.abc import AsyncIterator, Collection
from typing import cast
from xml.etree import ElementTree as ET

import pytest
from garmin_fit_sdk import Decoder
from garmin_fit_sdk import Stream as Stream_

from fitness_api.export import track_files
from sync import tracks
from sync.track_store import Stored, TrackStore
from sync.tracks import Chunk, Sample, Stream

START_MS = 1_780_000_000_000


class Held:
    """Chunks in the order of the port's."""

    def __init__(self, *chunks: Chunk) -> None:
        self.chunks = sorted(chunks, key=lambda chunk: (chunk.stream, chunk.start_ms))

    async def read(self, _user_id: str, _workout_id: str, streams: Collection[Stream]) -> AsyncIterator[Stored]:
        for number, chunk in enumerate(self.chunks):
            if chunk.stream in streams:
                yield Stored(str(number), chunk)


def chunk(stream: Stream, start_s: int, *values: Sample, every_s: int = 1) -> Chunk:
    offsets_ms = [1000 * every_s * index for index in range(len(values))]
    return tracks.check(stream=stream, start_ms=START_MS + 1000 * start_s, offsets_ms=offsets_ms, values=values)


async def rates(*chunks: Chunk) -> list[str | None]:
    text = b"".join([piece async for piece in track_files.gpx_text(cast("TrackStore", Held(*chunks)), "u", "w", {})])
    if not text:
        return []
    found = ET.fromstring(text).iter("{http://www.topografix.com/GPX/1/1}trkpt")
    return [next((one.text for one in point.iter() if one.tag.endswith("}hr")), None) for point in found]


async def test_values_are_found_whatever_chunks_they_are_in() -> None:
    positions = [chunk("position", 10 * number, *[(1.0, 2.0)] * 10) for number in range(4)]
    beats = [chunk("heart_rate", 0, *range(100, 107)), chunk("heart_rate", 7, *range(107, 140))]
    assert await rates(*positions, *beats) == [str(rate) for rate in range(100, 140)]


async def test_what_began_within_the_chunk_of_positions_before_is_still_known() -> None:
    positions = [chunk("position", 10 * number, *[(1.0, 2.0)] * 10) for number in range(3)]
    assert await rates(*positions, chunk("heart_rate", 8, 120)) == [None] * 8 + ["120"] * 6 + [None] * 16


async def test_chunks_that_overlap_are_taken_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track_files, "MAX_BESIDE", 2)
    positions = [chunk("position", 10 * number, *[(1.0, 2.0)] * 10) for number in range(2)]
    overlapping = [chunk("heart_rate", start, 100 + start) for start in range(5)]
    late = chunk("heart_rate", 15, 200)
    found = await rates(*positions, *overlapping, late)
    assert found[:2] == ["100", "101"]
    assert found[15] == "200"


async def test_without_positions_there_is_nothing() -> None:
    assert await rates(chunk("heart_rate", 0, 120)) == []


async def fit(document: dict[str, object], *chunks: Chunk) -> bytes:
    given = track_files.fit_file(cast("TrackStore", Held(*chunks)), "u", "w", document)
    return b"".join([piece async for piece in given])


async def test_a_workout_without_positions_is_a_fit_file_that_reads_back() -> None:
    file = await fit({"sport": "row"}, chunk("heart_rate", 0, *range(100, 160)), chunk("cadence", 0, *[28] * 60))
    messages, errors = Decoder(Stream_.from_byte_array(bytearray(file))).read()
    assert errors == []
    assert [record["heart_rate"] for record in messages["record_mesgs"]] == list(range(100, 160))
    assert messages["session_mesgs"][0]["sport"] == "rowing"


async def test_what_would_take_too_much_or_has_no_time_is_no_fit_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await fit({"sport": "row"}) == b""
    monkeypatch.setattr(track_files, "MAX_FIT_SAMPLES", 3)
    assert await fit({}, chunk("heart_rate", 0, 1, 2), chunk("power", 0, 1)) != b""
    assert await fit({}, chunk("heart_rate", 0, 1, 2), chunk("power", 0, 1, 2)) == b""
