"""What a device that diverged asks for, over every store."""

from typing import Any

import msgspec
import pytest

from sync import clock, digest, merge, repair, values
from sync.changes import MAX_PAGE_BYTES, Format
from sync.document import Key
from sync.merge import PURGE_AFTER_MS
from sync.store import Store
from tests.sync.model import NOW_MS, change_of, new_id, stamp_at, stored, stored_registers
from tests.sync.test_digest import by_the_contract
from tests.sync.test_exchange import store as store  # noqa: PLC0414 - a fixture
from tests.sync.test_exchange import user as user  # noqa: PLC0414 - a fixture
from tests.sync.test_store import head_of, write


def ids_of(bucket: int, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        if digest.bucket_of(one := new_id()) == bucket:
            found.append(one)
    return found


async def fetched(
    store: Store, user: str, collection: str, bucket: int, *, answered: Format = "json"
) -> tuple[list[dict[str, Any]], int]:
    """Every document of a bucket, and in how many pages they came."""
    documents: list[dict[str, Any]] = []
    after, pages = 0, 0
    while True:
        page = await repair.fetch(store, user, collection, bucket, after=after, answered=answered)
        pages += 1
        decode = msgspec.json.decode if answered == "json" else msgspec.msgpack.decode
        documents += [decode(bytes(raw)) for raw in page.documents]
        if page.after is None:
            return documents, pages
        assert page.after > after
        after = page.after


async def test_each_buckets_sum_is_that_of_its_documents(store: Store, user: str) -> None:
    keys = sorted([*(Key("workouts", new_id()) for _ in range(30)), Key("goals", new_id())])
    await write(store, user, *(change_of({"title": 1, "rpe": 2}, stamp=stamp_at(), key=key) for key in keys))
    await write(store, user, change_of({"deleted": True}, stamp=stamp_at(counter=1), key=keys[3]))
    sums = await repair.digests(store, user, "workouts")
    expected = [0] * 256
    for key, registers in (await stored_registers(store, user)).items():
        if key.collection == "workouts":
            own = by_the_contract(key, {path: stamp for path, (_, stamp) in registers.items()})
            expected[digest.bucket_of(key.id)] = (expected[digest.bucket_of(key.id)] + own) % 2**64
    assert sums == expected
    assert sum(1 for one in sums if one) > 10
    # All of them together are what a round trip tells.
    assert sum(sums) % 2**64 == (await head_of(store, user)).digests["workouts"]


async def test_what_was_purged_counts_and_comes_no_more(store: Store, user: str) -> None:
    key = Key("workouts", new_id())
    await write(store, user, change_of({"title": 1, "deleted": True}, stamp=stamp_at(), key=key))
    bucket = digest.bucket_of(key.id)
    assert [one["id"] for one in (await fetched(store, user, "workouts", bucket))[0]] == [key.id]
    later_ms = NOW_MS + PURGE_AFTER_MS
    await store.update(user, [key], (), lambda state: merge.purge(state, now_ms=later_ms))
    assert (await stored(store, user))[key].purged
    assert await repair.digests(store, user, "workouts") == [0] * 256
    assert await fetched(store, user, "workouts", bucket) == ([], 1)


async def test_an_account_without_a_head_has_nothing(store: Store, user: str) -> None:
    assert await repair.digests(store, user, "workouts") == [0] * 256
    assert await fetched(store, user, "workouts", 5) == ([], 1)


@pytest.mark.parametrize("answered", ["json", "msgpack"])
async def test_a_bucket_comes_whole_with_all_registers(store: Store, user: str, answered: Format) -> None:
    mine = [Key("workouts", one) for one in ids_of(7, 3)]
    others = [Key("workouts", one) for one in ids_of(8, 2)] + [Key("goals", mine[0].id)]
    given = {"title": "é", "rpe": 7.5, "new/a~1b": {"b": [1, None], "a": True}, "notes": None}
    await write(store, user, *(change_of(given, stamp=stamp_at(), key=key) for key in sorted([*mine, *others])))
    await write(store, user, change_of({"title": "later"}, stamp=stamp_at(counter=1), key=mine[1]))
    documents, pages = await fetched(store, user, "workouts", 7, answered=answered)
    assert pages == 1
    assert {one["id"] for one in documents} == {key.id for key in mine}
    assert [one["seq"] for one in documents] == sorted(one["seq"] for one in documents)
    changed = documents[-1]
    assert changed["id"] == mine[1].id
    assert changed["fields"] == {
        clock.to_wire(stamp_at()): {path: value for path, value in given.items() if path != "title"},
        clock.to_wire(stamp_at(counter=1)): {"title": "later"},
    }
    assert all("purged" not in one for one in documents)


async def test_a_large_bucket_comes_in_pages(store: Store, user: str) -> None:
    keys = sorted(Key("workouts", one) for one in ids_of(7, 12))
    text = "x" * 16_000
    for begin in range(0, 12, 4):
        changes = [
            change_of({f"p{n}": text for n in range(10)}, stamp=stamp_at(), key=key) for key in keys[begin : begin + 4]
        ]
        await write(store, user, *changes)
    documents, pages = await fetched(store, user, "workouts", 7)
    assert sorted(one["id"] for one in documents) == [key.id for key in keys]
    assert pages == 2 == -(-12 * 160_000 // MAX_PAGE_BYTES)


async def test_a_document_written_between_two_pages_comes_again(
    store: Store, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "MAX_LIMIT", 2)
    keys = [Key("workouts", one) for one in ids_of(7, 5)]
    for n, key in enumerate(keys):
        await write(store, user, change_of({"title": n}, stamp=stamp_at(counter=n), key=key))
    first = await repair.fetch(store, user, "workouts", 7, after=0, answered="json")
    assert first.after == 2
    await write(store, user, change_of({"title": "moved"}, stamp=stamp_at(counter=9), key=keys[0]))
    await write(store, user, change_of({"title": "moved"}, stamp=stamp_at(counter=9), key=keys[3]))
    given = [msgspec.json.decode(bytes(raw)) for raw in first.documents]
    page = first
    while page.after is not None:
        page = await repair.fetch(store, user, "workouts", 7, after=page.after, answered="json")
        given += [msgspec.json.decode(bytes(raw)) for raw in page.documents]
    assert [keys.index(Key("workouts", one["id"])) for one in given] == [0, 1, 2, 4, 0, 3]
    # What came last of each is what the server holds.
    held = {
        one["id"]: {p: values.from_wire(v) for group in one["fields"].values() for p, v in group.items()}
        for one in given
    }
    assert held == {key.id: document.values for key, document in (await stored(store, user)).items()}


async def test_accounts_do_not_meet(store: Store, user: str) -> None:
    key = Key("workouts", new_id())
    other = new_id()
    await write(store, user, change_of({"title": 1}, stamp=stamp_at(), key=key))
    await write(store, other, change_of({"title": 1}, stamp=stamp_at(), key=Key("goals", new_id())))
    assert await fetched(store, other, "workouts", digest.bucket_of(key.id)) == ([], 1)
    assert await repair.digests(store, other, "workouts") == [0] * 256


async def test_a_bucket_that_ends_with_a_full_page_has_no_more(
    store: Store, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "MAX_LIMIT", 2)
    keys = sorted(Key("workouts", one) for one in ids_of(7, 4))
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in keys))
    documents, pages = await fetched(store, user, "workouts", 7)
    assert (len(documents), pages) == (4, 2)
    # A place beyond everything, as of a server that was restored since.
    assert await repair.fetch(store, user, "workouts", 7, after=2**53, answered="json") == repair.Fetched([], None)
