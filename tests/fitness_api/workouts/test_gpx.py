from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.workouts import gpx
from sync import tracks
from sync.tracks import Chunk, Number, Sample, Stream

START_MS = 1_780_000_000_000
NAMES = {
    "gpx": "http://www.topografix.com/GPX/1/1",
    "tpx": "http://www.garmin.com/xmlschemas/TrackPointExtension/v1",
    "pwr": "http://www.garmin.com/xmlschemas/PowerExtension/v1",
}


def chunk(stream: Stream, values: list[Sample], *, start_ms: int = START_MS, every_ms: int = 1000) -> Chunk:
    offsets_ms = [every_ms * index for index in range(len(values))]
    return tracks.check(stream=stream, start_ms=start_ms, offsets_ms=offsets_ms, values=values)


def parsed(positions: Chunk, *others: Chunk, name: str | None = None) -> ET.Element:
    by_stream = {one.stream: [other for other in others if other.stream == one.stream] for one in others}
    text = gpx.head(name=name, sport="ride", at_ms=START_MS) + "".join(gpx.segment(positions, by_stream)) + gpx.TAIL
    return ET.fromstring(text.encode())


def points(root: ET.Element) -> list[ET.Element]:
    return root.findall(".//gpx:trkpt", NAMES)


def test_a_point_has_what_was_measured_at_it() -> None:
    root = parsed(
        chunk("position", [(52.5, 13.25)]),
        chunk("altitude", [34.5]),
        chunk("heart_rate", [141.6]),
        chunk("cadence", [88]),
        chunk("temperature", [-3]),
        chunk("power", [210.4]),
    )
    assert root.findtext(".//gpx:type", None, NAMES) == "ride"
    (point,) = points(root)
    assert point.attrib == {"lat": "52.5", "lon": "13.25"}
    found = {path: point.findtext(f".//{path}", None, NAMES) for path in ("gpx:ele", "gpx:time", "tpx:hr", "tpx:cad")}
    assert found == {"gpx:ele": "34.5", "gpx:time": "2026-05-28T20:26:40.000Z", "tpx:hr": "142", "tpx:cad": "88"}
    assert point.findtext(".//tpx:atemp", None, NAMES) == "-3"
    assert point.findtext(".//pwr:PowerInWatts", None, NAMES) == "210"
    # The schema has a sequence here.
    assert [child.tag.partition("}")[2] for child in point] == ["ele", "time", "extensions"]


def test_a_value_stands_for_five_seconds_and_a_null_does_not_end_it() -> None:
    positions = chunk("position", [(1.0, 2.0)] * 8)
    rates = [
        point.findtext(".//tpx:hr", None, NAMES)
        for point in points(parsed(positions, chunk("heart_rate", [120, None])))
    ]
    assert rates == ["120"] * 6 + [None] * 2


def test_a_value_is_never_shown_before_it_was_measured() -> None:
    late = chunk("heart_rate", [120], start_ms=START_MS + 1500)
    (first, second, third) = points(parsed(chunk("position", [(1, 2)] * 3), late))
    assert [one.findtext(".//tpx:hr", None, NAMES) for one in (first, second, third)] == [None, None, "120"]


def test_where_the_position_is_not_known_there_is_no_point() -> None:
    assert len(points(parsed(chunk("position", [None, (1.0, 2.0), None])))) == 1
    assert "".join(gpx.segment(chunk("position", [None]), {})) == ""


@pytest.mark.parametrize("value", [0, -1, 256, 1e300])
def test_what_the_schema_of_an_extension_cannot_say_is_left_out(value: Number) -> None:
    value = min(value, tracks.MAX_INTEGER)
    (point,) = points(parsed(chunk("position", [(1.0, 2.0)]), chunk("heart_rate", [value])))
    assert point.find(".//tpx:hr", NAMES) is None


def test_numbers_have_no_exponent() -> None:
    (point,) = points(parsed(chunk("position", [(1e-7, -2.5e-8)]), chunk("altitude", [1e-5])))
    assert point.attrib == {"lat": "0.000000100000", "lon": "-0.000000025000"}
    assert point.findtext("gpx:ele", None, NAMES) == "0.000010000000"


@given(name=st.text(), values=st.lists(st.none() | st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1))
def test_any_title_and_any_positions_are_well_formed(name: str, values: list[Sample]) -> None:
    root = parsed(chunk("position", values), name=name)
    assert len(points(root)) == sum(value is not None for value in values)
    if name.isalnum():
        assert root.findtext(".//gpx:name", None, NAMES) == name


def test_markup_in_a_title_is_text() -> None:
    root = parsed(chunk("position", [(1.0, 2.0)]), name="</name><wpt/>&\x00\ud800")
    assert root.findtext(".//gpx:name", None, NAMES) == "</name><wpt/>&"
    assert root.find(".//gpx:wpt", NAMES) is None
