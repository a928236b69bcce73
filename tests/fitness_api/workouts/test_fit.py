"""Messages to sessions: what is absent stays absent, what is nonsense becomes absent."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.workouts import fit
from fitness_api.workouts.recording import Recording, Session
from tests.fitness_api.workouts.recordings import START_MS, at


def record(second: float, **fields: Any) -> dict[str, Any]:
    return {"timestamp": at(second), **fields}


def session(sport: str = "running", *, start: float = 0, elapsed_s: float = 60, **fields: Any) -> dict[str, Any]:
    return {
        "timestamp": at(start + elapsed_s),
        "start_time": at(start),
        "sport": sport,
        "total_elapsed_time": elapsed_s,
        **fields,
    }


def only(recording: Recording) -> Session:
    (found,) = recording.sessions
    return found


def of(*records: dict[str, Any], **session_fields: Any) -> Session:
    return only(fit.recording({"session_mesgs": [session(**session_fields)], "record_mesgs": list(records)}))


def values(made: Session, stream: Any) -> list[Any]:
    return list(made.streams[stream].values)


def test_enhanced_fields_are_preferred_and_zero_is_a_value() -> None:
    made = of(
        record(0, speed=3.0, enhanced_speed=3.25, altitude=100.0, enhanced_altitude=-20.19999999999999, power=0),
        record(1, speed=0.0, altitude=0.0, power=250),
    )
    assert values(made, "speed") == [3.25, 0.0]
    assert values(made, "altitude") == [-20.2, 0.0]
    assert values(made, "power") == [0, 250]


def test_a_strap_without_contact_gives_no_heart_rate_and_no_stream_is_empty() -> None:
    made = of(record(0, heart_rate=0), record(1, heart_rate=None), record(2, heart_rate=141))
    assert (made.streams["heart_rate"].times_ms, values(made, "heart_rate")) == ([START_MS + 2000], [141])
    assert "power" not in made.streams
    assert of(record(0, heart_rate=0)).streams == {}


@pytest.mark.parametrize(
    ("sport", "expected"),
    [("running", [166, 167]), ("walking", [166, 167]), ("hiking", [166, 167]), ("cycling", [83, 83.5])],
)
def test_strides_become_steps_and_revolutions_stay(sport: str, expected: list[float]) -> None:
    made = of(record(0, cadence=83, fractional_cadence=0.0), record(1, cadence=83, fractional_cadence=0.5), sport=sport)
    assert values(made, "cadence") == expected


def test_positions_are_degrees_and_half_a_one_is_none() -> None:
    made = of(
        record(0, position_lat=601206755, position_long=70393369),
        record(1, position_lat=601206755),
        record(2, position_lat=2**31 - 2, position_long=0),
        record(3, position_lat=-(2**30), position_long=-(2**31)),
    )
    assert values(made, "position") == [(50.3925681, 5.900304), (-90.0, -180.0)]


def test_heartbeats_come_at_their_records_time_with_none_lost() -> None:
    made = only(
        fit.recording(
            {
                "session_mesgs": [session()],
                "record_mesgs": [record(0, heart_rate=60)],
                "hrv_mesgs": [
                    {"timestamp": None, "time": 1.001},
                    {"timestamp": at(1), "time": [0.998, None, 1.016, 0.0]},
                    {"timestamp": at(2), "time": [0.75, float("nan")]},
                ],
            }
        )
    )
    beats = made.streams["rr"]
    assert beats.values == [1001, 998, 1016, 750]
    assert beats.times_ms == [START_MS, START_MS + 1000, START_MS + 1000, START_MS + 2000]


def test_the_three_times_stay_apart() -> None:
    made = of(record(0, heart_rate=1), total_timer_time=50.5, total_moving_time=48.25, elapsed_s=60.75)
    assert (made.elapsed_time_s, made.timer_time_s, made.moving_time_s) == (60.75, 50.5, 48.25)
    assert of(record(0, heart_rate=1)).moving_time_s is None


def test_the_end_is_that_of_the_activity_and_not_when_it_was_saved() -> None:
    message = session(elapsed_s=60)
    message["timestamp"] = at(600)
    made = only(fit.recording({"session_mesgs": [message], "record_mesgs": [record(0), record(70)]}))
    assert made.ended_at_ms == START_MS + 70_000


@pytest.mark.parametrize(
    ("sport", "sub_sport", "expected"),
    [
        ("running", "trail", "run"), ("cycling", "indoor_cycling", "ride"), ("e_biking", None, "ride"), ("swimming", None, "swim"),
        ("training", "strength_training", "strength"), ("training", "yoga", "yoga"), ("fitness_equipment", "treadmill", "run"),
        ("fitness_equipment", "indoor_rowing", "row"), ("training", "cardio_training", "other"), ("hiit", None, "hiit"),
        ("walking", None, "walk"), ("hiking", None, "hike"), ("rowing", None, "row"), ("tennis", None, "other"),
        (253, 7, "other"), (None, None, "other"), (["running"], None, "run"), ({}, [], "other"),
    ],
)  # fmt: skip
def test_sports(sport: Any, sub_sport: Any, expected: str) -> None:
    assert of(record(0, heart_rate=1), sport=sport, sub_sport=sub_sport).sport == expected


def test_records_and_laps_go_to_their_sessions_and_transitions_are_told() -> None:
    recording = fit.recording(
        {
            # Devices write sessions where they end, some of them only at the end of the file: order says nothing.
            "session_mesgs": [
                session("cycling", start=100),
                session("swimming"),
                session("transition", start=60, elapsed_s=40),
            ],
            "record_mesgs": [record(second, heart_rate=100 + second) for second in (-5, 0, 59, 60, 99, 100, 159)],
            "lap_mesgs": [
                {"start_time": at(0)},
                {"start_time": at(60)},
                {"start_time": at(100)},
                {"start_time": at(130)},
            ],
        }
    )
    assert [made.sport for made in recording.sessions] == ["swim", "ride"]
    assert [values(made, "heart_rate") for made in recording.sessions] == [[95, 100, 159], [200, 259]]
    assert [len(made.laps) for made in recording.sessions] == [1, 2]
    assert recording.warnings == ["A transition between two sports was left out."]


def test_records_in_the_wrong_order_are_sorted_and_untimed_ones_told() -> None:
    recording = fit.recording(
        {
            "session_mesgs": [session()],
            "record_mesgs": [
                record(2, heart_rate=102),
                record(1, heart_rate=101),
                {"heart_rate": 99},
                {"timestamp": "noon", "heart_rate": 98},
                # Seconds since the device was switched on, as a date.
                {"timestamp": datetime(1990, 1, 1, tzinfo=UTC), "heart_rate": 97},
                record(86_400 * 40, heart_rate=96),
            ],
        }
    )
    assert values(only(recording), "heart_rate") == [101, 102]
    assert recording.warnings == [
        "3 records without a time were left out.",
        "1 records whose time is far from their session's were left out.",
    ]


def test_a_file_that_broke_off_is_made_whole_from_its_records() -> None:
    recording = fit.recording(
        {
            "sport_mesgs": [{"sport": "rowing", "sub_sport": "generic"}],
            "record_mesgs": [record(second, heart_rate=100 + second, distance=3.0 * second) for second in range(1, 11)],
        },
        damaged=True,
    )
    made = only(recording)
    assert (made.sport, made.started_at_ms, made.ended_at_ms) == ("row", START_MS + 1000, START_MS + 10_000)
    assert (made.distance_m, made.elapsed_time_s, made.timer_time_s) == (27.0, 9.0, None)
    assert (made.avg_hr_bpm, made.max_hr_bpm) == (106, 110)
    assert len(recording.warnings) == 2


def test_a_watch_that_died_in_its_second_sport_keeps_both() -> None:
    messages = {
        "session_mesgs": [session("swimming", elapsed_s=60)],
        "sport_mesgs": [{"sport": "swimming"}, {"sport": "cycling"}],
        "record_mesgs": [record(second, heart_rate=120) for second in (0, 30, 200, 201, 260)],
    }
    damaged = fit.recording(messages, damaged=True)
    assert [(made.sport, len(values(made, "heart_rate"))) for made in damaged.sessions] == [("swim", 2), ("ride", 3)]
    assert [made.sport for made in fit.recording(messages).sessions] == ["swim"]


@pytest.mark.parametrize(
    ("local_s_after_utc", "expected"),
    [(7200, 7200), (7201, 7200), (-12_600, -12_600), (20_700, 20_700), (0, 0), (50_400, 50_400), (54_000, None), (7800, None), (10**6, None)],
)  # fmt: skip
def test_the_local_offset_if_it_is_one(local_s_after_utc: int, expected: int | None) -> None:
    local = round(at(0).timestamp()) - fit.FIT_EPOCH_S + local_s_after_utc
    made = fit.recording(
        {"activity_mesgs": [{"timestamp": at(0), "local_timestamp": local}], "session_mesgs": [session()]}
    )
    assert made.utc_offset_s == expected


def test_the_device_is_named_as_far_as_the_file_tells() -> None:
    def device(**file_id: Any) -> str | None:
        return fit.recording({"file_id_mesgs": [file_id]}).device

    assert device(manufacturer="garmin", product=1836, garmin_product="edge1000") == "garmin edge1000"
    assert (
        device(manufacturer="wahoo_fitness", product_name="ELEMNT\x00\x07 BOLT", product=31)
        == "wahoo_fitness ELEMNT BOLT"
    )
    assert device(product=3) == "3"
    assert device() is None


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3),
    st.datetimes(timezones=st.just(UTC)), st.datetimes(), st.lists(st.none() | st.floats() | st.integers(), max_size=3),
)  # fmt: skip
fields = st.sampled_from(
    [
        *sorted(fit.RECORD_FIELDS),
        "start_time",
        "total_elapsed_time",
        "total_timer_time",
        "total_distance",
        "sport",
        "time",
        "local_timestamp",
        "avg_heart_rate",
        "max_heart_rate",
        "total_ascent",
        "lap_trigger",
        "manufacturer",
        "product",
        "garmin_product",
    ]
)
names = ["file_id_mesgs", "activity_mesgs", "session_mesgs", "lap_mesgs", "record_mesgs", "hrv_mesgs", "sport_mesgs"]
messages = st.dictionaries(st.sampled_from(names), st.lists(st.dictionaries(fields, anything, max_size=8), max_size=5))


@given(messages, st.booleans())
def test_whatever_a_file_says_gives_sessions_that_hold_together(given_messages: Any, damaged: bool) -> None:
    for made in fit.recording(given_messages, damaged=damaged).sessions:
        assert made.started_at_ms <= made.ended_at_ms
        for samples in made.streams.values():
            assert samples.times_ms == sorted(samples.times_ms)
            assert len(samples.times_ms) == len(samples.values) > 0
