"""Real recordings to the number, and every way in which a file can be broken."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from fitness_api.workouts import decoder_process, fit_file
from fitness_api.workouts.decoder_process import decode
from fitness_api.workouts.recording import MAX_LAPS, MAX_SESSIONS, Recording, TooComplex
from tests.fitness_api.workouts.recordings import (
    INDOOR,
    MULTISPORT,
    RIDE,
    RIDE_OF_EIGHT_LAPS,
    RIDE_WITH_PAUSE,
    File,
    at,
    header,
    recorded,
)


def numbers(recording: Recording, stream: Any) -> list[Any]:
    return list(recording.sessions[0].streams[stream].values)


def test_a_long_ride_to_the_number() -> None:
    recording = decode(recorded(RIDE))
    (ride,) = recording.sessions
    assert (ride.sport, recording.device, recording.utc_offset_s, recording.warnings) == (
        "ride",
        "garmin edge1000",
        7200,
        [],
    )
    heart_rates = numbers(recording, "heart_rate")
    assert (len(heart_rates), sum(heart_rates), max(heart_rates)) == (8357, 1_376_485, 190)
    assert (ride.distance_m, ride.avg_hr_bpm, ride.max_hr_bpm, ride.avg_power_w) == (57567.24, 165, 190, 219)
    assert (ride.elevation_gain_m, ride.energy_kcal, ride.elapsed_time_s) == (1254, 1830, 8355.6)
    assert numbers(recording, "position")[0] == (50.3925681, 5.900304)
    assert round(sum(numbers(recording, "power")) / len(numbers(recording, "power"))) == 219


def test_laps() -> None:
    (ride,) = decode(recorded(RIDE_OF_EIGHT_LAPS)).sessions
    assert len(ride.laps) == 8
    assert len(ride.streams["heart_rate"].values) == 5159
    assert (ride.laps[0].trigger, ride.laps[0].distance_m, ride.laps[0].timer_time_s) == ("distance", 5000.0, 798.928)
    assert sum(lap.distance_m or 0 for lap in ride.laps) == pytest.approx(ride.distance_m)


def test_a_pause_is_in_the_elapsed_time_only() -> None:
    (ride,) = decode(recorded(RIDE_WITH_PAUSE)).sessions
    assert (ride.timer_time_s, ride.elapsed_time_s, len(ride.laps)) == (93.7, 113.15, 5)
    assert len(ride.streams["heart_rate"].values) == 96


def test_indoors_there_is_no_position() -> None:
    (ride,) = decode(recorded(INDOOR)).sessions
    assert ride.streams.keys() == {"heart_rate", "cadence", "power", "temperature"}
    assert (ride.timer_time_s, ride.elapsed_time_s) == (196.229, 324.513)


def test_a_multisport_file_has_a_session_for_each_sport() -> None:
    recording = decode(recorded(MULTISPORT))
    assert [session.sport for session in recording.sessions] == ["run", "row"]
    assert [len(session.streams["heart_rate"].values) for session in recording.sessions] == [24, 24]
    assert len(recording.warnings) == 1


def test_heartbeats_take_the_time_of_the_record_before_them() -> None:
    file = File()
    for second in range(3):
        file.records(second, heart_rate=60).add("HRV", time=[0.5 + second / 10, 0.4])
    (run,) = decode(file.session().close()).sessions
    beats = run.streams["rr"]
    assert beats.values == [500, 400, 600, 400, 700, 400]
    assert [(time_ms - run.started_at_ms) // 1000 for time_ms in beats.times_ms] == [0, 0, 1, 1, 2, 2]


def test_a_swimming_straps_heart_rates_reach_the_records() -> None:
    file = File().records(*range(10), distance=1.0)
    file.add("HR", timestamp=at(0), fractional_timestamp=0.0, event_timestamp=[2.0], filtered_bpm=[100])
    file.add("HR", event_timestamp=[3.0, 4.0, 5.0, 6.0], filtered_bpm=[110, 120, 130, 140])
    (swim,) = decode(file.session("swimming").close()).sessions
    # The means of the quarters of a second before each record. The library gives the last one to none.
    assert swim.streams["heart_rate"].values == [100, 103, 113, 123]


def test_a_straps_nonsense_costs_its_heart_rates_only() -> None:
    file = File().records(0, 1, distance=1.0).add("HR", event_timestamp=[3.0], filtered_bpm=[110])
    recording = decode(file.session("swimming").close())
    assert len(recording.sessions) == 1
    assert "chest strap" in recording.warnings[0]


def test_a_wrong_checksum_is_a_warning() -> None:
    data = bytearray(recorded(RIDE_WITH_PAUSE))
    data[-1] ^= 0xFF
    recording = decode(bytes(data))
    assert len(numbers(recording, "heart_rate")) == 96
    assert "damaged" in recording.warnings[0]


def test_a_device_that_died_left_no_size_in_the_header() -> None:
    data = bytearray(recorded(RIDE_WITH_PAUSE))
    data[4:8] = bytes(4)
    recording = decode(bytes(data))
    assert len(numbers(recording, "heart_rate")) == 96


@pytest.mark.parametrize("name", [RIDE_WITH_PAUSE, MULTISPORT])
def test_a_file_cut_anywhere_gives_its_readable_part(name: str) -> None:
    whole = recorded(name)
    readable = [len(decode(whole[:cut]).sessions) for cut in range(0, len(whole), 97)]
    assert readable[0] == 0
    assert readable[-1] > 0
    # Once a part can be read, more of the file never makes it less.
    first = next(index for index, sessions in enumerate(readable) if sessions)
    assert all(readable[first:])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 7770), st.integers(1, 255)), min_size=1, max_size=8))
def test_flipped_bits_give_a_recording_or_a_refusal(flips: list[tuple[int, int]]) -> None:
    data = bytearray(recorded(RIDE_WITH_PAUSE))
    for place, flip in flips:
        data[place] ^= flip
    try:
        recording = decode(bytes(data))
    except TooComplex:
        return
    assert msgpack.decode(msgpack.encode(recording), type=Recording) == recording


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300))
def test_anything_behind_a_header_gives_a_recording_or_a_refusal(noise: bytes) -> None:
    assert isinstance(decode(header(data_bytes=len(noise)) + noise + bytes(2)), Recording)


def definition(fields: bytes = b"") -> bytes:
    """Local message 0 is a record (20) with these fields (number, size, base type)."""
    return bytes([0x40, 0, 0, 20, 0, len(fields) // 3]) + fields


def test_millions_of_tiny_messages_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_file, "MAX_POINTS", 1000)
    tiny = definition() + bytes(2000)
    with pytest.raises(TooComplex, match="messages"):
        decode(header(data_bytes=len(tiny)) + tiny + bytes(2))
    definitions = definition() * 2000
    with pytest.raises(TooComplex, match="messages"):
        decode(header(data_bytes=len(definitions)) + definitions + bytes(2))


def test_sessions_and_samples_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    file = File().records(0, 1, heart_rate=100)
    for second in range(MAX_SESSIONS + 1):
        file.session(start=second)
    with pytest.raises(TooComplex, match="sessions"):
        decode(file.close())
    monkeypatch.setattr(decoder_process, "MAX_SAMPLES", 1)
    with pytest.raises(TooComplex, match="samples"):
        decode(File().records(0, 1, heart_rate=100).session().close())


@pytest.mark.parametrize("claimed", [0, 1, 2**31, 2**32 - 1])
def test_a_claimed_size_reserves_nothing(claimed: int) -> None:
    assert decode(header(data_bytes=claimed) + bytes(2)).sessions == []


def ran(data: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "fitness_api.workouts.decoder_process"]
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)


def test_the_process_gives_msgpack() -> None:
    done = ran(recorded(MULTISPORT))
    assert (done.returncode, done.stderr) == (0, b"")
    assert msgpack.decode(done.stdout, type=Recording) == decode(recorded(MULTISPORT))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", decoder_process.EXIT_UNREADABLE),
        (b"<gpx/>", decoder_process.EXIT_UNREADABLE),
        (File().close(), decoder_process.EXIT_UNREADABLE),
        (File().close()[:20], decoder_process.EXIT_DAMAGED),
        (header(data_bytes=300_000) + definition() + bytes(300_000), decoder_process.EXIT_TOO_COMPLEX),
    ],
    ids=["nothing", "gpx", "no activity", "cut", "tiny records"],
)
def test_the_process_says_why_there_is_none(data: bytes, code: int) -> None:
    done = ran(data)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_laps_are_bounded() -> None:
    lap = b'<Lap StartTime="2026-05-01T06:30:00Z"><TotalTimeSeconds>9</TotalTimeSeconds></Lap>'
    head, tail = (
        b'<TrainingCenterDatabase><Activities><Activity Sport="Running">',
        b"</Activity></Activities></TrainingCenterDatabase>",
    )
    assert len(decode(head + MAX_LAPS * lap + tail).sessions[0].laps) == MAX_LAPS
    with pytest.raises(TooComplex, match="laps"):
        decode(head + (MAX_LAPS + 1) * lap + tail)
