"""The collections of an account, and the shape of each field the server knows. Fields it does not know are kept as sent.

A shape tells how a field's paths are read: `register` (one path), `set` (`field/<element>` = true or false), `counter`
(`field/<replica>` = that replica's total), `children` (`field/<child id>/<field>`). Merging needs none of this: every path
is a register.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

Shape = Literal["register", "set", "counter", "children"]

VERSION: Final = 1


class Field(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`type` and `unit` tell apps what to write; a register takes any JSON value, so that a newer app is never refused."""

    shape: Shape = "register"
    type: str | UnsetType = UNSET
    unit: str | UnsetType = UNSET
    values: tuple[str, ...] | UnsetType = UNSET
    fields: "Mapping[str, Field] | UnsetType" = UNSET


def _text() -> Field:
    return Field(type="string")


def _instant() -> Field:
    return Field(type="instant")


def _number(unit: str | UnsetType = UNSET) -> Field:
    return Field(type="number", unit=unit)


def _integer(unit: str | UnsetType = UNSET) -> Field:
    return Field(type="integer", unit=unit)


def _flag() -> Field:
    return Field(type="boolean")


def _id() -> Field:
    return Field(type="uuid")


def _one_of(*values: str) -> Field:
    return Field(type="string", values=values)


SPORTS: Final = ("run", "ride", "swim", "walk", "hike", "row", "strength", "yoga", "hiit", "other")

_SET_FIELDS: Final = {
    "exercise": _text(),
    "kind": _one_of("normal", "warmup", "drop", "failure"),
    "reps": _integer(),
    "weight_kg": _number("kg"),
    "duration_s": _number("s"),
    "distance_m": _number("m"),
    "rpe": _number(),
    "rir": _number(),
    "rest_s": _number("s"),
    "completed": _flag(),
    "pos": _text(),
    "deleted": _flag(),
}

_COMMON: Final = {"deleted": _flag(), "created_at": _instant()}

COLLECTIONS: Final[Mapping[str, Mapping[str, Field]]] = {
    "workouts": {
        **_COMMON,
        "title": _text(),
        "sport": _one_of(*SPORTS),
        "source": _text(),
        "source_device": _text(),
        "started_at": _instant(),
        "ended_at": _instant(),
        "timezone": Field(type="iana_timezone"),
        "utc_offset_s": _integer("s"),
        "distance_m": _number("m"),
        "elapsed_time_s": _number("s"),
        "timer_time_s": _number("s"),
        "moving_time_s": _number("s"),
        "elevation_gain_m": _number("m"),
        "energy_kcal": _number("kcal"),
        "avg_hr_bpm": _number("bpm"),
        "max_hr_bpm": _number("bpm"),
        "avg_power_w": _number("W"),
        "rpe": _number(),
        "notes": _text(),
        "routine_id": _id(),
        "tags": Field(shape="set"),
        "sets": Field(shape="children", fields=_SET_FIELDS),
        "laps": Field(
            shape="children",
            fields={
                "trigger": _text(),
                "started_at": _instant(),
                "distance_m": _number("m"),
                "elapsed_time_s": _number("s"),
                "timer_time_s": _number("s"),
                "avg_hr_bpm": _number("bpm"),
                "pos": _text(),
                "deleted": _flag(),
            },
        ),
        "tracks": Field(shape="set"),
        "imports": Field(shape="set"),
    },
    "routines": {
        **_COMMON,
        "title": _text(),
        "notes": _text(),
        "tags": Field(shape="set"),
        "slots": Field(
            shape="children",
            fields={
                "exercise": _text(),
                "exercise_id": _id(),
                "sets": _integer(),
                "reps": _integer(),
                "weight_kg": _number("kg"),
                "duration_s": _number("s"),
                "rest_s": _number("s"),
                "notes": _text(),
                "pos": _text(),
                "deleted": _flag(),
            },
        ),
    },
    "exercises": {
        **_COMMON,
        "name": _text(),
        "category": _text(),
        "equipment": _text(),
        "notes": _text(),
        "muscles": Field(shape="set"),
    },
    "measurements": {
        **_COMMON,
        "kind": _text(),
        "measured_at": _instant(),
        "value": _number(),
        "unit": _text(),
        "method": _text(),
        "source": _text(),
        "notes": _text(),
    },
    "goals": {
        **_COMMON,
        "title": _text(),
        "kind": _text(),
        "period": _one_of("day", "week", "month", "year", "once"),
        "target": _number(),
        "unit": _text(),
        "starts_on": _text(),
        "ends_on": _text(),
        "progress": Field(shape="counter"),
        "sports": Field(shape="set"),
    },
    "nutrition": {
        **_COMMON,
        "day": _text(),
        "water_ml": Field(shape="counter", unit="ml"),
        "energy_kcal": Field(shape="counter", unit="kcal"),
        "notes": _text(),
        "meals": Field(
            shape="children",
            fields={
                "name": _text(),
                "eaten_at": _instant(),
                "energy_kcal": _number("kcal"),
                "protein_g": _number("g"),
                "carbohydrate_g": _number("g"),
                "fat_g": _number("g"),
                "pos": _text(),
                "deleted": _flag(),
            },
        ),
    },
    "preferences": {**_COMMON, "name": _text(), "value": Field(type="any")},
}

# Every collection's one-component paths of registers: the paths that need no further look.
PLAIN_PATHS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(field for field, spec in fields.items() if spec.shape == "register")
    for name, fields in COLLECTIONS.items()
}
