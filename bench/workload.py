"""The workouts that benchmarks write: about 1.5 KB of JSON each, 33 registers, strength and cardio fields."""

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

SEED = 20_260_101

Fields = dict[str, Any]

_WORDS = (  # of an athlete's notes
    "easy hard long short first last morning evening headwind rain sun cold warm legs heart breath pace hill climb descent "
    "bridge river forest track gym bench squat press row pull rest water felt strong tired fresh sore knee back shoulder "
    "steady fast slow again better worse than week with after before and the of in on through along up down"
)


def workout(random: random.Random) -> Fields:
    fields: Fields = {
        "title": "Evening session at the club",
        "sport": random.choice(("run", "ride", "strength")),
        "source": "phone",
        "started_at": "2026-11-01T17:30:00.000Z",
        "ended_at": "2026-11-01T18:41:12.000Z",
        "timezone": "Europe/Berlin",
        "utc_offset_s": 3600,
        "distance_m": round(random.uniform(1_000, 40_000), 1),
        "elapsed_time_s": random.randrange(1_200, 9_000),
        "timer_time_s": random.randrange(1_200, 9_000),
        "moving_time_s": random.randrange(1_200, 9_000),
        "elevation_gain_m": round(random.uniform(0, 900), 1),
        "energy_kcal": random.randrange(100, 1_500),
        "avg_hr_bpm": random.randrange(95, 165),
        "max_hr_bpm": random.randrange(150, 199),
        "rpe": random.randrange(1, 10),
        "notes": "Felt strong on the climbs, legs heavy at the end. " * 4,
        "tags/outdoor": True,
    }
    for position in range(3):
        child = _uuid(random)
        fields[f"sets/{child}/exercise"] = "barbell back squat"
        fields[f"sets/{child}/reps"] = random.randrange(3, 15)
        fields[f"sets/{child}/weight_kg"] = random.randrange(40, 400) / 2
        fields[f"sets/{child}/completed"] = True
        fields[f"sets/{child}/pos"] = f"a{position}"
    return fields


def update(random: random.Random) -> Fields:
    """Three fields, as a phone that edits a workout sends."""
    return {
        "title": f"Evening session {random.randrange(10_000)}",
        "rpe": random.randrange(1, 10),
        "energy_kcal": random.randrange(100, 1_500),
    }


def told_workout(random: random.Random) -> Fields:
    """A workout with words and instants of its own, where sizes are measured: what all have alike would compress to nothing."""
    words = _WORDS.split()
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=random.randrange(300 * 86_400))
    ended = started + timedelta(seconds=random.randrange(1_200, 9_000))
    return {
        **workout(random),
        "title": " ".join(random.choices(words, k=4)),
        "notes": " ".join(random.choices(words, k=36)),
        "started_at": f"{started:%Y-%m-%dT%H:%M:%S}.000Z",
        "ended_at": f"{ended:%Y-%m-%dT%H:%M:%S}.000Z",
    }


def edit(random: random.Random, workout: Fields) -> Fields:
    """Three of a workout's fields, drawn, with values of another one: what is edited in the course of time."""
    other = told_workout(random)
    return {path: other[path] for path in random.sample([path for path in workout if path in other], 3)}


def workout_ids(random: random.Random, count: int) -> list[str]:
    return [_uuid(random) for _ in range(count)]


def _uuid(random: random.Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
