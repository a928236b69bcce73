"""What tests of the authorization server begin with: clients, a PKCE pair, accounts that may and may not."""

from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import httpx
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity import single_use
from fitness_api.identity.authorization import clients
from fitness_api.identity.authorization.client_store_mongo import MongoClientStore
from fitness_api.identity.authorization.clients import Client
from fitness_api.identity.scopes import SERVICE_SCOPES
from tests.fitness_api.client import CREDENTIALS, Json, bearer, registered

ISSUER = "http://api.test"
VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = "https://coach.example/done"
SECRET = "s" * 43

Database = AsyncDatabase[dict[str, Any]]


async def client(database: Database, *, confidential: bool = False, **changes: Any) -> Client:
    """Register a client past the endpoint, with SECRET for its secret."""
    made = clients.registered(
        client_id=str(uuid4()),
        name="Coach",
        redirect_uris=(REDIRECT,),
        grant_types=(clients.AUTHORIZATION_CODE, clients.REFRESH_TOKEN, clients.DEVICE_CODE),
        scopes=("workouts:read", "sync", "account"),
        secret_digest=single_use.digest_of(SECRET) if confidential else None,
        now_ms=1_700_000_000_000,
    )
    made = replace(made, **changes)
    await MongoClientStore(database).add(made, most=100)
    return made


def basic(client: Client, secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{client.client_id}:{secret}".encode()).decode()}


def asking(client: Client, **changes: str | None) -> dict[str, str]:
    parameters = {
        "client_id": client.client_id,
        "redirect_uri": REDIRECT,
        "response_type": "code",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "state": "st&te=1",
        **changes,
    }
    return {name: value for name, value in parameters.items() if value is not None}


async def verified(api: httpx.AsyncClient, database: Database, email: str = "ada@example.org") -> Json:
    pair = await registered(api, email)
    await database["accounts"].update_one({"email": email}, {"$set": {"email_verified": True}})
    return pair


async def administrator(api: httpx.AsyncClient, database: Database) -> dict[str, str]:
    """Return the Authorization of an account that holds the scope admin."""
    email = "root@example.org"
    await registered(api, email)
    await database["accounts"].update_one({"email": email}, {"$set": {"granted_scopes": list(SERVICE_SCOPES)}})
    return bearer((await api.post("/v1/auth/login", json={**CREDENTIALS, "email": email})).json())


def answered(location: str, uri: str = REDIRECT) -> dict[str, str]:
    """Return the parameters of a redirect to the client."""
    assert location.startswith(uri), location
    return dict(parse_qsl(urlsplit(location).query))


async def code_of(api: httpx.AsyncClient, pair: Json, client: Client, **changes: str | None) -> str:
    answer = await api.post(
        "/v1/oauth/authorize", json={**asking(client, **changes), "approve": True}, headers=bearer(pair)
    )
    assert answer.status_code == 200, answer.text
    return answered(answer.json()["redirect_to"], changes.get("redirect_uri") or REDIRECT)["code"]


def redeeming(client: Client, code: str, /, **changes: str | None) -> dict[str, str]:
    form = {
        "grant_type": "authorization_code",
        "client_id": client.client_id,
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
        **changes,
    }
    return {name: value for name, value in form.items() if value is not None}
