"""What is written as a file and read again is the same workout, as far as the format has a place for it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitness_api.workouts import fit_writer, tcx_writer
from fitness_api.workouts.decoder_process import decode
from fitness_api.workouts.recording import Lap, Samples, Session
from sync.tracks import Stream
from tests.fitness_api.workouts.recordings import (
    INDOOR,
    RIDE,
    RIDE_OF_EIGHT_LAPS,
    RIDE_WITH_PAUSE,
    START_MS,
    recorded,
)

TENTHS = st.integers(-2_000, 40_000).map(lambda tenths: tenths / 5)
STREAMS: dict[Stream, st.SearchStrategy[Any]] = {
    "heart_rate": st.integers(30, 220),
    "position": st.tuples(st.integers(-89, 89), st.integers(-179, 179), st.integers(0, 9_999_999)).map(
        lambda place: (round(place[0] + place[2] / 1e7, 7), round(place[1] + place[2] / 1e7, 7))
    ),
    "altitude": TENTHS.filter(lambda metres: metres > -400),
    "speed": st.integers(0, 30_000).map(lambda mm: mm / 1_000),
    "cadence": st.integers(0, 100).map(lambda half: half * 2),
    "power": st.integers(0, 2_500),
    "temperature": st.integers(-40, 60),
}


@st.composite
def sessions(draw: Any) -> Session:
    streams: dict[Stream, Samples] = {}
    for stream, values in STREAMS.items():
        seconds = draw(st.lists(st.integers(0, 600), unique=True, max_size=12).map(sorted))
        if seconds:
            times = [START_MS + 1_000 * second for second in seconds]
            streams[stream] = Samples(times, [draw(values) for _ in times])
    ended_at_ms = max([START_MS + 1_000, *(samples.times_ms[-1] for samples in streams.values())])
    return Session(
        sport=draw(
            st.sampled_from(["run", "ride", "swim", "walk", "hike", "row", "strength", "yoga", "hiit", "other"])
        ),
        started_at_ms=START_MS,
        ended_at_ms=ended_at_ms,
        distance_m=draw(st.none() | st.integers(1, 10_000_000).map(lambda cm: cm / 100)),
        elapsed_time_s=(ended_at_ms - START_MS) / 1_000,
        timer_time_s=draw(st.none() | st.integers(1, 600)),
        energy_kcal=draw(st.none() | st.integers(1, 5_000)),
        laps=draw(st.just([]) | st.just([Lap(started_at_ms=START_MS, distance_m=100, timer_time_s=60)])),
        streams=streams,
    )


def tcx_of(session: Session, device: str | None = None) -> bytes:
    return "".join(tcx_writer.written(session, device=device)).encode()


def plain(streams: dict[Stream, Samples], *without: Stream) -> dict[str, Any]:
    return {name: msgspec.to_builtins(samples) for name, samples in streams.items() if name not in without}


@settings(max_examples=150)
@given(sessions(), st.none() | st.sampled_from([0, 3_600, -16_200, 45_900]))
def test_fit(session: Session, utc_offset_s: int | None) -> None:
    recording = decode(fit_writer.written(session, utc_offset_s=utc_offset_s))
    assert (recording.warnings, recording.utc_offset_s) == ([], utc_offset_s)
    [again] = recording.sessions
    assert plain(again.streams) == plain(session.streams)
    for field in (
        "sport",
        "started_at_ms",
        "ended_at_ms",
        "distance_m",
        "elapsed_time_s",
        "timer_time_s",
        "energy_kcal",
    ):
        assert getattr(again, field) == getattr(session, field), field
    assert [(lap.started_at_ms, lap.distance_m, lap.timer_time_s) for lap in again.laps] == [
        (lap.started_at_ms, lap.distance_m, lap.timer_time_s) for lap in session.laps
    ]


@settings(max_examples=150)
@given(sessions(), st.none() | st.text(max_size=30))
def test_tcx(session: Session, device: str | None) -> None:
    recording = decode(tcx_of(session, device))
    assert recording.warnings == []
    [again] = recording.sessions
    assert plain(again.streams) == plain(session.streams, "temperature")
    assert again.sport == (session.sport if session.sport in {"run", "ride"} else "other")
    assert again.started_at_ms == session.started_at_ms
    if not session.laps:
        assert again.energy_kcal == session.energy_kcal
        if session.distance_m is not None:
            assert again.distance_m == session.distance_m


@pytest.mark.parametrize("name", [RIDE, RIDE_OF_EIGHT_LAPS, RIDE_WITH_PAUSE, INDOOR])
def test_real_recordings(name: str) -> None:
    original = decode(recorded(name))
    [session] = original.sessions
    fit = decode(fit_writer.written(session, utc_offset_s=original.utc_offset_s))
    tcx = decode(tcx_of(session, original.device))
    assert plain(fit.sessions[0].streams) == plain(session.streams)
    assert plain(tcx.sessions[0].streams) == plain(session.streams, "temperature", "rr")
    assert (fit.utc_offset_s, tcx.device) == (original.utc_offset_s, original.device)
    assert len(fit.sessions[0].laps) == len(tcx.sessions[0].laps) == len(session.laps)
    assert fit.sessions[0].distance_m == session.distance_m


def test_intervals_between_beats_are_kept_to_the_millisecond() -> None:
    times = [START_MS + at_ms for at_ms in (0, 0, 1_000, 1_000, 2_000)]
    beats = Samples(times, [812, 790, 804, 1_200, 333])
    session = Session(sport="run", started_at_ms=START_MS, ended_at_ms=START_MS + 60_000, streams={"rr": beats})
    again = decode(fit_writer.written(session)).sessions[0]
    assert plain(again.streams) == plain(session.streams)


def test_numbers_beyond_a_field_are_left_out() -> None:
    times = [START_MS, START_MS + 1_000]
    wild: dict[Stream, Samples] = {
        "heart_rate": Samples(times, [0.2, 300]),
        "power": Samples(times, [-5, 70_000]),
        "cadence": Samples(times, [-2, 9_000]),
        "temperature": Samples(times, [-200, 200]),
        "altitude": Samples(times, [-600, 2**52]),
    }
    session = Session(sport="ride", started_at_ms=START_MS, ended_at_ms=START_MS + 1_000, streams=wild)
    assert decode(fit_writer.written(session)).sessions[0].streams == {}
    [again] = decode(tcx_of(session)).sessions
    assert set(again.streams) == {"altitude"}
