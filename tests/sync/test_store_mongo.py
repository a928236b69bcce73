"""What only MongoDB can get wrong: several processes, dead servers, commands. The contract is in test_store."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from pymongo.server_type import SERVER_TYPE

from sync import clock, log_mongo, merge, store_mongo, transactions_mongo, view_mongo
from sync.changes import Change
from sync.clock import Stamp
from sync.document import Document, Key
from sync.errors import StoreUnavailable
from sync.log import Place
from sync.log_mongo import MongoLog
from sync.merge import Outcome, State
from sync.store import Step
from sync.store_mongo import RECORDS, MongoStore
from tests.sync.guard import OneAccountGuard, plan_problems
from tests.sync.guard import guard as guard  # noqa: PLC0414 - a fixture
from tests.sync.model import NOW_MS, change_of, new_id, stamp_at, stored_registers
from tests.sync.test_log import Both, conflict, refusal
from tests.sync.test_store import ALL, KEY, changed, count, head_of, replicas_of, write
from tests.sync.test_store import user as user  # noqa: PLC0414 - a fixture


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
async def processes(
    mongo_url: str, database: AsyncDatabase[dict[str, Any]]
) -> AsyncIterator[tuple[MongoStore, MongoStore]]:
    """Two stores with clients of their own, which share no lane: as two processes."""
    async with (
        AsyncMongoClient[dict[str, Any]](mongo_url) as one,
        AsyncMongoClient[dict[str, Any]](mongo_url) as other,
    ):
        yield MongoStore(one[database.name]), MongoStore(other[database.name])


class Finds(CommandListener):
    """The read concern of each find of the store's records."""

    def __init__(self) -> None:
        self.levels: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command.get("find") == RECORDS:
            self.levels.append(event.command["readConcern"]["level"])

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


@pytest.mark.parametrize("is_router", [False, True])
async def test_a_router_is_told_the_time_before_it_takes_a_snapshot(
    mongo_url: str, database: AsyncDatabase[dict[str, Any]], user: str, is_router: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_router:
        monkeypatch.setattr(store_mongo, "_ROUTERS", {SERVER_TYPE.RSPrimary})
    await MongoStore(database).register_device(user, new_id())
    finds = Finds()
    async with (
        AsyncMongoClient[dict[str, Any]](mongo_url, event_listeners=[finds]) as client,
        MongoStore(client[database.name]).view(user) as view,
    ):
        assert view is not None
    assert finds.levels == ["majority", "snapshot"][not is_router :]


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
                records.update_one({"_id": f"{user}/.replicas"}, {"$push": {"replicas": number}})
        return number

    monkeypatch.setattr(secrets, "choice", choose)
    assert await store.register_device(user, new_id()) not in taken


async def test_a_dead_server_is_unavailable(user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions_mongo, "_PATIENCE_S", 0.05)
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
            store.tombstones(user, limit=1),
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

    with pytest.raises(OperationFailure):  # a defect, which is not told to be an outage
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
    guarded: AsyncDatabase[dict[str, Any]], guard: OneAccountGuard, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_mongo, "_PAGE_RECORDS", 2)
    monkeypatch.setattr(log_mongo, "_READ_AT_ONCE", 2)
    both = Both(MongoStore(guarded), MongoLog(guarded))
    store, device_id = both.store, new_id()
    await store.register_device(user, device_id)
    keys = sorted([KEY, Key("goals", new_id()), Key("goals", new_id()), Key("workouts", new_id())])
    for counter in range(3):
        late = stamp_at(NOW_MS + 3_600_000, counter=counter)
        for one in (user, new_id()):
            changes = [
                change_of({"title": counter, "new/a": 1}, stamp=stamp_at(counter=counter), key=key) for key in keys
            ]
            await write(store, one, *changes, change_of({"notes": 1}, stamp=late, key=KEY))
    await write(store, user, change_of({"notes": 1}, stamp=stamp_at(NOW_MS + 3_600_000), key=KEY))
    await write(store, user, change_of({"deleted": True}, stamp=stamp_at(counter=9), key=KEY))
    await store.head(user)
    assert len(await changed(store, user)) == 4
    await changed(store, user, newest=True, after=1, upto=99, collections=("goals",))
    assert await count(store, user, ALL, after=0, upto=99) == 4
    async with store.view(user, at_least=10**9) as view:
        assert view is not None
        assert len([one async for one in view.in_bucket("workouts", None, after=0)]) == 2
        assert [one async for one in view.in_bucket("workouts", 5, after=3)] == []
    assert (await store.document(user, KEY)) is not None
    assert [one.key for one in await store.tombstones(user, limit=2)] == [KEY]
    later_ms = NOW_MS + merge.PURGE_AFTER_MS
    await store.update(user, [KEY], (), lambda state: merge.purge(state, now_ms=later_ms))

    entries = [refusal(NOW_MS + n, raw=b"%d" % n) for n in range(7)]
    lost = [conflict(NOW_MS + n) for n in range(7)]
    await both.keep(user, rejected=entries, conflicts=lost)
    await both.keep(user, rejected=entries[:2], conflicts=lost[:2], accepted=[entries[5].id])
    assert (len(await both.all_rejected(user)), len(await both.all_conflicts(user))) == (6, 7)
    below = Place(NOW_MS + 4, lost[4].id)
    assert len((await both.log.conflicts(user, below=below, limit=2, now_ms=NOW_MS)).entries) == 2
    assert len((await both.log.rejected(user, below=below, limit=3)).entries) == 3
    assert await both.log.rejected_one(user, entries[0].id) is not None
    assert await both.log.conflict(user, lost[0].id, now_ms=NOW_MS) is not None
    await store.trim_rejected(user, most_bytes=1_000)
    await store.bump_epoch(user)
    await store.forget_device(user, device_id)
    await store.erase(user, now_ms=NOW_MS)

    names = {next(iter(command)) for command in guard.commands}
    assert names == {"find", "aggregate", "delete", "insert", "update"}
    problems = [problem for one in guard.planned for problem in await plan_problems(guarded, one)]
    assert problems == []
    hints = {str(command.get("hint")) for command in guard.reads}
    assert {"feed", "log"} <= hints
    assert len(guard.planned) > 50


async def test_all_reads_of_a_view_are_of_one_moment(
    guarded: AsyncDatabase[dict[str, Any]], guard: OneAccountGuard, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_mongo, "_PAGE_RECORDS", 2)
    store = MongoStore(guarded)
    keys = sorted(Key("goals", new_id()) for _ in range(7))
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in keys))
    guard.commands.clear()
    async with store.view(user) as view:
        assert view is not None
        assert len([one async for one in view.changed(ALL, after=0, upto=99)]) == 7
        assert await view.count_changed(ALL, after=0, upto=99) == 7
    concerns = [command["readConcern"] for command in guard.commands]
    assert [concern["level"] for concern in concerns] == ["snapshot"] * 3
    assert "atClusterTime" not in concerns[0]
    assert len({concern["atClusterTime"] for concern in concerns[1:]}) == 1


async def test_the_guard_notices(
    guarded: AsyncDatabase[dict[str, Any]], guard: OneAccountGuard, mongo_url: str
) -> None:
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
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:  # a cursor that nobody here opened
        other = client[guarded.name]
        await other[RECORDS].insert_many([{"_id": f"a/{n}", "user_id": "a"} for n in range(3)])
        opened = await other.command({"find": RECORDS, "filter": {"user_id": "a"}, "batchSize": 1})
        await guarded.command({"killCursors": RECORDS, "cursors": [opened["cursor"]["id"]]})
    assert len(guard.problems) == len(wrong) + 2
    assert await plan_problems(guarded, {"find": RECORDS, "filter": {"user_id": "a", "value.title": 1}}) == []
    assert await plan_problems(guarded, {"delete": RECORDS, "deletes": [{"q": {"seq": 1}, "limit": 0}]}) != []
    assert await plan_problems(guarded, {"find": RECORDS, "filter": {"seq": 1}}) != []
    assert await plan_problems(guarded, {"find": RECORDS, "filter": {"user_id": "a"}, "sort": {"deleted": 1}}) != []
    guard.problems.clear()


def test_a_record_is_told_from_heads_and_restamps() -> None:
    """No collection may be named so that its documents' ids could be another record's."""
    assert not any(name.startswith(".") for name in ALL)
    assert all("/" not in name for name in ALL)
    assert Stamp(0) == clock.ZERO
