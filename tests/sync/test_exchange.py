"""Round trips over every store: what goes up, what comes down, and where a run ends.

Long, because each test is a round trip or several, written out so that it can be read as the protocol is.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from pymongo.asynchronous.database import AsyncDatabase

from sync import clock, cursor, exchange
from sync.changes import MAX_CHANGES, MAX_PAGE_BYTES, Format, SyncRequest
from sync.document import MAX_PATHS, Key
from sync.errors import BatchTooLarge, DocumentFull, UnknownDevice
from sync.head import Head
from sync.schema import COLLECTIONS
from sync.store import Store, View
from sync.store_memory import MemoryStore
from sync.store_mongo import MongoStore
from sync.values import Value
from sync.view_mongo import MongoView
from tests.sync.model import (
    CURSOR_KEY,
    NOW_MS,
    Ledger,
    Passing,
    comparable,
    new_id,
    sent,
    stamp_at,
    stored_registers,
    trip,
)

LATE_MS = 3_600_000


@pytest.fixture(params=["memory", "mongo"])
def store(request: pytest.FixtureRequest, database: AsyncDatabase[dict[str, Any]]) -> Store:
    return MemoryStore() if request.param == "memory" else MongoStore(database)


@pytest.fixture
def user() -> str:
    return new_id()


@pytest.fixture
async def phone(store: Store, user: str) -> str:
    device_id = new_id()
    await store.register_device(user, device_id)
    return device_id


@pytest.fixture
async def watch(store: Store, user: str) -> str:
    device_id = new_id()
    await store.register_device(user, device_id)
    return device_id


async def test_statuses_stand_in_the_order_sent(store: Store, user: str, phone: str) -> None:
    doc = new_id()
    await trip(store, user, phone, sent({"title": "a", "notes": "n"}, stamp=stamp_at(counter=5), doc=doc))
    answer = await trip(
        store,
        user,
        phone,
        sent({"title": "late"}, stamp=stamp_at(counter=9), doc=doc),
        sent({"notes": "n"}, stamp=stamp_at(counter=5), doc=doc),
        sent({"title": "early", "rpe": 3}, stamp=stamp_at(counter=1), doc=doc),
        {"id": "not a uuid"},
        sent({"title": "x"}, stamp=stamp_at(NOW_MS + LATE_MS), doc=doc),
        sent({}, stamp=stamp_at(counter=9), doc=doc),
        sent({"title": "x"}, stamp=1, doc=doc, collection="horses"),
    )
    assert [result["status"] for result in answer["results"]] == [
        "applied", "unchanged", "superseded", "rejected", "restamped", "unchanged", "rejected",
    ]  # fmt: skip
    # In stamp order the early one met the register before the late one overwrote it.
    assert answer["results"][2]["superseded"] == {"title": [clock.to_wire(stamp_at(counter=5)), "a"]}
    assert [result.get("code") for result in answer["results"] if result["status"] == "rejected"] == [
        "invalid_value",
        "unknown_collection",
    ]


async def test_what_the_request_carries_is_not_echoed(store: Store, user: str, phone: str, watch: str) -> None:
    doc = new_id()
    await trip(store, user, watch, sent({"notes": "theirs"}, stamp=stamp_at(replica=2), doc=doc))
    answer = await trip(store, user, phone, sent({"title": "mine"}, stamp=stamp_at(), doc=doc))
    [given] = answer["documents"]
    assert given["fields"] == {clock.to_wire(stamp_at(replica=2)): {"notes": "theirs"}}
    assert given["seq"] == 2
    # Its own write alone is no news, and the cursor passes over it.
    answer = await trip(
        store, user, phone, sent({"title": "again"}, stamp=stamp_at(counter=1), doc=doc), cursor=answer["cursor"]
    )
    assert answer["documents"] == []
    assert (await trip(store, user, phone, cursor=answer["cursor"]))["documents"] == []


async def test_a_superseded_write_is_answered_by_the_winner(store: Store, user: str, phone: str, watch: str) -> None:
    doc = new_id()
    begun = await trip(store, user, phone)
    await trip(store, user, watch, sent({"title": "newer"}, stamp=stamp_at(counter=2, replica=2), doc=doc))
    change = sent({"title": "older"}, stamp=stamp_at(counter=1), doc=doc)
    answer = await trip(store, user, phone, change, cursor=begun["cursor"])
    newer = clock.to_wire(stamp_at(counter=2, replica=2))
    assert answer["results"] == [
        {"id": change["id"], "status": "superseded", "superseded": {"title": [newer, "newer"]}}
    ]
    assert answer["documents"][0]["fields"] == {newer: {"title": "newer"}}


async def test_a_delta_gives_the_registers_since_the_run_began(store: Store, user: str, phone: str, watch: str) -> None:
    doc, other = new_id(), new_id()
    await trip(store, user, watch, sent({"title": "old"}, stamp=stamp_at(), doc=doc))
    ledger = Ledger()
    await ledger.pull(store, user, phone)
    await trip(store, user, watch, sent({"notes": "one"}, stamp=stamp_at(counter=1), doc=doc))
    await trip(store, user, watch, sent({"title": "other"}, stamp=stamp_at(counter=2), doc=other))
    first = await trip(store, user, phone, cursor=ledger.cursor, limit=1)
    assert first["documents"][0]["fields"] == {clock.to_wire(stamp_at(counter=1)): {"notes": "one"}}
    assert (first["more"], first["remaining"]) == (True, 1)
    # Between the pages the document changes again: it comes again, with all since the run began, not the page.
    await trip(store, user, watch, sent({"rpe": 7}, stamp=stamp_at(counter=3), doc=doc))
    second = await trip(store, user, phone, cursor=first["cursor"], limit=5)
    assert (second["more"], second["remaining"]) == (False, 0)
    assert {given["id"]: given["fields"] for given in second["documents"]} == {
        other: {clock.to_wire(stamp_at(counter=2)): {"title": "other"}},
        doc: {clock.to_wire(stamp_at(counter=1)): {"notes": "one"}, clock.to_wire(stamp_at(counter=3)): {"rpe": 7}},
    }
    # The run ended; the next one gives nothing of it.
    assert (await trip(store, user, phone, cursor=second["cursor"]))["documents"] == []


class Overtaken(Passing):
    """A store whose feed is read while another device writes: `meanwhile` runs when the first documents were asked for."""

    def __init__(self, store: Store, meanwhile: Callable[[], Awaitable[object]], *, times: int = 1) -> None:
        super().__init__(store)
        self.view = self._view
        self._meanwhile = meanwhile
        self._times = times

    @asynccontextmanager
    async def _view(self, user_id: str, *, at_least: int = 0) -> AsyncIterator[View | None]:
        async with self._store.view(user_id, at_least=at_least) as view:
            if self._times:
                self._times -= 1
                await self._meanwhile()
            yield view


@pytest.mark.parametrize("is_snapshot", [True, False])
@pytest.mark.parametrize("times", [1, 2, 9])
async def test_a_document_written_while_the_feed_is_read_loses_no_older_register(
    store: Store, user: str, phone: str, watch: str, is_snapshot: bool, times: int
) -> None:
    ledger = Ledger()
    if not is_snapshot:
        await ledger.pull(store, user, phone)
    doc = new_id()
    await trip(store, user, watch, sent({"title": "before", "notes": "kept"}, stamp=stamp_at(), doc=doc))
    counter = 0

    async def edit() -> None:
        nonlocal counter
        counter += 1
        await trip(store, user, watch, sent({"title": f"edit {counter}"}, stamp=stamp_at(counter=counter), doc=doc))

    overtaken = Overtaken(store, edit, times=times)
    for _ in range(times + 1):
        await ledger.pull(overtaken, user, phone)
    assert counter == times
    assert ledger.registers == await stored_registers(store, user)


async def test_a_snapshot_is_newest_first_and_resumes_while_others_write(
    store: Store, user: str, phone: str, watch: str
) -> None:
    docs = [new_id() for _ in range(7)]
    for index, doc in enumerate(docs):
        await trip(store, user, watch, sent({"title": index, "notes": "n"}, stamp=stamp_at(counter=index), doc=doc))
    ledger = Ledger()
    given: list[str] = []
    remaining: list[int] = []
    pages = 0
    while True:
        page = await trip(store, user, phone, cursor=ledger.cursor, limit=2)
        ledger.take(page)
        given += [one["id"] for one in page["documents"]]
        remaining.append(page["remaining"])
        if not page["more"]:
            break
        if pages < 2:  # an old one, not given yet, and a new one
            stamp = stamp_at(counter=20 + pages, replica=2)
            await trip(store, user, watch, sent({"rpe": pages}, stamp=stamp, doc=docs[pages]))
        pages += 1
    # Those that changed meanwhile are not in the snapshot any more but in the delta after it, whole.
    assert given == [*reversed(docs[2:]), docs[0], docs[1]]
    assert remaining == [5, 3, 1, 0]
    assert ledger.registers == await stored_registers(store, user)


async def test_an_empty_account_ends_at_once(store: Store, user: str, phone: str) -> None:
    page = await trip(store, user, phone)
    assert (page["documents"], page["more"], page["reset"], page["remaining"]) == ([], False, False, 0)
    assert page["server_time"] == "2026-01-01T00:00:00.000Z"
    assert page["stamp"] == "0" * 16
    assert page["limits"] == {"max_changes": 1000, "max_bytes": 4 * 1024 * 1024, "next_sync_after_s": 0}


async def test_a_page_holds_at_most_limit_documents_and_a_mebibyte(store: Store, user: str, watch: str) -> None:
    docs = {new_id() for _ in range(9)}
    text = "é" * 8_000
    for index, doc in enumerate(sorted(docs)):
        big = {f"big/{part}": text for part in range(15)}  # 240 KB each
        await trip(store, user, watch, sent(big, stamp=stamp_at(counter=index), doc=doc))
    ledger = Ledger()
    pages = await ledger.pull(store, user, watch, limit=500)
    for page in pages:
        assert sum(len(msgspec.json.encode(given)) for given in page["documents"]) <= MAX_PAGE_BYTES
    assert [len(page["documents"]) for page in pages] == [4, 4, 1]
    assert {key.id for key in ledger.registers} == docs
    assert [len(page["documents"]) for page in await Ledger().pull(store, user, watch, limit=4)] == [4, 4, 1]


async def test_collections_that_come_and_go_between_cursors(store: Store, user: str, phone: str, watch: str) -> None:
    for index, name in enumerate(COLLECTIONS):
        await trip(store, user, watch, sent({"notes": 1}, stamp=stamp_at(counter=index), doc=new_id(), collection=name))

    def names(page: dict[str, Any]) -> list[str]:
        return [given["collection"] for given in page["documents"]]

    page = await trip(store, user, phone, collections=["goals", "workouts"])
    assert names(page) == ["goals", "workouts"]
    # One is added: it gets its snapshot, the others go on.
    page = await trip(store, user, phone, cursor=page["cursor"], collections=["goals", "workouts", "nutrition"])
    assert (names(page), page["reset"], page["more"]) == (["nutrition"], False, False)
    # One is left out and comes back: it lost its place.
    page = await trip(store, user, phone, cursor=page["cursor"], collections=["workouts", "nutrition"])
    assert names(page) == []
    page = await trip(store, user, phone, cursor=page["cursor"], collections=["goals", "workouts", "nutrition"])
    assert names(page) == ["goals"]
    # Left out: all. Unknown ones of a newer app are passed over.
    page = await trip(store, user, phone, cursor=page["cursor"], collections=None)
    assert sorted(names(page)) == sorted(set(COLLECTIONS) - {"goals", "workouts", "nutrition"})
    page = await trip(store, user, phone, cursor=page["cursor"], collections=["horses"])
    assert (names(page), page["more"]) == ([], False)


async def test_a_collection_added_within_a_snapshot(store: Store, user: str, phone: str, watch: str) -> None:
    for index in range(4):
        for name in ("goals", "workouts"):
            change = sent({"title": index}, stamp=stamp_at(counter=index), doc=new_id(), collection=name)
            await trip(store, user, watch, change)
    ledger = Ledger()
    page = await trip(store, user, phone, limit=3, collections=["goals"])
    ledger.take(page)
    assert (len(page["documents"]), page["more"], page["remaining"]) == (3, True, 1)
    await trip(store, user, watch, sent({"notes": 1}, stamp=stamp_at(counter=9), doc=new_id(), collection="goals"))
    pages = await ledger.pull(store, user, phone, limit=3, collections=["goals", "workouts"])
    assert [page["remaining"] for page in pages] == [3, 0]
    assert ledger.registers == await stored_registers(store, user)


async def test_a_foreign_or_rewound_cursor_is_answered_by_a_snapshot(store: Store, user: str, phone: str) -> None:
    docs = [new_id() for _ in range(3)]
    for index, doc in enumerate(docs):
        await trip(store, user, phone, sent({"title": index}, stamp=stamp_at(counter=index), doc=doc))
    good = (await trip(store, user, phone))["cursor"]
    head = await store.head(user)
    assert head is not None

    def made(*, epoch: int = head.epoch, at: int = head.seq, key: bytes = CURSOR_KEY, user_id: str = user) -> str:
        return cursor.encode(cursor.close_run(epoch, tuple(COLLECTIONS), at=at), key=key, user_id=user_id)

    assert made() == good
    foreign = [
        "x", "é", "=", "AAAA", "A" * 100, "A" * 100_000, "\0", good[:-1], good[1:], good + "AA", good.swapcase(),
        made(epoch=head.epoch + 1), made(at=head.seq + 1), made(key=b"x" * 32), made(user_id=new_id()),
    ]  # fmt: skip
    for text in foreign:
        page = await trip(store, user, phone, cursor=text)
        assert page["reset"], text
        assert [given["id"] for given in page["documents"]] == docs[::-1]
        assert page["cursor"] == good
    assert not (await trip(store, user, phone, cursor=good))["reset"]


async def test_a_request_sent_again_changes_nothing(store: Store, user: str, phone: str) -> None:
    doc = new_id()
    batch = [
        sent({"title": "a"}, stamp=stamp_at(counter=1), doc=doc),
        sent({"title": "b", "notes": None}, stamp=stamp_at(counter=2), doc=doc),
        sent({"title": "ahead"}, stamp=stamp_at(NOW_MS + LATE_MS), doc=new_id()),
        sent({}, stamp=stamp_at(NOW_MS + LATE_MS, counter=3), doc=new_id()),
        sent({"deleted": True}, stamp=stamp_at(counter=3), doc=new_id()),
        sent({"water_ml/1": "much"}, stamp=stamp_at(counter=4), doc=doc, collection="nutrition"),
    ]
    first = await trip(store, user, phone, *batch)
    registers, head = await stored_registers(store, user), await store.head(user)
    for now_ms in (NOW_MS, NOW_MS + 1, NOW_MS + 2 * LATE_MS):
        # Under other change ids too, and from an old cursor. (Only a refused change is known by its id.)
        batch = [*({**change, "id": new_id()} for change in batch[:-1]), batch[-1]]
        again = await trip(store, user, phone, *batch, now_ms=now_ms)
        assert [result["status"] for result in again["results"]] == [
            "superseded", "unchanged", "restamped", "restamped", "unchanged", "rejected",
        ]  # fmt: skip
        assert [r.get("stamp") for r in again["results"]] == [r.get("stamp") for r in first["results"]]
        assert await stored_registers(store, user) == registers
        assert await store.head(user) == head
    assert (await trip(store, user, phone, cursor=first["cursor"]))["documents"] == []


async def test_a_restamped_register_comes_down_under_its_new_stamp(
    store: Store, user: str, phone: str, watch: str
) -> None:
    doc = new_id()
    begun = await trip(store, user, phone)
    old = stamp_at(NOW_MS + LATE_MS, counter=7, replica=33)
    answer = await trip(store, user, phone, sent({"title": "x"}, stamp=old, doc=doc), cursor=begun["cursor"])
    [result] = answer["results"]
    new = clock.from_wire(result["stamp"])
    assert new is not None
    assert clock.replica_of(new) == 33
    assert clock.milliseconds_of(new) == NOW_MS
    # The request carried the old stamp, so the new one is news to its sender as to all others.
    assert answer["documents"][0]["fields"] == {result["stamp"]: {"title": "x"}}
    assert answer["stamp"] == result["stamp"]
    assert (await trip(store, user, watch))["documents"][0]["fields"] == {result["stamp"]: {"title": "x"}}


async def test_an_unknown_device_is_refused_before_anything_is_stored(store: Store, user: str, phone: str) -> None:
    stranger = new_id()
    change = sent({"title": "x"}, stamp=stamp_at(), doc=new_id())
    for account in (user, new_id()):
        with pytest.raises(UnknownDevice):
            await trip(store, account, stranger, change)
        with pytest.raises(UnknownDevice):
            await trip(store, account, stranger)
        assert await stored_registers(store, account) == {}
    await store.register_device(user, stranger)
    assert (await trip(store, user, stranger, change))["results"][0]["status"] == "applied"
    await store.forget_device(user, stranger)
    with pytest.raises(UnknownDevice):
        await trip(store, user, stranger, change)


async def test_a_thousand_changes_and_not_one_more(store: Store, user: str, phone: str) -> None:
    raw = Raw(msgspec.json.encode(sent({"title": "x"}, stamp=stamp_at(), doc=new_id())))

    async def upload(count: int) -> int:
        request = SyncRequest(device_id=phone, changes=[raw] * count)
        answer = await exchange.round_trip(
            store, request, user_id=user, cursor_key=CURSOR_KEY, received="json", answered="json", now_ms=NOW_MS
        )
        return len(answer.results)

    assert await upload(MAX_CHANGES) == MAX_CHANGES
    with pytest.raises(BatchTooLarge) as refused:
        await upload(MAX_CHANGES + 1)
    assert (refused.value.max_changes, refused.value.max_bytes) == (MAX_CHANGES, 4 * 1024 * 1024)


@pytest.mark.parametrize("received", ["json", "msgpack"])
@pytest.mark.parametrize("answered", ["json", "msgpack"])
async def test_a_value_is_the_same_whatever_it_came_as(
    store: Store, user: str, phone: str, watch: str, received: Format, answered: Format
) -> None:
    doc = new_id()
    given: dict[str, Any] = {
        "title": "Σ\0\u2028 \U0001f600", "notes": None, "rpe": 7, "distance_m": 0.1, "energy_kcal": 2**53,
        "new/a~1b~0": {"b": [1, 2.5, -0.0, None, True, "x"], "a": {}}, "$where": [], "a.b": {"$set": {"": 1e20}},
        "tags/pr": True, "z\0": -(2**53),
    }  # fmt: skip
    stamp = clock.to_wire(stamp_at())
    await trip(store, user, phone, sent(given, stamp=stamp, doc=doc), received=received)
    page = await trip(store, user, watch, answered=answered)
    assert page["documents"] == [{"collection": "workouts", "id": doc, "seq": 1, "fields": {stamp: given}}]
    assert list(page["documents"][0]["fields"][stamp]["new/a~1b~0"]) == ["b", "a"]
    assert type(page["documents"][0]["fields"][stamp]["rpe"]) is int
    lost = await trip(
        store, user, watch, sent({path: "x" for path in given if path != "tags/pr"}, stamp=1, doc=doc),
        received=received, answered=answered,
    )  # fmt: skip
    assert lost["results"][0]["superseded"] == {path: [stamp, v] for path, v in given.items() if path != "tags/pr"}


async def test_a_full_document_is_refused_as_one_change(store: Store, user: str, phone: str) -> None:
    doc, other = new_id(), new_id()
    full = {f"new/{index}": 1 for index in range(MAX_PATHS)}
    answer = await trip(
        store,
        user,
        phone,
        sent(full, stamp=stamp_at(), doc=doc),
        sent({"title": "over", "new/0": 2}, stamp=stamp_at(counter=1), doc=doc),
        sent({"title": "fine"}, stamp=stamp_at(counter=2), doc=other),
        sent({"deleted": True}, stamp=stamp_at(counter=3), doc=doc),
    )
    assert [(r["status"], r.get("code")) for r in answer["results"]] == [
        ("applied", None), ("rejected", "document_full"), ("applied", None), ("applied", None),
    ]  # fmt: skip
    registers = await stored_registers(store, user)
    assert registers[Key("workouts", doc)]["new/0"] == (1, stamp_at())
    assert "title" not in registers[Key("workouts", doc)]


async def test_fill_writes_what_is_lacking_as_the_server(store: Store, user: str, phone: str) -> None:
    doc = new_id()
    key = Key("workouts", doc)
    mine = stamp_at(NOW_MS + 50_000, counter=3, replica=9)
    await trip(store, user, phone, sent({"title": "mine", "notes": None}, stamp=mine, doc=doc))
    await trip(store, user, phone, sent({"deleted": True}, stamp=mine + 4096, doc=doc))
    given: dict[str, Value] = {"title": "imported", "notes": "imported", "rpe": 5}
    await exchange.fill(store, user, "workouts", doc, given, now_ms=NOW_MS)
    registers = (await stored_registers(store, user))[key]
    assert registers["title"] == ("mine", mine)
    assert registers["notes"] == (None, mine)
    value, stamp = registers["rpe"]
    assert (value, clock.replica_of(stamp)) == (5, 0)
    assert stamp > mine + 4096
    assert registers["deleted"] == (False, stamp)
    head = await store.head(user)
    assert head is not None
    assert head.clock == stamp
    await exchange.fill(store, user, "workouts", doc, given, now_ms=NOW_MS + 1)
    assert await store.head(user) == head


async def test_documents_over_sixteen_mebibytes_together_still_upload(store: Store, user: str, phone: str) -> None:
    """The store takes them in several steps. A path with a dot has it write whole documents, more than one command may hold."""
    docs = sorted(new_id() for _ in range(80))
    text = "x" * 16_000
    for start in range(0, len(docs), 10):
        big = {f"big/{part}": text for part in range(15)}  # 240 KB each, 19 MB together
        await trip(store, user, phone, *(sent(big, stamp=stamp_at(), doc=doc) for doc in docs[start : start + 10]))
    grown = [sent({"more.so": "y" * 15_000, "title": 1}, stamp=stamp_at(counter=1), doc=doc) for doc in docs]
    begun = cursor.close_run(await _epoch(store, user), tuple(COLLECTIONS), at=80)
    answer = await trip(
        store, user, phone, *grown, cursor=cursor.encode(begun, key=CURSOR_KEY, user_id=user), now_ms=NOW_MS
    )
    assert {result["status"] for result in answer["results"]} == {"applied"}
    assert (answer["documents"], answer["more"]) == ([], False)
    head = await store.head(user)
    assert head is not None
    assert head.seq == 160
    again = await trip(store, user, phone, *grown, cursor=answer["cursor"])
    assert {result["status"] for result in again["results"]} == {"unchanged"}
    registers = await stored_registers(store, user)
    assert {len(one) for one in registers.values()} == {17}


async def _epoch(store: Store, user: str) -> int:
    head = await store.head(user)
    assert head is not None
    return head.epoch


async def test_upload_and_download_meet_under_any_limit(store: Store, user: str, phone: str, watch: str) -> None:
    """The same writes, read in pages of every size, with and without uploads in the same request."""
    ledgers = {limit: Ledger() for limit in (1, 2, 500)}
    docs = [new_id() for _ in range(3)]
    for step in range(12):
        doc = docs[step * 7 % 3]
        path = ("title", "notes", "tags/a")[step % 3]
        value: Any = step % 2 == 0 if path == "tags/a" else step
        change = sent({path: value}, stamp=stamp_at(counter=step * 5 % 12, replica=2), doc=doc)
        await trip(store, user, watch, change)
        for limit, ledger in ledgers.items():
            ledger.take(await trip(store, user, phone, cursor=ledger.cursor, limit=limit))
    expected = {key: comparable(one) for key, one in (await stored_registers(store, user)).items()}
    for limit, ledger in ledgers.items():
        await ledger.pull(store, user, phone, limit=limit)
        assert {key: comparable(one) for key, one in ledger.registers.items()} == expected


async def test_a_large_batch_is_checked_like_a_small_one(store: Store, user: str, phone: str) -> None:
    good = [sent({"x": [1.5] * 4_000}, stamp=stamp_at(counter=n), doc=new_id()) for n in range(40)]
    bad = sent({"x": "é" * 16_000}, stamp=stamp_at(), doc=new_id())
    answer = await trip(store, user, phone, *good, bad)
    assert [result["status"] for result in answer["results"]] == ["applied"] * 40 + ["rejected"]
    assert answer["results"][-1]["code"] == "too_large"


async def test_a_primary_that_lags_after_an_election_is_no_restored_server(user: str) -> None:
    class Lagging(MemoryStore):
        lag: Head | None = None

        async def head(self, user_id: str, *, surely_newest: bool = False) -> Head | None:
            return self.lag if self.lag and not surely_newest else await super().head(user_id)

    store = Lagging()
    phone = new_id()
    await store.register_device(user, phone)
    before = await store.head(user)
    given = await trip(store, user, phone, sent({"title": "acknowledged"}, stamp=stamp_at(), doc=new_id()))
    store.lag = before
    answer = await trip(store, user, phone, cursor=given["cursor"])
    assert (answer["reset"], answer["documents"], answer["more"]) == (False, [], False)


async def test_what_the_server_writes_itself_is_refused_aloud_by_a_full_document(store: Store, user: str) -> None:
    doc = new_id()
    await exchange.fill(store, user, "workouts", doc, {f"x{n}": n for n in range(MAX_PATHS)}, now_ms=NOW_MS)
    with pytest.raises(DocumentFull):
        await exchange.fill(store, user, "workouts", doc, {"title": "one more"}, now_ms=NOW_MS)


async def test_the_base_of_a_foreign_history_is_not_taken_for_this_one_s(
    user: str,
) -> None:
    """A device whose server was restored names sequences that other documents have by now, until it is told of the reset."""
    store, doc, phone, watch = MemoryStore(), new_id(), new_id(), new_id()
    for device_id in (phone, watch):
        await store.register_device(user, device_id)
    begun = await trip(store, user, phone, sent({"title": "a"}, stamp=stamp_at(replica=1), doc=doc))
    await trip(store, user, watch, sent({"title": "b"}, stamp=stamp_at(counter=1, replica=2), doc=doc))
    late = {**sent({"title": "c"}, stamp=stamp_at(counter=2, replica=1), doc=doc), "base": 1}

    async def lost() -> list[Value]:
        listed = await store.conflicts(user, below=None, limit=9, now_ms=NOW_MS)
        return [one.lost_value for one in listed.entries]

    foreign = await trip(store, user, phone, late, cursor=begun["cursor"], cursor_key=b"x" * 32)
    assert foreign["reset"]
    assert await lost() == []
    early = {**sent({"title": "d"}, stamp=stamp_at(counter=3, replica=2), doc=doc), "base": 2}
    assert not (await trip(store, user, watch, early))["reset"]
    assert await lost() == ["c"]


async def test_what_remains_is_counted_once_while_nobody_writes(
    database: AsyncDatabase[dict[str, Any]], user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, phone = MongoStore(database), new_id()
    await store.register_device(user, phone)
    counts = 0
    counted = MongoView.count_changed

    async def count_changed(self: MongoView, *given: Any, **more: Any) -> int:
        nonlocal counts
        counts += 1
        return await counted(self, *given, **more)

    monkeypatch.setattr(MongoView, "count_changed", count_changed)
    changes = [sent({"title": n}, stamp=stamp_at(), doc=new_id()) for n in range(10)]
    await trip(store, user, phone, *changes)
    pages = [await trip(store, user, phone, limit=3)]
    while pages[-1]["more"]:
        pages.append(await trip(store, user, phone, cursor=pages[-1]["cursor"], limit=3))
    assert [page["remaining"] for page in pages] == [7, 4, 1, 0]
    assert counts == 1
    # After a write, and for other collections, it is counted anew.
    first = pages[0]
    more = [sent({"title": 1}, stamp=stamp_at(), doc=new_id(), collection="goals") for _ in range(2)]
    assert (await trip(store, user, phone, *more, cursor=first["cursor"], limit=3))["remaining"] == 6
    assert counts == 3  # the snapshot's rest, and what came since
    part = await trip(store, user, phone, cursor=first["cursor"], limit=3, collections=["workouts"])
    assert part["remaining"] == 4
