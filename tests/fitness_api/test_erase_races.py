"""What an erasure meets: whoever else writes at the same time leaves nothing behind."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from uuid import uuid4

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app, erase
from fitness_api.erase import Stores
from fitness_api.identity.devices import Devices
from fitness_api.identity.store import DeviceDetails, PushAddress
from fitness_api.identity.store_mongo import MongoStore as MongoAccounts
from fitness_api.leases_mongo import MongoLeases
from fitness_api.settings import Settings
from fitness_api.workouts.decoder import Decoder
from fitness_api.workouts.import_store import ImportRecord, ImportStore
from fitness_api.workouts.import_store_mongo import MongoImportStore
from fitness_api.workouts.imports import Importer
from sync import exchange
from sync.errors import AccountDeleted
from sync.listing_mongo import MongoListing
from sync.store_mongo import MongoStore
from sync.track_store_mongo import MongoTrackStore
from sync.tracks import Chunk, Stream
from tests.fitness_api.client import CREDENTIALS, installation
from tests.fitness_api.erasing import (
    NOW_MS,
    Person,
    put_chunk,
    require_gravestones_only,
    ride,
    small_account,
    stores_of,
)
from tests.fitness_api.serving import serving
from tests.sync.model import new_id


class Overtaken(MongoTrackStore):
    """A track store in which the account is erased just before or just after a chunk is written."""

    def __init__(self, stores: Stores, database: AsyncDatabase[dict[str, Any]], when: str) -> None:
        super().__init__(database)
        self._erased, self._when = stores, when

    async def put(
        self, user_id: str, workout_id: str, stream: Stream, chunk_id: str, chunk: Chunk
    ) -> Literal["stored", "known"]:
        if self._when == "before":
            await erase.account(self._erased, user_id, now_ms=NOW_MS)
        done = await super().put(user_id, workout_id, stream, chunk_id, chunk)
        if self._when == "after":
            await erase.account(self._erased, user_id, now_ms=NOW_MS)
        return done


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_chunk_that_an_erasure_overtakes_is_removed_by_its_writer(
    database: AsyncDatabase[dict[str, Any]], when: str
) -> None:
    stores, ada = stores_of(database), await small_account(database)
    overtaken = stores._replace(tracks=Overtaken(stores, database, when))
    workout, chunk = new_id(), new_id()
    with pytest.raises(AccountDeleted):
        await put_chunk(overtaken, ada.user_id, workout, chunk)
    await require_gravestones_only(database, [*ada.names, workout, chunk], ada.user_id)


class OvertakenImports(MongoImportStore):
    """An import store in which the account is erased just before or just after a file is recorded."""

    def __init__(self, stores: Stores, database: AsyncDatabase[dict[str, Any]], when: str) -> None:
        super().__init__(database)
        self._erased, self._when = stores, when

    async def record(self, record: ImportRecord, file: bytes) -> bool:
        if self._when == "before":
            await erase.account(self._erased, record.user_id, now_ms=NOW_MS)
        done = await super().record(record, file)
        if self._when == "after":
            await erase.account(self._erased, record.user_id, now_ms=NOW_MS)
        return done


def importer(database: AsyncDatabase[dict[str, Any]], stores: Stores, imports: ImportStore) -> Importer:
    listing, leases = MongoListing(database), MongoLeases(database)
    return Importer(Decoder(workers=1), stores.sync, listing, stores.tracks, imports, leases)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_import_that_an_erasure_overtakes_is_removed_by_its_writer(
    database: AsyncDatabase[dict[str, Any]], when: str
) -> None:
    stores, ada = stores_of(database), await small_account(database)
    with pytest.raises(AccountDeleted):
        await importer(database, stores, OvertakenImports(stores, database, when)).import_file(
            ride(), user_id=ada.user_id, now_ms=NOW_MS
        )
    await require_gravestones_only(database, ada.names, ada.user_id)


@pytest.mark.parametrize("step", ["claim_device", "set_replica", "set_push_address"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_registration_that_an_erasure_overtakes_leaves_no_device(
    database: AsyncDatabase[dict[str, Any]], step: str, when: str
) -> None:
    stores, ada, accounts = stores_of(database), await small_account(database), MongoAccounts(database)
    login = (await accounts.sessions(ada.user_id))[0].session_id

    class OvertakenAccounts(MongoAccounts):
        def __getattribute__(self, name: str) -> Any:
            method = super().__getattribute__(name)
            if name != step:
                return method

            async def overtaken(*given: Any, **named: Any) -> Any:
                if when == "before":
                    await erase.account(stores, ada.user_id, now_ms=NOW_MS)
                done = await method(*given, **named)
                if when == "after":
                    await erase.account(stores, ada.user_id, now_ms=NOW_MS)
                return done

            return overtaken

    devices = Devices(OvertakenAccounts(database), stores.sync)
    phone = DeviceDetails(platform="ios", app_version="1.0")
    push = PushAddress("fid", "late")
    await asyncio.gather(devices.register(ada.user_id, login, new_id(), phone, push), return_exceptions=True)
    assert await accounts.is_erased(ada.user_id)
    await require_gravestones_only(database, [*ada.names, "late"], ada.user_id)


class BeforeTheFence(MongoStore):
    """A store in which something else happens just before the account is fenced."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(database)
        self._meanwhile = meanwhile

    async def erase(self, user_id: str, *, now_ms: int) -> None:
        await self._meanwhile()
        await super().erase(user_id, now_ms=now_ms)


async def test_what_was_written_whole_before_the_fence_is_removed(database: AsyncDatabase[dict[str, Any]]) -> None:
    """Whoever found no fence need not look again: all that is written outside transactions is removed after it is up."""
    stores, ada = stores_of(database), await small_account(database)
    devices = Devices(MongoAccounts(database), stores.sync)
    workout, chunk, phone = new_id(), new_id(), DeviceDetails(platform="ios", app_version="1.0")

    async def write() -> None:
        await devices.register(ada.user_id, new_id(), new_id(), phone)
        await put_chunk(stores, ada.user_id, workout, chunk)
        await importer(database, stores, stores.imports).import_file(ride(), user_id=ada.user_id, now_ms=NOW_MS)

    overtaken = stores._replace(sync=BeforeTheFence(database, write))
    await erase.account(overtaken, ada.user_id, now_ms=NOW_MS)
    await require_gravestones_only(database, [*ada.names, workout, chunk], ada.user_id)


class UnderWay:
    """Everything that a user can send, again and again until it is refused; `begun` after so many answers to each."""

    def __init__(self, api: httpx.AsyncClient, person: Person, head_start: int) -> None:
        self._api, self._person = api, person
        self.sends = (self._sync, self._sync_too, self._chunk, person.imports, self._log_in, self._register)
        self._to_come: dict[Callable[[], Awaitable[httpx.Response]], int] = dict.fromkeys(self.sends, head_start)
        self.begun = asyncio.Event()
        if head_start == 0:
            self.begun.set()

    async def go_on(self, send: Callable[[], Awaitable[httpx.Response]]) -> None:
        while (answer := await send()).status_code in {200, 201, 503}:
            self._to_come[send] -= 1
            if max(self._to_come.values()) <= 0:
                self.begun.set()
        assert answer.status_code in {401, 410}, answer.text

    async def _sync(self) -> httpx.Response:
        return await self._person.sync(str(uuid4()))

    async def _sync_too(self) -> httpx.Response:
        return await self._person.sync(str(uuid4()))

    async def _chunk(self) -> httpx.Response:
        return await self._person.chunk(str(uuid4()), str(uuid4()))

    async def _log_in(self) -> httpx.Response:
        return await self._api.post("/v1/auth/login", json={**CREDENTIALS, "email": self._person.email})

    async def _register(self) -> httpx.Response:
        body = installation(installation_id=self._person.names[4], push={"kind": "fid", "value": self._person.push})
        return await self._api.post("/v1/devices", json=body, headers=self._person.headers)


async def test_whatever_is_sent_while_an_account_is_erased_leaves_nothing(
    settings: Settings, database: AsyncDatabase[dict[str, Any]]
) -> None:
    """Two processes, of which the second goes on taking the session for good, under everything that a user can send."""
    async with serving(app.build(settings)) as here, serving(app.build(settings)) as there:
        for head_start in (0, 1, 3):
            ada = await Person(there, f"ada{head_start}@example.org").settle()
            under_way = UnderWay(there, ada, head_start)
            async with asyncio.TaskGroup() as tasks:
                for send in under_way.sends:
                    tasks.create_task(under_way.go_on(send))
                await under_way.begun.wait()
                assert (await here.delete("/v1/me", headers=ada.headers)).status_code == 204
            await require_gravestones_only(database, ada.names, ada.user_id)


async def test_erasures_at_once_are_one(api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]) -> None:
    ada = await Person(api, "ada@example.org").settle()
    answers = await asyncio.gather(*(ada.erase() for _ in range(6)))
    assert {answer.status_code for answer in answers} <= {204, 410}
    assert 204 in {answer.status_code for answer in answers}
    await require_gravestones_only(database, ada.names, ada.user_id)


async def test_filling_a_document_of_an_erased_account_is_refused(database: AsyncDatabase[dict[str, Any]]) -> None:
    stores, ada = stores_of(database), await small_account(database)
    await erase.account(stores, ada.user_id, now_ms=NOW_MS)
    with pytest.raises(AccountDeleted):
        await exchange.fill(stores.sync, ada.user_id, "workouts", new_id(), {"title": "x"}, now_ms=NOW_MS)
    await require_gravestones_only(database, ada.names, ada.user_id)
