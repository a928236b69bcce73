"""Whatever is sent to the authorization server, it is answered, and nothing of it is markup or a header."""

from random import Random
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.routes_oauth import GRANTS
from tests.fitness_api.oauth import REDIRECT, asking, basic, client

REQUESTS = 150

NAMES = (
    "grant_type", "client_id", "client_secret", "code", "code_verifier", "redirect_uri", "scope", "state", "token", "device_code",
    "user_code", "response_type", "response_mode", "code_challenge", "code_challenge_method", "next", "request", "form_token", "email",
    "password", "decision", "refresh_token", "subject_token", "subject_token_type", "request_uri", "nonce",
)  # fmt: skip
VALUES = (
    b"", b"x", b"app", b"code", b"S256", b"allow", b"sync", b"account admin", b"\xff\xfe", b"\x00", b"\r\nSet-Cookie: a=b", b"<script>alert(1)</script>",
    b'"><img src=x onerror=x>', b"x" * 3_000, "é\u202e\U0001f4aa".encode(), b"https://evil.example/", b"//evil.example", b"{", b"%", b"a.b.c", b"-1",
    b"/v1/oauth/device", b"BCDF-GHJK", b"../../etc/passwd", b"1e400", b"javascript:alert(1)",
)  # fmt: skip
PATHS = (
    ("POST", "/v1/oauth/token"),
    ("POST", "/v1/oauth/revoke"),
    ("POST", "/v1/oauth/introspect"),
    ("POST", "/v1/oauth/device_authorization"),
    ("POST", "/v1/oauth/consent"),
    ("POST", "/v1/oauth/login"),
    ("POST", "/v1/oauth/logout"),
    ("POST", "/v1/oauth/second-factor"),
    ("POST", "/v1/oauth/device/decision"),
    ("GET", "/v1/oauth/authorize"),
    ("GET", "/v1/oauth/device"),
    ("GET", "/v1/oauth/login"),
    ("GET", "/v1/oauth/second-factor"),
)


@pytest.mark.parametrize("seed", range(3))
async def test_it_is_answered(api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]], seed: int) -> None:
    dice = Random(seed)
    secret = await client(database, confidential=True)
    known = [value.encode() for value in asking(secret).values()]
    for _ in range(REQUESTS):
        method, path = dice.choice(PATHS)
        pairs = [(dice.choice(NAMES), dice.choice((*VALUES, *known))) for _ in range(dice.randrange(12))]
        if dice.random() < 0.5:
            pairs.append(("grant_type", dice.choice([grant.encode() for grant in GRANTS])))
        encoded = "&".join(f"{name}={quote_from_bytes(value)}" for name, value in dict(pairs).items())
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if dice.random() < 0.3:
            headers |= dice.choice(
                (basic(secret), {"Authorization": "Bearer x.y.z"}, {"DPoP": "x.y.z"}, {"Cookie": "login=x.y.z; mfa=x"})
            )
        if method == "GET":
            answer = await api.get(f"{path}?{encoded}", headers=headers)
        else:
            answer = await api.post(path, content=encoded, headers=headers)
        told = f"{method} {path} {encoded} {headers}: {answer.status_code} {answer.text[:500]}"
        assert answer.status_code < 500, told
        assert "<script>" not in answer.text, told
        assert "onerror=x>" not in answer.text, told
        assert "a" not in answer.cookies, told
        location = answer.headers.get("location", "/v1/oauth/")
        assert location.startswith(("/v1/oauth/", REDIRECT)), told
