"""The promise of sync, against a real server: devices that write the same documents at once end alike, and no delta ever
misses a change.

A history is kept of every register that was committed, with its sequence. At each end of a run of a third device, which only
reads, everything in the history up to its cursor must be known to it. A store that breaks the order of sequences is held to
the same check, which must find it out.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, NamedTuple

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from sync import cursor, records_mongo
from sync.clock import Stamp
from sync.document import Key
from sync.merge import Outcome, State
from sync.replica import Replica
from sync.store import Step, Store
from sync.store_memory import MemoryStore
from sync.store_mongo import RECORDS, MongoStore
from sync.values import Value
from tests.sync.model import CURSOR_KEY, NOW_MS, Ledger, Passing, comparable, new_id, stored, stored_registers, trip

# Round trips of each of the two writing devices; the reading one makes about as many as one of them.
ROUNDS = 2_000
# A few dozen find a broken store; more, not to depend on the timing of a machine.
BROKEN_ROUNDS = 150


class Written(NamedTuple):
    key: Key
    path: str
    stamp: Stamp
    seq: int


class Recorded(Passing):
    """A store that remembers what its updates committed."""

    def __init__(self, store: Store, history: list[Written]) -> None:
        super().__init__(store)
        self._history = history

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        state, outcome = await super().update(user_id, keys, stamps, step)
        for document in outcome.written:
            for path in document.values:
                mark = document.mark(path)
                if mark is not None and mark.seq == document.seq:
                    self._history.append(Written(document.key, path, mark.stamp, mark.seq))
        return state, outcome


class Checkpoint(NamedTuple):
    """What the observer knew when a run ended at `at`."""

    at: int
    stamps: dict[tuple[Key, str], Stamp]


def missing(history: Sequence[Written], checkpoints: Sequence[Checkpoint]) -> list[tuple[int, Written]]:
    """Every register that was committed at or before a cursor and was not known, nor a greater one, at that cursor."""
    found: list[tuple[int, Written]] = []
    greatest: dict[tuple[Key, str], Written] = {}
    unread = sorted(history, key=lambda written: written.seq, reverse=True)
    for checkpoint in sorted(checkpoints, key=lambda checkpoint: checkpoint.at):
        while unread and unread[-1].seq <= checkpoint.at:
            written = unread.pop()
            name = written.key, written.path
            if name not in greatest or written.stamp > greatest[name].stamp:
                greatest[name] = written
        found += [
            (checkpoint.at, written)
            for name, written in greatest.items()
            if checkpoint.stamps.get(name, Stamp(0)) < written.stamp
        ]
    return found


class Run(NamedTuple):
    user_id: str
    replicas: list[Replica]
    observer: Ledger
    checkpoints: list[Checkpoint]
    history: list[Written]
    lost_responses: int
    pages: int


def _edit(replica: Replica, keys: Sequence[Key], dice: random.Random, *, round_: int, is_ahead: bool) -> None:
    key = dice.choice(keys)
    paths: list[tuple[str, Any]] = [
        ("notes", dice.choice([None, round_, float(round_), [round_], {"a": round_}])),
        ("deleted", dice.random() < 0.2),
        (f"new/{dice.randrange(5)}.x", f"{replica.number} {round_}"),
        (f"water_ml/{replica.number}", round_) if key.collection == "nutrition" else ("tags/pr", dice.random() < 0.5),
    ]
    now_ms = NOW_MS + round_
    if dice.random() < 0.1:  # a wall clock that now and then goes back for years
        now_ms -= 10 * 365 * 86_400_000
    elif is_ahead:
        now_ms += 3_600_000
    given = dict(dice.sample(paths, dice.randint(1, 3)))
    replica.edit(*key, given, change_id=str(uuid.UUID(int=dice.getrandbits(128), version=4)), now_ms=now_ms)


async def run(stores: Sequence[Store], *, rounds: int, seed: int) -> Run:
    """Let two devices write four documents at once, each through its own store, while a third polls."""
    user_id, dice = new_id(), random.Random(seed)
    history: list[Written] = []
    recorded = [Recorded(store, history) for store in stores]
    replicas = []
    for store in recorded:
        device_id = new_id()
        replicas.append(Replica(device_id, await store.register_device(user_id, device_id)))
    reader_id = new_id()
    await recorded[0].register_device(user_id, reader_id)
    keys = [Key(("workouts", "nutrition")[n % 2], new_id()) for n in range(4)]
    lost_responses = 0

    async def turn(replica: Replica, store: Store, now_ms: int) -> None:
        nonlocal lost_responses
        await asyncio.sleep(0)  # a store in memory never waits by itself
        request = replica.request(limit=dice.choice([1, 2, 500]))
        response = await trip(
            store,
            user_id,
            replica.device_id,
            *request["changes"],
            cursor=request["cursor"],
            limit=request["limit"],
            now_ms=now_ms,
        )
        if dice.random() < 0.1:  # the response is lost; the next request is the same one, and more
            lost_responses += 1
        else:
            replica.receive(request, response)

    async def write(replica: Replica, store: Store) -> None:
        for round_ in range(rounds):
            for _ in range(dice.randint(0, 2)):
                is_ahead = replica is replicas[1] and round_ > 0.8 * rounds
                _edit(replica, keys, dice, round_=round_, is_ahead=is_ahead)
            await turn(replica, store, NOW_MS + round_)

    observer = Ledger()
    checkpoints: list[Checkpoint] = []
    pages = 0

    async def observe() -> None:
        nonlocal pages
        while True:
            store = dice.choice(recorded)
            page = await trip(store, user_id, reader_id, cursor=observer.cursor, limit=dice.choice([1, 2, 500]))
            observer.take(page)
            pages += 1
            if not page["more"]:
                checkpoints.append(_checkpoint(observer, user_id))
            await asyncio.sleep(0)

    watching = asyncio.create_task(observe())
    try:
        await asyncio.gather(*(write(replica, store) for replica, store in zip(replicas, recorded, strict=True)))
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    # Uploads first, by both; then each reads what the other sent.
    for _ in range(2):
        for replica, store in zip(replicas, recorded, strict=True):
            await turn(replica, store, NOW_MS + rounds)
            while replica.wants_to_sync:
                await turn(replica, store, NOW_MS + rounds)
    await observer.pull(recorded[0], user_id, reader_id)
    checkpoints.append(_checkpoint(observer, user_id))
    return Run(user_id, replicas, observer, checkpoints, history, lost_responses, pages)


def _checkpoint(observer: Ledger, user_id: str) -> Checkpoint:
    presented = cursor.decode(observer.cursor, key=CURSOR_KEY, user_id=user_id)
    assert presented is not None
    stamps = {(key, path): stamp for key, held in observer.registers.items() for path, (_, stamp) in held.items()}
    return Checkpoint(min(place.at for place in presented.places), stamps)


async def check(store: Store, ran: Run) -> None:
    assert missing(ran.history, ran.checkpoints) == []
    final = await stored(store, ran.user_id)
    expected = {key: comparable(document.registers()) for key, document in final.items()}
    held: list[dict[Key, dict[str, tuple[Value, Stamp]]]] = [ran.observer.registers]
    held += [{key: dict(registers) for key, registers in one.answered.items()} for one in ran.replicas]
    for registers in held:
        assert {key: comparable(one) for key, one in registers.items()} == expected
    assert [one.unsent for one in ran.replicas] == [{}, {}]
    assert {(key, document.seq) for key, document in final.items()} <= ran.observer.seen
    # Gap-free: every sequence up to the head was one document's write.
    head = await store.head(ran.user_id)
    assert head is not None
    assert {written.seq for written in ran.history} == set(range(1, head.seq + 1))


@pytest.fixture
async def processes(
    mongo_url: str, database: AsyncDatabase[dict[str, Any]]
) -> AsyncIterator[tuple[AsyncDatabase[dict[str, Any]], AsyncDatabase[dict[str, Any]]]]:
    async with (
        AsyncMongoClient[dict[str, Any]](mongo_url) as one,
        AsyncMongoClient[dict[str, Any]](mongo_url) as other,
    ):
        yield one[database.name], other[database.name]


async def test_two_processes_converge_and_no_delta_misses_a_change(
    processes: tuple[AsyncDatabase[dict[str, Any]], AsyncDatabase[dict[str, Any]]], record_property: Any
) -> None:
    stores = [MongoStore(database) for database in processes]
    ran = await run(stores, rounds=ROUNDS, seed=1)
    record_property("round trips", 2 * ROUNDS + ran.pages)
    await check(stores[0], ran)
    # The run was what it says: both wrote much, responses were lost, and the observer was in the middle of it.
    assert len({written.seq for written in ran.history}) > ROUNDS
    assert ran.lost_responses > ROUNDS / 10
    assert len({checkpoint.at for checkpoint in ran.checkpoints}) > ROUNDS / 20


@pytest.mark.parametrize("seed", range(3))
async def test_two_devices_converge_in_memory(seed: int) -> None:
    store = MemoryStore()
    await check(store, await run([store, store], rounds=400, seed=seed))


class PublishesEarly(MongoStore):
    """Broken on purpose: the sequence is there for all to read before the documents that bear it."""

    lane = asyncio.Lock()  # of both processes, so that nothing else is wrong with it

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        del stamps  # for want of restamps, which the check does not need
        async with self.lane:
            head = await self.head(user_id)
            assert head is not None
            documents = {key: document for key, document in (await stored(self, user_id)).items() if key in keys}
            state = State(head, keys, documents, {})
            outcome = step(state)
            which = {"_id": f"{user_id}/.head", "user_id": user_id}
            await self._records.replace_one(which, records_mongo.of_head(user_id, outcome.head))
            for document in outcome.written:
                record = records_mongo.of_document(user_id, document)
                which = {"_id": record["_id"], "user_id": user_id}
                await self._records.replace_one(which, record, upsert=True)
            return state, outcome


async def test_a_store_that_publishes_sequences_early_is_found_out(
    processes: tuple[AsyncDatabase[dict[str, Any]], AsyncDatabase[dict[str, Any]]],
) -> None:
    ran = await run([PublishesEarly(database) for database in processes], rounds=BROKEN_ROUNDS, seed=2)
    assert missing(ran.history, ran.checkpoints) != []
    assert await processes[0][RECORDS].count_documents({"user_id": ran.user_id}) == 6
    registers = await stored_registers(MongoStore(processes[0]), ran.user_id)
    assert len(registers) == 4
