from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.workouts import strength_csv
from fitness_api.workouts.strength_csv import (
    MAX_SETS_A_WORKOUT,
    LoggedSet,
    LoggedWorkout,
    NotALog,
    RowError,
    UnitMissing,
    parsed,
)

STRONG = "Date,Workout Name,Duration,Exercise Name,Set Order,Weight,Reps,Distance,Seconds,Notes,Workout Notes,RPE\n"
STRONG_WITH_UNITS = (
    "Workout #;Date;Workout Name;Duration (sec);Exercise Name;Set Order;Weight;Weight Unit;Reps;Distance;Distance Unit;"
    "Seconds;Notes;Workout Notes;RPE\n"
)
HEVY = (
    "title,start_time,end_time,description,exercise_title,superset_id,exercise_notes,set_index,set_type,weight_kg,reps,"
    "distance_km,duration_seconds,rpe\n"
)
BERLIN = "Europe/Berlin"


def ms(local: str, zone: str = BERLIN) -> int:
    return int(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def test_a_strong_export_without_units() -> None:
    text = STRONG + (
        '2024-01-15 18:30:00,"Push, heavy",1h 5m,Bench Press (Barbell),1,100,5,0,0,,"Felt ""good""",8\n'
        '2024-01-15 18:30:00,"Push, heavy",1h 5m,Bench Press (Barbell),Rest Timer,0,0,0,120,,,\n'
        '2024-01-15 18:30:00,"Push, heavy",1h 5m,Bench Press (Barbell),W,60,8,0,0,,,\n'
        '2024-01-15 18:30:00,"Push, heavy",1h 5m,Treadmill,1,0,0,2.5,900,,,\n'
    )
    log = parsed(text, timezone=BERLIN, weight_unit="kg", distance_unit="km")
    assert (log.app, log.errors) == ("strong", [])
    assert log.workouts == [
        LoggedWorkout(
            title="Push, heavy",
            local_start="2024-01-15 18:30:00",
            started_at_ms=ms("2024-01-15T18:30:00"),
            ended_at_ms=ms("2024-01-15T19:35:00"),
            notes='Felt "good"',
            sets=[
                LoggedSet(exercise="Bench Press (Barbell)", reps=5, weight_kg=100, rpe=8),
                LoggedSet(exercise="Bench Press (Barbell)", kind="warmup", reps=8, weight_kg=60),
                LoggedSet(exercise="Treadmill", weight_kg=0, distance_m=2_500, duration_s=900),
            ],
        )
    ]


def test_units_that_nobody_tells_are_asked_for() -> None:
    row = "2024-01-15 18:30:00,A,1h,Squat,1,225,5,{},0,,,\n"
    with pytest.raises(UnitMissing) as missing:
        parsed(STRONG + row.format(0), timezone=BERLIN)
    assert missing.value.unit == "weight"
    with pytest.raises(UnitMissing) as missing:
        parsed(STRONG + row.format(3), timezone=BERLIN, weight_unit="lb")
    assert missing.value.unit == "distance"
    [workout] = parsed(STRONG + row.format(0), timezone=BERLIN, weight_unit="lb").workouts
    assert workout.sets[0].weight_kg == 102.058


def test_a_strong_export_with_units_and_semicolons() -> None:
    text = STRONG_WITH_UNITS + (
        "1;2024-01-15 18:30:00;Legs;3900;Squat;1;225,5;lbs;5;;;;;;\n1;2024-01-15 18:30:00;Legs;3900;Run;1;;;;1;miles;600;;;\n"
    )
    [workout] = parsed(text, timezone=BERLIN, weight_unit="kg").workouts
    assert workout.sets == [
        LoggedSet(exercise="Squat", reps=5, weight_kg=102.285),
        LoggedSet(exercise="Run", distance_m=1_609.3, duration_s=600),
    ]


@pytest.mark.parametrize("start", ["15 Jan 2024, 18:30", "Jan 15, 2024, 6:30 PM", "Jan 15, 2024, 6:30\u202fPM"])
def test_a_hevy_export(start: str) -> None:
    text = HEVY + (
        f'"Pull","{start}","15 Jan 2024, 19:20","","Deadlift",,"",0,"warmup",60,10,,,\n'
        f'"Pull","{start}","15 Jan 2024, 19:20","","Deadlift",,"",1,"dropset",140.5,5,,,9.5\n'
        f'"Pull","{start}","15 Jan 2024, 19:20","","Plank",,"",0,"normal",,,,60,\n'
    )
    log = parsed(text, timezone=BERLIN)
    assert (log.app, log.errors) == ("hevy", [])
    [workout] = log.workouts
    assert (workout.started_at_ms, workout.ended_at_ms) == (ms("2024-01-15T18:30:00"), ms("2024-01-15T19:20:00"))
    assert workout.sets == [
        LoggedSet(exercise="Deadlift", kind="warmup", reps=10, weight_kg=60),
        LoggedSet(exercise="Deadlift", kind="drop", reps=5, weight_kg=140.5, rpe=9.5),
        LoggedSet(exercise="Plank", duration_s=60),
    ]


def test_a_hevy_export_in_pounds_and_miles() -> None:
    header = HEVY.replace("weight_kg", "weight_lbs").replace("distance_km", "distance_miles")
    [workout] = parsed(header + 'A,"15 Jan 2024, 18:30",,,Row,,,0,,45,10,2,,\n', timezone="UTC").workouts
    assert workout.sets == [LoggedSet(exercise="Row", reps=10, weight_kg=20.412, distance_m=3_218.7)]
    assert workout.ended_at_ms is None


def test_rows_that_are_not_understood_are_told_and_the_rest_is_read() -> None:
    text = STRONG + (
        "yesterday,A,1h,Squat,1,100,5,0,0,,,\n"
        "2024-01-15 18:30:00,A,soon,Squat,1,100,5,0,0,,,\n"
        "2024-01-15 18:30:00,A,1h,Squat,X,100,5,0,0,,,\n"
        "2024-01-15 18:30:00,A,1h,Squat,1,heavy,5,0,0,,,\n"
        "2024-01-15 18:30:00,A,1h,Squat,1,100,2.5,0,0,,,\n"
        "2024-01-15 18:30:00,A,1h,,1,100,5,0,0,,,\n"
        "2024-01-15 18:30:00,A,1h,Squat,1,100,0,0,0,,,\n"
        "2024-01-15 18:30:00,A,1h,Squat,1,-100,5,0,0,,,\n"
        "2024-01-15 18:30:00,A,1h,Squat,1,100,5,0,0,,,11\n"
        "2024-01-15 18:30:00,A,1h,Squat,2,100,5,0,0,,,\n"
    )
    log = parsed(text, timezone=BERLIN, weight_unit="kg")
    assert [error.row for error in log.errors] == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert log.errors[3] == RowError(5, "Weight: 'heavy' is no number.")
    [workout] = log.workouts
    assert [one.reps for one in workout.sets] == [5]


def test_workouts_of_one_start_and_name_are_one_and_stand_in_order() -> None:
    rows = [("2024-01-16 08:00:00", "B"), ("2024-01-15 08:00:00", "A"), ("2024-01-16 08:00:00", "B")]
    text = STRONG + "".join(f"{start},{name},30m,Squat,1,100,5,0,0,,,\n" for start, name in rows)
    found = parsed(text, timezone=BERLIN, weight_unit="kg").workouts
    assert [(one.title, len(one.sets)) for one in found] == [("A", 1), ("B", 2)]


def test_times_are_of_the_zone_and_of_its_summer() -> None:
    text = STRONG + "".join(f"2024-{month}-15 18:30:00,A,30m,Squat,1,100,5,0,0,,,\n" for month in ("01", "07"))
    starts = [one.started_at_ms for one in parsed(text, timezone=BERLIN, weight_unit="kg").workouts]
    assert starts == [ms("2024-01-15T17:30:00", "UTC"), ms("2024-07-15T16:30:00", "UTC")]


def test_what_is_no_log_is_refused() -> None:
    for text in ("", "a,b\n1,2\n", "\x00", "Date,Workout Name\n"):
        with pytest.raises(NotALog):
            parsed(text, timezone=BERLIN)


def test_sets_and_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    row = "2024-01-15 18:30:00,A,30m,Squat,1,100,5,0,0,,,\n"
    log = parsed(STRONG + row * (MAX_SETS_A_WORKOUT + 2), timezone=BERLIN, weight_unit="kg")
    assert len(log.workouts[0].sets) == MAX_SETS_A_WORKOUT
    assert len(log.errors) == 2
    monkeypatch.setattr(strength_csv, "MAX_ROWS", 3)
    log = parsed(STRONG + row * 5, timezone=BERLIN, weight_unit="kg")
    assert (len(log.workouts[0].sets), len(log.errors)) == (3, 1)


def test_a_line_that_cannot_be_taken_apart_ends_the_reading() -> None:
    row = "2024-01-15 18:30:00,A,30m,Squat,1,100,5,0,0,,,\n"
    log = parsed(STRONG + row + "x" * 200_000 + "\n" + row, timezone=BERLIN, weight_unit="kg")
    assert len(log.workouts[0].sets) == 1
    assert "the rest was not read" in log.errors[0].detail


@given(st.lists(st.lists(st.text(max_size=12), max_size=14), max_size=8), st.sampled_from([STRONG, HEVY]))
def test_whatever_stands_in_the_rows(rows: list[list[str]], header: str) -> None:
    try:
        log = parsed(
            header + "\n".join(",".join(row) for row in rows), timezone=BERLIN, weight_unit="kg", distance_unit="km"
        )
    except NotALog:
        return
    assert all(workout.sets for workout in log.workouts)


@pytest.mark.parametrize(
    ("date", "zone"),
    [("9999-12-31 23:59:00", "UTC"), ("0001-01-01 00:00:00", "Asia/Tokyo"), ("1901-01-01 00:00:00", "UTC")],
)
def test_a_start_in_no_time_of_this_app_is_told(date: str, zone: str) -> None:
    log = parsed(f"{STRONG}{date},Push,1h,Bench,1,,5,,,,,\n", timezone=zone)
    assert log.workouts == []
    assert [error.row for error in log.errors] == [2]


@pytest.mark.parametrize("header", ["a" * 200_000, "a\rb\n", STRONG.strip() + "," * 100 + "\n"])
def test_a_first_line_that_is_none(header: str) -> None:
    with pytest.raises(NotALog):
        parsed(header, timezone=BERLIN)


def test_wrong_rows_and_workouts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strength_csv, "MAX_WRONG_ROWS", 2)
    wrong = parsed(STRONG + "x,Push,1h,Bench,1,,5,,,,,\n" * 9, timezone=BERLIN)
    assert [error.row for error in wrong.errors] == [2, 3, 3]
    monkeypatch.setattr(strength_csv, "MAX_WORKOUTS", 2)
    rows = "".join(f"2026-05-01 0{hour}:00:00,Push,1h,Bench,1,,5,,,,,\n" for hour in (1, 2, 3, 1))
    log = parsed(STRONG + rows, timezone=BERLIN)
    assert [len(workout.sets) for workout in log.workouts] == [2, 1]
    assert [error.row for error in log.errors] == [4]
