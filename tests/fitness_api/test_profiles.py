import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app
from fitness_api.identity.accounts import Account
from fitness_api.identity.store_mongo import MongoStore
from fitness_api.profiles import FRESH_MS, Profiles
from fitness_api.settings import Settings
from tests.fitness_api.client import bearer, registered
from tests.fitness_api.serving import serving


class CountingStore(MongoStore):
    """The real one, which tells how often an account was read, and may be interrupted when it has read one."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        super().__init__(database)
        self.reads = 0
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def account(self, user_id: str) -> Account | None:
        self.reads += 1
        found = await super().account(user_id)
        if self.meanwhile is not None:
            await self.meanwhile()
        return found


class Here:
    def __init__(self, store: CountingStore) -> None:
        self.now_ms = 1_000_000
        self.hears = True
        self.announced: list[str] = []
        self.profiles = Profiles(
            store, announce=self.announced.append, hears=lambda: self.hears, now_ms=lambda: self.now_ms
        )

    async def name(self) -> str | None:
        known = await self.profiles.of("ada")
        assert known is not None
        return known.account.display_name


@pytest.fixture
async def store(database: AsyncDatabase[dict[str, Any]]) -> CountingStore:
    store = CountingStore(database)
    await store.add_account(
        Account(user_id="ada", email="ada@example.org", created_at_ms=1), address="ada@example.org", password_hash="x"
    )
    return store


@pytest.fixture
def here(store: CountingStore) -> Here:
    return Here(store)


async def renamed(store: CountingStore, name: str) -> None:
    await store.update_account("ada", lambda account: replace(account, display_name=name))


async def test_what_was_read_is_remembered_for_a_while(here: Here, store: CountingStore) -> None:
    for _ in range(10):
        assert await here.name() is None
    assert store.reads == 1
    await renamed(store, "Ada")  # and nobody says so
    here.now_ms += FRESH_MS - 1
    assert await here.name() is None
    here.now_ms += 1
    assert await here.name() == "Ada"


async def test_a_change_is_seen_at_once_and_all_are_told(here: Here, store: CountingStore) -> None:
    assert await here.name() is None
    await renamed(store, "Ada")
    here.profiles.changed("ada")
    assert await here.name() == "Ada"
    assert here.announced == ["ada"]


async def test_what_others_say_is_heeded(here: Here, store: CountingStore) -> None:
    assert await here.name() is None
    await renamed(store, "Ada")
    here.profiles.heard("ada", "a session that ended")
    assert await here.name() is None
    here.profiles.heard("ada", None)
    assert await here.name() == "Ada"


async def test_what_was_read_before_a_change_is_not_kept_after_it(here: Here, store: CountingStore) -> None:
    async def change() -> None:
        store.meanwhile = None
        await renamed(store, "Ada")
        here.profiles.heard("ada", None)

    store.meanwhile = change
    assert await here.name() is None  # it asked before
    assert await here.name() == "Ada"


async def test_while_no_word_can_come_nothing_is_remembered(here: Here, store: CountingStore) -> None:
    assert await here.name() is None
    here.hears = False
    await renamed(store, "Ada")
    before = store.reads
    assert [await here.name() for _ in range(3)] == ["Ada"] * 3
    assert store.reads == before + 3


async def test_nobody_is_not_remembered(here: Here) -> None:
    assert await here.profiles.of("bob") is None


async def test_a_change_by_one_gateway_shows_at_the_other(settings: Settings) -> None:
    async with serving(app.build(settings)) as one, serving(app.build(settings)) as other:
        headers = bearer(await registered(one))

        async def shown(api: httpx.AsyncClient) -> str | None:
            answer = await api.get("/v1/me", headers=headers)
            name: str | None = answer.json()["display_name"]
            return name

        for number in range(5):
            before = [await shown(other) for _ in range(2)]
            assert before == [f"Ada {number - 1}" if number else None] * 2
            await one.patch("/v1/me", json={"display_name": f"Ada {number}"}, headers=headers)
            assert await shown(one) == f"Ada {number}"
            async with asyncio.timeout(20):
                while await shown(other) != f"Ada {number}":
                    await asyncio.sleep(0.005)


async def test_its_tag_is_the_body_s(api: httpx.AsyncClient) -> None:
    headers = bearer(await registered(api))
    first, again = [await api.get("/v1/me", headers=headers) for _ in range(2)]
    assert first.headers["etag"] == again.headers["etag"]
    held = {**headers, "If-None-Match": first.headers["etag"]}
    assert (await api.get("/v1/me", headers=held)).status_code == 304
    packed = await api.get("/v1/me", headers={**headers, "Accept": "application/msgpack"})
    assert packed.headers["content-type"] == "application/msgpack"
    assert packed.headers["etag"] != first.headers["etag"]
    changed = await api.patch("/v1/me", json={"display_name": "Ada"}, headers=held)
    assert changed.status_code == 200
    after = await api.get("/v1/me", headers=held)
    assert (after.status_code, after.json()["display_name"]) == (200, "Ada")
    assert after.headers["etag"] != first.headers["etag"]
