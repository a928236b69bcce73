"""Statistics over HTTP: of everything that was written before, however late it arrived."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis

from fitness_api import erase
from fitness_api.statistics.fact_store import Drawn, Followed
from fitness_api.statistics.fact_store_mongo import MongoFactStore
from fitness_api.statistics.follow import FactSources, up_to_date
from sync.errors import AccountDeleted
from tests.fitness_api.client import Json, bearer, registered
from tests.fitness_api.erasing import stores_of
from tests.fitness_api.workouts.recordings import RIDE, recorded
from tests.sync.model import new_id

SVG = "image/svg+xml"


class Athlete:
    def __init__(self, api: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self.api, self.headers = api, headers

    async def get(self, what: str, **asked: Any) -> Json:
        answer = await self.api.get(f"/v1/stats/{what}", params=asked, headers=self.headers)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def trained(self, ago: int, **given: Any) -> str:
        at = datetime.fromtimestamp(time.time(), UTC) - timedelta(days=ago)
        began, ended = at.strftime("%Y-%m-%dT12:00:00.000Z"), at.strftime("%Y-%m-%dT13:00:00.000Z")
        workout = {"started_at": began, "ended_at": ended, "sport": "run", **given}
        answer = await self.api.post("/v1/workouts", json=workout, headers=self.headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def is_of(self, **profile: Any) -> None:
        answer = await self.api.patch("/v1/me", json=profile, headers=self.headers)
        assert answer.status_code == 200, answer.text


@pytest.fixture
async def ada(api: httpx.AsyncClient) -> Athlete:
    return Athlete(api, bearer(await registered(api)))


async def test_a_late_workout_closes_a_streak_and_a_deleted_one_opens_it(ada: Athlete) -> None:
    for ago in (0, 1, 3):
        await ada.trained(ago)
    assert (await ada.get("streaks"))["current"]["days"] == 2
    late = await ada.trained(2)
    found = await ada.get("streaks")
    assert (found["current"]["days"], found["longest"]["days"], found["today"]) == (
        4,
        4,
        datetime.fromtimestamp(time.time(), UTC).date().isoformat(),
    )
    await ada.api.delete(f"/v1/workouts/{late}", headers=ada.headers)
    assert (await ada.get("streaks"))["current"]["days"] == 2


async def test_weeks_sum_up_what_was_done(ada: Athlete) -> None:
    await ada.trained(0, distance_m=5_000, sets=[{"exercise": "Squat", "reps": 5, "weight_kg": 100}])
    [week] = (await ada.get("weekly", weeks=1))["weeks"]
    assert (week["workouts"], week["distance_m"], week["elapsed_s"], week["volume_kg"]) == (1, 5_000, 3_600, 500)
    assert len((await ada.get("weekly"))["weeks"]) == 12


async def test_a_real_ride_has_its_records_zones_and_load(ada: Athlete) -> None:
    headers = {**ada.headers, "Content-Type": "application/octet-stream"}
    imported = await ada.api.post("/v1/imports", content=recorded(RIDE), headers=headers)
    assert imported.status_code == 201
    records = await ada.get("records")
    power = {record["seconds"]: record["watts"] for record in records["power"]}
    assert set(power) == {5, 60, 300, 1_200, 3_600}
    assert power[5] > power[60] > power[1_200] > power[3_600] > 219
    efforts = {record["distance_m"]: record["seconds"] for record in records["distances"]}
    assert {1_000, 10_000, 42_195} <= set(efforts)
    assert efforts[10_000] > 10 * efforts[1_000]
    assert records["longest_distance_m"]["value"] == 57_567.24

    unknown = await ada.get("zones")
    assert (unknown["unknown_s"], sum(unknown["seconds"])) == (8_357, 0)
    await ada.is_of(hr_max_bpm=190, hr_rest_bpm=50, sex="female")
    zones = await ada.get("zones")
    assert (sum(zones["seconds"]), zones["unknown_s"]) == (8_357, 0)
    assert await ada.get("zones", **{"from": "2019-09-21"}) == {**zones, "seconds": [0] * 6}
    assert sum((await ada.get("zones", model="percent_hr_reserve"))["seconds"]) == 8_357
    load = await ada.get("load", days=30)
    assert (load["method"], len(load["days"])) == ("banister_women", 30)


async def test_load_of_today(ada: Athlete) -> None:
    await ada.is_of(hr_max_bpm=190, hr_rest_bpm=50)
    await ada.trained(0)
    load = await ada.get("load")
    assert (load["unknown"], len(load["days"]), load["days"][-1]["load"]) == (1, 90, 0)
    picture = await ada.api.get("/v1/stats/load.svg", headers=ada.headers)
    assert (picture.status_code, picture.headers["content-type"]) == (200, SVG)


async def test_an_answer_is_given_again_until_something_changes(ada: Athlete, api: httpx.AsyncClient) -> None:
    await ada.trained(0, distance_m=1_000)
    first = await api.get("/v1/stats/records", headers=ada.headers)
    tagged = {**ada.headers, "If-None-Match": first.headers["etag"]}
    assert (await api.get("/v1/stats/records", headers=tagged)).status_code == 304
    await ada.trained(1, distance_m=2_000)
    again = await api.get("/v1/stats/records", headers=tagged)
    assert (again.status_code, again.json()["longest_distance_m"]["value"]) == (200, 2_000)
    bob = Athlete(api, bearer(await registered(api, "bob@example.org")))
    assert (await bob.get("records"))["longest_distance_m"] is None


async def test_facts_of_another_version_or_epoch_are_drawn_anew(
    ada: Athlete, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await ada.trained(0, distance_m=1_000)
    await ada.get("records")
    for stale in ({"version": 0}, {"epoch": 1}, {"seq": 10**6}):
        await database["workout_facts"].delete_many({"facts": {"$exists": True}})
        await database["workout_facts"].update_many({"seq": {"$exists": True}}, {"$set": stale})
        assert (await ada.get("weekly", weeks=2))["weeks"][-1]["workouts"] + (await ada.get("weekly", weeks=2))[
            "weeks"
        ][0]["workouts"] == 1
        assert await database["workout_facts"].count_documents({"facts": {"$exists": True}}) == 1


async def test_facts_that_an_erasure_overtakes_are_removed_by_their_writer(
    ada: Athlete, api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await ada.trained(0)
    user_id = (await api.get("/v1/me", headers=ada.headers)).json()["user_id"]
    erased = stores_of(database)

    class Overtaken(MongoFactStore):
        async def keep(self, user_id: str, drawn: Sequence[Drawn], of: Followed) -> None:
            await erase.account(erased, user_id, now_ms=1)
            await super().keep(user_id, drawn, of)

    sources = FactSources(erased.sync, erased.tracks, Overtaken(database))
    with pytest.raises(AccountDeleted):
        await up_to_date(sources, user_id, places=asyncio.Semaphore(1))
    assert await database["workout_facts"].count_documents({"user_id": user_id}) == 0


async def test_workouts_without_a_zone_follow_the_account_to_a_new_one(ada: Athlete) -> None:
    at = datetime.fromtimestamp(time.time(), UTC) - timedelta(days=10)
    for told in ({}, {"timezone": "UTC"}):
        await ada.trained(10, started_at=at.strftime("%Y-%m-%dT00:30:00.000Z"), **told)
    assert (await ada.get("streaks"))["longest"]["days"] == 1
    await ada.is_of(timezone="America/Los_Angeles")
    assert (await ada.get("streaks"))["longest"]["days"] == 2


async def test_an_answer_of_another_version_is_reckoned_anew(ada: Athlete, redis: Redis) -> None:
    await ada.trained(0, distance_m=1_000)
    first = await ada.get("records")
    for key in [key async for key in redis.scan_iter("stats:*")]:
        await redis.set(key, b"\x80")
    assert await ada.get("records") == first


_BEYOND = "0001-01-01T00:00:00+14:00"


@pytest.mark.parametrize(
    "document",
    [
        {"started_at": 5, "sets": [{"reps": "x", "weight_kg": [], "exercise": {}}], "timezone": {}, "sport": []},
        {"started_at": "0001-01-01T00:00:00Z", "utc_offset_s": -3_600},
        {"started_at": _BEYOND, "timezone": "Asia/Tokyo"},
        {"started_at": "9999-12-31T23:59:59Z", "ended_at": _BEYOND, "timezone": "../etc/passwd"},
        {"elapsed_time_s": 2**53, "laps": [{"started_at": _BEYOND, "timer_time_s": 2**53}]},
    ],
)
async def test_no_workout_spoils_the_statistics(ada: Athlete, document: dict[str, Any]) -> None:
    workout_id = await ada.trained(0, **document)
    chunk = {"start": "9999-12-31T23:00:00Z", "offsets_ms": [0, 1, 2, 3], "values": [10**15, -(10**15), 0, 500_000]}
    early = {**chunk, "start": "1970-01-01T00:00:00Z"}
    for stream in ("heart_rate", "power", "speed", "altitude", "cadence"):
        for body in (early, chunk):
            path = f"/v1/workouts/{workout_id}/tracks/{stream}/{new_id()}"
            assert (await ada.api.put(path, json=body, headers=ada.headers)).status_code == 201
    await ada.is_of(hr_max_bpm=190, hr_rest_bpm=50)
    for what in ("weekly", "records", "zones", "load", "streaks"):
        await ada.get(what)
    for path in ("/v1/stats/load.svg", f"/v1/workouts/{workout_id}/chart.svg"):
        picture = await ada.api.get(path, headers=ada.headers)
        assert (picture.status_code, len(picture.content) < 200_000) == (200, True)
    for name in ("tcx", "fit"):
        answer = await ada.api.get(f"/v1/workouts/{workout_id}/export", params={"format": name}, headers=ada.headers)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("weekly", {"weeks": "0"}),
        ("weekly", {"weeks": "531"}),
        ("load", {"days": "x"}),
        ("load.svg", {"days": "3661"}),
        ("zones", {"model": "percent_lthr"}),
        ("zones", {"from": "yesterday"}),
    ],
)
async def test_a_wrong_question_is_422(ada: Athlete, what: str, asked: dict[str, str]) -> None:
    answer = await ada.api.get(f"/v1/stats/{what}", params=asked, headers=ada.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
