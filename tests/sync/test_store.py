"""The store's contract, bullet by bullet, over every adapter; then what only MongoDB can get wrong."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from sync import clock, merge, store_mongo
from sync.changes import Change
from sync.clock import Stamp
from sync.document import Document, Key, components
from sync.errors import ReplicasExhausted, StoreUnavailable, TooManyDevices
from sync.head import MAX_DEVICES, Device, Head
from sync.merge import Outcome, State
from sync.schema import COLLECTIONS
from sync.store import Step, Store
from sync.store_memory import MemoryStore
from sync.store_mongo import RECORDS, MongoStore
from sync.values import from_wire
from tests.sync.guard import OneAccountGuard, plan_problems
from tests.sync.guard import guard as guard  # noqa: PLC0414 - a fixture
from tests.sync.model import NOW_MS, change_of, json_values, new_id, stamp_at, stored, stored_registers, texts

ALL = tuple(COLLECTIONS)
KEY = Key("workouts", "00000000-0000-4000-8000-000000000001")


@pytest.fixture(params=["memory", "mongo"])
def store(request: pytest.FixtureRequest, database: AsyncDatabase[dict[str, Any]]) -> Store:
    return MemoryStore() if request.param == "memory" else MongoStore(database)


@pytest.fixture
async def guarded(
    mongo_url: str, database: AsyncDatabase[dict[str, Any]], guard: OneAccountGuard
) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """The database through a client of its own, as another process has it, whose commands are watched."""
    async with AsyncMongoClient[dict[str, Any]](
        mongo_url, w="majority", journal=True, event_listeners=[guard]
    ) as client:
        yield client[database.name]


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
    return [one async for one in store.changed(user_id, collections, after=after, upto=upto, newest_first=newest)]


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
    # Even a head that came with it is not stored.
    await store.update(user, [KEY], (), lambda _: Outcome(Head(epoch=0, seq=99, devices={}), (), {}, ()))
    assert await head_of(store, user) == before


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
    assert await store.count_changed(user, ALL, after=0, upto=7) == 6
    assert await store.count_changed(user, ALL[1:2], after=0, upto=7) == 2
    assert await store.count_changed(user, ALL, after=3, upto=5) == 2
    assert await store.count_changed(user, (), after=0, upto=7) == 0


async def test_the_feed_is_longer_than_one_reply(store: Store, user: str) -> None:
    keys = [Key("goals", new_id()) for _ in range(450)]
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in keys))
    assert [one.seq for one in await changed(store, user)] == list(range(1, 451))
    first = await anext(aiter(store.changed(user, ALL, after=0, upto=450, newest_first=True)))
    assert first.seq == 450


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
        await database[RECORDS].update_one({"_id": f"{user}/head"}, {"$set": {"replicas": all_but_one}})
    assert kept == 77 or await store.register_device(user, new_id()) == 77
    with pytest.raises(ReplicasExhausted):
        await store.register_device(user, new_id())
    assert await store.register_device(user, device_id) == kept


# --- MongoDB: several processes, dead servers, commands


@pytest.fixture
async def processes(
    mongo_url: str, database: AsyncDatabase[dict[str, Any]]
) -> AsyncIterator[tuple[MongoStore, MongoStore]]:
    """Two stores with clients of their own, which share no lane: as two processes."""
    async with (
        AsyncMongoClient[dict[str, Any]](mongo_url) as one,
        AsyncMongoClient[dict[str, Any]](mongo_url) as other,
    ):
        yield MongoStore(one[database.name]), MongoStore(other[database.name])


async def test_processes_conflict_and_the_step_runs_again(processes: tuple[MongoStore, MongoStore], user: str) -> None:
    runs: list[int] = []

    def counted(change: Change) -> Step:
        def step(state: State) -> Outcome:
            runs.append(state.head.seq)
            return merge.apply([change], state, now_ms=NOW_MS)

        return step

    changes = [change_of({f"new/{n}": n}, stamp=stamp_at(counter=n), key=KEY) for n in range(40)]
    done = await asyncio.gather(
        *(processes[n % 2].update(user, [KEY], (), counted(change)) for n, change in enumerate(changes))
    )
    assert sorted(outcome.head.seq for _, outcome in done) == list(range(1, 41))
    assert all(outcome.head.seq == state.head.seq + 1 for state, outcome in done)
    assert len((await stored_registers(processes[0], user))[KEY]) == 40
    # Each reads the other's write at once: what `update` returned is there for every later read.
    for n in range(10):
        _, outcome = await write(
            processes[n % 2], user, change_of({"title": n}, stamp=stamp_at(counter=99 + n), key=KEY)
        )
        assert await head_of(processes[(n + 1) % 2], user) == outcome.head


async def test_a_transaction_that_the_server_ended_is_run_again(
    mongo_url: str, guarded: AsyncDatabase[dict[str, Any]], guard: OneAccountGuard, user: str
) -> None:
    """As when the primary steps down between two statements."""
    store = MongoStore(guarded)
    await write(store, user, change_of({"title": "a"}, stamp=stamp_at(), key=KEY))
    runs = 0

    def step(state: State) -> Outcome:
        nonlocal runs
        runs += 1
        if runs == 1:
            with MongoClient[dict[str, Any]](mongo_url) as client:
                client.admin.command("killSessions", [guard.commands[-1]["lsid"]])
        return merge.apply([change_of({"title": "b"}, stamp=stamp_at(counter=1), key=KEY)], state, now_ms=NOW_MS)

    _, outcome = await store.update(user, [KEY], (), step)
    assert runs == 2
    assert outcome.head.seq == 2


async def test_processes_register_devices_at_once(processes: tuple[MongoStore, MongoStore], user: str) -> None:
    devices = [new_id() for _ in range(50)]
    numbers = await asyncio.gather(*(processes[n % 2].register_device(user, one) for n, one in enumerate(devices)))
    assert len(set(numbers)) == 50
    assert replicas_of(await head_of(processes[0], user)) == dict(zip(devices, numbers, strict=True))


async def test_many_first_requests_make_one_head(processes: tuple[MongoStore, MongoStore]) -> None:
    for _ in range(10):
        user = new_id()
        epochs = await asyncio.gather(
            *(processes[n % 2].update(user, [], (), lambda s: Outcome(s.head, (), {}, ())) for n in range(8))
        )
        assert len({state.head.epoch for state, _ in epochs}) == 1


async def test_a_registration_forgotten_meanwhile_does_not_free_its_number(
    database: AsyncDatabase[dict[str, Any]], mongo_url: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MongoStore(database)
    await store.register_device(user, new_id())
    taken: list[int] = []

    def choose(free: Sequence[int]) -> int:
        number = free[0]
        if not taken:  # between reading and writing, another process gives this very number and takes it back
            taken.append(number)
            with MongoClient[dict[str, Any]](mongo_url) as client:
                records = client[database.name][RECORDS]
                records.update_one({"_id": f"{user}/head"}, {"$push": {"replicas": number}})
        return number

    monkeypatch.setattr(secrets, "choice", choose)
    assert await store.register_device(user, new_id()) not in taken


async def test_a_dead_server_is_unavailable(user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_mongo, "_PATIENCE_S", 0.05)
    # A socket file that is not there: refused without waiting, which a closed port is not for the driver.
    nowhere = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}/?directConnection=true"
    async with AsyncMongoClient[dict[str, Any]](nowhere, serverSelectionTimeoutMS=50) as client:
        store = MongoStore(client["nowhere"])
        asked: list[Awaitable[object]] = [
            store.register_device(user, new_id()),
            store.forget_device(user, new_id()),
            store.head(user),
            write(store, user, change_of({"title": 1}, stamp=stamp_at(), key=KEY)),
            changed(store, user),
            store.count_changed(user, ALL, after=0, upto=1),
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 6


async def test_a_failed_command_within_a_transaction_stores_nothing(
    database: AsyncDatabase[dict[str, Any]], user: str
) -> None:
    """The head and the documents are one write: a document that the server refuses takes the head along."""
    store = MongoStore(database)
    await write(store, user, change_of({"title": "a"}, stamp=stamp_at(), key=KEY))
    before = await head_of(store, user)
    other = Key("goals", new_id())

    def impossible(state: State) -> Outcome:
        outcome = merge.apply([change_of({"title": "b"}, stamp=stamp_at(counter=1), key=KEY)], state, now_ms=NOW_MS)
        twice = [Document(other, seq=9, values={"a": 1}, usual=outcome.written[0].usual)] * 2
        return outcome._replace(written=[*outcome.written, *twice])

    with pytest.raises(StoreUnavailable):
        await store.update(user, [KEY], (), impossible)
    assert await head_of(store, user) == before
    assert (await stored_registers(store, user)) == {KEY: {"title": ("a", stamp_at())}}


async def test_documents_too_large_together_come_in_several_steps(
    database: AsyncDatabase[dict[str, Any]], user: str
) -> None:
    store = MongoStore(database)
    keys = sorted(Key(ALL[n % 2], new_id()) for n in range(75))
    big = {f"p{n}": "x" * 16_000 for n in range(15)}
    for start in range(0, 75, 25):
        await write(store, user, *(change_of(big, stamp=stamp_at(), key=key) for key in keys[start : start + 25]))
    missing = Key("workouts", new_id())
    asked = sorted([*keys, missing])
    covered: list[Key] = []
    steps = 0
    while len(covered) < len(asked):
        state, _ = await store.update(user, asked[len(covered) :], (), lambda state: Outcome(state.head, (), {}, ()))
        assert list(state.keys) == asked[len(covered) :][: len(state.keys)]
        assert set(state.documents) == set(state.keys) - {missing}
        assert state.keys
        covered += state.keys
        steps += 1
    assert covered == asked
    assert steps == 2


async def test_every_command_names_one_account_and_has_its_index(
    guarded: AsyncDatabase[dict[str, Any]], guard: OneAccountGuard, user: str
) -> None:
    store = MongoStore(guarded)
    device_id = new_id()
    await store.register_device(user, device_id)
    keys = [KEY, Key("goals", new_id())]
    for counter in range(3):
        late = stamp_at(NOW_MS + 3_600_000, counter=counter)
        for one in (user, new_id()):
            changes = [
                change_of({"title": counter, "new/a": 1}, stamp=stamp_at(counter=counter), key=key) for key in keys
            ]
            await write(store, one, *changes, change_of({"notes": 1}, stamp=late, key=KEY))
    await write(store, user, change_of({"notes": 1}, stamp=stamp_at(NOW_MS + 3_600_000), key=KEY))
    await store.head(user)
    assert len(await changed(store, user)) == 2
    await changed(store, user, newest=True, after=1, upto=6, collections=("goals",))
    assert await store.count_changed(user, ALL, after=0, upto=99) == 2
    await store.forget_device(user, device_id)
    names = {next(iter(command)) for command in guard.commands}
    assert names == {"findAndModify", "find", "aggregate", "delete", "insert", "update"}
    problems = [problem for read in guard.reads for problem in await plan_problems(guarded, read)]
    assert problems == []
    assert len(guard.reads) > 10


async def test_the_guard_notices(guarded: AsyncDatabase[dict[str, Any]], guard: OneAccountGuard) -> None:
    records = guarded[RECORDS]
    wrong = [
        records.find_one({"_id": "x"}),
        records.find_one({"user_id": {"$in": ["a", "b"]}}),
        records.update_one({"_id": "x"}, {"$set": {"seq": 1}}),
        records.find_one_and_update({"_id": "x"}, {"$set": {"seq": 1}}),
        records.delete_many({"seq": 1}),
        records.count_documents({}),
        records.insert_one({"seq": 1}),
    ]
    for number, command in enumerate(wrong, 1):
        await command
        assert len(guard.problems) == number
    async with guarded.client.start_session() as session, await session.start_transaction():
        for user_id in ("a", "b"):
            await records.find_one({"user_id": user_id}, session=session)
    assert len(guard.problems) == len(wrong) + 1
    assert await plan_problems(guarded, {"find": RECORDS, "filter": {"user_id": "a", "value.title": 1}}) == []
    assert await plan_problems(guarded, {"find": RECORDS, "filter": {"seq": 1}}) != []
    assert await plan_problems(guarded, {"find": RECORDS, "filter": {"user_id": "a"}, "sort": {"deleted": 1}}) != []
    guard.problems.clear()


def test_a_record_is_told_from_heads_and_restamps() -> None:
    """No collection may be named so that its documents' ids could be another record's."""
    assert not {"head", "restamps"} & set(ALL)
    assert all("/" not in name for name in ALL)
    assert Stamp(0) == clock.ZERO
