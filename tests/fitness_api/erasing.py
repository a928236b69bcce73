"""What the tests of erasure share: accounts that have one of everything, and a search for what is left of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.erase import Stores
from fitness_api.identity.erasure_store_mongo import MongoErasureStore
from fitness_api.identity.factors.passkeys import Passkey
from fitness_api.identity.factors.second_factors import Begun, SecondFactors, Totp
from fitness_api.identity.factors.store_mongo import MongoFactorStore
from fitness_api.identity.federation.identities import Identity
from fitness_api.identity.federation.store_mongo import MongoIdentityStore
from fitness_api.identity.recovery_store import EmailChange
from fitness_api.identity.recovery_store_mongo import MongoRecoveryStore
from fitness_api.identity.single_use import Artefact, digest_of
from fitness_api.identity.single_use_mongo import MongoSingleUse
from fitness_api.identity.store import DeviceDetails, PushAddress
from fitness_api.identity.store_mongo import MongoStore as MongoAccounts
from fitness_api.mail.outbox import Outgoing
from fitness_api.mail.outbox_mongo import MongoOutbox
from fitness_api.statistics.fact_store import Drawn, Followed
from fitness_api.statistics.fact_store_mongo import MongoFactStore
from fitness_api.statistics.facts import Facts
from fitness_api.workouts.import_store import ImportRecord
from fitness_api.workouts.import_store_mongo import MongoImportStore
from sync import clock
from sync.attach import attach
from sync.store_mongo import MongoStore
from sync.track_store_mongo import MongoTrackStore
from tests.fitness_api.client import Json, bearer, installation, registered
from tests.fitness_api.identity.test_store_mongo import account, session
from tests.fitness_api.workouts.recordings import File
from tests.sync.model import new_id
from tests.sync.test_track_store_mongo import beats

NOW_MS = 1_780_000_000_000
STAMP = clock.to_wire(clock.Stamp(1_700_000_000_000 << 21 | 5))
FIT = {"Content-Type": "application/vnd.ant.fit"}
_FAR_MS = 4_000_000_000_000  # later than any test, so that no database's sweep comes before
CHUNK = {"start": "2026-05-01T06:30:00.000Z", "offsets_ms": [0, 1000], "values": [120, 121]}
Found = list[tuple[str, Json]]


def ride() -> bytes:
    return File().records(*range(60), heart_rate=120).session(elapsed_s=60).close()


class Person:
    """An account with one of everything: a device that takes push, a document, a rejected change, an import and a track."""

    def __init__(self, api: httpx.AsyncClient, email: str) -> None:
        self.api, self.email = api, email
        self.pair: Json = {}
        self.names: list[str] = [email]
        self.device_id = ""
        self.push = f"push of {email}"

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.pair)

    async def settle(self) -> "Person":
        self.pair = await registered(self.api, self.email)
        registration = installation(push={"kind": "fcm_token", "value": self.push})
        self.device_id = (await self.api.post("/v1/devices", json=registration, headers=self.headers)).json()[
            "device_id"
        ]
        profile = (
            await self.api.patch(
                "/v1/me", json={"display_name": f"name of {self.email}", "sex": "other"}, headers=self.headers
            )
        ).json()
        document, chunk = str(uuid4()), str(uuid4())
        assert (await self.sync(document)).status_code == 200
        assert (await self.chunk(document, chunk)).status_code == 201
        made = (await self.imports()).json()
        self.names += [
            profile["user_id"], profile["display_name"], self.device_id, registration["installation_id"], self.push,
            document, chunk, made["import_id"], *made["workouts"], f"title of {self.email}",
        ]  # fmt: skip
        return self

    @property
    def user_id(self) -> str:
        return self.names[1]

    async def sync(self, document: str) -> httpx.Response:
        change = {
            "id": str(uuid4()), "collection": "workouts", "doc": document, "stamp": STAMP,
            "set": {"title": f"title of {self.email}"},
        }  # fmt: skip
        refused = {**change, "id": str(uuid4()), "collection": "diaries"}
        return await self.api.post(
            "/v1/sync", json={"device_id": self.device_id, "changes": [change, refused]}, headers=self.headers
        )

    async def chunk(self, workout: str, chunk: str) -> httpx.Response:
        path = f"/v1/workouts/{workout}/tracks/heart_rate/{chunk}"
        return await self.api.put(path, json=CHUNK, headers=self.headers)

    async def imports(self) -> httpx.Response:
        return await self.api.post("/v1/imports", content=ride(), headers={**self.headers, **FIT})

    async def own_everything(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        """Have something in every collection, second factors too, and a login that has shown one."""
        await add_the_rest(database, self.user_id)
        await database["sessions"].update_many({"user_id": self.user_id}, {"$set": {"methods": ["pwd", "otp", "mfa"]}})
        grant = {"grant_type": "refresh_token", "refresh_token": self.pair["refresh_token"]}
        self.pair = (await self.api.post("/v1/oauth/token", data=grant)).json()

    async def erase(self) -> httpx.Response:
        return await self.api.delete("/v1/me", headers=self.headers)


async def add_the_rest(database: AsyncDatabase[dict[str, Any]], user_id: str) -> None:
    """Store something in every collection of which a Person fills nothing, in every field: new collections join here."""
    passkey = Passkey(
        id="1", credential_id=b"c", public_key=b"p", sign_count=1, synced=True, backed_up=True, transports=("usb",),
        aaguid="a", name="key", created_at_ms=_FAR_MS, used_at_ms=_FAR_MS,
    )  # fmt: skip
    factors = SecondFactors(
        user_id=user_id,
        totp=Totp(sealed=b"s", since_ms=_FAR_MS, last_step=2),
        begun=Begun(sealed=b"s", expires_at_ms=_FAR_MS),
        recovery_digests=(b"d",),
        recovery_made_at_ms=_FAR_MS,
        passkeys=(passkey,),
    )
    await MongoFactorStore(database).change(user_id, lambda _: (factors, None))
    digest = digest_of(user_id)
    single_use = MongoSingleUse(database)
    await single_use.add(Artefact(kind="k", digest=digest, user_id=user_id, content=b"c", expires_at_ms=_FAR_MS))
    await single_use.use("k", digest, now_ms=1)
    await single_use.annotate("k", digest, b"n")
    recovery = MongoRecoveryStore(database)
    await recovery.begin_change(
        user_id,
        EmailChange(change_id=new_id(), email="new@example.org", address="new@example.org", expires_at_ms=_FAR_MS),
    )
    identity = Identity(identity_id=user_id, issuer="i", subject=user_id, email="e", linked_at_ms=1)
    await MongoIdentityStore(database).link(user_id, identity)
    letter = Outgoing(
        mail_id=user_id, kind="k", user_id=user_id, address="a", details={"d": "e"}, created_at_ms=_FAR_MS
    )
    await MongoOutbox(database).put(letter)
    facts = MongoFactStore(database)
    one = Facts(workout_id=new_id(), day="2026-05-01", started_at_ms=1, sport="run")
    followed = Followed(epoch=1, seq=1, version=1)
    await facts.keep(user_id, [Drawn(one.workout_id, 1, one)], followed)
    await facts.advance(user_id, followed)


async def traces(database: AsyncDatabase[dict[str, Any]], names: Sequence[str]) -> Found:
    """Every record of every collection in which one of these names stands, in a key, a value or bytes."""
    found: Found = []
    for collection in sorted(await database.list_collection_names()):
        async for record in database[collection].find({}):
            if any(name in repr(record) for name in names):
                found.append((collection, record))
    return found


async def require_gravestones_only(database: AsyncDatabase[dict[str, Any]], names: Sequence[str], user_id: str) -> None:
    found = await traces(database, [user_id, *names])
    assert [collection for collection, _ in found] == ["accounts", "sync_records"]
    assert await traces(database, [name for name in names if name != user_id]) == []
    for _, record in found:
        assert len(record) <= 6, (
            record
        )  # its ids, when, a hash, for two days the stage, and until it was told that it was not


def stores_of(database: AsyncDatabase[dict[str, Any]]) -> Stores:
    return Stores(
        MongoErasureStore(database, address_key=b"k"),
        MongoStore(database),
        MongoTrackStore(database),
        MongoImportStore(database),
        MongoFactStore(database),
    )


class Small(NamedTuple):
    user_id: str
    names: list[str]


async def small_account(database: AsyncDatabase[dict[str, Any]]) -> Small:
    """One record in every collection, written straight through the stores."""
    accounts, stores = MongoAccounts(database), stores_of(database)
    one = account(f"{new_id()}@example.org")
    user_id, device_id, workout, chunk = one.user_id, new_id(), new_id(), new_id()
    login = session(user_id)
    await accounts.add_account(one, address=one.email, password_hash="h")
    await accounts.add_session(login)
    phone = DeviceDetails(platform="ios", app_version="1.0")
    await accounts.claim_device(user_id, new_id(), phone, device_id=device_id, now_ms=NOW_MS)
    await accounts.set_push_address(user_id, device_id, login.session_id, PushAddress("fid", device_id), now_ms=NOW_MS)
    await stores.sync.register_device(user_id, device_id)
    await put_chunk(stores, user_id, workout, chunk)
    await stores.imports.record(import_of(user_id, workout), b"file")
    return Small(user_id, [one.email, device_id, workout, chunk, login.session_id])


async def put_chunk(stores: Stores, user_id: str, workout: str, chunk: str) -> None:
    await attach(
        stores.sync, stores.tracks,
        user_id=user_id, workout_id=workout, chunk_id=chunk, chunk=beats(120), now_ms=NOW_MS,
    )  # fmt: skip


def import_of(user_id: str, workout: str) -> ImportRecord:
    return ImportRecord(
        user_id=user_id, sha256="ab" * 32, import_id=new_id(), workouts=[workout], warnings=[], size_bytes=4,
        format="fit",
        created_at_ms=NOW_MS,
    )  # fmt: skip
