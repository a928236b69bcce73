"""Workouts over HTTP for clients that do not sync, beside devices that do; and as files and pictures."""

import asyncio
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

import httpx
import msgspec
import pytest

from fitness_api.workouts.decoder_process import decode
from tests.fitness_api.client import Json, bearer, installation, registered
from tests.fitness_api.workouts.recordings import INDOOR, RIDE, RIDE_WITH_PAUSE, recorded

STARTED = "2026-05-01T06:30:00.000Z"


class Client:
    def __init__(self, api: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self.api, self.headers = api, headers

    async def call(self, method: str, path: str = "", **given: Any) -> httpx.Response:
        headers = {**self.headers, **given.pop("headers", {})}
        return await self.api.request(method, f"/v1/workouts{path}", headers=headers, **given)

    async def made(self, **given: Any) -> Json:
        answer = await self.call("POST", json=given)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    async def imported(self, name: str) -> str:
        answer = await self.api.post(
            "/v1/imports", content=recorded(name), headers={**self.headers, "Content-Type": "application/octet-stream"}
        )
        assert answer.status_code == 201, answer.text
        [workout_id] = answer.json()["workouts"]
        return str(workout_id)


@pytest.fixture
async def ada(api: httpx.AsyncClient) -> Client:
    return Client(api, bearer(await registered(api)))


async def test_a_workout_is_made_read_changed_and_deleted(ada: Client) -> None:
    made = await ada.made(title="Legs", sport="strength", tags=["gym"], sets=[{"exercise": "Squat", "reps": 5}])
    assert {name: made[name] for name in ("title", "sport", "tags")} == {
        "title": "Legs",
        "sport": "strength",
        "tags": ["gym"],
    }
    [one] = made["sets"]
    assert (one["exercise"], one["reps"]) == ("Squat", 5)
    path = f"/{made['id']}"
    assert (await ada.call("GET", path)).json() == made
    changed = await ada.call(
        "PATCH", path, json={"title": None, "sets": [*made["sets"], {"exercise": "Lunge", "reps": 8}]}
    )
    assert changed.status_code == 200
    assert changed.json()["title"] is None
    assert [child["reps"] for child in changed.json()["sets"]] == [5, 8]
    assert (await ada.call("DELETE", path)).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        gone = await ada.call(method, path, **({"json": {}} if method == "PATCH" else {}))
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_a_workout_of_an_id_may_be_sent_again(ada: Client) -> None:
    workout = {"id": str(uuid4()), "title": "Run"}
    first, again = await ada.call("POST", json=workout), await ada.call("POST", json=workout)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == workout
    assert first.headers["location"] == f"/v1/workouts/{workout['id']}"
    other = await ada.call("POST", json={**workout, "title": "Ride"})
    assert (other.status_code, other.json()["code"]) == (409, "document_exists")
    raced = await asyncio.gather(*(ada.call("POST", json={"id": str(workout["id"]), "title": "Run"}) for _ in range(5)))
    assert {answer.status_code for answer in raced} == {200}


async def test_a_workout_without_an_id_is_made_once_under_one_idempotency_key(ada: Client) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    answers = [await ada.call("POST", json={"title": "Run"}, headers=key) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len((await ada.call("GET")).json()["workouts"]) == 1


async def test_devices_see_it_and_it_sees_devices(ada: Client) -> None:
    made = await ada.made(title="From the web", started_at=STARTED)
    device_id = (await ada.api.post("/v1/devices", json=installation(), headers=ada.headers)).json()["device_id"]
    synced = (await ada.api.post("/v1/sync", json={"device_id": device_id}, headers=ada.headers)).json()
    [document] = synced["documents"]
    assert document["id"] == made["id"]
    [fields] = document["fields"].values()
    assert fields == {"title": "From the web", "started_at": STARTED}
    stamp = f"{int(next(iter(document['fields'])), 16) + (1 << 21):016x}"
    change = {
        "id": str(uuid4()),
        "collection": "workouts",
        "doc": made["id"],
        "stamp": stamp,
        "set": {"title": "Phone"},
    }
    sent = await ada.api.post("/v1/sync", json={"device_id": device_id, "changes": [change]}, headers=ada.headers)
    assert sent.json()["results"][0]["status"] == "applied"
    assert (await ada.call("GET", f"/{made['id']}")).json()["title"] == "Phone"


async def test_lists_are_filtered_and_paged(ada: Client, api: httpx.AsyncClient) -> None:
    other = Client(api, bearer(await registered(api, "bob@example.org")))
    await other.made(title="Bob's", started_at=STARTED)
    ids = []
    for day in range(1, 8):
        sport = "run" if day % 2 else "ride"
        ids.append((await ada.made(started_at=f"2026-05-{day:02}T06:30:00.000Z", sport=sport))["id"])
    latest_first = ids[::-1]

    async def listed(**asked: Any) -> list[str]:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await ada.call("GET", params={**asked, **({"cursor": cursor} if cursor else {})})
            assert page.status_code == 200, page.text
            found += [workout["id"] for workout in page.json()["workouts"]]
            cursor = page.json()["cursor"]
        return found

    assert await listed(limit=3) == latest_first
    assert await listed(sport="ride") == latest_first[1::2]
    assert await listed(**{"from": "2026-05-03T08:30:00+02:00", "to": "2026-05-05T06:30:00Z"}) == [ids[3], ids[2]]
    page = await ada.call("GET")
    assert (await ada.call("GET", headers={"If-None-Match": page.headers["etag"]})).status_code == 304


@pytest.mark.parametrize(
    "asked",
    [
        {"sport": "chess"},
        {"from": "yesterday"},
        {"to": "2026-05-01T06:30:00"},
        {"limit": "0"},
        {"limit": "101"},
        {"cursor": "x"},
    ],
)
async def test_a_wrong_question_is_422(ada: Client, asked: dict[str, str]) -> None:
    refused = await ada.call("GET", params=asked)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_body")


@pytest.mark.parametrize(
    ("workout", "pointer"),
    [
        ({"id": "x"}, "/id"),
        ({"id": 7}, "/id"),
        ({"tags": "gym"}, "/tags"),
        ({"sets": [{"id": "x"}]}, "/sets/0/id"),
        ({"tracks": ["x"]}, "/tracks"),
        ({"rpe": 2**60}, ""),
        ({"a/b/c/d/e": 1}, ""),
    ],
)
async def test_what_no_workout_is_is_422(ada: Client, workout: Json, pointer: str) -> None:
    refused = await ada.call("POST", json=workout)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_body")
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert (await ada.call("GET")).json()["workouts"] == []


async def test_an_id_is_kept(ada: Client) -> None:
    made = await ada.made(title="Run")
    assert (await ada.call("PATCH", f"/{made['id']}", json=made)).status_code == 200
    assert (await ada.call("PATCH", f"/{made['id']}", json={"id": str(uuid4())})).status_code == 422


async def test_msgpack_carries_the_same(ada: Client) -> None:
    packed = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
    answer = await ada.call("POST", content=msgspec.msgpack.encode({"title": "Run", "rpe": 6.5}), headers=packed)
    made = msgspec.msgpack.decode(answer.content)
    assert (made["title"], made["rpe"]) == ("Run", 6.5)
    assert (await ada.call("GET", f"/{made['id']}")).json() == made


async def test_another_accounts_workout_is_not_there(ada: Client, api: httpx.AsyncClient) -> None:
    bob = Client(api, bearer(await registered(api, "bob@example.org")))
    path = f"/{(await ada.made(title='Mine'))['id']}"
    for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/export?format=tcx"), ("GET", "/chart.svg")):
        assert (await bob.call(method, path + rest)).status_code == 404
    assert (await bob.call("PATCH", path, json={"title": "Bob's"})).status_code == 404
    assert (await ada.call("GET", path)).json()["title"] == "Mine"


@pytest.mark.parametrize("file_format", ["gpx", "tcx", "fit"])
async def test_a_ride_comes_back_as_a_file_that_reads_as_the_ride(ada: Client, file_format: str) -> None:
    workout_id = await ada.imported(RIDE_WITH_PAUSE)
    answer = await ada.call("GET", f"/{workout_id}/export", params={"format": file_format})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="{workout_id}.{file_format}"'
    original, again = decode(recorded(RIDE_WITH_PAUSE)), decode(answer.content)
    assert again.format == file_format
    for stream in ("heart_rate", "position"):
        assert again.sessions[0].streams[stream] == original.sessions[0].streams[stream]
    assert again.sessions[0].sport == "ride"


async def test_indoors_there_is_no_gpx_and_a_note_is_no_fit(ada: Client) -> None:
    indoors = await ada.imported(INDOOR)
    note = (await ada.made(title="Stretching"))["id"]
    for workout_id, file_format in ((indoors, "gpx"), (note, "gpx"), (note, "fit"), (note, "tcx")):
        refused = await ada.call("GET", f"/{workout_id}/export", params={"format": file_format})
        assert (refused.status_code, refused.json()["code"]) == (409, "not_exportable")
    assert (await ada.call("GET", f"/{indoors}/export", params={"format": "tcx"})).status_code == 200
    assert (await ada.call("GET", f"/{indoors}/export", params={"format": "kml"})).status_code == 422


async def test_a_workout_has_a_picture(ada: Client) -> None:
    workout_id = await ada.imported(RIDE)
    await ada.call("PATCH", f"/{workout_id}", json={"title": "<b>Stavelot</b>"})
    answer = await ada.call("GET", f"/{workout_id}/chart.svg")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    picture = ET.fromstring(answer.text)
    assert picture.findtext("{http://www.w3.org/2000/svg}title") == "<b>Stavelot</b>"
    assert picture.find("{http://www.w3.org/2000/svg}polyline") is not None
    again = await ada.call("GET", f"/{workout_id}/chart.svg", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    note = (await ada.made(title="Yoga"))["id"]
    assert "Nothing was recorded" in (await ada.call("GET", f"/{note}/chart.svg")).text


async def test_pages_lose_no_workout_whose_start_is_no_instant(api: httpx.AsyncClient) -> None:
    headers = bearer(await registered(api))
    made = set()
    starts: list[Any] = ["", "", "soon", 5, None, ["2026-05-01T06:30:00.000Z"], {}]
    for started_at in starts:
        answer = await api.post("/v1/workouts", json={"started_at": started_at, "title": "x"}, headers=headers)
        assert answer.status_code == 201, answer.text
        made.add(answer.json()["id"])
    found: list[str] = []
    asked: dict[str, Any] = {"limit": 1}
    while True:
        page = (await api.get("/v1/workouts", params=asked, headers=headers)).json()
        found += [workout["id"] for workout in page["workouts"]]
        if page["cursor"] is None:
            break
        asked["cursor"] = page["cursor"]
    assert len(found) == len(made)
    assert set(found) == made
