"""The store's contract, bullet by bullet, over every adapter."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from sync import clock, merge
from sync.changes import Change
from sync.document import Document, Key, components
from sync.errors import ReplicasExhausted, TooManyDevices
from sync.head import MAX_DEVICES, Device, Head
from sync.merge import Outcome, State
from sync.schema import COLLECTIONS
from sync.store import Step, Store
from sync.store_hinting import HintingStore
from sync.store_memory import MemoryStore
from sync.store_mongo import RECORDS, MongoStore
from sync.values import from_wire
from tests.sync.model import NOW_MS, change_of, json_values, new_id, stamp_at, stored, stored_registers, texts

ALL = tuple(COLLECTIONS)
KEY = Key("workouts", "00000000-0000-4000-8000-000000000001")


@pytest.fixture(params=["memory", "mongo", "hinting"])
def store(request: pytest.FixtureRequest, database: AsyncDatabase[dict[str, Any]]) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return MongoStore(database) if request.param == "mongo" else HintingStore(MongoStore(database), lambda _: None)


@pytest.fixture
def user() -> str:
    return new_id()


def applying(*changes: Change, now_ms: int = NOW_MS) -> Step:
    def step(state: State) -> Outcome:
        covered = [change for change in changes if change.key in set(state.keys)]
        return merge.apply(covered, state, now_ms=now_ms)

    return step


async def write(store: Store, user_id: str, *changes: Change, now_ms: int = NOW_MS) -> tuple[State, Outcome]:
    keys = sorted({change.key for change in changes})
    return await store.update(user_id, keys, {change.stamp for change in changes}, applying(*changes, now_ms=now_ms))


async def head_of(store: Store, user_id: str) -> Head:
    head = await store.head(user_id)
    assert head is not None
    return head


def replicas_of(head: Head) -> dict[str, int]:
    return {device_id: device.replica for device_id, device in head.devices.items()}


async def changed(
    store: Store,
    user_id: str,
    *,
    after: int = 0,
    upto: int = 10**9,
    collections: Sequence[str] = ALL,
    newest: bool = False,
) -> list[Document]:
    async with store.view(user_id) as view:
        if view is None:
            return []
        return [one async for one in view.changed(collections, after=after, upto=upto, snapshot=newest)]


async def count(store: Store, user_id: str, collections: Sequence[str], *, after: int, upto: int) -> int:
    async with store.view(user_id) as view:
        return 0 if view is None else await view.count_changed(collections, after=after, upto=upto)


# --- update


async def test_an_update_gives_the_step_what_is_stored_and_stores_what_it_returns(store: Store, user: str) -> None:
    other = Key("goals", new_id())
    state, outcome = await write(store, user, change_of({"title": "a", "tags/x": True}, stamp=stamp_at(), key=KEY))
    assert (state.documents, state.restamps, tuple(state.keys)) == ({}, {}, (KEY,))
    assert (state.head.seq, outcome.head.seq) == (0, 1)
    late = stamp_at(NOW_MS + 3_600_000)
    state, outcome = await write(
        store, user,
        change_of({"notes": "b"}, stamp=stamp_at(counter=1), key=KEY),
        change_of({"title": "c"}, stamp=late, key=other),
    )  # fmt: skip
    assert state.head.seq == 1
    assert state.documents[KEY].registers() == {"title": ("a", stamp_at()), "tags/x": (True, stamp_at())}
    assert state.documents[KEY].mark("title") == (stamp_at(), 1)
    new = outcome.restamps[late]
    assert await head_of(store, user) == outcome.head
    assert (outcome.head.seq, outcome.head.clock, outcome.head.restamped) == (3, new, late)
    state, _ = await write(store, user, change_of({}, stamp=late, key=other))
    assert state.restamps == {late: new}
    assert await stored_registers(store, user) == {
        KEY: {"title": ("a", stamp_at()), "tags/x": (True, stamp_at()), "notes": ("b", stamp_at(counter=1))},
        other: {"title": ("c", new)},
    }


async def test_what_the_step_raises_passes_through_and_nothing_is_stored(store: Store, user: str) -> None:
    class Refused(Exception):
        pass

    def refuse(state: State) -> Outcome:
        raise Refused

    await write(store, user, change_of({"title": "a"}, stamp=stamp_at(), key=KEY))
    before = await head_of(store, user), await stored_registers(store, user)
    for _ in range(3):
        with pytest.raises(Refused):
            await store.update(user, [KEY], (), refuse)
    assert (await head_of(store, user), await stored_registers(store, user)) == before
    await write(store, user, change_of({"title": "b"}, stamp=stamp_at(counter=1), key=KEY))


async def test_an_outcome_without_writes_stores_nothing(store: Store, user: str) -> None:
    change = change_of({"title": "a"}, stamp=stamp_at(), key=KEY)
    await write(store, user, change)
    before = await head_of(store, user)
    _, outcome = await write(store, user, change)
    assert not outcome.writes
    assert await head_of(store, user) == before
    # A head of its own is one: what a device was given, say.
    after = replace(before, purge_at_ms=5)
    await store.update(user, [KEY], (), lambda _: Outcome(after))
    assert await head_of(store, user) == after


async def test_the_state_given_is_the_steps_own(store: Store, user: str) -> None:
    """A step that alters what it was given, against its contract, still alters nothing stored."""
    await write(store, user, change_of({"title": "a"}, stamp=stamp_at(), key=KEY))

    def careless(state: State) -> Outcome:
        state.documents[KEY].values["title"] = "altered"
        return Outcome(state.head, (), {}, ())

    await store.update(user, [KEY], (), careless)
    for document in await changed(store, user):
        document.values["title"] = "altered"
    assert (await stored_registers(store, user))[KEY]["title"] == ("a", stamp_at())


async def test_accounts_do_not_meet(store: Store, user: str) -> None:
    other = new_id()
    await write(store, user, change_of({"title": "mine"}, stamp=stamp_at(), key=KEY))
    state, outcome = await write(store, other, change_of({"title": "theirs"}, stamp=stamp_at(), key=KEY))
    assert (state.documents, outcome.head.seq) == ({}, 1)
    assert (await stored_registers(store, user))[KEY]["title"] == ("mine", stamp_at())
    assert await changed(store, new_id()) == []
    assert await store.head(new_id()) is None


async def test_parallel_updates_happen_one_after_another(store: Store, user: str) -> None:
    steps = [write(store, user, change_of({f"new/{n}": n}, stamp=stamp_at(counter=n), key=KEY)) for n in range(30)]
    done = await asyncio.gather(*steps)
    assert sorted(outcome.head.seq for _, outcome in done) == list(range(1, 31))
    for state, outcome in done:
        assert outcome.head.seq == state.head.seq + 1
        assert len(state.documents[KEY].values if KEY in state.documents else {}) == state.head.seq
    assert len((await stored_registers(store, user))[KEY]) == 30


# --- the feed


async def test_the_feed_gives_documents_as_they_are_now_in_order(store: Store, user: str) -> None:
    keys = [Key(ALL[n % 3], new_id()) for n in range(6)]
    for n, key in enumerate(keys):
        await write(store, user, change_of({"title": n}, stamp=stamp_at(counter=n), key=key))
    await write(store, user, change_of({"title": "again"}, stamp=stamp_at(counter=9), key=keys[1]))
    found = await changed(store, user)
    assert [(one.key, one.seq) for one in found] == [
        (keys[n], s) for n, s in [(0, 1), (2, 3), (3, 4), (4, 5), (5, 6), (1, 7)]
    ]
    assert found[-1].values == {"title": "again"}
    assert [one.seq for one in await changed(store, user, newest=True)] == [7, 6, 5, 4, 3, 1]
    assert [one.seq for one in await changed(store, user, after=3, upto=6)] == [4, 5, 6]
    assert [one.seq for one in await changed(store, user, after=1, upto=2)] == []
    assert [one.seq for one in await changed(store, user, collections=ALL[:1])] == [1, 4]
    assert await changed(store, user, collections=()) == []
    assert await count(store, user, ALL, after=0, upto=7) == 6
    assert await count(store, user, ALL[1:2], after=0, upto=7) == 2
    assert await count(store, user, ALL, after=3, upto=5) == 2
    assert await count(store, user, (), after=0, upto=7) == 0


async def test_the_feed_is_longer_than_one_reply(store: Store, user: str) -> None:
    keys = [Key("goals", new_id()) for _ in range(450)]
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in keys))
    assert [one.seq for one in await changed(store, user)] == list(range(1, 451))
    async with store.view(user) as view:
        assert view is not None
        first = await anext(aiter(view.changed(ALL, after=0, upto=450, snapshot=True)))
    assert first.seq == 450


async def test_the_feed_is_the_same_whatever_room_is_left(store: Store, user: str) -> None:
    keys = [Key("goals" if n % 3 else "workouts", new_id()) for n in range(12)]
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in keys))
    async with store.view(user) as view:
        assert view is not None
        for rooms in ([1], [3], [4, 1, 2], [11], [12], [13]):
            for collections in (ALL, ["goals"]):
                for newest in (False, True):
                    span: dict[str, Any] = {"after": 1, "upto": 11, "snapshot": newest}
                    left = iter(rooms)
                    found = view.changed(collections, **span, room=lambda left=left: next(left, 2))  # type: ignore[misc]
                    whole = [one.seq async for one in view.changed(collections, **span)]
                    assert [one.seq async for one in found] == whole
                    assert len(whole) == (10 if collections == ALL else 7)


# --- values


async def test_every_kind_of_value_and_path_comes_back_exactly(store: Store, user: str) -> None:
    awkward: dict[str, Any] = {
        "$set": 1, "$": None, "$where/a": "$x", "a.b": 1, ".": 2, "..": 3, "a\0b": 4, "\0": 5, "$\0.$": 6, "~0~1": 7,
        "_id": 8, "é/\U0001f600": 9, "0": 10, "value": 11, "stamps.x": 12, " ": 13, "\uffff": 14, "x/$y/.z/\0": 15,
        "none": None, "true": True, "false": False, "int": 5, "big": 2**53, "small": -(2**53), "31": 2**31, "-31": -(2**31) - 1,
        "float": 1.0, "minus zero": -0.0, "tiny": 5e-324, "huge": 1e308, "empty": "", "nul": "a\0b", "text": "\U0001f600é",
        "list": [], "object": {}, "nested": {"$a.b\0": [1, 2.0, None, {"": "x"}], "2": 1, "1": 2},
    }  # fmt: skip
    await write(store, user, change_of(awkward, stamp=stamp_at(), key=KEY))
    assert _exact((await stored(store, user))[KEY]) == _exact_values(awkward)
    # One path, then one that names nothing awkward in a document that does, then all of them.
    await write(store, user, change_of({"a.b": 1}, stamp=stamp_at(counter=1), key=KEY))
    await write(store, user, change_of({"plain": 1}, stamp=stamp_at(counter=2), key=KEY))
    document = (await stored(store, user))[KEY]
    assert _exact(document) == _exact_values({**awkward, "a.b": 1, "plain": 1})
    assert document.mark("a.b") == (stamp_at(counter=1), 2)
    assert document.mark("plain") == (stamp_at(counter=2), 3)
    assert {document.mark(path) for path in awkward if path != "a.b"} == {(stamp_at(), 1)}
    again = {path: [value] for path, value in awkward.items()}
    await write(store, user, change_of(again, stamp=stamp_at(counter=3), key=KEY))
    document = (await stored(store, user))[KEY]
    assert _exact(document) == _exact_values({**again, "plain": 1})
    assert {document.mark(path) for path in again} == {(stamp_at(counter=3), 4)}


def _exact(document: Document) -> dict[str, tuple[type, str]]:
    return {path: (type(value), repr(value)) for path, value in document.values.items()}


def _exact_values(given_values: dict[str, Any]) -> dict[str, tuple[type, str]]:
    return _exact(Document(KEY, values={path: from_wire(value) for path, value in given_values.items()}))


paths = st.lists(
    texts.filter(bool).map(lambda text: text.replace("~", "~0").replace("/", "~1")), min_size=1, max_size=4
).map("/".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.dictionaries(paths, json_values, max_size=4), min_size=1, max_size=3))
async def test_adapters_agree_on_any_sequence_of_writes(
    database: AsyncDatabase[dict[str, Any]], writes: list[dict[str, Any]]
) -> None:
    """Byte for byte, marks and sequences included; a document is replaced or updated in part, as it comes."""
    user, memory, mongo = new_id(), MemoryStore(), MongoStore(database)
    filler = change_of({f"f{n}": n for n in range(9)}, stamp=1, key=KEY)
    for step, given_ in enumerate([filler.values, *writes]):
        assert all(components(path) for path in given_)
        change = filler if step == 0 else change_of(given_, stamp=stamp_at(counter=step), key=KEY)
        outcomes = [(await write(each, user, change))[1] for each in (memory, mongo)]
        assert outcomes[0].results == outcomes[1].results
    [one], [other] = await changed(memory, user), await changed(mongo, user)
    assert {path: repr(value) for path, value in one.values.items()} == {p: repr(v) for p, v in other.values.items()}
    assert {path: one.mark(path) for path in one.values} == {path: other.mark(path) for path in other.values}
    assert (one.seq, one.deleted, one.most_bytes) == (other.seq, other.deleted, other.most_bytes)


# --- devices


async def test_a_device_keeps_its_replica_number(store: Store, user: str) -> None:
    device_id = new_id()
    replica = await store.register_device(user, device_id)
    assert 1 <= replica <= clock.MAX_REPLICA
    assert await store.register_device(user, device_id) == replica
    assert (await head_of(store, user)).devices == {device_id: Device(replica)}
    await write(store, user, change_of({"title": 1}, stamp=stamp_at(), key=KEY))
    assert (await head_of(store, user)).devices == {device_id: Device(replica)}
    assert (await head_of(store, user)).seq == 1
    assert await store.register_device(user, device_id) == replica


async def test_parallel_registrations_get_distinct_numbers(store: Store, user: str) -> None:
    devices = [new_id() for _ in range(25)]
    twice = await asyncio.gather(*(store.register_device(user, device_id) for device_id in devices * 2))
    assert twice[:25] == twice[25:]
    assert len(set(twice)) == 25
    assert replicas_of(await head_of(store, user)) == dict(zip(devices, twice, strict=False))


async def test_a_forgotten_device_takes_its_number_along(store: Store, user: str) -> None:
    device_id = new_id()
    numbers = set()
    for _ in range(30):
        numbers.add(await store.register_device(user, device_id))
        await store.forget_device(user, device_id)
        assert (await head_of(store, user)).devices == {}
    assert len(numbers) == 30
    await store.forget_device(user, new_id())
    await store.forget_device(new_id(), device_id)


async def test_registration_during_uploads_loses_neither(store: Store, user: str) -> None:
    devices = [new_id() for _ in range(20)]
    await asyncio.gather(
        *(store.register_device(user, device_id) for device_id in devices),
        *(write(store, user, change_of({f"p{n}": n}, stamp=stamp_at(counter=n), key=KEY)) for n in range(20)),
    )
    head = await head_of(store, user)
    assert (set(head.devices), head.seq) == (set(devices), 20)


async def test_an_account_has_a_limit_of_devices(store: Store, user: str) -> None:
    devices = [new_id() for _ in range(MAX_DEVICES)]
    for device_id in devices:
        await store.register_device(user, device_id)
    with pytest.raises(TooManyDevices) as refused:
        await store.register_device(user, new_id())
    assert refused.value.limit == MAX_DEVICES
    await store.register_device(user, devices[0])
    await store.forget_device(user, devices[0])
    await store.register_device(user, new_id())


async def test_replica_numbers_run_out(store: Store, user: str, database: AsyncDatabase[dict[str, Any]]) -> None:
    device_id = new_id()
    kept = await store.register_device(user, device_id)
    all_but_one = [number for number in range(1, clock.MAX_REPLICA + 1) if number != 77]
    if isinstance(store, MemoryStore):
        store._account(user).used_replicas.update(all_but_one)
    else:
        await database[RECORDS].update_one({"_id": f"{user}/.replicas"}, {"$set": {"replicas": all_but_one}})
    assert kept == 77 or await store.register_device(user, new_id()) == 77
    with pytest.raises(ReplicasExhausted):
        await store.register_device(user, new_id())
    assert await store.register_device(user, device_id) == kept
