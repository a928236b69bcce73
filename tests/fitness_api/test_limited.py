"""Limits as clients meet them."""

import asyncio
import re
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from secrets import token_bytes

import httpx
import msgspec
import psutil
import pytest

from fitness_api import app
from fitness_api.embedded.data_directory import free_port
from fitness_api.identity.passwords import MEMORY_KIB
from fitness_api.settings import Settings
from tests.fitness_api.client import CREDENTIALS, bearer, registered
from tests.fitness_api.pages_client import send
from tests.fitness_api.serving import serving

WRONG = {**CREDENTIALS, "password": "wrong horse"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # Keys of its own on the shared server; and 127.0.0.1 is a proxy, so that a request may say where it comes from.
    return msgspec.structs.replace(
        settings,
        master_key=b64encode(token_bytes(32)).decode(),
        unlimited_networks="",
        trusted_proxies="127.0.0.0/8",
    )


def at(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


@pytest.fixture
async def away(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway whose Redis is down."""
    async with serving(
        app.build(msgspec.structs.replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    ) as client:
        yield client


async def test_an_answer_says_what_is_left(api: httpx.AsyncClient) -> None:
    first = await api.post("/v1/auth/login", json=WRONG, headers=at("203.0.113.1"))
    assert first.status_code == 401
    assert first.headers["ratelimit-policy"] == '"login-client";q=60;w=300'
    assert first.headers["ratelimit"] == '"login-client";r=59;t=5'
    pair = await registered(api)
    answer = await api.get("/v1/me", headers=bearer(pair))
    assert re.fullmatch(r'"requests-account";r=1199;t=\d', answer.headers["ratelimit"])
    assert "ratelimit" not in (await api.get("/healthz")).headers


async def test_passwords_of_one_account_are_tried_only_so_often(api: httpx.AsyncClient) -> None:
    await registered(api)
    api.cookies.clear()

    async def tried(email: str) -> list[httpx.Response]:
        answers = [
            await api.post("/v1/auth/login", json={**WRONG, "email": email}, headers=at(f"198.51.{number}.1"))
            for number in range(11)
        ]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429]
        return answers

    [*_, known] = await tried(CREDENTIALS["email"])
    assert known.json()["code"] == "too_many_requests"
    assert 1 <= int(known.headers["retry-after"]) <= 61
    assert known.headers["ratelimit"].startswith('"login-client";r=59')
    right = await api.post("/v1/auth/login", json=CREDENTIALS, headers=at("203.0.113.1"))
    assert right.status_code == 429
    # And so is an address that nobody has.
    [*_, unknown] = await tried("bob@example.org")
    varies = {"request_id": "", "detail": ""}
    assert {**known.json(), **varies} == {**unknown.json(), **varies}


async def test_one_address_has_one_quota_however_it_is_spelled(api: httpx.AsyncClient) -> None:
    """Each of these is ada@example.org to whoever checks the password."""
    await registered(api)
    api.cookies.clear()
    wide = str.maketrans({letter: chr(ord(letter) + 0xFEE0) for letter in "exampleorg"})
    spelled = [
        f"{local}@{domain[:cut].translate(wide)}{domain[cut:]}"
        for local in ("ada", " ADA", "Ada")
        for domain in ("example.org", "EXAMPLE.org")
        for cut in range(5)
    ]
    statuses = [
        (await api.post("/v1/auth/login", json={**WRONG, "email": email}, headers=at(f"198.51.{number}.1"))).status_code
        for number, email in enumerate(spelled)
    ]
    assert statuses == [401] * 10 + [429] * (len(spelled) - 10)


async def test_on_the_login_page_what_is_counted_is_what_is_tried(api: httpx.AsyncClient) -> None:
    """The page reads no more than an address may have: what stands behind that must not make it another one."""
    await registered(api)
    api.cookies.clear()
    page = await api.get("/v1/oauth/login?next=/v1/oauth/device")
    statuses = []
    for number in range(12):
        email = CREDENTIALS["email"].ljust(300) + str(number)
        answer = await send(api, page, "/v1/oauth/login", email=email, password="wrong horse")
        statuses.append(answer.status_code)
    assert statuses == [403] * 10 + [429] * 2


async def test_a_phone_that_logged_in_before_is_not_kept_out(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/auth/register", json=CREDENTIALS, headers=at("203.0.113.1"))
    [cookie] = [f"{name}={value}" for name, value in answer.cookies.items()]
    api.cookies.clear()
    for number in range(11):
        await api.post("/v1/auth/login", json=WRONG, headers=at(f"198.51.{number}.1"))
    refused = await api.post("/v1/auth/login", json=CREDENTIALS, headers=at("203.0.113.1"))
    assert refused.status_code == 429
    own = await api.post("/v1/auth/login", json=CREDENTIALS, headers={**at("203.0.113.1"), "Cookie": cookie})
    assert own.status_code == 200
    assert "set-cookie" not in own.headers  # it has one


async def test_whether_an_address_is_registered_is_told_only_so_often(api: httpx.AsyncClient) -> None:
    answers = [
        await api.post("/v1/auth/register", json=CREDENTIALS, headers=at(f"198.51.{number}.1")) for number in range(6)
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 409, 409, 409, 429]


async def test_what_a_client_says_of_its_address_counts_only_through_a_proxy_of_ours(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    async def left(api: httpx.AsyncClient, address: str) -> int:
        answer = await api.get("/.well-known/jwks.json", headers=at(address))
        found = re.match(r'"anonymous-client";r=(\d+)', answer.headers["ratelimit"])
        assert found
        return int(found[1])

    assert [await left(api, f"198.51.{number}.1") for number in range(3)] == [599] * 3
    bare = msgspec.structs.replace(settings, trusted_proxies="")
    async with serving(app.build(bare)) as other:
        assert [await left(other, f"198.51.{number}.1") for number in range(3)] == [599, 598, 597]


async def test_oauth_endpoints_refuse_in_their_own_form(settings: Settings) -> None:
    # By a quota that does not come back while the test runs.
    operations = [replace(one, limits=("reset",)) for one in app.OPERATIONS if one.path == "/v1/oauth/token"]
    async with serving(app.build(settings, operations=tuple(operations))) as api:
        answers = [await api.post("/v1/oauth/token", data={"grant_type": "x"}) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [400] * 20 + [429]
    assert answers[-1].json()["error"] == "temporarily_unavailable"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 180
    assert answers[-1].headers["cache-control"] == "no-store"


async def test_many_at_once_are_counted_in_a_few_calls(api: httpx.AsyncClient) -> None:
    async def ask() -> httpx.Response:
        return await api.post("/v1/oauth/token", data={"grant_type": "x"})

    answers = await asyncio.gather(*(ask() for _ in range(300)))
    assert {answer.status_code for answer in answers} == {400}


async def test_without_redis_logins_are_counted_here_and_fewer(away: httpx.AsyncClient) -> None:
    codes = [
        (await away.post("/v1/auth/login", json=WRONG, headers=at(f"198.51.{number}.1"))).status_code
        for number in range(5)
    ]
    assert codes == [401, 401, 429, 429, 429]


async def test_in_a_flood_strangers_are_turned_away_and_the_owner_comes_in(settings: Settings) -> None:
    assert settings.password_hashers == 1
    async with serving(app.build(settings)) as api:
        first = await api.post("/v1/auth/register", json=CREDENTIALS, headers=at("203.0.113.1"))
        [cookie] = [f"{name}={value}" for name, value in first.cookies.items()]
        api.cookies.clear()

        async def stranger(number: int) -> int:
            wrong = {**WRONG, "email": f"{number}@example.org"}
            return (await api.post("/v1/auth/login", json=wrong, headers=at(f"198.51.{number % 256}.1"))).status_code

        process = psutil.Process()
        before_bytes = process.memory_info().rss
        flood = [asyncio.create_task(stranger(number)) for number in range(300)]
        await asyncio.sleep(0)
        own = await api.post("/v1/auth/login", json=CREDENTIALS, headers={**at("203.0.113.1"), "Cookie": cookie})
        codes = Counter(await asyncio.gather(*flood))
        grown_bytes = process.memory_info().rss - before_bytes
    assert own.status_code == 200
    assert codes.keys() == {401, 429}
    # Those who found a place; the rest cost next to nothing: a hash for each at once would be 13 GiB.
    assert codes[401] < 150
    assert grown_bytes < 4 * MEMORY_KIB * 1024
