"""Whatever comes in the Authorization header of a gateway as it is run: refused by a 401 that says how, never by a fault."""

import asyncio
import time
from base64 import b64decode
from collections.abc import AsyncIterator

import httpx
import jwt
import pytest

from fitness_api import app
from fitness_api.identity import signing_keys
from fitness_api.identity.access_tokens import MAX_TOKEN_BYTES
from fitness_api.identity.store_mongo import MongoStore
from fitness_api.protocol_uvicorn import MAX_HEAD_BYTES, BoundedHttpProtocol
from fitness_api.settings import Settings
from tests.fitness_api.client import Json, bearer, registered
from tests.fitness_api.gateway import Gateway, gateway
from tests.fitness_api.identity import bad_tokens
from tests.fitness_api.identity.conftest import store

__all__ = ["store"]  # a fixture


@pytest.fixture
async def here(settings: Settings) -> AsyncIterator[Gateway]:
    async with gateway(app.build(settings)) as one:
        yield one


@pytest.fixture
async def pair(here: Gateway) -> Json:
    async with httpx.AsyncClient(base_url=here.url, trust_env=False) as api:
        return await registered(api)


async def refused_tokens(store: MongoStore, settings: Settings, pair: Json) -> dict[str, str]:
    sealing_key = signing_keys.derive_key(b64decode(settings.master_key))
    [stored] = [key for key in await store.signing_keys() if key.state == "current"]
    honest = jwt.decode(pair["access_token"], options={"verify_signature": False})
    made = bad_tokens.refused(signing_keys.unseal(stored, sealing_key), honest, now_s=int(time.time()))
    more = {
        "the refresh token": pair["refresh_token"],
        "two tokens": f"{pair['access_token']} {pair['access_token']}",
        "a token in quotes": f'"{pair["access_token"]}"',
        "a token and a comma": f"{pair['access_token']},",
        "the greatest size": "a" * MAX_TOKEN_BYTES,
        "beyond it": "a" * (MAX_TOKEN_BYTES + 1),
        "as long as a head may be": "a" * (MAX_HEAD_BYTES - 2_000),
    }
    # A header is of single bytes, and has no line end.
    return {name: token for name, token in {**made, **more}.items() if token and _can_be_sent(token)}


def _can_be_sent(token: str) -> bool:
    try:
        token.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return "\n" not in token


async def test_every_bad_token_is_refused_as_rfc_6750_has_it(
    here: Gateway, settings: Settings, pair: Json, store: MongoStore
) -> None:
    tokens = await refused_tokens(store, settings, pair)
    assert len(tokens) >= 80
    async with httpx.AsyncClient(base_url=here.url, trust_env=False) as api:
        for name, token in tokens.items():
            for scheme in (b"Bearer ", b"bearer  "):
                headers = [(b"Authorization", scheme + token.encode("latin-1"))]
                answer = await api.get("/v1/me", headers=headers)
                assert answer.status_code == 401, name
                assert answer.json()["code"] == "unauthenticated", name
                challenge = 'Bearer realm="fitness-api", error="invalid_token"'
                assert answer.headers["WWW-Authenticate"] == challenge, name
        assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Basic YWRhOnB3", "Token {token}", "{token}", "Bearer:{token}", "DPoP"],
)
async def test_without_a_token_the_challenge_names_no_error(here: Gateway, pair: Json, authorization: str) -> None:
    async with httpx.AsyncClient(base_url=here.url, trust_env=False) as api:
        headers = {"Authorization": authorization.format(token=pair["access_token"])}
        answer = await api.get("/v1/me", headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="fitness-api"')


async def test_a_bad_token_opens_no_socket(here: Gateway, settings: Settings, pair: Json, store: MongoStore) -> None:
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    async with httpx.AsyncClient(base_url=here.url, trust_env=False) as api:
        for name, token in (await refused_tokens(store, settings, pair)).items():
            headers = [(b"Authorization", b"Bearer " + token.encode("latin-1"))]
            key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
            headers += [(k.encode(), v.encode()) for k, v in {**handshake, **key}.items()]
            answer = await api.get("/v1/sync/live", headers=headers)
            # The library that shakes hands takes lines of 8 KiB.
            assert answer.status_code == (401 if len(token) < 8_000 else 431), name


async def test_a_header_of_20_mb_is_left_before_it_is_read(here: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in bytes: what is not read costs nothing, however fast the machine."""
    taken = 0
    receive = BoundedHttpProtocol.data_received

    def counted(self: BoundedHttpProtocol, data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        receive(self, data)

    monkeypatch.setattr(BoundedHttpProtocol, "data_received", counted)
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(b"GET /v1/me HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer ")

    async def send() -> None:
        for _ in range(20 * 16):
            writer.write(b"a" * (1 << 16))
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(20):
            answer = await reader.read()
    except ConnectionError:
        answer = b""  # it had gone on sending, so that the answer may be lost
    with pytest.raises(ConnectionError):
        await sending
    writer.close()
    assert answer[:12] in {b"", b"HTTP/1.1 400"}
    # What had come with the piece that was one too many.
    assert taken <= MAX_HEAD_BYTES + (1 << 18)
