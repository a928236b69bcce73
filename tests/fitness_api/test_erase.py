"""Erasures over HTTP and real stores: whole, and cut off at every step and every command."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, cast
from uuid import uuid4

import httpx
import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from fitness_api import app, erase, migrate, resources
from fitness_api.erase import GRACE_MS, Stores
from fitness_api.export.tables import LEFT_OUT
from fitness_api.identity.erasure_store import Gravestone
from fitness_api.identity.erasure_store_mongo import MongoErasureStore
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.identity.store_mongo import MongoStore as MongoAccounts
from fitness_api.leases_mongo import MongoLeases
from fitness_api.resources import Resources
from fitness_api.settings import Settings
from tests.fitness_api.client import CREDENTIALS, installation
from tests.fitness_api.erasing import (
    NOW_MS,
    Person,
    import_of,
    require_gravestones_only,
    small_account,
    stores_of,
    traces,
)
from tests.fitness_api.serving import serving
from tests.sync.model import new_id
from tests.sync.test_track_store_mongo import beats


async def test_everything_goes_but_gravestones_and_nobody_elses(
    api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada, bob = await Person(api, "ada@example.org").settle(), await Person(api, "bob@example.org").settle()
    for one in (ada, bob):
        await one.own_everything(database)
    before = await traces(database, bob.names)
    # A collection that is new holds something of each, so that what leaves it out is found.
    there = {collection for collection, _ in await traces(database, ada.names)}
    assert there == migrate.declared().keys() - LEFT_OUT.keys()
    answer = await ada.erase()
    assert (answer.status_code, answer.content) == (204, b"")
    await require_gravestones_only(database, ada.names, ada.user_id)
    assert await traces(database, bob.names) == before
    assert (await bob.sync(str(uuid4()))).status_code == 200


async def test_whatever_a_token_of_an_erased_account_asks_is_told_to_wipe(api: httpx.AsyncClient) -> None:
    ada = await Person(api, "ada@example.org").settle()
    await ada.erase()
    for operation in app.OPERATIONS:
        if operation.login:
            path = operation.path.replace("{stream}", "heart_rate")
            for name in ("id", "device_id", "chunk"):
                path = path.replace(f"{{{name}}}", str(uuid4()))
            answer = await api.request(operation.method, path, headers=ada.headers)
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["wipe"]) == (410, "account_deleted", True), path
    answer = await api.post(
        "/v1/oauth/token", data={"grant_type": "refresh_token", "refresh_token": ada.pair["refresh_token"]}
    )
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "invalid_grant",
        "error_description": "The account was deleted.",
        "wipe": True,
    }


async def test_the_address_is_anothers_at_once(api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]) -> None:
    ada = await Person(api, "ada@example.org").settle()
    await ada.erase()
    assert (await api.post("/v1/auth/login", json=CREDENTIALS)).json()["code"] == "invalid_credentials"
    again = await Person(api, "ada@example.org").settle()
    assert again.user_id != ada.user_id
    assert (await ada.erase()).status_code == 410
    stores = stores_of(database)
    await erase.account(stores, ada.user_id, now_ms=NOW_MS + 10**12)
    assert (await again.sync(str(uuid4()))).status_code == 200
    assert (await api.post("/v1/auth/login", json=CREDENTIALS)).status_code == 200


async def test_other_processes_answer_so_within_five_seconds_and_store_nothing_until_then(
    api: httpx.AsyncClient, settings: Settings, database: AsyncDatabase[dict[str, Any]]
) -> None:
    """The other process knows the session as one that holds, and goes by that: the fence is what refuses."""
    async with serving(app.build(settings)) as elsewhere:
        ada = await Person(elsewhere, "ada@example.org").settle()
        assert (await api.delete("/v1/me", headers=ada.headers)).status_code == 204
        late = {
            "sync": await ada.sync(str(uuid4())),
            "pull": await elsewhere.post("/v1/sync", json={"device_id": ada.device_id}, headers=ada.headers),
            "digest": await elsewhere.post(
                "/v1/sync/digest", json={"collection": "workouts", "buckets": 256}, headers=ada.headers
            ),
            "chunk": await ada.chunk(str(uuid4()), str(uuid4())),
            "import": await ada.imports(),
            "profile": await elsewhere.patch("/v1/me", json={"sex": "female"}, headers=ada.headers),
            "read": await elsewhere.get("/v1/me", headers=ada.headers),
            "device": await elsewhere.post(
                "/v1/devices", json=installation(push={"kind": "fid", "value": ada.push}), headers=ada.headers
            ),
        }
        assert {what: answer.status_code for what, answer in late.items()} == dict.fromkeys(late, 410)
        await require_gravestones_only(database, ada.names, ada.user_id)


async def test_a_login_of_long_ago_is_asked_for_again_and_nothing_was_done(
    api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await Person(api, "ada@example.org").settle()
    before = await traces(database, ada.names)
    monkeypatch.setattr("fitness_api.identity.sessions.RECENT_LOGIN_S", 0)
    answer = await ada.erase()
    assert (answer.status_code, answer.json()["code"]) == (401, "reauthentication_required")
    assert answer.json()["max_age_s"] == 0
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="fitness-api", error="insufficient_user_authentication", max_age="0"'
    )
    assert await traces(database, ada.names) == before


# ------------------------------------------------------------------------------------------------------------- cut off


class Fuse:
    """Blows once, before or after the step of this number took effect."""

    def __init__(self, step: int, when: Literal["before", "after"]) -> None:
        self.left, self.when = step, when
        self.blown = False

    async def through(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self.left -= 1
        blows = self.left == -1
        self.blown = self.blown or blows
        if blows and self.when == "before":
            raise StoreUnavailable("The power went off.")
        done = await call()
        if blows:
            raise StoreUnavailable("The power went off.")
        return done


class Fused:
    """A store each of whose methods is a step."""

    def __init__(self, store: Any, fuse: Fuse) -> None:
        self._store, self._fuse = store, fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def step(*given: Any, **named: Any) -> Any:
            return await self._fuse.through(lambda: method(*given, **named))

        return step


STEPS = 8  # bury, logins, sync, tracks, imports, facts, the rest, the stage


@pytest.mark.parametrize("how", ["again", "resume"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_was_cut_off_between_two_steps_is_fenced_and_finished(
    settings: Settings,
    database: AsyncDatabase[dict[str, Any]],
    when: Literal["before", "after"],
    how: Literal["again", "resume"],
) -> None:
    fuse = Fuse(10**9, when)

    @asynccontextmanager
    async def open_fused(settings: Settings) -> AsyncIterator[Resources]:
        async with resources.open_resources(settings) as opened:
            fused = Stores(*(cast("Any", Fused(store, fuse)) for store in opened["erased"]))
            yield {**opened, "erased": fused}

    async with serving(app.build(settings, open_fused)) as api:
        for step in range(STEPS):
            ada = await Person(api, f"ada{step}@example.org").settle()
            fuse.left, fuse.when, fuse.blown = step, when, False
            cut = await ada.erase()
            assert fuse.blown
            assert (cut.status_code, cut.json()["code"]) == (503, "unavailable")
            if (step, when) == (0, "before"):
                assert (await ada.sync(str(uuid4()))).status_code == 200  # nothing had begun
                assert (await ada.erase()).status_code == 204
            else:
                for answer in (await ada.sync(str(uuid4())), await api.get("/v1/me", headers=ada.headers)):
                    assert (answer.status_code, answer.json()["code"]) == (410, "account_deleted")
                login = await api.post("/v1/auth/login", json={**CREDENTIALS, "email": ada.email})
                assert login.json()["code"] == "invalid_credentials"
                if how == "again":
                    over = (step, when) == (STEPS - 1, "after")
                    assert (await ada.erase()).status_code == (410 if over else 204)
                else:
                    await erase.resume(stores_of(database), now_ms=NOW_MS, report=lambda *_: None)
            await require_gravestones_only(database, ada.names, ada.user_id)


class Cut(CommandListener):
    """Cancels a task when it sends its command of this number."""

    def __init__(self) -> None:
        self.left = -1
        self.task: asyncio.Task[None] | None = None

    def started(self, event: CommandStartedEvent) -> None:
        self.left -= event.command_name != "endSessions"
        if self.left == 0 and self.task is not None:
            self.task.cancel()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


async def test_what_was_cut_off_at_any_command_is_finished_by_resuming(
    mongo_url: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    """The command was sent, and whether it took effect nobody knows."""
    cut = Cut()
    async with AsyncMongoClient[dict[str, Any]](mongo_url, event_listeners=[cut]) as client:
        stores, accounts = stores_of(client[database.name]), MongoAccounts(database)
        for number in range(1, 200):
            ada = await small_account(database)
            cut.task = asyncio.create_task(erase.account(stores, ada.user_id, now_ms=NOW_MS))
            cut.left = number
            done = (await asyncio.gather(cut.task, return_exceptions=True))[0]
            cut.task = None
            if await accounts.is_erased(ada.user_id):
                assert await accounts.credentials(ada.names[0]) is None
                await erase.resume(stores, now_ms=NOW_MS, report=lambda *_: None)
            else:
                assert number <= 2  # it looks for the address, then puts up the gravestone
                await erase.account(stores, ada.user_id, now_ms=NOW_MS)
            await require_gravestones_only(database, ada.names, ada.user_id)
            if done is None:
                break
            assert isinstance(done, asyncio.CancelledError)
        assert 20 < number < 199


async def test_all_is_removed_once_more_after_two_days(database: AsyncDatabase[dict[str, Any]]) -> None:
    """For what a process wrote after the first pass and did not live to remove."""
    stores = stores_of(database)
    ada, bob = await small_account(database), await small_account(database)
    before = await traces(database, [bob.user_id, *bob.names])
    await erase.account(stores, ada.user_id, now_ms=NOW_MS)
    chunk = new_id()
    await stores.tracks.put(ada.user_id, new_id(), "heart_rate", chunk, beats(120))
    await stores.imports.record(import_of(ada.user_id, new_id()), b"file")
    reported: list[tuple[str, bool]] = []

    async def resume(now_ms: int) -> None:
        await erase.resume(stores, now_ms=now_ms, report=lambda *told: reported.append(told))

    await resume(NOW_MS + GRACE_MS - 1)
    assert reported == []
    assert len(await traces(database, [ada.user_id])) == 5
    await resume(NOW_MS + GRACE_MS)
    await resume(NOW_MS + GRACE_MS)
    assert reported == [(ada.user_id, True)]
    await require_gravestones_only(database, [*ada.names, chunk], ada.user_id)
    assert "stage" not in (await traces(database, [ada.user_id]))[0][1]
    assert await traces(database, [bob.user_id, *bob.names]) == before


async def test_one_account_that_cannot_be_erased_now_holds_up_no_other(
    database: AsyncDatabase[dict[str, Any]],
) -> None:
    stores = stores_of(database)
    small = [await small_account(database) for _ in range(3)]
    for one in small:
        await stores.identity.bury(one.user_id, now_ms=NOW_MS)
    reported: dict[str, bool] = {}
    fused = stores._replace(tracks=cast("Any", Fused(stores.tracks, Fuse(1, "before"))))
    await erase.resume(fused, now_ms=NOW_MS, report=reported.__setitem__)
    assert sorted(reported.values()) == [False, True, True]
    await erase.resume(stores, now_ms=NOW_MS, report=reported.__setitem__)
    assert set(reported.values()) == {True}
    for one in small:
        await require_gravestones_only(database, one.names, one.user_id)


async def test_gateways_resume_what_was_cut_off_one_of_them_at_a_time(database: AsyncDatabase[dict[str, Any]]) -> None:
    stores, leases = stores_of(database), MongoLeases(database)
    small = [await small_account(database) for _ in range(3)]
    for one in small[:2]:
        await stores.identity.bury(one.user_id, now_ms=NOW_MS)
    looked: list[str] = []

    class Watched(MongoErasureStore):
        async def unfinished(self, *, after: str) -> list[Gravestone]:
            looked.append(after)
            return await super().unfinished(after=after)

    watched = stores._replace(identity=Watched(database, address_key=b"k"))
    async with (
        erase.resuming(watched, leases, every_s=0.5, now_ms=lambda: NOW_MS),
        erase.resuming(watched, leases, every_s=0.5, now_ms=lambda: NOW_MS),
    ):
        async with asyncio.timeout(20):
            while await database["accounts"].count_documents({"stage": "swept"}) < 2:
                await asyncio.sleep(0.02)
    for one in small[:2]:
        await require_gravestones_only(database, one.names, one.user_id)
    assert await stores.identity.gravestone(small[2].user_id) is None
    assert looked
    # While a process holds the lease no other looks.
    await leases.take("erasures", "another", for_s=60)
    looked.clear()
    async with erase.resuming(watched, leases, every_s=0.01, now_ms=lambda: NOW_MS):
        await asyncio.sleep(0.3)
    assert looked == []


async def test_what_goes_wrong_while_erasures_are_resumed_ends_nothing(
    database: AsyncDatabase[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    class Broken(MongoErasureStore):
        async def unfinished(self, *, after: str) -> list[Gravestone]:  # noqa: ARG002
            tries.append(1)
            if len(tries) == 1:
                raise StoreUnavailable("The power went off.")
            if len(tries) == 2:
                raise ValueError("a defect")
            return []

    stores = stores_of(database)._replace(identity=Broken(database, address_key=b"k"))
    caplog.set_level(logging.INFO, "fitness_api.erase")
    async with erase.resuming(stores, Free(), every_s=0.01):
        async with asyncio.timeout(20):
            while len(tries) < 4:
                await asyncio.sleep(0.01)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]


class Free:
    """Leases that everybody gets."""

    async def take(self, name: str, holder: str, *, for_s: int) -> bool:  # noqa: ARG002
        return True

    async def leave(self, name: str, holder: str) -> None:
        pass
