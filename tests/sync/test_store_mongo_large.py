"""MongoDB's store under load: writers that meet, and updates that are larger than a command or a reply may be."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from pymongo import MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from sync import conflicts, merge, records_mongo
from sync.changes import MAX_CHANGES
from sync.clock import Stamp
from sync.document import Key, Mark
from sync.log_mongo import MongoLog
from sync.merge import Outcome, State
from sync.store import Step
from sync.store_mongo import RECORDS, MongoStore
from sync.values import from_wire
from tests.sync.guard import OneAccountGuard
from tests.sync.guard import guard as guard  # noqa: PLC0414 - a fixture
from tests.sync.model import NOW_MS, change_of, new_id, stamp_at, stored
from tests.sync.test_log import Both, conflict, refusal
from tests.sync.test_store import KEY, head_of, write
from tests.sync.test_store_mongo import guarded as guarded  # noqa: PLC0414 - a fixture
from tests.sync.test_store_mongo import processes as processes  # noqa: PLC0414 - a fixture

WRITE_CONFLICT = 112


@pytest.fixture
def user() -> str:
    return new_id()


@pytest.fixture
def both(database: AsyncDatabase[dict[str, Any]]) -> Both:
    return Both(MongoStore(database), MongoLog(database))


# --- writers that meet


@pytest.fixture
async def touch_head(
    mongo_url: str, database: AsyncDatabase[dict[str, Any]], user: str
) -> AsyncIterator[Callable[[], None]]:
    """Writes the head as another process does, at once, or raises that another writer has it."""
    with MongoClient[dict[str, Any]](mongo_url) as client:
        records = client[database.name][RECORDS]

        def touch() -> None:
            with client.start_session() as session, session.start_transaction():
                records.update_one({"_id": records_mongo.head_id(user)}, {"$inc": {"others": 1}}, session=session)

        yield touch


async def test_an_undone_writer_keeps_others_out_the_next_time(
    guarded: AsyncDatabase[dict[str, Any]], guard: OneAccountGuard, user: str, touch_head: Callable[[], None]
) -> None:
    store = MongoStore(guarded)
    await write(store, user, change_of({"title": "a"}, stamp=stamp_at(), key=KEY))
    guard.commands.clear()
    refused: list[int | None] = []

    def step(state: State) -> Outcome:
        try:
            touch_head()
            refused.append(None)
        except OperationFailure as error:
            refused.append(error.code)
        return merge.apply([change_of({"title": "b"}, stamp=stamp_at(counter=1), key=KEY)], state, now_ms=NOW_MS)

    _, outcome = await store.update(user, [KEY], (), step)
    # At first nobody is kept out, and the other was quicker; then the head is locked before it is read.
    assert refused == [None, WRITE_CONFLICT]
    assert outcome.head.seq == 2
    names = [next(iter(command)) for command in guard.commands]
    assert names == ["find", "update", "update", "find", "update"]
    record = await guarded[RECORDS].find_one({"_id": records_mongo.head_id(user), "user_id": user})
    assert record is not None
    assert "locks" not in record
    assert await head_of(store, user) == outcome.head


async def test_a_writer_that_meets_nobody_locks_nothing(
    guarded: AsyncDatabase[dict[str, Any]], guard: OneAccountGuard, user: str
) -> None:
    store = MongoStore(guarded)
    for counter in range(3):
        await write(store, user, change_of({"title": counter}, stamp=stamp_at(counter=counter), key=KEY))
    assert not [command for command in guard.commands if "locks" in str(command)]


async def test_a_step_that_writes_nothing_still_sees_what_was_committed(
    processes: tuple[MongoStore, MongoStore], user: str
) -> None:
    one, other = processes
    change = change_of({"title": "a"}, stamp=stamp_at(), key=KEY)
    await write(one, user, change)
    _, outcome = await write(other, user, change)
    assert [result.status for result in outcome.results] == ["unchanged"]


async def test_what_is_refused_while_the_quarantine_is_trimmed_is_counted(
    database: AsyncDatabase[dict[str, Any]], user: str
) -> None:
    """Else the count could say that the quarantine is empty, and what is accepted would stay in it."""
    both = Both(MongoStore(database), MongoLog(database))
    late = refusal(NOW_MS + 9, raw=b"x" * 700)

    class Overtaken(MongoStore):
        async def update(
            self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
        ) -> tuple[State, Outcome]:
            await both.keep(user_id, rejected=[late])
            return await super().update(user_id, keys, stamps, step)

    await both.keep(user, rejected=[refusal(NOW_MS + n, raw=b"x" * 700) for n in range(3)])
    head = await Overtaken(database).trim_rejected(user, most_bytes=500)
    held = await both.all_rejected(user)
    assert held == [late]
    assert head.quarantined_bytes >= late.size_bytes
    head = await both.store.trim_rejected(user, most_bytes=5_000)
    assert head.quarantined_bytes == late.size_bytes


async def test_another_process_finds_out_that_all_epochs_are_others(
    processes: tuple[MongoStore, MongoStore], user: str
) -> None:
    one, other = processes
    await write(one, user, change_of({"title": 1}, stamp=stamp_at(), key=KEY))
    before = await head_of(other, user)
    await one.bump_all_epochs()
    after = await head_of(one, user)
    assert after.epoch != before.epoch
    assert (await head_of(other, user)).epoch == before.epoch  # for seconds yet
    other._common_epoch_until = 0.0  # which have passed
    assert await head_of(other, user) == after
    # What one writes with an epoch that it read before does not take the new one back.
    _, outcome = await write(other, user, change_of({"rpe": 1}, stamp=stamp_at(), key=KEY))
    assert outcome.head.epoch == after.epoch == (await head_of(one, user)).epoch


async def test_a_process_that_does_not_know_yet_takes_nothing_back(
    processes: tuple[MongoStore, MongoStore], database: AsyncDatabase[dict[str, Any]], user: str
) -> None:
    one, other = processes
    await write(other, user, change_of({"title": 1}, stamp=stamp_at(), key=KEY))
    own = (await head_of(other, user)).epoch
    await one.bump_all_epochs()
    after = await head_of(one, user)
    await write(other, user, change_of({"rpe": 1}, stamp=stamp_at(), key=KEY))
    assert (await head_of(one, user)).epoch == after.epoch
    await write(one, user, change_of({"notes": 1}, stamp=stamp_at(), key=KEY))
    # An account's record has its own part of the epoch alone: a mixture of all there ever were would end by not changing.
    record = await database[RECORDS].find_one({"_id": records_mongo.head_id(user), "user_id": user})
    assert record is not None
    assert record["epoch"] == own != after.epoch


# --- more than a command or a reply holds


async def test_documents_over_sixteen_mebibytes_are_written_in_one_update(both: Both, user: str) -> None:
    big = {f"p{n}": "x" * 16_000 for n in range(15)}
    keys = sorted(Key("workouts", new_id()) for _ in range(80))
    _, outcome = await write(both.store, user, *(change_of(big, stamp=stamp_at(), key=key) for key in keys))
    assert outcome.head.seq == 80
    assert set(await stored(both.store, user)) == set(keys)
    assert await head_of(both.store, user) == outcome.head


async def test_documents_of_many_marks_are_larger_than_their_values(both: Both, user: str) -> None:
    """Two thousand paths that were written one by one: marks take more than what they mark."""
    keys = sorted(Key("goals", new_id()) for _ in range(30))
    paths = [f"{n:04}{'p' * 120}" for n in range(500)]

    def step(state: State) -> Outcome:
        outcome = merge.apply(
            [change_of(dict.fromkeys(paths, 1), stamp=stamp_at(), key=key) for key in keys], state, now_ms=NOW_MS
        )
        for document in outcome.written:
            document.marks = {path: Mark(stamp_at(counter=1, replica=n), 1) for n, path in enumerate(paths[1:], 1)}
        return outcome

    await both.store.update(user, keys, (), step)
    assert {len(one.marks) for one in (await stored(both.store, user)).values()} == {499}


async def test_a_thousand_refused_changes_in_one_update(both: Both, user: str) -> None:
    entries = [refusal(NOW_MS + n, raw=b"%04d" % n + b"x" * 4_000) for n in range(MAX_CHANGES)]
    for _ in range(2):
        await both.keep(user, rejected=entries)
        assert (await head_of(both.store, user)).quarantined_bytes == sum(one.size_bytes for one in entries)
    first = await both.log.rejected(user, below=None, limit=MAX_CHANGES)
    assert [one.id for one in first.entries] == [one.id for one in entries[: -len(first.entries) - 1 : -1]]
    assert first.has_more
    # Accepted all at once, and trimmed in several commands.
    await both.keep(user, accepted=[one.id for one in entries[:500]])
    await both.store.trim_rejected(user, most_bytes=5_000)
    assert [one.id for one in await both.all_rejected(user)] == [entries[-1].id]


async def test_refused_changes_of_a_whole_request_in_one_update(both: Both, user: str) -> None:
    """As large as a request may be, each of them; no request brings two, but several steps' worth may be retried."""
    entries = [refusal(NOW_MS + n, raw=b"%d" % n + b"x" * (4 * 1024 * 1024 - 10)) for n in range(4)]
    await both.keep(user, rejected=entries)
    assert [one.id for one in (await both.log.rejected(user, below=None, limit=9)).entries] == [entries[-1].id]


async def test_the_most_conflicts_in_one_update(both: Both, user: str) -> None:
    made = [conflict(NOW_MS + n) for n in range(conflicts.MAX_CONFLICTS)]
    outcome = await both.keep(user, conflicts=made)
    assert len(outcome.conflicts) == len(made)
    assert not (await both.keep(user, conflicts=made)).writes
    listed = await both.log.conflicts(user, below=None, limit=3, now_ms=NOW_MS)
    assert (list(listed.entries), listed.has_more) == (made[:-4:-1], True)


@pytest.mark.parametrize("number", [400, 600, 1_500])
async def test_conflicts_of_large_values_in_one_update(both: Both, user: str, number: int) -> None:
    """Each with two values of 16 KiB, which are stored at twice that: more than a command of MongoDB's may hold."""
    large = from_wire([1.0] * 8_000)
    made = [conflict(NOW_MS + n, lost=large) for n in range(number)]
    made = [replace(one, won_value=large) for one in made]
    await both.keep(user, conflicts=made)
    listed = await both.log.conflicts(user, below=None, limit=2, now_ms=NOW_MS)
    assert list(listed.entries) == made[:-3:-1]
