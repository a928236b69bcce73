import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from tests.fitness_api.client import Json, bearer, installation, registered

FCM = {"kind": "fcm_token", "value": "a-very-secret-token"}


async def test_a_new_profile_holds_what_was_given_and_nulls(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    answer = await api.get("/v1/me", headers=bearer(pair))
    profile = answer.json()
    assert (profile["email"], profile["email_verified"]) == ("ada@example.org", False)
    assert profile["timezone"] is None
    assert not any("password" in name for name in profile)
    unchanged = await api.get("/v1/me", headers={**bearer(pair), "If-None-Match": answer.headers["etag"]})
    assert unchanged.status_code == 304


async def test_a_patch_changes_what_it_names_and_null_clears(api: httpx.AsyncClient) -> None:
    headers = bearer(await registered(api))
    full = {
        "display_name": "Ada",
        "timezone": "Europe/Berlin",
        "locale": "de-DE",
        "units": "metric",
        "hr_max_bpm": 190,
        "hr_rest_bpm": 50,
        "sex": "female",
        "birth_year": 1990,
    }
    before = (await api.get("/v1/me", headers=headers)).json()
    assert (await api.patch("/v1/me", json=full, headers=headers)).json() == before | full
    assert (await api.patch("/v1/me", json={"units": None}, headers=headers)).json() == before | full | {"units": None}
    assert (await api.patch("/v1/me", json={}, headers=headers)).json() == before | full | {"units": None}
    cleared = await api.patch("/v1/me", json=dict.fromkeys(full), headers=headers)
    assert cleared.json() == before == (await api.get("/v1/me", headers=headers)).json()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"timezone": "Mars/Olympus"}, "/timezone"),
        ({"locale": "x"}, "/locale"),
        ({"units": "furlongs"}, "/units"),
        ({"hr_max_bpm": 300}, "/hr_max_bpm"),
        ({"hr_max_bpm": 180.5}, "/hr_max_bpm"),
        ({"hr_rest_bpm": 100, "hr_max_bpm": 90}, "/hr_rest_bpm"),
        ({"birth_year": 3000}, "/birth_year"),
        ({"email": "eve@example.org"}, "/email"),
        ({"email_verified": True}, "/email_verified"),
        ({"user_id": str(uuid4())}, "/user_id"),
    ],
)
async def test_a_bad_patch_changes_nothing(api: httpx.AsyncClient, change: Json, pointer: str) -> None:
    headers = bearer(await registered(api))
    before = (await api.get("/v1/me", headers=headers)).json()
    answer = await api.patch("/v1/me", json={"display_name": "Eve", **change}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await api.get("/v1/me", headers=headers)).json() == before


async def test_patches_at_the_same_time_are_all_kept(api: httpx.AsyncClient) -> None:
    headers = bearer(await registered(api))
    changes: list[Json] = [
        {"timezone": "UTC"},
        {"locale": "de"},
        {"units": "metric"},
        {"hr_max_bpm": 190},
        {"sex": "male"},
    ]
    answers = await asyncio.gather(*(api.patch("/v1/me", json=change, headers=headers) for change in changes))
    assert {answer.status_code for answer in answers} == {200}
    after = (await api.get("/v1/me", headers=headers)).json()
    assert {name: after[name] for change in changes for name in change} == {
        name: value for change in changes for name, value in change.items()
    }


# ------------------------------------------------------------------------------------------------------------- devices


async def test_an_installation_is_made_once_and_found_after_that(api: httpx.AsyncClient) -> None:
    headers = bearer(await registered(api))
    body = installation(model="iPhone17,1")
    first = await api.post("/v1/devices", json=body, headers=headers)
    assert first.status_code == 201
    assert first.json().keys() == {"device_id", "replica"}
    again = await api.post(
        "/v1/devices", json={**body, "installation_id": body["installation_id"].upper()}, headers=headers
    )
    assert (again.status_code, again.json()) == (200, first.json())


async def test_fifty_registrations_at_once_get_fifty_replicas(api: httpx.AsyncClient) -> None:
    headers = bearer(await registered(api))
    answers = await asyncio.gather(*(api.post("/v1/devices", json=installation(), headers=headers) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["replica"] for answer in answers}) == 50
    listed = (await api.get("/v1/devices", headers=headers)).json()["devices"]
    assert {device["replica"] for device in listed} == {answer.json()["replica"] for answer in answers}


async def test_one_installation_that_registers_twenty_times_at_once_is_made_once(api: httpx.AsyncClient) -> None:
    headers = bearer(await registered(api))
    body = installation()
    answers = await asyncio.gather(*(api.post("/v1/devices", json=body, headers=headers) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.content for answer in answers}) == 1


async def test_a_push_address_is_never_told_and_goes_at_logout(
    api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    headers = bearer(await registered(api))
    made = await api.post("/v1/devices", json=installation(push=FCM), headers=headers)
    device = f"/v1/devices/{made.json()['device_id']}"
    listed = await api.get("/v1/devices", headers=headers)
    assert listed.json()["devices"][0]["push_kind"] == "fcm_token"
    changed = await api.patch(device, json={"app_version": "1.1"}, headers=headers)
    assert changed.json()["push_kind"] == "fcm_token"
    assert FCM["value"] not in made.text + listed.text + changed.text
    cleared = await api.patch(device, json={"push": None}, headers=headers)
    assert cleared.json()["push_kind"] is None
    back = await api.patch(device, json={"push": FCM}, headers=headers)
    assert back.json()["push_kind"] == "fcm_token"
    assert await database["push_addresses"].count_documents({}) == 1
    await api.post("/v1/auth/logout", headers=headers)
    assert await database["push_addresses"].count_documents({}) == 0


async def test_a_push_address_belongs_to_its_last_registrant(api: httpx.AsyncClient) -> None:
    ada, bob = bearer(await registered(api)), bearer(await registered(api, "bob@example.org"))
    for headers in (ada, bob):
        await api.post("/v1/devices", json=installation(push=FCM), headers=headers)
    kinds = [
        (await api.get("/v1/devices", headers=headers)).json()["devices"][0]["push_kind"] for headers in (ada, bob)
    ]
    assert kinds == [None, "fcm_token"]


async def test_anothers_device_is_not_found(api: httpx.AsyncClient) -> None:
    ada, bob = bearer(await registered(api)), bearer(await registered(api, "bob@example.org"))
    made = (await api.post("/v1/devices", json=installation(), headers=ada)).json()
    for name in (made["device_id"], str(uuid4()), "x", made["device_id"].upper()):
        for answer in (
            await api.patch(f"/v1/devices/{name}", json={"model": "x"}, headers=bob),
            await api.delete(f"/v1/devices/{name}", headers=bob),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await api.get("/v1/devices", headers=bob)).json() == {"devices": []}
    assert len((await api.get("/v1/devices", headers=ada)).json()["devices"]) == 1


async def test_a_removed_device_is_gone(api: httpx.AsyncClient) -> None:
    headers = bearer(await registered(api))
    made = (await api.post("/v1/devices", json=installation(), headers=headers)).json()
    device = f"/v1/devices/{made['device_id']}"
    assert (await api.delete(device, headers=headers)).status_code == 204
    assert (await api.delete(device, headers=headers)).status_code == 404
    answer = await api.post(
        "/v1/sync", json={"device_id": made["device_id"], "cursor": "", "limit": 10, "changes": []}, headers=headers
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "unknown_device")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"installation_id": "x"}, "/installation_id"),
        ({"platform": "symbian"}, "/platform"),
        ({"app_version": ""}, "/app_version"),
        ({"push": {"kind": "apns", "value": "x"}}, "/push/kind"),
        ({"push": {"kind": "fid", "value": ""}}, "/push/value"),
        ({"push": {"kind": "fid", "value": "x" * 4097}}, "/push/value"),
    ],
)
async def test_a_bad_registration_is_named(api: httpx.AsyncClient, wrong: Json, pointer: str) -> None:
    headers = bearer(await registered(api))
    answer = await api.post("/v1/devices", json=installation(**wrong), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/me"), ("PATCH", "/v1/me"), ("GET", "/v1/devices"), ("POST", "/v1/devices")]
    + [(method, f"/v1/devices/{uuid4()}") for method in ("PATCH", "DELETE")],
)
async def test_nothing_here_is_for_strangers(api: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await api.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
