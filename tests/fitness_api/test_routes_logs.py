"""Training logs over HTTP, and what becomes of them in an account."""

from typing import Any

import httpx
import pytest

from tests.fitness_api.client import Json, bearer, registered
from tests.fitness_api.workouts.test_strength_csv import HEVY, STRONG

ROWS = [
    "2024-01-15 18:30:00,Push,1h,Bench Press,1,100,5,0,0,,,8\n",
    "2024-01-15 18:30:00,Push,1h,Bench Press,2,100,4,0,0,,,\n",
    "2024-01-17 18:30:00,Pull,1h,Deadlift,1,140,5,0,0,,,\n",
    "2024-01-18 18:30:00,Pull,soon,Deadlift,1,140,5,0,0,,,\n",
]


@pytest.fixture
async def ada(api: httpx.AsyncClient) -> dict[str, str]:
    return {**bearer(await registered(api)), "Content-Type": "text/csv"}


async def sent(api: httpx.AsyncClient, who: dict[str, str], text: str | bytes, **asked: str) -> httpx.Response:
    return await api.post("/v1/imports/log", content=text, headers=who, params={"weight_unit": "kg", **asked})


async def listed(api: httpx.AsyncClient, who: dict[str, str]) -> list[Json]:
    workouts: list[Json] = (await api.get("/v1/workouts", headers=who)).json()["workouts"]
    return workouts


async def test_a_dry_run_tells_what_would_be_made(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    answer = await sent(api, ada, STRONG + "".join(ROWS), dry_run="true")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["app"], told["dry_run"], told["new"], told["sets"], told["wrong_rows"]) == ("strong", True, None, 3, 1)
    assert told["errors"] == [{"row": 5, "detail": "'soon' is no duration, such as 1h 5m."}]
    assert await listed(api, ada) == []
    done = await sent(api, ada, STRONG + "".join(ROWS))
    assert (done.status_code, done.json()) == (201, {**told, "dry_run": False, "new": 2})


async def test_a_log_is_workouts_of_sets(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    made = (await sent(api, ada, STRONG + "".join(ROWS), timezone="Europe/Berlin")).json()
    pull, push = await listed(api, ada)
    assert [push["id"], pull["id"]] == made["workouts"]
    assert (push["title"], push["sport"], push["source"]) == ("Push", "strength", "strong_import")
    assert (push["started_at"], push["ended_at"]) == ("2024-01-15T17:30:00.000Z", "2024-01-15T18:30:00.000Z")
    first, second = push["sets"]
    assert (first["exercise"], first["reps"], first["weight_kg"], first["rpe"], second["reps"]) == (
        "Bench Press",
        5,
        100,
        8,
        4,
    )
    records = (await api.get("/v1/stats/records", headers=ada)).json()["lifts"]
    assert [(record["exercise"], record["weight_kg"]) for record in records] == [
        ("Bench Press", 100),
        ("Deadlift", 140),
    ]


async def test_next_months_export_adds_what_is_new_and_leaves_what_was_done_here(
    api: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    first = (await sent(api, ada, STRONG + "".join(ROWS[:3]))).json()["workouts"]
    as_json = {**ada, "Content-Type": "application/json"}
    await api.patch(f"/v1/workouts/{first[0]}", json={"title": "Bench day"}, headers=as_json)
    await api.delete(f"/v1/workouts/{first[1]}", headers=ada)
    later = "2024-02-01 18:30:00,Legs,1h,Squat,1,120,5,0,0,,,\n"
    again = await sent(api, ada, STRONG + "".join(ROWS[:3]) + later)
    assert (again.status_code, again.json()["new"]) == (201, 1)
    assert [workout["title"] for workout in await listed(api, ada)] == ["Legs", "Bench day"]
    same = await sent(api, ada, STRONG + "".join(ROWS[:3]) + later)
    assert (same.status_code, same.json()["new"]) == (200, 0)


async def test_many_workouts_are_kept_in_several_transactions(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    rows = [
        f"2023-{month:02}-{day:02} 07:00:00,A,1h,Squat,1,100,5,0,0,,,\n"
        for month in range(1, 8)
        for day in range(1, 19)
    ]
    answer = await sent(api, ada, STRONG + "".join(rows))
    assert (answer.json()["new"], len(set(answer.json()["workouts"]))) == (126, 126)
    week = (await api.get("/v1/stats/streaks", headers=ada)).json()
    assert week["longest"]["days"] == 18


async def test_the_zone_is_the_accounts_unless_another_is_named(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    as_json = {**ada, "Content-Type": "application/json"}
    await api.patch("/v1/me", json={"timezone": "America/New_York"}, headers=as_json)
    await sent(api, ada, STRONG + ROWS[0])
    assert (await listed(api, ada))[0]["started_at"] == "2024-01-15T23:30:00.000Z"


@pytest.mark.parametrize(
    ("text", "asked", "status", "code"),
    [
        ("a,b\n1,2\n", {}, 422, "log_unreadable"),
        ("", {}, 422, "log_unreadable"),
        (STRONG + ROWS[0], {"weight_unit": "stone"}, 422, "invalid_body"),
        (STRONG + ROWS[0].replace("5,0,0", "5,3,0"), {}, 422, "log_unreadable"),
        (STRONG + ROWS[0], {"timezone": "Mars/Olympus"}, 422, "invalid_body"),
        (STRONG + ROWS[0], {"dry_run": "perhaps"}, 422, "invalid_body"),
        (b"\xff\xfe\x00", {}, 400, "malformed_body"),
    ],
)
async def test_what_cannot_be_read_is_refused(
    api: httpx.AsyncClient, ada: dict[str, str], text: str | bytes, asked: dict[str, str], status: int, code: str
) -> None:
    answer = await sent(api, ada, text, **asked)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await listed(api, ada) == []


async def test_logs_of_others_are_others(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    bob: dict[str, Any] = {**bearer(await registered(api, "bob@example.org")), "Content-Type": "text/csv"}
    row = 'Pull,"15 Jan 2024, 18:30",,,Deadlift,,,0,normal,60,10,,,\n'
    mine, his = (await sent(api, ada, HEVY + row)).json(), (await sent(api, bob, HEVY + row)).json()
    assert not set(mine["workouts"]) & set(his["workouts"])
    assert len(await listed(api, bob)) == 1
