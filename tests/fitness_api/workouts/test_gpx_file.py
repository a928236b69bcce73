from typing import Any

import pytest

from fitness_api.workouts import gpx_file, track_points
from fitness_api.workouts.recording import MAX_POINTS, Recording, TooComplex
from tests.fitness_api.workouts.recordings import recorded

HEAD = '<gpx version="1.1" creator="app" xmlns="http://www.topografix.com/GPX/1/1" xmlns:x="urn:x">'


def point(time: str | None, *, lat: Any = 52.5, lon: Any = 13.4, extra: str = "") -> str:
    at = "" if time is None else f"<time>{time}</time>"
    return f'<trkpt lat="{lat}" lon="{lon}">{at}{extra}</trkpt>'


def track(*segments: list[str], kind: str = "running") -> str:
    inner = "".join(f"<trkseg>{''.join(one)}</trkseg>" for one in segments)
    return f"<trk><type>{kind}</type>{inner}</trk>"


def read(*tracks: str) -> Recording:
    return gpx_file.recording(f"{HEAD}{''.join(tracks)}</gpx>".encode())


def at(second: int) -> str:
    return f"2026-05-01T06:{second // 60:02}:{second % 60:02}Z"


@pytest.mark.parametrize(
    ("name", "creator", "streams"),
    [
        ("activity_4078723797.gpx", "Garmin Connect", {"heart_rate", "position", "altitude", "cadence", "temperature"}),
        (
            "4078723797_strava.gpx",
            "StravaGPX",
            {"heart_rate", "position", "altitude", "cadence", "temperature", "power"},
        ),
    ],
)
def test_a_real_ride_has_the_heart_rates_of_its_fit_file(name: str, creator: str, streams: set[str]) -> None:
    recording = gpx_file.recording(recorded(name))
    [ride] = recording.sessions
    assert (recording.device, recording.warnings, recording.is_damaged) == (creator, [], False)
    assert set(ride.streams) == streams
    pulse: Any = ride.streams["heart_rate"].values
    assert (ride.sport, len(pulse), sum(pulse)) == ("ride", 8_357, 1_376_485)
    # The watch says 57,567.24 m and 1,254 m of climb of its own wheel and barometer.
    assert ride.distance_m == pytest.approx(57_567.24, rel=1e-3)
    assert ride.elevation_gain_m == pytest.approx(1_254, rel=5e-3)
    assert (ride.elapsed_time_s, ride.timer_time_s, ride.moving_time_s) == (8_356, 8_356, 8_106)


def test_segments_have_pauses_between_them() -> None:
    first = [point(at(second), lat=52.5 + second / 10_000) for second in range(0, 60, 10)]
    second = [point(at(second), lat=52.6 + second / 10_000) for second in range(650, 701, 10)]
    [run] = read(track(first, second)).sessions
    assert (run.elapsed_time_s, run.timer_time_s, run.moving_time_s) == (700, 100, 100)


def test_each_track_is_a_workout_in_order_of_time() -> None:
    later, earlier = track([point(at(600)), point(at(660))]), track([point(at(0)), point(at(60))], kind="cycling")
    found = [(one.sport, one.started_at_ms % 3_600_000) for one in read(later, earlier).sessions]
    assert found == [("ride", 0), ("run", 600_000)]


def test_points_without_a_time_are_counted_and_a_route_is_no_activity() -> None:
    recording = read(track([point(at(0)), point(None), point("yesterday"), point(at(60))]))
    assert len(recording.sessions) == 1
    assert recording.warnings == ["2 points without a time were left out."]
    assert read(track([point(None), point(None)])).sessions == []
    assert gpx_file.recording(f"{HEAD}<rte><rtept lat='1' lon='1'/></rte></gpx>".encode()).sessions == []


@pytest.mark.parametrize(
    ("time", "ms"),
    [
        ("2026-05-01T06:30:00Z", 1_777_617_000_000),
        ("2026-05-01T06:30:00.5Z", 1_777_617_000_500),
        ("2026-05-01T06:30:00.1234567Z", 1_777_617_000_123),
        ("2026-05-01T08:30:00+02:00", 1_777_617_000_000),
        ("2026-05-01T06:30:00", 1_777_617_000_000),
        ("0026-05-01T06:30:00Z", None),
        ("9999-12-31T23:59:59Z", None),
        ("2026-05-01T06:30:00+99:00", None),
    ],
)
def test_times(time: str, ms: int | None) -> None:
    sessions = read(track([point(time), point("2026-05-01T06:31:00Z"), point("2026-05-01T06:32:00Z")])).sessions
    assert sessions[0].started_at_ms == (1_777_617_060_000 if ms is None else ms)


def test_numbers_that_are_none_are_absent() -> None:
    wrong = [
        point(at(0), lat="NaN"),
        point(at(1), lat="91"),
        point(at(2), lon="1e400"),
        point(at(3), lat="1_0"),
        point(at(4), extra="<ele>inf</ele><extensions><x:hr>0</x:hr><x:cad>-3</x:cad></extensions>"),
    ]
    [run] = read(track([*wrong, point(at(5))])).sessions
    assert set(run.streams) == {"position"}
    assert run.streams["position"].times_ms == [1_777_615_204_000, 1_777_615_205_000]


def test_strides_on_foot_are_two_steps() -> None:
    points = [point(at(second), extra="<extensions><x:cad>83</x:cad></extensions>") for second in (0, 1)]
    assert read(track(points)).sessions[0].streams["cadence"].values == [166, 166]
    assert read(track(points, kind="cycling")).sessions[0].streams["cadence"].values == [83, 83]


def test_points_in_any_order_and_of_one_instant() -> None:
    points = [point(at(2), lat=3), point(at(0), lat=1), point(at(0), lat=9, extra="<ele>7</ele>"), point(at(1), lat=2)]
    [run] = read(track(points)).sessions
    positions: Any = run.streams["position"].values
    assert [north for north, _ in positions] == [1, 2, 3]
    assert run.streams["altitude"].values == [7]


def test_a_clock_that_jumps_for_years_is_no_workout_of_years() -> None:
    points = [point(at(0)), point(at(60)), point("2036-05-01T06:00:00Z")]
    recording = read(track(points))
    assert recording.sessions[0].elapsed_time_s == 60
    assert recording.warnings == ["1 points whose time is far from their track's were left out."]


def test_a_file_that_is_cut_off_gives_what_it_has() -> None:
    whole = recorded("activity_5039744860.gpx")
    recording = gpx_file.recording(whole[: len(whole) // 2])
    assert (recording.is_damaged, recording.warnings) == (
        True,
        ["The file is damaged; what could be read of it was imported."],
    )
    assert 30 < len(recording.sessions[0].streams["heart_rate"].values) < 60


def test_too_many_points_are_too_complex(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_POINTS >= 100_000
    monkeypatch.setattr(track_points, "MAX_POINTS", 2)
    with pytest.raises(TooComplex, match="points"):
        read(track([point(at(second)) for second in range(3)]))


def test_a_cadence_beyond_all_numbers_is_a_gap() -> None:
    points = [point(at(second), extra=f"<extensions><x:cad>{2**53 - 1}</x:cad></extensions>") for second in (0, 1)]
    assert read(track(points)).sessions[0].streams["cadence"].values == [None, None]
