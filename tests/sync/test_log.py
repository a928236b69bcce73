"""The log's contract, bullet by bullet, over every adapter; its entries come through the store, as they do in service."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from sync.conflicts import KEPT_MS, Conflict
from sync.document import Key
from sync.errors import StoreUnavailable
from sync.log import MAX_LISTED_BYTES, Listed, Log, Place
from sync.log_mongo import MongoLog
from sync.merge import Outcome, State
from sync.quarantine import Rejected
from sync.store import Store
from sync.store_memory import MemoryStore
from sync.store_mongo import MongoStore
from tests.sync.model import NOW_MS, new_id, stamp_at

DEVICE = new_id()


class Both(NamedTuple):
    store: Store
    log: Log

    async def keep(
        self,
        user_id: str,
        *,
        rejected: Sequence[Rejected] = (),
        conflicts: Sequence[Conflict] = (),
        accepted: Sequence[str] = (),
    ) -> Outcome:
        def step(state: State) -> Outcome:
            return Outcome(state.head, rejected=rejected, conflicts=conflicts, accepted=accepted)

        _, outcome = await self.store.update(user_id, [], (), step)
        return outcome

    async def all_rejected(self, user_id: str, *, limit: int = 1_000) -> list[Rejected]:
        listed = await self.log.rejected(user_id, below=None, limit=limit)
        assert not listed.has_more
        return [*listed.entries]

    async def all_conflicts(self, user_id: str, *, now_ms: int = NOW_MS) -> list[Conflict]:
        listed = await self.log.conflicts(user_id, below=None, limit=1_000, now_ms=now_ms)
        assert not listed.has_more
        return [*listed.entries]


@pytest.fixture(params=["memory", "mongo"])
def both(request: pytest.FixtureRequest, database: AsyncDatabase[dict[str, Any]]) -> Both:
    if request.param == "memory":
        memory = MemoryStore()
        return Both(memory, memory)
    return Both(MongoStore(database), MongoLog(database))


@pytest.fixture
def user() -> str:
    return new_id()


def refusal(at_ms: int = NOW_MS, *, raw: bytes = b"{}", entry_id: str | None = None) -> Rejected:
    entry_id = entry_id or new_id()
    return Rejected(
        id=entry_id,
        change_id=entry_id,
        device_id=DEVICE,
        received_ms=at_ms,
        code="invalid_value",
        detail="It is not right.",
        format="json",
        raw=raw,
        content=raw,
    )


def conflict(at_ms: int = NOW_MS, *, lost: Any = "lost") -> Conflict:
    return Conflict(
        id=new_id(),
        key=Key("workouts", new_id()),
        path="title",
        lost_stamp=stamp_at(),
        lost_value=lost,
        won_stamp=stamp_at(counter=1, replica=2),
        won_value="won",
        at_ms=at_ms,
    )


async def test_refused_changes_are_listed_the_newest_first(both: Both, user: str) -> None:
    assert await both.log.rejected(user, below=None, limit=5) == Listed([], has_more=False)
    entries = [refusal(NOW_MS + n // 2, raw=b'{"n": %d}' % n) for n in range(6)]
    await both.keep(user, rejected=entries[:4])
    await both.keep(user, rejected=entries[4:])
    newest_first = sorted(entries, key=lambda entry: (entry.received_ms, entry.id), reverse=True)
    assert await both.all_rejected(user) == newest_first
    for entry in entries:
        assert await both.log.rejected_one(user, entry.id) == entry


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_give_everything_once_also_of_one_moment(both: Both, user: str, limit: int) -> None:
    await both.keep(user, rejected=[refusal(NOW_MS + n // 3, raw=b"%d" % n) for n in range(7)])
    await both.keep(user, conflicts=[conflict(NOW_MS + n // 3, lost=n) for n in range(7)])
    whole_rejected, whole_conflicts = await both.all_rejected(user), await both.all_conflicts(user)
    assert (len(whole_rejected), len(whole_conflicts)) == (7, 7)

    rejected: list[Rejected] = []
    below: Place | None = None
    while True:
        page = await both.log.rejected(user, below=below, limit=limit)
        assert 0 < len(page.entries) <= limit
        rejected += page.entries
        if not page.has_more:
            break
        below = Place(rejected[-1].received_ms, rejected[-1].id)
    assert rejected == whole_rejected

    conflicts: list[Conflict] = []
    below = None
    while True:
        found = await both.log.conflicts(user, below=below, limit=limit, now_ms=NOW_MS)
        assert 0 < len(found.entries) <= limit
        conflicts += found.entries
        if not found.has_more:
            break
        below = Place(conflicts[-1].at_ms, conflicts[-1].id)
    assert conflicts == whole_conflicts


async def test_new_entries_do_not_move_a_list_that_is_read(both: Both, user: str) -> None:
    await both.keep(user, rejected=[refusal(NOW_MS + n) for n in range(4)])
    first = (await both.log.rejected(user, below=None, limit=2)).entries
    await both.keep(user, rejected=[refusal(NOW_MS + 9)])
    rest = await both.log.rejected(user, below=Place(first[-1].received_ms, first[-1].id), limit=2)
    assert [one.received_ms for one in [*first, *rest.entries]] == [NOW_MS + n for n in (3, 2, 1, 0)]
    assert not rest.has_more


async def test_a_list_of_large_changes_is_shorter_and_never_empty(both: Both, user: str) -> None:
    sizes = [10, MAX_LISTED_BYTES // 2, MAX_LISTED_BYTES // 2, MAX_LISTED_BYTES + 1, 10, 10]
    await both.keep(user, rejected=[refusal(NOW_MS + n, raw=b"x" * size) for n, size in enumerate(sizes)])
    pages: list[list[int]] = []
    below: Place | None = None
    while True:
        page = await both.log.rejected(user, below=below, limit=100)
        pages.append([len(one.raw) for one in page.entries])
        if not page.has_more:
            break
        below = Place(page.entries[-1].received_ms, page.entries[-1].id)
    assert pages == [[10, 10], [MAX_LISTED_BYTES + 1], [MAX_LISTED_BYTES // 2], [MAX_LISTED_BYTES // 2, 10]]


async def test_conflicts_are_found_and_listed_the_newest_first(both: Both, user: str) -> None:
    made = [conflict(NOW_MS + n, lost=value) for n, value in enumerate(["x", None, 2**53, 1.0, b'{"a":1}', True])]
    await both.keep(user, conflicts=made)
    assert await both.all_conflicts(user) == made[::-1]
    for one in made:
        assert await both.log.conflict(user, one.id, now_ms=NOW_MS) == one


async def test_a_conflict_is_gone_thirty_days_after(both: Both, user: str) -> None:
    one = conflict()
    await both.keep(user, conflicts=[one])
    for now_ms, expected in [(NOW_MS + KEPT_MS - 1, [one]), (NOW_MS + KEPT_MS, []), (NOW_MS + KEPT_MS + 1, [])]:
        assert await both.all_conflicts(user, now_ms=now_ms) == expected
        assert await both.log.conflict(user, one.id, now_ms=now_ms) == (expected[0] if expected else None)


async def test_another_accounts_ids_are_as_good_as_unknown_ones(both: Both, user: str) -> None:
    entry, one = refusal(), conflict()
    await both.keep(user, rejected=[entry], conflicts=[one])
    for account in (new_id(), await _with_a_head(both)):
        assert await both.log.rejected_one(account, entry.id) is None
        assert await both.log.conflict(account, one.id, now_ms=NOW_MS) is None
        assert await both.all_rejected(account) == []
        assert await both.all_conflicts(account) == []
    for unknown in (new_id(), "", "../.head", "x\0", one.id):
        assert await both.log.rejected_one(user, unknown) is None
    assert await both.log.conflict(user, entry.id, now_ms=NOW_MS) is None


async def _with_a_head(both: Both) -> str:
    other = new_id()
    await both.store.register_device(other, new_id())
    return other


async def test_the_two_lists_do_not_meet(both: Both, user: str) -> None:
    entry, one = refusal(), conflict()
    await both.keep(user, rejected=[entry], conflicts=[one])
    assert (await both.all_rejected(user), await both.all_conflicts(user)) == ([entry], [one])


async def test_a_dead_server_is_unavailable(user: str, tmp_path: Path) -> None:
    # A socket file that is not there: refused without waiting, which a closed port is not for the driver.
    url = f"mongodb://{quote(str(tmp_path / 'nowhere.sock'), safe='')}/?directConnection=true"
    async with AsyncMongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=50) as client:
        log = MongoLog(client["nowhere"])
        for asked in (
            log.rejected(user, below=None, limit=1),
            log.rejected_one(user, new_id()),
            log.conflicts(user, below=None, limit=1, now_ms=NOW_MS),
            log.conflict(user, new_id(), now_ms=NOW_MS),
        ):
            with pytest.raises(StoreUnavailable):
                await asked
