from typing import Any

import pytest

from fitness_api.workouts import gpx_file, tcx_file, track_points
from fitness_api.workouts.decoder_process import decode
from fitness_api.workouts.recording import Recording, TooComplex
from tests.fitness_api.workouts.recordings import recorded

HEAD = '<TrainingCenterDatabase xmlns="urn:tcx" xmlns:e="urn:ext"><Activities>'


def read(*activities: str) -> Recording:
    return tcx_file.recording(f"{HEAD}{''.join(activities)}</Activities></TrainingCenterDatabase>".encode())


def at(second: int) -> str:
    return f"2026-05-01T06:{second // 60:02}:{second % 60:02}Z"


def point(second: int, **fields: Any) -> str:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return f"<Trackpoint><Time>{at(second)}</Time>{inner}</Trackpoint>"


def lap(second: int, *points: str, seconds: float = 60, metres: float | None = None, extra: str = "") -> str:
    far = "" if metres is None else f"<DistanceMeters>{metres}</DistanceMeters>"
    return (
        f'<Lap StartTime="{at(second)}"><TotalTimeSeconds>{seconds}</TotalTimeSeconds>{far}{extra}'
        f"<Track>{''.join(points)}</Track></Lap>"
    )


def activity(*laps: str, sport: str = "Running") -> str:
    return f'<Activity Sport="{sport}"><Id>{at(0)}</Id>{"".join(laps)}</Activity>'


@pytest.mark.parametrize(("ride", "beats", "laps"), [("4078723797", 1_376_485, 1), ("4801048867", 672_272, 8)])
def test_a_real_ride_is_the_same_in_three_formats(ride: str, beats: int, laps: int) -> None:
    fit = decode(recorded(f"{ride}.fit")).sessions[0]
    xml = tcx_file.recording(recorded(f"activity_{ride}.tcx")).sessions[0]
    points = gpx_file.recording(recorded(f"activity_{ride}.gpx")).sessions[0]
    for one in (fit, xml, points):
        pulse: Any = one.streams["heart_rate"].values
        assert sum(pulse) == beats
        assert one.streams["heart_rate"].times_ms == fit.streams["heart_rate"].times_ms
        assert (one.sport, one.avg_hr_bpm, one.max_hr_bpm) == (fit.sport, fit.avg_hr_bpm, fit.max_hr_bpm)
        for mine, theirs in zip(one.streams["position"].values, fit.streams["position"].values, strict=True):
            assert mine == pytest.approx(theirs, abs=2e-6)
    assert (xml.distance_m, xml.energy_kcal, len(xml.laps)) == (fit.distance_m, fit.energy_kcal, laps)


def test_a_pause_of_the_timer() -> None:
    """A run of 65 minutes with a stop of 6: what the watch counted, what passed, and what was moved."""
    recording = tcx_file.recording(recorded("3173437224.tcx"))
    [run] = recording.sessions
    assert recording.device == "Polar M400"
    assert (run.elapsed_time_s, run.timer_time_s, run.energy_kcal) == (3_903.719, 3_510, 467)
    assert run.moving_time_s is not None
    assert run.moving_time_s < 3_510
    assert len(run.streams["heart_rate"].values) == 3_507


def test_the_boundary_of_laps_is_repeated_and_counts_once() -> None:
    beat = {"HeartRateBpm": "<Value>120</Value>"}
    first = lap(0, point(0, **beat), point(60, **beat), metres=200)
    second = lap(60, point(60, **beat, AltitudeMeters=34.5), point(120, **beat), metres=300)
    [run] = read(activity(first, second)).sessions
    assert run.streams["heart_rate"].values == [120, 120, 120]
    assert run.streams["altitude"].values == [34.5]
    assert (run.distance_m, run.timer_time_s) == (500, 120)
    assert [(one.distance_m, one.timer_time_s) for one in run.laps] == [(200, 60), (300, 60)]


def test_indoors_there_is_no_position_and_the_device_tells_the_way() -> None:
    points = [point(second, DistanceMeters=second * 3) for second in range(0, 61, 10)]
    [run] = read(activity(lap(0, *points))).sessions
    assert set(run.streams) == set()
    assert (run.distance_m, run.moving_time_s) == (180, 60)


def test_laps_without_points_are_a_workout() -> None:
    extra = "<Calories>90</Calories><AverageHeartRateBpm><Value>131</Value></AverageHeartRateBpm>"
    [ride] = read(activity(lap(0, metres=1000, extra=extra), lap(60, metres=1000), sport="Biking")).sessions
    assert (ride.sport, ride.distance_m, ride.timer_time_s, ride.elapsed_time_s) == ("ride", 2000, 120, 120)
    assert (ride.energy_kcal, ride.laps[0].avg_hr_bpm, ride.streams) == (90, 131, {})


def test_several_activities_and_their_extensions() -> None:
    bike = lap(0, point(0, Extensions="<e:TPX><e:Watts>200</e:Watts><e:Speed>9.5</e:Speed></e:TPX>"), point(9))
    run = lap(600, point(600, Extensions="<e:TPX><e:RunCadence>85</e:RunCadence></e:TPX>"), point(660))
    ride, jog = read(activity(run), activity(bike, sport="Biking")).sessions
    assert (ride.sport, jog.sport) == ("ride", "run")
    assert (ride.streams["power"].values, ride.streams["speed"].values) == ([200], [9.5])
    assert jog.streams["cadence"].values == [170]


def test_an_activity_of_nothing_is_none() -> None:
    assert read(activity()).sessions == []
    assert read(activity(lap(0, seconds=0))).sessions == []
    assert tcx_file.recording(b"<TrainingCenterDatabase><Courses/></TrainingCenterDatabase>").sessions == []


def test_a_file_that_is_cut_off_gives_what_it_has() -> None:
    whole = recorded("activity_5039744860.tcx")
    recording = tcx_file.recording(whole[: len(whole) // 2])
    assert recording.is_damaged
    assert 0 < len(recording.sessions[0].streams["heart_rate"].values) < 96


def test_too_many_points_are_too_complex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track_points, "MAX_POINTS", 2)
    with pytest.raises(TooComplex, match="points"):
        read(activity(lap(0, *(point(second) for second in range(3)))))


def test_laps_without_points_that_last_for_centuries_are_no_session() -> None:
    assert [
        session.ended_at_ms - session.started_at_ms for session in read(activity(lap(0, seconds=1e12))).sessions
    ] == []
    [session] = read(activity(lap(0, seconds=60), lap(60, seconds=1e12))).sessions
    assert session.ended_at_ms - session.started_at_ms == 60_000
