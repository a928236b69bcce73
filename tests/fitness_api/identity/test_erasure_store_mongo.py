"""Each bullet of the port, against a real server."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity import erasure_store_mongo
from fitness_api.identity.accounts import Account
from fitness_api.identity.audit import AuditEvent, Origin
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.erasure_store import ErasureOutbox, ErasureStore, Gravestone
from fitness_api.identity.erasure_store_mongo import MongoErasureStore
from fitness_api.identity.errors import EmailTaken, StoreUnavailable
from fitness_api.identity.factors.store_mongo import MongoFactorStore
from fitness_api.identity.single_use import Artefact, digest_of
from fitness_api.identity.single_use_mongo import MongoSingleUse
from fitness_api.identity.store import PushAddress
from fitness_api.identity.store_mongo import MongoStore
from tests.fitness_api.identity.test_store_mongo import NOW_MS, Owner, account, new_id, session


@pytest.fixture
def erasures(database: AsyncDatabase[dict[str, Any]]) -> MongoErasureStore:
    return MongoErasureStore(database, address_key=b"k")


async def added(store: MongoStore, address: str = "ada@example.org") -> Account:
    one = account(address)
    await store.add_account(one, address=address, password_hash="h")
    return one


def test_it_is_an_erasure_store(erasures: MongoErasureStore) -> None:
    _: ErasureStore = erasures


async def test_a_gravestone_holds_nothing_of_the_account_and_keeps_its_time(
    erasures: MongoErasureStore, store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada = await added(store)
    assert await erasures.gravestone(ada.user_id) is None
    assert not await store.is_erased(ada.user_id)
    first = await erasures.bury(ada.user_id, now_ms=NOW_MS)
    assert first == Gravestone(user_id=ada.user_id, erased_at_ms=NOW_MS, stage="begun")
    assert await erasures.bury(ada.user_id, now_ms=NOW_MS + 5) == await erasures.gravestone(ada.user_id) == first
    row = await database["accounts"].find_one({"_id": ada.user_id})
    assert row is not None
    assert row.keys() == {"_id", "user_id", "erased_at", "stage", "untold", "addresses"}
    assert "ada" not in repr({name: value for name, value in row.items() if name not in {"_id", "user_id"}})


async def test_by_an_address_its_erased_accounts_are_found_until_it_is_forgotten(
    erasures: MongoErasureStore, store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    buried = []
    for turn in range(2):
        ada = await added(store)
        buried.append(await erasures.bury(ada.user_id, now_ms=NOW_MS + turn))
        await erasures.end_logins(ada.user_id)
    await added(store)
    await erasures.bury((await added(store, "bob@example.org")).user_id, now_ms=NOW_MS)
    by_time = sorted(await erasures.of_address("ada@example.org"), key=lambda one: one.erased_at_ms)
    assert by_time == buried
    assert await erasures.of_address("nobody@example.org") == []
    of_another_key = MongoErasureStore(database, address_key=b"another")
    assert await of_another_key.of_address("ada@example.org") == []
    await erasures.forget_addresses(erased_before_ms=NOW_MS + 1)
    assert await erasures.of_address("ada@example.org") == buried[1:]
    assert await erasures.gravestone(buried[0].user_id) == buried[0]


async def test_an_erasure_is_to_be_told_until_it_was(
    erasures: MongoErasureStore, store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_store_mongo, "_GRAVESTONES_AT_ONCE", 2)
    outbox: ErasureOutbox = erasures
    await added(store)
    begun = sorted([await erasures.bury(new_id(), now_ms=NOW_MS) for _ in range(3)], key=lambda one: one.user_id)
    await erasures.advance(begun[0], None)
    first = await outbox.untold(after="")
    assert [one.user_id for one in first] == [one.user_id for one in begun[:2]]
    assert await outbox.untold(after=begun[1].user_id) == begun[2:]
    for one in begun:
        await outbox.told(one.user_id)
        await outbox.told(one.user_id)
        await erasures.bury(one.user_id, now_ms=NOW_MS)
    assert await outbox.untold(after="") == []


async def test_where_a_gravestone_is_there_is_no_account(erasures: MongoErasureStore, store: MongoStore) -> None:
    ada = await added(store)
    await erasures.bury(ada.user_id, now_ms=NOW_MS)
    assert await store.is_erased(ada.user_id)
    assert await store.account(ada.user_id) is None
    assert await store.credentials("ada@example.org") is None
    assert await store.update_account(ada.user_id, lambda before: before) is None
    await store.replace_password_hash(ada.user_id, before="h", after="i")
    assert await store.credentials("ada@example.org") is None


async def test_an_unknown_account_gets_one_too(erasures: MongoErasureStore, store: MongoStore) -> None:
    unknown = new_id()
    many = await asyncio.gather(*(erasures.bury(unknown, now_ms=NOW_MS + n) for n in range(10)))
    assert len(set(many)) == 1
    assert await store.is_erased(unknown)


async def test_changes_that_race_a_burial_leave_nothing(erasures: MongoErasureStore, store: MongoStore) -> None:
    for _ in range(5):
        ada = account()
        await store.add_account(ada, address=f"{ada.user_id}@example.org", password_hash="h")
        await asyncio.gather(
            erasures.bury(ada.user_id, now_ms=NOW_MS),
            *(store.update_account(ada.user_id, lambda before: before) for _ in range(5)),
            store.replace_password_hash(ada.user_id, before="h", after="i"),
        )
        assert await store.account(ada.user_id) is None


async def test_an_address_is_free_only_when_it_was_freed(erasures: MongoErasureStore, store: MongoStore) -> None:
    ada, bob = await added(store), await added(store, "bob@example.org")
    await erasures.bury(ada.user_id, now_ms=NOW_MS)
    with pytest.raises(EmailTaken):
        await added(store)
    await erasures.end_logins(ada.user_id)
    again = await added(store)
    await erasures.end_logins(ada.user_id)
    for one, address in ((again, "ada@example.org"), (bob, "bob@example.org")):
        known = await store.credentials(address)
        assert known is not None
        assert known.user_id == one.user_id


async def test_sessions_devices_and_push_addresses_go_and_others_stay(
    erasures: MongoErasureStore, store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada, bob = await Owner(store).settle(), await Owner(store).settle()
    await store.add_session(session(ada.user_id))
    await ada.take(PushAddress("fid", "a"))
    await bob.take(PushAddress("fid", "b"))
    # What a registration left that was cut off between its two writes.
    orphan = {"_id": "orphan", "user_id": ada.user_id, "device_id": new_id(), "kind": "fid", "value": "o"}
    await database["push_addresses"].insert_one(orphan)
    for _ in range(2):
        await erasures.end_logins(ada.user_id)
        await erasures.remove_rest(ada.user_id)
    for name in ("sessions", "devices", "push_addresses"):
        owners = [row["user_id"] async for row in database[name].find({})]
        assert owners == [bob.user_id], name
    assert await bob.push_kind() == "fid"


async def test_artefacts_and_the_audit_log_go_and_others_stay(
    erasures: MongoErasureStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada, bob = new_id(), new_id()
    audit, artefacts = MongoAuditStore(database), MongoSingleUse(database)
    for user_id in (ada, bob):
        await audit.append(
            AuditEvent(event_id=new_id(), user_id=user_id, at_ms=NOW_MS, kind="logged_in", origin=Origin())
        )
        digest = digest_of(user_id)
        await artefacts.add(Artefact(kind="mfa", digest=digest, user_id=user_id, expires_at_ms=4_000_000_000_000))
    for _ in range(2):
        await erasures.end_logins(ada)
        await erasures.remove_rest(ada)
    for name in ("audit", "single_use"):
        assert [row["user_id"] async for row in database[name].find({})] == [bob], name


async def test_second_factors_go_and_others_stay(
    erasures: MongoErasureStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada, bob = new_id(), new_id()
    for user_id in (ada, bob):
        await MongoFactorStore(database).change(user_id, lambda held: (replace(held, wrong_codes=1), None))
    for _ in range(2):
        await erasures.end_logins(ada)
    assert [row["user_id"] async for row in database["second_factors"].find({})] == [bob]


async def test_an_address_registered_meanwhile_is_nobodys(
    erasures: MongoErasureStore, store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    for _ in range(10):
        ada = await Owner(store).settle()
        await asyncio.gather(ada.take(PushAddress("fid", "a")), erasures.remove_rest(ada.user_id))
        assert await database["push_addresses"].count_documents({}) == 0
        assert await database["devices"].count_documents({}) == 0


async def test_what_is_unfinished_is_told_page_by_page_until_it_is_done(
    erasures: MongoErasureStore, store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_store_mongo, "_GRAVESTONES_AT_ONCE", 2)
    await added(store)
    begun = sorted([await erasures.bury(new_id(), now_ms=NOW_MS) for _ in range(5)], key=lambda one: one.user_id)
    pages: list[list[Gravestone]] = []
    after = ""
    while page := await erasures.unfinished(after=after):
        pages.append(page)
        after = page[-1].user_id
    assert pages == [begun[:2], begun[2:4], begun[4:]]
    await erasures.advance(begun[0], "swept")
    await erasures.advance(begun[0], None)  # is no more what it was: stays
    assert [one.stage for one in await erasures.unfinished(after="")] == ["swept", "begun"]
    for one in begun:
        await erasures.advance(await erasures.bury(one.user_id, now_ms=0), None)
    assert await erasures.unfinished(after="") == []
    assert await erasures.gravestone(begun[0].user_id) == Gravestone(
        user_id=begun[0].user_id, erased_at_ms=NOW_MS, stage=None
    )


async def test_a_lost_database_is_unavailable(tmp_path: Path) -> None:
    # A socket that is not there: the driver leaks the TCP sockets of connections that were refused.
    nowhere = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}/?directConnection=true"
    async with AsyncMongoClient[dict[str, Any]](nowhere, serverSelectionTimeoutMS=50) as client:
        erasures = MongoErasureStore(client["nowhere"], address_key=b"k")
        answers = await asyncio.gather(
            erasures.bury("ada", now_ms=NOW_MS),
            erasures.gravestone("ada"),
            erasures.advance(Gravestone(user_id="ada", erased_at_ms=NOW_MS, stage="begun"), None),
            erasures.unfinished(after=""),
            erasures.of_address("ada@example.org"),
            erasures.forget_addresses(erased_before_ms=NOW_MS),
            erasures.untold(after=""),
            erasures.told("ada"),
            erasures.end_logins("ada"),
            erasures.remove_rest("ada"),
            return_exceptions=True,
        )
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 10
