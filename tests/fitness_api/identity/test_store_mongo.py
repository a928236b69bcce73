"""Each bullet of the port, against a real server; and the adapter's own table of errors.

Long, because the port has five subjects; each stands under its heading.
"""

import asyncio
import uuid
from typing import Any

import pymongo
import pymongo.errors
import pytest
from msgspec.structs import replace
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from fitness_api.identity import refresh_tokens, signing_keys
from fitness_api.identity.accounts import Account
from fitness_api.identity.errors import EmailTaken, StoreUnavailable
from fitness_api.identity.refresh_tokens import Session
from fitness_api.identity.signing_keys import State, StoredKey
from fitness_api.identity.store import DeviceDetails, PushAddress, Standing, Store
from fitness_api.identity.store_mongo import COLLECTIONS, MongoStore, translated

NOW_MS = 4_000_000_000_123
PHONE = DeviceDetails(platform="ios", app_version="1.0", model="iPhone17,1")


def new_id() -> str:
    return str(uuid.uuid4())


def account(email: str = "ada@example.org") -> Account:
    return Account(user_id=new_id(), email=email, created_at_ms=NOW_MS)


def session(user_id: str) -> Session:
    return refresh_tokens.begin(
        user_id=user_id, session_id=new_id(), client_id="app", scopes=("sync",), user_agent="ua", now_ms=NOW_MS
    )


def key(kid: str, state: State) -> StoredKey:
    return signing_keys.make(
        kid=kid, state=state, secret=b"s" * 48, nonce=b"n" * 12, sealing_key=b"k" * 32, now_ms=NOW_MS
    )


def test_it_is_a_store(store: MongoStore) -> None:
    _: Store = store


# ------------------------------------------------------------------------------------------------------------ accounts


async def test_an_account_is_read_as_it_was_added(store: MongoStore) -> None:
    ada = account()
    await store.add_account(ada, address="ada@example.org", password_hash="h")
    assert await store.account(ada.user_id) == ada
    known = await store.credentials("ada@example.org")
    assert known is not None
    assert (known.user_id, known.password_hash) == (ada.user_id, "h")
    assert await store.credentials("bob@example.org") is None
    assert await store.account(new_id()) is None


async def test_an_address_belongs_to_one_account_whoever_asks_at_the_same_time(
    store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    many = [account() for _ in range(20)]
    results = await asyncio.gather(
        *(store.add_account(one, address="ada@example.org", password_hash=one.user_id) for one in many),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result is not None] == [EmailTaken] * 19
    known = await store.credentials("ada@example.org")
    assert known is not None
    assert results[[one.user_id for one in many].index(known.user_id)] is None
    assert await database["accounts"].count_documents({}) == 1


async def test_changes_at_the_same_time_are_all_kept(store: MongoStore) -> None:
    ada = account()
    await store.add_account(ada, address="ada@example.org", password_hash="h")
    await asyncio.gather(
        *(
            store.update_account(ada.user_id, lambda before: replace(before, birth_year=(before.birth_year or 0) + 1))
            for _ in range(8)
        ),
        store.update_account(ada.user_id, lambda before: replace(before, timezone="UTC")),
    )
    after = await store.account(ada.user_id)
    assert after == replace(ada, birth_year=8, timezone="UTC", version=9)
    known = await store.credentials("ada@example.org")
    assert known is not None
    assert known.password_hash == "h"
    assert await store.update_account(new_id(), lambda before: before) is None


async def test_an_account_s_standing_is_what_was_granted(store: MongoStore) -> None:
    ada = account()
    assert await store.standing(ada.user_id) == Standing(is_erased=False)
    await store.add_account(ada, address=ada.email, password_hash=None)
    assert await store.standing(ada.user_id) == Standing(is_erased=False)
    await store.update_account(ada.user_id, lambda account: replace(account, granted_scopes=("admin",)))
    assert await store.standing(ada.user_id) == Standing(is_erased=False, granted_scopes=("admin",))


async def test_a_password_hash_is_replaced_only_where_it_is_still_the_one(store: MongoStore) -> None:
    ada = account()
    await store.add_account(ada, address="ada@example.org", password_hash="h1")
    await store.replace_password_hash(ada.user_id, before="h0", after="h2")
    await store.replace_password_hash(ada.user_id, before="h1", after="h3")
    await store.replace_password_hash(ada.user_id, before="h1", after="h4")
    known = await store.credentials("ada@example.org")
    assert known is not None
    assert known.password_hash == "h3"


async def test_an_account_is_entered_by_a_password_or_an_identity(
    store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada, bob = account(), account("bob@example.org")
    await store.add_account(ada, address="ada@example.org", password_hash="h")
    await store.add_account(bob, address="bob@example.org", password_hash=None)
    assert await store.has_way_in(ada.user_id)
    assert not await store.has_way_in(bob.user_id)
    assert not await store.has_way_in(new_id())
    await database["accounts"].update_one({"_id": bob.user_id}, {"$set": {"identities": [{}]}})
    assert await store.has_way_in(bob.user_id)


# ------------------------------------------------------------------------------------------------------------ sessions


async def test_a_session_is_read_as_it_was_added_by_its_own_account_only(store: MongoStore) -> None:
    user_id, other = new_id(), new_id()
    one = session(user_id)
    await store.add_session(one)
    assert await store.session(user_id, one.session_id) == one
    assert await store.session(other, one.session_id) is None
    assert await store.sessions(other) == []
    assert not await store.end_session(other, one.session_id)
    await store.see_generation(other, one.session_id, 9)
    assert await store.session(user_id, one.session_id) == one


async def test_one_of_many_advances_from_a_counter(store: MongoStore) -> None:
    one = session(new_id())
    await store.add_session(one)
    afters = [replace(one, counter=2, used_at_ms=NOW_MS + n, expires_at_ms=NOW_MS + n) for n in range(20)]
    done = await asyncio.gather(*(store.advance_session(after, counter=1) for after in afters))
    assert done.count(True) == 1
    assert await store.session(one.user_id, one.session_id) == afters[done.index(True)]


async def test_the_seen_generation_never_falls_and_advancing_leaves_it(store: MongoStore) -> None:
    one = session(new_id())
    await store.add_session(one)
    for generation in (3, 2):
        await store.see_generation(one.user_id, one.session_id, generation)
    await store.advance_session(replace(one, counter=2, used_at_ms=NOW_MS), counter=1)
    after = await store.session(one.user_id, one.session_id)
    assert after is not None
    assert (after.seen_generation, after.counter) == (3, 2)


async def test_the_latest_used_sessions_come_first(store: MongoStore) -> None:
    user_id = new_id()
    made = [replace(session(user_id), authenticated_at_ms=NOW_MS + n) for n in range(3)]
    for one in made:
        await store.add_session(one)
    used = replace(made[0], counter=2, used_at_ms=NOW_MS + 10)
    assert await store.advance_session(used, counter=1)
    assert await store.sessions(user_id) == [used, made[2], made[1]]


async def test_an_ended_session_is_gone(store: MongoStore) -> None:
    one = session(new_id())
    await store.add_session(one)
    ended = await asyncio.gather(*(store.end_session(one.user_id, one.session_id) for _ in range(5)))
    assert sorted(ended) == [False] * 4 + [True]
    assert await store.session(one.user_id, one.session_id) is None
    assert not await store.advance_session(replace(one, counter=2), counter=1)
    await store.see_generation(one.user_id, one.session_id, 2)
    assert await store.session(one.user_id, one.session_id) is None


# ------------------------------------------------------------------------------------------------------------- devices


async def test_the_first_claim_fixes_the_device_id(store: MongoStore) -> None:
    user_id, installation = new_id(), new_id()
    claims = await asyncio.gather(
        *(store.claim_device(user_id, installation, PHONE, device_id=new_id(), now_ms=NOW_MS) for _ in range(20))
    )
    assert len({claim.device_id for claim in claims}) == 1
    elsewhere = await store.claim_device(new_id(), installation, PHONE, device_id=new_id(), now_ms=NOW_MS)
    assert elsewhere.device_id != claims[0].device_id


async def test_a_device_counts_once_it_has_a_replica(store: MongoStore) -> None:
    user_id = new_id()
    claim = await store.claim_device(user_id, new_id(), PHONE, device_id=new_id(), now_ms=NOW_MS)
    assert await store.devices(user_id) == []
    assert await store.set_replica(user_id, claim.device_id, 7)
    assert await store.devices(user_id) == [replace(claim, replica=7)]
    await store.withdraw_claim(user_id, claim.device_id)
    assert await store.device(user_id, claim.device_id) == replace(claim, replica=7)
    unfinished = await store.claim_device(user_id, new_id(), PHONE, device_id=new_id(), now_ms=NOW_MS)
    await store.withdraw_claim(user_id, unfinished.device_id)
    assert await store.device(user_id, unfinished.device_id) is None
    assert not await store.set_replica(user_id, unfinished.device_id, 8)


async def test_details_change_by_member_and_for_the_owner_only(store: MongoStore) -> None:
    user_id = new_id()
    claim = await store.claim_device(user_id, new_id(), PHONE, device_id=new_id(), now_ms=NOW_MS)
    assert not await store.update_device(new_id(), claim.device_id, {"model": None}, now_ms=NOW_MS)
    assert await store.update_device(user_id, claim.device_id, {"app_version": "2.0"}, now_ms=NOW_MS + 1)
    assert await store.update_device(user_id, claim.device_id, {"model": None}, now_ms=NOW_MS + 2)
    after = await store.device(user_id, claim.device_id)
    assert after == replace(
        claim, details=DeviceDetails(platform="ios", app_version="2.0", model=None), updated_at_ms=NOW_MS + 2
    )


class Owner:
    """A user with a session and a device."""

    def __init__(self, store: MongoStore) -> None:
        self.store, self.user_id, self.device_id = store, new_id(), new_id()
        self.session = session(self.user_id)

    async def settle(self) -> "Owner":
        await self.store.add_session(self.session)
        await self.store.claim_device(self.user_id, new_id(), PHONE, device_id=self.device_id, now_ms=NOW_MS)
        return self

    async def take(self, address: PushAddress) -> bool:
        return await self.store.set_push_address(
            self.user_id, self.device_id, self.session.session_id, address, now_ms=NOW_MS
        )

    async def push_kind(self) -> str | None:
        device = await self.store.device(self.user_id, self.device_id)
        assert device is not None
        return device.push_kind


async def addresses(database: AsyncDatabase[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted([(row["user_id"], row["value"]) async for row in database["push_addresses"].find({})])


TOKEN = PushAddress("fcm_token", "t1")


async def test_a_push_address_belongs_to_its_last_registrant(
    store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    first, second = await Owner(store).settle(), await Owner(store).settle()
    assert await first.take(TOKEN)
    assert await first.push_kind() == "fcm_token"
    assert await second.take(TOKEN)
    assert await first.push_kind() is None
    assert await second.push_kind() == "fcm_token"
    assert await addresses(database) == [(second.user_id, "t1")]
    await store.end_session(first.user_id, first.session.session_id)
    await store.remove_device(first.user_id, first.device_id)
    assert await second.push_kind() == "fcm_token"


async def test_of_many_registrants_one_owns_it(store: MongoStore, database: AsyncDatabase[dict[str, Any]]) -> None:
    owners = [await Owner(store).settle() for _ in range(10)]
    assert all(await asyncio.gather(*(owner.take(TOKEN) for owner in owners)))
    assert [await owner.push_kind() for owner in owners].count("fcm_token") == 1
    assert len(await addresses(database)) == 1


async def test_a_devices_next_address_replaces_its_last(
    store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    owner = await Owner(store).settle()
    for value in ("t1", "t2", "t2"):
        assert await owner.take(PushAddress("fcm_token", value))
    assert await addresses(database) == [(owner.user_id, "t2")]
    assert await owner.take(PushAddress("fid", "t2"))
    assert await owner.push_kind() == "fid"
    assert len(await addresses(database)) == 1


async def test_a_push_address_goes_with_its_session_and_with_its_device(
    store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    one, other = await Owner(store).settle(), await Owner(store).settle()
    await one.take(TOKEN)
    await other.take(PushAddress("fcm_token", "t2"))
    await store.end_session(one.user_id, one.session.session_id)
    assert await addresses(database) == [(other.user_id, "t2")]
    assert await one.push_kind() is None
    await store.remove_device(other.user_id, other.device_id)
    assert await addresses(database) == []


async def test_a_later_session_of_the_device_keeps_its_address(store: MongoStore) -> None:
    owner = await Owner(store).settle()
    await owner.take(TOKEN)
    before, owner.session = owner.session, session(owner.user_id)
    await store.add_session(owner.session)
    assert await owner.take(TOKEN)
    await store.end_session(owner.user_id, before.session_id)
    assert await owner.push_kind() == "fcm_token"


async def test_no_address_is_taken_for_an_ended_session_or_a_device_that_is_gone(
    store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    owner = await Owner(store).settle()
    await store.end_session(owner.user_id, owner.session.session_id)
    assert not await owner.take(TOKEN)
    await store.remove_device(owner.user_id, owner.device_id)
    assert not await owner.take(TOKEN)
    assert await addresses(database) == []


async def test_logging_out_while_registering_leaves_no_address(
    store: MongoStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    owners = [await Owner(store).settle() for _ in range(20)]
    await asyncio.gather(
        *(owner.take(PushAddress("fcm_token", owner.user_id)) for owner in owners),
        *(store.end_session(owner.user_id, owner.session.session_id) for owner in owners),
    )
    assert await addresses(database) == []


# ---------------------------------------------------------------------------------------------------------------- keys


async def test_one_key_is_current_and_one_is_next(store: MongoStore) -> None:
    states: tuple[State, ...] = ("current", "next")
    for state in states:
        added = await asyncio.gather(*(store.add_signing_key(key(f"{state}{n}", state)) for n in range(10)))
        assert added.count(True) == 1
    current, following = await store.signing_keys()
    assert not await store.move_signing_key(following.kid, "next", "current", now_ms=NOW_MS)
    assert await store.move_signing_key(current.kid, "current", "retired", now_ms=NOW_MS + 5)
    assert not await store.move_signing_key(current.kid, "current", "retired", now_ms=NOW_MS)
    assert await store.move_signing_key(following.kid, "next", "current", now_ms=NOW_MS)
    kept = {stored.kid: stored for stored in await store.signing_keys()}
    assert kept[current.kid] == replace(current, state="retired", state_since_ms=NOW_MS + 5)
    await store.drop_signing_key(following.kid)
    await store.drop_signing_key(current.kid)
    assert [stored.kid for stored in await store.signing_keys()] == [following.kid]


async def test_many_keys_may_be_retired(store: MongoStore) -> None:
    for kid in "abc":
        assert await store.add_signing_key(key(kid, "retired"))


# -------------------------------------------------------------------------------------------------------------- errors


async def test_a_database_that_does_not_answer_in_time_is_unavailable(store: MongoStore) -> None:
    with pymongo.timeout(1e-6):
        with pytest.raises(StoreUnavailable) as error:
            await store.session(new_id(), new_id())
        assert isinstance(error.value.__cause__, PyMongoError)
        with pytest.raises(StoreUnavailable):
            await store.devices(new_id())
        with pytest.raises(StoreUnavailable):
            await store.add_session(session(new_id()))


def test_an_error_that_the_driver_calls_passing_is_unavailable_and_another_is_itself() -> None:
    labelled = PyMongoError("x", error_labels=["RetryableWriteError"])
    with pytest.raises(StoreUnavailable), translated():
        raise labelled
    with pytest.raises(pymongo.errors.OperationFailure), translated():
        raise pymongo.errors.OperationFailure("x")


def test_whatever_grows_with_users_is_sharded_and_unique_indexes_begin_with_the_key() -> None:
    for name, wanted in COLLECTIONS.items():
        shard_key = wanted["shard_key"]
        assert (shard_key is None) == (name == "signing_keys")
        for keys, options in wanted["indexes"]:
            if shard_key and options.get("unique"):
                assert keys[: len(shard_key)] == shard_key


class Filters(CommandListener):
    """What each command on a collection asked for: (collection, filter)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: CommandStartedEvent) -> None:
        command = dict(event.command)
        match event.command_name:
            case "find":
                self.seen.append((command["find"], command["filter"]))
            case "findAndModify":
                self.seen.append((command["findAndModify"], command["query"]))
            case "update" | "delete" as name:
                self.seen.extend((command[name], one["q"]) for one in command[f"{name}s"])
            case "insert":
                self.seen.extend((command["insert"], document) for document in command["documents"])

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


async def test_every_command_names_the_shard_key_by_equality(
    mongo_url: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    filters = Filters()
    async with AsyncMongoClient[dict[str, Any]](mongo_url, event_listeners=[filters]) as client:
        store = MongoStore(client[database.name])
        ada = account()
        await store.add_account(ada, address="ada@example.org", password_hash="h")
        with pytest.raises(EmailTaken):
            await store.add_account(account(), address="ada@example.org", password_hash="h")
        await store.update_account(ada.user_id, lambda before: before)
        await store.credentials("ada@example.org")
        await store.credentials("bob@example.org")
        await store.standing(ada.user_id)
        await store.replace_password_hash(ada.user_id, before="h", after="i")
        owner = Owner(store)
        await owner.settle()
        await store.advance_session(replace(owner.session, counter=2), counter=1)
        await store.see_generation(owner.user_id, owner.session.session_id, 2)
        await store.sessions(owner.user_id)
        await store.set_replica(owner.user_id, owner.device_id, 1)
        await store.withdraw_claim(owner.user_id, owner.device_id)
        await store.update_device(owner.user_id, owner.device_id, {"model": "x"}, now_ms=NOW_MS)
        await owner.take(TOKEN)
        await owner.take(PushAddress("fid", "f1"))
        await store.devices(owner.user_id)
        await store.end_session(owner.user_id, owner.session.session_id)
        await owner.take(TOKEN)
        await store.remove_device(owner.user_id, owner.device_id)
    keyed = {name: wanted["shard_key"][0][0] for name, wanted in COLLECTIONS.items() if wanted["shard_key"]}
    assert {name for name, _ in filters.seen} == keyed.keys()
    for name, asked in filters.seen:
        assert isinstance(asked.get(keyed[name]), str), (name, asked)
