"""What an app does first: an account, a token, a device."""

from typing import Any
from uuid import uuid4

import httpx

CREDENTIALS = {"email": "ada@example.org", "password": "correct horse"}
Json = dict[str, Any]


async def registered(api: httpx.AsyncClient, email: str = "ada@example.org") -> Json:
    answer = await api.post("/v1/auth/register", json={**CREDENTIALS, "email": email})
    assert answer.status_code == 201, answer.text
    pair: Json = answer.json()
    return pair


def bearer(pair: Json) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


def installation(**more: Any) -> Json:
    return {"installation_id": str(uuid4()), "platform": "ios", "app_version": "1.0", **more}


async def device_of(api: httpx.AsyncClient, headers: dict[str, str]) -> Json:
    answer = await api.post("/v1/devices", json=installation(), headers=headers)
    assert answer.status_code == 201, answer.text
    device: Json = answer.json()
    return device
