from datetime import date
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics import charts, training_load
from fitness_api.statistics.charts import HEIGHT, WIDTH
from fitness_api.workouts.decoder_process import decode
from sync import tracks
from sync.tracks import Stream
from tests.fitness_api.workouts.recordings import RIDE, recorded

SVG = "{http://www.w3.org/2000/svg}"
Series = tuple[list[int], list[float | None]]


def drawn(text: str) -> ET.Element:
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in {"svg", "title", "desc", "rect", "text", "line", "polyline", "polygon"}
        for name in ("x", "y", "x1", "x2", "y1", "y2"):
            assert -WIDTH <= float(element.get(name, "0")) <= 2 * WIDTH
        for point in element.get("points", "").split():
            x, y = (float(part) for part in point.split(","))
            assert 0 <= x <= WIDTH
            assert -1 <= y <= HEIGHT + 1
    return root


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def described(root: ET.Element) -> str:
    return root.findtext(f"{SVG}desc") or ""


def test_a_real_ride() -> None:
    ride = decode(recorded(RIDE)).sessions[0]
    series: list[Series] = []
    shown_streams: tuple[Stream, ...] = ("heart_rate", "altitude")
    for stream in shown_streams:
        samples = ride.streams[stream]
        start_ms = samples.times_ms[0]
        offsets_ms = [at - start_ms for at in samples.times_ms]
        chunk = tracks.Chunk(stream=stream, start_ms=start_ms, offsets_ms=offsets_ms, values=samples.values)
        shown = tracks.downsample(chunk, 900)
        times = [shown.start_ms + offset for offset in shown.offsets_ms]
        series.append((times, msgspec.convert(shown.values, list[float | None])))
    text = charts.workout(
        title="Stavelot", pulse=series[0], altitude=series[1], zone_bounds_bpm=(95, 114, 133, 152, 171)
    )
    root = drawn(text)
    assert described(root) == "139 min. Altitude from 229 to 568 m. Heart rate from 94 to 190 bpm."
    assert {"0:00", "0:30", "2:00", "Stavelot", "bpm"} <= set(texts(root))
    assert [one.findtext(f"{SVG}title") for one in root.iter(f"{SVG}rect") if len(one)] == [
        f"Zone {n}" for n in range(6)
    ]
    assert len(list(root.iter(f"{SVG}polyline"))) == len(list(root.iter(f"{SVG}polygon"))) == 1
    assert len(text) < 60_000


def test_no_line_is_drawn_over_a_gap_or_a_pause() -> None:
    times = [0, 1_000, 2_000, 3_000, 4_000, 600_000, 601_000]
    values = [100.0, 101, None, 103, 104, 105, 106]
    root = drawn(charts.workout(title="Run", pulse=(times, values), altitude=None))
    assert [len(one.get("points", "").split()) for one in root.iter(f"{SVG}polyline")] == [2, 2, 2]


def test_what_was_not_recorded_is_said() -> None:
    for pulse in (None, ([], []), ([5], [None])):
        root = drawn(charts.workout(title="Yoga", pulse=pulse, altitude=None))
        assert "Nothing was recorded" in texts(root)


def test_titles_are_text() -> None:
    root = drawn(charts.workout(title="<script>alert(1)</script>&\x00", pulse=([0], [100]), altitude=None))
    assert root.findtext(f"{SVG}title") == "<script>alert(1)</script>&"


samples = st.lists(st.tuples(st.integers(1, 10**7), st.none() | st.floats(-500, 9_000)), min_size=1, max_size=40)


@given(samples, samples, st.lists(st.floats(0, 250), unique=True, max_size=6).map(sorted))
def test_whatever_was_measured_can_be_drawn(
    pulse: list[tuple[int, float | None]], altitude: list[tuple[int, float | None]], bounds: list[float]
) -> None:
    def series(steps: list[tuple[int, float | None]]) -> Series:
        at, times = 1_700_000_000_000, []
        for step, _ in steps:
            at += step
            times.append(at)
        return times, [value for _, value in steps]

    drawn(charts.workout(title="x", pulse=series(pulse), altitude=series(altitude), zone_bounds_bpm=bounds or None))


@pytest.mark.parametrize("count", [1, 7, 40, 400, 3_650])
def test_loads_of_a_week_and_of_ten_years(count: int) -> None:
    days = training_load.series([50.0 if day % 3 else 0.0 for day in range(count)])
    root = drawn(charts.load(days, first_day=date(2016, 11, 24), title="Training load"))
    assert [one.findtext(f"{SVG}title") for one in root.iter(f"{SVG}polyline")] == ["Fatigue", "Form", "Fitness"]
    assert described(root).startswith(f"{count} days. At the end fitness ")
    assert len(texts(root)) < 45


def test_no_training_yet() -> None:
    assert "No training yet" in texts(drawn(charts.load([], first_day=date(2026, 1, 1), title="Load")))


@given(st.lists(st.floats(0, 5_000), min_size=1, max_size=60))
def test_any_loads_can_be_drawn(loads: list[float]) -> None:
    drawn(charts.load(training_load.series(loads), first_day=date(2026, 1, 1), title="Load"))


def test_samples_of_two_centuries_have_an_axis_of_few_ticks() -> None:
    picture = charts.workout(title="", pulse=([0, 253_402_300_799_000], [120, 130]), altitude=None)
    assert len(picture) < 10_000
