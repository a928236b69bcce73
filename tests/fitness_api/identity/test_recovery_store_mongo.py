"""The port's contract, bullet by bullet."""

import asyncio
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.accounts import Account, normalised_address
from fitness_api.identity.erasure_store_mongo import MongoErasureStore
from fitness_api.identity.errors import EmailTaken, StoreUnavailable
from fitness_api.identity.recovery_store import EmailChange, Side, is_confirmed
from fitness_api.identity.recovery_store_mongo import MongoRecoveryStore
from fitness_api.identity.store_mongo import MongoStore

NOW_MS = 4_000_000_000_000


@pytest.fixture
def recovery(database: AsyncDatabase[dict[str, Any]]) -> MongoRecoveryStore:
    return MongoRecoveryStore(database)


async def account(store: MongoStore, email: str = "Ada@example.org") -> str:
    user_id = str(uuid4())
    made = Account(user_id=user_id, email=email, created_at_ms=NOW_MS)
    await store.add_account(made, address=normalised_address(email), password_hash="old")
    return user_id


async def hash_of(store: MongoStore) -> str | None:
    known = await store.credentials("ada@example.org")
    return None if known is None else known.password_hash


def change(email: str = "Ada@new.example", *, change_id: str = "c1", expires_at_ms: int = NOW_MS + 1000) -> EmailChange:
    return EmailChange(change_id=change_id, email=email, address=normalised_address(email), expires_at_ms=expires_at_ms)


async def test_a_password_is_changed_by_who_knew_it_and_no_more(
    store: MongoStore, recovery: MongoRecoveryStore
) -> None:
    ada = await account(store)
    before = await store.account(ada)
    changed = await asyncio.gather(
        *(recovery.change_password_hash(ada, before="old", after=f"new {number}") for number in range(5))
    )
    assert changed.count(True) == 1
    assert await hash_of(store) == f"new {changed.index(True)}"
    assert not await recovery.change_password_hash(ada, before=None, after="newer")
    after = await store.account(ada)
    assert before is not None
    assert after is not None
    assert after.version == before.version + 1


async def test_a_reset_verifies_the_address_that_asked_for_it(store: MongoStore, recovery: MongoRecoveryStore) -> None:
    ada = await account(store)
    assert not await recovery.reset_password_hash(ada, "newer", proven="other@example.org")
    before = await store.account(ada)
    assert await recovery.reset_password_hash(ada, "newest", proven="ada@example.org")
    after = await store.account(ada)
    assert before is not None
    assert after is not None
    assert (before.email_verified, after.email_verified) == (False, True)
    assert after.version == before.version + 1
    assert await hash_of(store) == "newest"


async def test_an_address_is_verified_while_it_is_the_accounts(store: MongoStore, recovery: MongoRecoveryStore) -> None:
    ada = await account(store)
    assert not await recovery.verify(ada, "bob@example.org")
    assert await recovery.verify(ada, "ada@example.org")
    found = await store.account(ada)
    assert found is not None
    assert found.email_verified


async def test_one_change_waits_until_it_expires(store: MongoStore, recovery: MongoRecoveryStore) -> None:
    ada = await account(store)
    assert await recovery.begin_change(ada, change())
    assert await recovery.begin_change(ada, change("b@new.example", change_id="c2"))
    assert await recovery.confirm_change(ada, "c1", "here", now_ms=NOW_MS) is None
    for _ in range(2):
        confirmed = await recovery.confirm_change(ada, "c2", "here", now_ms=NOW_MS)
        assert confirmed is not None
        assert confirmed.confirmed == ("here",)
    assert await recovery.pending_change(ada, now_ms=NOW_MS) == confirmed
    assert await recovery.pending_change(ada, now_ms=NOW_MS + 1000) is None
    assert await recovery.confirm_change(ada, "c2", "there", now_ms=NOW_MS + 1000) is None
    await recovery.cancel_change(ada)
    assert await recovery.pending_change(ada, now_ms=NOW_MS) is None


async def test_an_account_that_moved_has_its_new_address_and_no_other(
    store: MongoStore, recovery: MongoRecoveryStore
) -> None:
    ada = await account(store)
    await recovery.begin_change(ada, change())
    assert await recovery.move(ada, change(), verified=False) == "Ada@example.org"
    found = await store.account(ada)
    assert found is not None
    assert (found.email, found.email_verified) == ("Ada@new.example", True)
    known = await store.credentials("ada@new.example")
    assert known is not None
    assert known.user_id == ada
    assert await store.credentials("ada@example.org") is None
    assert await account(store, "ada@example.org")
    assert await recovery.move(ada, change(), verified=True) is None
    assert await recovery.pending_change(ada, now_ms=NOW_MS) is None


async def test_of_two_that_move_to_one_address_one_does(store: MongoStore, recovery: MongoRecoveryStore) -> None:
    users = [await account(store, f"u{number}@example.org") for number in range(4)]
    for user_id in users:
        await recovery.begin_change(user_id, change())
    moved = await asyncio.gather(
        *(recovery.move(user_id, change(), verified=False) for user_id in users), return_exceptions=True
    )
    assert sum(isinstance(one, str) for one in moved) == 1
    assert sum(isinstance(one, EmailTaken) for one in moved) == 3
    assert sum([await store.credentials(f"u{number}@example.org") is not None for number in range(4)]) == 3


async def test_a_change_that_was_cancelled_leaves_no_claim(store: MongoStore, recovery: MongoRecoveryStore) -> None:
    ada = await account(store)
    await recovery.begin_change(ada, change(change_id="c2"))
    assert await recovery.move(ada, change(change_id="c1"), verified=False) is None
    assert await store.credentials("ada@new.example") is None


async def test_an_account_that_was_verified_meanwhile_does_not_move(
    store: MongoStore, recovery: MongoRecoveryStore
) -> None:
    ada = await account(store)
    await recovery.begin_change(ada, change())
    await recovery.verify(ada, "ada@example.org")
    assert await recovery.move(ada, change(), verified=False) is None
    assert await store.credentials("ada@new.example") is None
    assert await recovery.move(ada, change(), verified=True) == "Ada@example.org"


async def test_a_move_that_was_cut_off_is_mended_by_the_next(
    store: MongoStore, recovery: MongoRecoveryStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada = await account(store)
    await recovery.begin_change(ada, change())
    await database["emails"].insert_one({"_id": "ada@new.example", "user_id": ada})
    assert await recovery.move(ada, change(), verified=False) == "Ada@example.org"
    claimed = [row["_id"] async for row in database["emails"].find({"user_id": ada})]
    assert claimed == ["ada@new.example"]


async def test_of_an_account_that_is_erased_or_unknown_nothing_is_changed(
    store: MongoStore, recovery: MongoRecoveryStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada = await account(store)
    await MongoErasureStore(database, address_key=b"k" * 32).bury(ada, now_ms=NOW_MS)
    before = [row async for row in database["accounts"].find({})]
    for user_id in (ada, str(uuid4())):
        for before_it in (None, "old"):
            assert not await recovery.change_password_hash(user_id, before=before_it, after="new")
        assert not await recovery.reset_password_hash(user_id, "new", proven="ada@example.org")
        assert not await recovery.verify(user_id, "ada@example.org")
        assert not await recovery.begin_change(user_id, change())
        assert await recovery.move(user_id, change(), verified=False) is None
        await recovery.cancel_change(user_id)
    assert [row async for row in database["accounts"].find({})] == before


async def test_a_database_that_does_not_answer_in_time_is_unavailable(recovery: MongoRecoveryStore) -> None:
    asked = (
        lambda: recovery.change_password_hash("u", before=None, after="h"),
        lambda: recovery.reset_password_hash("u", "h", proven="a@b.example"),
        lambda: recovery.verify("u", "a@b.example"),
        lambda: recovery.begin_change("u", change()),
        lambda: recovery.pending_change("u", now_ms=0),
        lambda: recovery.confirm_change("u", "c", "here", now_ms=0),
        lambda: recovery.move("u", change(), verified=False),
        lambda: recovery.cancel_change("u"),
    )
    for ask in asked:
        with pymongo.timeout(1e-6), pytest.raises(StoreUnavailable):
            await ask()


@pytest.mark.parametrize(
    ("confirmed", "verified", "moves"),
    [
        ((), True, False),
        (("here",), True, False),
        (("there",), True, False),
        (("here", "there"), True, True),
        (("here",), False, False),
        (("there",), False, True),
    ],
)
def test_an_account_moves_when_whoever_must_has_agreed(
    confirmed: tuple[Side, ...], verified: bool, moves: bool
) -> None:
    assert is_confirmed(confirmed, verified=verified) == moves
