"""The port's bullets, against a real MongoDB."""

import asyncio
import itertools
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.accounts import Account
from fitness_api.identity.erasure_store_mongo import MongoErasureStore
from fitness_api.identity.errors import EmailTaken, StoreUnavailable, TooManyIdentities
from fitness_api.identity.federation import store_mongo as module
from fitness_api.identity.federation.identities import MAX_IDENTITIES, Holder, Identity
from fitness_api.identity.federation.store_mongo import MongoIdentityStore
from fitness_api.identity.store_mongo import MongoStore

NOW_MS = 1_780_000_000_000


@pytest.fixture
def identities(database: AsyncDatabase[dict[str, Any]]) -> MongoIdentityStore:
    return MongoIdentityStore(database)


def account(email: str = "ada@example.org", *, verified: bool = True) -> Account:
    return Account(user_id=str(uuid4()), email=email, email_verified=verified, created_at_ms=NOW_MS)


def identity(subject: str = "1", issuer: str = "https://issuer.test") -> Identity:
    return Identity(
        identity_id=str(uuid4()), issuer=issuer, subject=subject, email="ada@example.org", linked_at_ms=NOW_MS
    )


async def registered(store: MongoStore, email: str = "ada@example.org", *, verified: bool = False) -> str:
    made = account(email, verified=verified)
    await store.add_account(made, address=email, password_hash="hash")
    return made.user_id


async def held(identities: MongoIdentityStore, user_id: str) -> Holder:
    holder = await identities.holder(user_id)
    assert holder is not None
    return holder


async def test_an_account_that_is_made_is_found_by_identity_address_and_id(identities: MongoIdentityStore) -> None:
    made, mine = account(), identity()
    assert await identities.make(made, address="ada@example.org", identity=mine)
    expected = Holder(user_id=made.user_id, email_verified=True, has_password=False, identities=(mine,), version=0)
    assert await identities.owner(mine.key) == expected
    assert await identities.holder_of("ada@example.org") == expected
    assert await identities.holder(made.user_id) == expected
    assert await identities.owner(identity("2").key) is None
    assert await identities.holder_of("bob@example.org") is None
    assert await identities.holder(str(uuid4())) is None


async def test_an_account_that_is_made_is_an_account(identities: MongoIdentityStore, store: MongoStore) -> None:
    made = account()
    await identities.make(made, address="ada@example.org", identity=identity())
    assert await store.account(made.user_id) == made
    credentials = await store.credentials("ada@example.org")
    assert credentials is not None
    assert credentials.password_hash is None
    with pytest.raises(EmailTaken):
        await registered(store)


async def test_an_address_that_is_taken_leaves_nothing_behind(
    identities: MongoIdentityStore, store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    user_id = await registered(store)
    assert not await identities.make(account(), address="ada@example.org", identity=identity())
    assert [row["_id"] async for row in database["accounts"].find({})] == [user_id]
    assert await database["identities"].count_documents({}) == 0


async def test_an_identity_that_is_taken_leaves_nothing_behind(
    identities: MongoIdentityStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    made = account()
    await identities.make(made, address="ada@example.org", identity=identity())
    assert not await identities.make(account("b@example.org"), address="b@example.org", identity=identity())
    assert [row["_id"] async for row in database["accounts"].find({})] == [made.user_id]
    assert [row["_id"] async for row in database["emails"].find({})] == ["ada@example.org"]


async def test_of_many_who_make_one_identity_one_account_stays(
    identities: MongoIdentityStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    made = await asyncio.gather(
        *(identities.make(account(), address="ada@example.org", identity=identity()) for _ in range(20))
    )
    assert sorted(made) == [False] * 19 + [True]
    assert await database["accounts"].count_documents({}) == 1


async def test_of_many_who_link_one_identity_one_account_has_it(
    identities: MongoIdentityStore, store: MongoStore
) -> None:
    users = [await registered(store, f"user{n}@example.org") for n in range(10)]

    async def link(user_id: str) -> bool | None:
        try:
            return await identities.link(user_id, identity())
        except StoreUnavailable:
            return None  # somebody claims it, and has not listed it yet

    answers = await asyncio.gather(*map(link, users))
    assert answers.count(True) == 1
    owner = await identities.owner(identity().key)
    assert owner is not None
    assert owner.user_id == users[answers.index(True)]
    assert [user for user in users if (await held(identities, user)).identities] == [owner.user_id]


async def test_linking_again_changes_nothing(identities: MongoIdentityStore, store: MongoStore) -> None:
    user_id, mine = await registered(store), identity()
    assert await identities.link(user_id, mine)
    before = await held(identities, user_id)
    assert await identities.link(user_id, identity())
    assert await held(identities, user_id) == before
    assert not await identities.link(await registered(store, "bob@example.org"), mine)


async def test_many_linked_at_once_are_all_there_up_to_the_bound(
    identities: MongoIdentityStore, store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    user_id = await registered(store)
    linked = [identity(f"{n}") for n in range(MAX_IDENTITIES)]
    assert await asyncio.gather(*(identities.link(user_id, one) for one in linked)) == [True] * MAX_IDENTITIES
    assert {one.subject for one in (await held(identities, user_id)).identities} == {one.subject for one in linked}
    with pytest.raises(TooManyIdentities):
        await identities.link(user_id, identity("one more"))
    assert await database["identities"].count_documents({}) == MAX_IDENTITIES


async def test_unlinking_goes_by_how_the_account_stood(identities: MongoIdentityStore, store: MongoStore) -> None:
    user_id = await registered(store)
    first, second = identity("1"), identity("2")
    for one in (first, second):
        await identities.link(user_id, one)
    before = await held(identities, user_id)
    done = await asyncio.gather(*(identities.unlink(before, one.identity_id) for one in (first, second)))
    assert sorted(done) == [False, True]
    after = await held(identities, user_id)
    assert len(after.identities) == 1
    gone = first if after.identities == (second,) else second
    assert await identities.owner(gone.key) is None
    assert await identities.link(await registered(store, "bob@example.org"), gone)


async def test_a_profile_that_changed_is_another_standing(identities: MongoIdentityStore, store: MongoStore) -> None:
    user_id, mine = await registered(store), identity()
    await identities.link(user_id, mine)
    before = await held(identities, user_id)
    changed = await store.update_account(user_id, lambda account: replace(account, sex="other"))
    assert changed is not None
    assert not await identities.unlink(before, mine.identity_id)
    assert (await held(identities, user_id)).identities == (mine,)
    kept = await store.account(user_id)
    assert kept is not None
    assert kept.sex == "other"


async def test_what_is_voided_has_no_way_in(identities: MongoIdentityStore, store: MongoStore) -> None:
    user_id, old = await registered(store), identity("old")
    await identities.link(user_id, old)
    before = await held(identities, user_id)
    voided = await identities.void(before)
    assert voided == await held(identities, user_id)
    assert voided is not None
    assert (voided.has_password, voided.identities, voided.email_verified) == (False, (), False)
    assert await identities.owner(old.key) is None
    assert await identities.void(before) is None
    credentials = await store.credentials("ada@example.org")
    assert credentials is not None
    assert credentials.password_hash is None


async def test_what_is_given_is_verified_and_has_one_way_in(identities: MongoIdentityStore, store: MongoStore) -> None:
    user_id, mine = await registered(store), identity()
    voided = await identities.void(await held(identities, user_id))
    assert voided is not None
    await identities.link(user_id, identity("slipped in"))
    assert not await identities.give(voided, mine)
    assert await identities.give(await held(identities, user_id), mine)
    after = await identities.owner(mine.key)
    assert after is not None
    assert (after.user_id, after.email_verified, after.identities) == (user_id, True, (mine,))
    assert await identities.owner(identity("slipped in").key) is None
    assert not await identities.give(after, identity("2"))
    assert await identities.void(after) is None


async def test_what_is_anothers_is_not_given(identities: MongoIdentityStore, store: MongoStore) -> None:
    await identities.make(account("b@example.org"), address="b@example.org", identity=identity())
    user_id = await registered(store)
    voided = await identities.void(await held(identities, user_id))
    assert voided is not None
    assert not await identities.give(voided, identity())
    assert not (await held(identities, user_id)).email_verified


async def test_a_claim_that_was_cut_off_opens_nothing_and_ends_after_a_while(
    identities: MongoIdentityStore,
    store: MongoStore,
    database: AsyncDatabase[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada, bob, mine = await registered(store), await registered(store, "bob@example.org"), identity()
    await identities.link(ada, mine)
    await database["accounts"].update_one({"_id": ada, "user_id": ada}, {"$set": {"identities": []}})
    assert await identities.owner(mine.key) is None
    with pytest.raises(StoreUnavailable):
        await identities.link(bob, mine)
    monkeypatch.setattr(module, "CLAIM_MS", 0)
    assert await identities.link(bob, mine)
    owner = await identities.owner(mine.key)
    assert owner is not None
    assert owner.user_id == bob
    # Whoever was cut off, and goes on after all, is too late.
    assert not await identities.link(ada, mine)


async def test_an_erased_account_is_none_and_frees_its_identities(
    identities: MongoIdentityStore, store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    user_id, mine = await registered(store), identity()
    await identities.link(user_id, mine)
    before = await held(identities, user_id)
    erasures = MongoErasureStore(database, address_key=bytes(32))
    await erasures.bury(user_id, now_ms=NOW_MS)
    assert await identities.owner(mine.key) is None
    assert await identities.holder(user_id) is None
    assert await identities.holder_of("ada@example.org") is None
    assert not await identities.unlink(before, mine.identity_id)
    assert await identities.void(before) is None
    assert not await identities.give(before, mine)
    assert not await identities.link(user_id, identity("late"))
    await erasures.end_logins(user_id)
    assert await database["identities"].count_documents({}) == 0
    assert await identities.make(account(), address="ada@example.org", identity=mine)


async def test_whoever_takes_over_and_whoever_links_meet_in_one_of_two_ends(
    identities: MongoIdentityStore, store: MongoStore
) -> None:
    for n, _ in itertools.product(range(5), range(2)):
        email = f"{uuid4()}@example.org"
        user_id, theirs, mine = await registered(store, email), identity(f"t{uuid4()}"), identity(f"m{uuid4()}")

        async def take(user_id: str = user_id, mine: Identity = mine, n: int = n) -> bool:
            await asyncio.sleep(n / 1000)
            voided = await identities.void(await held(identities, user_id))
            return voided is not None and await identities.give(voided, mine)

        _, taken = await asyncio.gather(identities.link(user_id, theirs), take())
        after = await held(identities, user_id)
        if taken:
            assert after.email_verified
            assert mine in after.identities
        else:
            assert not after.email_verified
            assert mine not in after.identities
