import msgspec
import pytest
from msgspec import UNSET

from sync.document import components
from sync.schema import COLLECTIONS, PLAIN_PATHS, SPORTS


def test_the_collections_are_the_contracts() -> None:
    expected = {"workouts", "routines", "exercises", "measurements", "goals", "nutrition", "preferences"}
    assert set(COLLECTIONS) == expected
    assert list(COLLECTIONS["workouts"]["sport"].values or ()) == list(SPORTS)


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_every_document_can_be_deleted(collection: str) -> None:
    assert "deleted" in PLAIN_PATHS[collection]


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_fields_are_paths_and_only_children_have_fields(collection: str) -> None:
    for name, field in COLLECTIONS[collection].items():
        assert components(name) == [name]
        assert (field.fields is not UNSET) == (field.shape == "children")
        assert (name in PLAIN_PATHS[collection]) == (field.shape == "register")
        if field.fields is not UNSET:
            assert {"pos", "deleted"} <= set(field.fields)
            assert "id" not in field.fields


def test_a_workout_has_what_the_contract_names() -> None:
    named = """title sport source started_at ended_at timezone utc_offset_s distance_m elapsed_time_s timer_time_s moving_time_s
        elevation_gain_m energy_kcal avg_hr_bpm max_hr_bpm avg_power_w rpe notes tags sets laps tracks routine_id"""
    assert set(named.split()) <= set(COLLECTIONS["workouts"])
    sets, laps = COLLECTIONS["workouts"]["sets"].fields, COLLECTIONS["workouts"]["laps"].fields
    assert sets is not UNSET
    assert laps is not UNSET
    in_a_set = "exercise kind reps weight_kg duration_s distance_m rpe rir rest_s completed pos"
    in_a_lap = "trigger started_at distance_m elapsed_time_s timer_time_s avg_hr_bpm pos"
    assert set(in_a_set.split()) <= set(sets)
    assert set(in_a_lap.split()) <= set(laps)


def test_the_schema_goes_over_the_wire() -> None:
    told = msgspec.json.decode(msgspec.json.encode(COLLECTIONS))
    assert told["nutrition"]["water_ml"] == {"shape": "counter", "unit": "ml"}
    assert told["workouts"]["title"] == {"type": "string"}
