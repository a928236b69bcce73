from typing import Any

import httpx
from pymongo.asynchronous.database import AsyncDatabase

from tests.fitness_api.client import Json, bearer, registered
from tests.fitness_api.oauth import administrator

Database = AsyncDatabase[dict[str, Any]]

COACH: Json = {
    "name": "Coach",
    "redirect_uris": ["https://coach.example/done"],
    "grant_types": ["authorization_code", "refresh_token"],
    "scopes": ["workouts:read"],
    "confidential": True,
}


async def test_a_client_is_registered_listed_and_removed(api: httpx.AsyncClient, database: Database) -> None:
    admin = await administrator(api, database)
    answer = await api.post("/v1/oauth/clients", json=COACH, headers=admin)
    assert answer.status_code == 201
    made = answer.json()
    assert {name: made[name] for name in COACH} == COACH
    assert len(made["client_secret"]) == 43
    listed = (await api.get("/v1/oauth/clients", headers=admin)).json()
    assert listed == {"clients": [{name: made[name] for name in made if name != "client_secret"}], "cursor": None}
    stored = await database["oauth_clients"].find_one({})
    assert stored is not None
    assert made["client_secret"] not in str(stored)
    removed = await api.delete(f"/v1/oauth/clients/{made['client_id']}", headers=admin)
    assert removed.status_code == 204
    assert (await api.delete(f"/v1/oauth/clients/{made['client_id']}", headers=admin)).status_code == 404
    assert (await api.get("/v1/oauth/clients", headers=admin)).json()["clients"] == []


async def test_a_public_client_has_no_secret(api: httpx.AsyncClient, database: Database) -> None:
    admin = await administrator(api, database)
    answer = await api.post("/v1/oauth/clients", json={**COACH, "confidential": False}, headers=admin)
    assert "client_secret" not in answer.json()


async def test_the_list_is_paged(api: httpx.AsyncClient, database: Database) -> None:
    admin = await administrator(api, database)
    made = {(await api.post("/v1/oauth/clients", json=COACH, headers=admin)).json()["client_id"] for _ in range(5)}
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await api.get("/v1/oauth/clients", params={"limit": 2, "cursor": cursor}, headers=admin)).json()
        assert len(page["clients"]) <= 2
        seen += [client["client_id"] for client in page["clients"]]
        cursor = page["cursor"]
    assert seen == sorted(made)
    for wrong in ({"limit": "0"}, {"limit": "201"}, {"limit": "x"}, {"cursor": "x" * 65}):
        assert (await api.get("/v1/oauth/clients", params=wrong, headers=admin)).status_code == 422


async def test_a_bad_one_is_named(api: httpx.AsyncClient, database: Database) -> None:
    admin = await administrator(api, database)
    wrongs: tuple[tuple[Json, str], ...] = (
        ({"name": ""}, "/name"),
        ({"redirect_uris": ["http://coach.example/"]}, "/redirect_uris/0"),
        ({"grant_types": ["password"]}, "/grant_types/0"),
        ({"grant_types": ["urn:ietf:params:oauth:grant-type:token-exchange"]}, "/grant_types/0"),
        ({"scopes": ["admin"]}, "/scopes/0"),
        ({"secret": "x"}, "/secret"),
    )
    for wrong, pointer in wrongs:
        answer = await api.post("/v1/oauth/clients", json={**COACH, **wrong}, headers=admin)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_it_is_for_administrators(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    for headers, status in (({}, 401), (bearer(pair), 403)):
        assert (await api.post("/v1/oauth/clients", json=COACH, headers=headers)).status_code == status
        assert (await api.get("/v1/oauth/clients", headers=headers)).status_code == status
        path = "/v1/oauth/clients/0190f3a1-6f5e-7c3b-9d0a-3c5f6a7b8c9d"
        assert (await api.delete(path, headers=headers)).status_code == status
