"""The workouts that benchmarks write: about 1.5 KB of JSON each, 33 registers, strength and cardio fields."""

import random
import uuid
from typing import Any

SEED = 20_260_101

Fields = dict[str, Any]


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


def workout_ids(random: random.Random, count: int) -> list[str]:
    return [_uuid(random) for _ in range(count)]


def _uuid(random: random.Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
