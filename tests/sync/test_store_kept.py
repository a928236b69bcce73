"""What the store keeps beside documents, over every adapter: refused changes, conflicts, tombstones, marks, epochs.

The rest of its contract is in test_store, erasure in test_store_erasure.
"""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from sync import digest, merge
from sync.changes import Change
from sync.document import Key
from sync.head import Head
from sync.merge import PURGE_AFTER_MS, Outcome, State
from sync.store import Store, Tombstone
from tests.sync.model import NOW_MS, change_of, new_id, stamp_at, stored
from tests.sync.test_log import Both, conflict, refusal
from tests.sync.test_log import both as both  # noqa: PLC0414 - a fixture
from tests.sync.test_log import user as user  # noqa: PLC0414 - a fixture
from tests.sync.test_store import ALL, KEY, changed, head_of, write

DAY_MS = 86_400_000


# --- the quarantine


async def test_refused_changes_are_stored_and_counted_with_the_change_that_brought_them(both: Both, user: str) -> None:
    change = change_of({"title": "good"}, stamp=stamp_at(), key=KEY)
    entries = [refusal(raw=b"x" * 50), refusal(NOW_MS + 1, raw=b"y" * 70)]

    def step(state: State) -> Outcome:
        return merge.apply([change], state, now_ms=NOW_MS)._replace(rejected=entries)

    _, outcome = await both.store.update(user, [KEY], {change.stamp}, step)
    assert await both.all_rejected(user) == entries[::-1]
    assert outcome.head.quarantined_bytes == sum(one.size_bytes for one in entries) == 720
    assert await head_of(both.store, user) == outcome.head
    assert set(await stored(both.store, user)) == {KEY}


async def test_an_entry_that_is_there_is_neither_stored_nor_counted_again(both: Both, user: str) -> None:
    entry = refusal(raw=b'{"a":1,"b":2}')
    await both.keep(user, rejected=[entry])
    before = await head_of(both.store, user)
    again = replace(entry, raw=b'{"b":2,"a":1}', received_ms=NOW_MS + DAY_MS)
    outcome = await both.keep(user, rejected=[again])
    assert (list(outcome.rejected), outcome.writes) == ([], False)
    assert await head_of(both.store, user) == outcome.head == before
    assert await both.all_rejected(user) == [entry]


async def test_another_change_under_a_name_that_is_taken_is_kept_too(both: Both, user: str) -> None:
    one = refusal(raw=b"1")
    two, three = (replace(one, raw=raw, content=raw, received_ms=NOW_MS - n) for n, raw in enumerate((b"2", b"3"), 1))
    await both.keep(user, rejected=[one, two])
    await both.keep(user, rejected=[one, two, three])
    kept = await both.all_rejected(user)
    assert [entry.raw for entry in kept] == [b"1", b"2", b"3"]
    assert kept[0].id == one.id
    assert (await head_of(both.store, user)).quarantined_bytes == 3 * one.size_bytes


async def test_what_is_accepted_leaves(both: Both, user: str) -> None:
    entries = [refusal(NOW_MS - n) for n in range(3)]
    await both.keep(user, rejected=entries)
    await both.keep(user, accepted=[entries[1].id, new_id()])
    assert await both.all_rejected(user) == [entries[0], entries[2]]
    assert (await head_of(both.store, user)).quarantined_bytes >= sum(entries[n].size_bytes for n in (0, 2))
    # What leaves and comes in one update is there after it.
    again = replace(entries[0], raw=b"other")
    await both.keep(user, rejected=[again], accepted=[entries[0].id])
    assert await both.all_rejected(user) == [again, entries[2]]


async def test_a_quarantine_beyond_its_bound_loses_its_oldest(both: Both, user: str) -> None:
    entries = [refusal(NOW_MS + n, raw=b"x" * 700) for n in range(6)]  # of a kilobyte each, with what surrounds them
    await both.keep(user, rejected=entries)
    other = new_id()
    await both.keep(other, rejected=[refusal(raw=b"x" * 5_000)])
    before = await head_of(both.store, user)
    assert await both.store.trim_rejected(user, most_bytes=6_000) == before
    assert await both.all_rejected(user) == entries[::-1]
    head = await both.store.trim_rejected(user, most_bytes=3_999)
    assert await both.all_rejected(user) == entries[:2:-1]
    assert head == replace(before, quarantined_bytes=3_000) == await head_of(both.store, user)
    # An old one that would fit does not outlive a newer one that does not.
    await both.keep(user, rejected=[refusal(NOW_MS + 8, raw=b"x" * 4_000)])
    await both.store.trim_rejected(user, most_bytes=2_000)
    assert await both.all_rejected(user) == []
    assert (await head_of(both.store, user)).quarantined_bytes == 0
    assert len(await both.all_rejected(other)) == 1


async def test_trimming_counts_what_is_there(both: Both, user: str) -> None:
    """Entries that left are still counted until then."""
    entries = [refusal(raw=b"x" * 700) for _ in range(3)]
    await both.keep(user, rejected=entries)
    await both.keep(user, accepted=[entries[0].id, entries[1].id])
    assert (await both.store.trim_rejected(user, most_bytes=10_000)).quarantined_bytes == 1_000
    assert await both.all_rejected(user) == [entries[2]]


# --- conflicts


async def test_a_conflict_that_is_there_is_left_as_it_is(both: Both, user: str) -> None:
    one = conflict()
    await both.keep(user, conflicts=[one])
    before = await head_of(both.store, user)
    outcome = await both.keep(user, conflicts=[replace(one, at_ms=NOW_MS + DAY_MS, won_value="another")])
    assert not outcome.writes
    assert await both.all_conflicts(user) == [one]
    assert await head_of(both.store, user) == before


async def test_a_conflict_that_was_restored_says_so(both: Both, user: str) -> None:
    one = conflict()
    await both.keep(user, conflicts=[one, conflict(NOW_MS - 1)])
    restored = replace(one, restored_ms=NOW_MS + 5)
    await both.keep(user, conflicts=[restored])
    assert (await both.all_conflicts(user))[0] == restored
    assert await both.log.conflict(user, one.id, now_ms=NOW_MS) == restored
    assert len(await both.all_conflicts(user)) == 2
    # A retry of what made it does not take that back.
    await both.keep(user, conflicts=[one])
    assert (await both.all_conflicts(user))[0] == restored


async def test_nothing_is_kept_of_a_step_that_raised(both: Both, user: str) -> None:
    await both.keep(user)
    before = await head_of(both.store, user)

    class Refused(Exception):
        pass

    def step(state: State) -> Outcome:
        raise Refused

    with pytest.raises(Refused):
        await both.store.update(user, [], (), step)
    assert (await head_of(both.store, user), await both.all_rejected(user)) == (before, [])


# --- deleted and purged documents


def deleting(key: Key, counter: int) -> Change:
    return change_of({"deleted": True}, stamp=stamp_at(counter=counter), key=key)


async def purge(store: Store, user_id: str, keys: Sequence[Key], *, now_ms: int) -> Outcome:
    _, outcome = await store.update(user_id, sorted(keys), (), lambda state: merge.purge(state, now_ms=now_ms))
    return outcome


@pytest.fixture
def keys() -> list[Key]:
    return sorted(Key(ALL[n % 2], new_id()) for n in range(4))


async def test_tombstones_are_listed_the_first_deleted_first(both: Both, user: str, keys: list[Key]) -> None:
    store = both.store
    assert await store.tombstones(user, limit=5) == []
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in keys))
    for n, key in enumerate([keys[2], keys[0], keys[3]]):
        await write(store, user, deleting(key, n + 1), now_ms=NOW_MS + n)
    await write(store, new_id(), deleting(keys[1], 1))
    expected = [Tombstone(keys[2], 5, NOW_MS), Tombstone(keys[0], 6, NOW_MS + 1), Tombstone(keys[3], 7, NOW_MS + 2)]
    assert await store.tombstones(user, limit=5) == expected
    assert await store.tombstones(user, limit=2) == expected[:2]
    # An edit of a deleted document is its last change; a restored one is none any more.
    await write(store, user, change_of({"notes": 1}, stamp=stamp_at(), key=keys[2]), now_ms=NOW_MS + 5)
    await write(store, user, change_of({"deleted": False}, stamp=stamp_at(counter=9), key=keys[0]), now_ms=NOW_MS + 6)
    expected = [Tombstone(keys[3], 7, NOW_MS + 2), Tombstone(keys[2], 8, NOW_MS + 5)]
    assert await store.tombstones(user, limit=5) == expected
    # Of one moment, by key; and refused changes and conflicts are none.
    await both.keep(user, rejected=[refusal(0)], conflicts=[conflict(0)])
    await write(store, user, *(deleting(key, 20) for key in keys), now_ms=NOW_MS + 9)
    assert await store.tombstones(user, limit=5) == [Tombstone(key, 10 + n, NOW_MS + 9) for n, key in enumerate(keys)]


async def test_a_purged_document_leaves_its_mark(both: Both, user: str, keys: list[Key]) -> None:
    store, gone = both.store, keys[1]
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in keys))
    await write(store, user, deleting(gone, 1))
    later_ms = NOW_MS + PURGE_AFTER_MS
    outcome = await purge(store, user, keys, now_ms=later_ms)
    assert [one.key for one in outcome.written] == [gone]
    mark = await store.document(user, gone)
    assert mark is not None
    assert (mark.seq, mark.purged, mark.values, mark.deleted_ms) == (6, True, {}, 0)
    assert await store.tombstones(user, limit=5) == []
    # A step is given it, so that it stays barred; nothing brings it back.
    state, outcome = await write(store, user, change_of({"title": 2}, stamp=stamp_at(counter=9), key=gone))
    assert state.documents[gone].purged
    assert [one.code for one in outcome.results] == ["document_purged"]
    assert (await purge(store, user, keys, now_ms=later_ms)).written == ()


async def test_deltas_give_marks_and_snapshots_do_not(both: Both, user: str, keys: list[Key]) -> None:
    store, gone = both.store, keys[1]
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in keys))
    await write(store, user, deleting(gone, 1))
    await purge(store, user, keys, now_ms=NOW_MS + PURGE_AFTER_MS)
    delta = await changed(store, user)
    assert [(one.key, one.seq, one.purged) for one in delta] == [
        (keys[0], 1, False), (keys[2], 3, False), (keys[3], 4, False), (gone, 6, True),
    ]  # fmt: skip
    assert [one.seq for one in await changed(store, user, newest=True)] == [4, 3, 1]
    mine = [name for name in ALL if name != gone.collection]
    assert gone not in {one.key for one in await changed(store, user, collections=mine)}
    assert [one.key for one in await changed(store, user, after=4, collections=[gone.collection])] == [gone]
    async with store.view(user) as view:
        assert view is not None
        assert await view.count_changed(ALL, after=0, upto=9) == 4
        assert await view.count_changed(ALL, after=0, upto=9, snapshot=True) == 3
        assert await view.count_changed(ALL, after=4, upto=9) == 1
        assert await view.count_changed(ALL, after=4, upto=9, snapshot=True) == 0


# --- views


async def test_buckets_are_parts_of_a_collection(both: Both, user: str) -> None:
    store = both.store
    keys = sorted(Key("workouts", new_id()) for _ in range(40))
    other, gone = Key("goals", new_id()), keys[7]
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in sorted([*keys, other])))
    await write(store, user, deleting(gone, 1), deleting(keys[8], 1))
    await purge(store, user, [gone], now_ms=NOW_MS + PURGE_AFTER_MS)
    there = set(keys) - {gone}
    async with store.view(user) as view:
        assert view is not None
        every = [one async for one in view.in_bucket("workouts", None, after=0)]
        assert {one.key for one in every} == there
        assert [one.seq for one in every] == sorted(one.seq for one in every)
        assert next(one for one in every if one.key == keys[8]).deleted
        by_bucket: dict[Key, int] = {}
        for bucket in range(digest.BUCKETS):
            by_bucket |= {one.key: bucket async for one in view.in_bucket("workouts", bucket, after=0)}
        assert by_bucket == {key: digest.bucket_of(key.id) for key in there}
        after = every[20].seq
        assert [one.key async for one in view.in_bucket("workouts", None, after=after)] == [
            one.key for one in every[21:]
        ]
        assert [one async for one in view.in_bucket("nutrition", None, after=0)] == []


async def test_a_view_stays_at_its_moment(both: Both, user: str) -> None:
    """Whatever is written, moved, deleted or purged while it is read."""
    store = both.store
    first, second = sorted(Key("goals", new_id()) for _ in range(2))
    await write(store, user, *(change_of({"title": 1}, stamp=stamp_at(), key=key) for key in (first, second)))
    await write(store, user, deleting(second, 1))
    async with store.view(user) as view:
        assert view is not None
        head = view.head
        await write(store, user, change_of({"title": 2}, stamp=stamp_at(counter=2), key=first))
        await purge(store, user, [second], now_ms=NOW_MS + PURGE_AFTER_MS)
        await write(store, user, change_of({"title": 3}, stamp=stamp_at(), key=Key("goals", new_id())))
        assert view.head == head
        for _ in range(2):
            found = [one async for one in view.changed(ALL, after=0, upto=99)]
            assert [(one.key, one.seq, one.purged) for one in found] == [(first, 1, False), (second, 3, False)]
            assert found[0].values == {"title": 1}
        assert await view.count_changed(ALL, after=0, upto=99) == 2
        assert [one.key async for one in view.in_bucket("goals", None, after=1)] == [second]
    async with store.view(user) as view:
        assert view is not None
        assert view.head == await head_of(store, user)
        assert [one.seq async for one in view.changed(ALL, after=0, upto=99)] == [4, 5, 6]


async def test_a_view_of_nothing_and_one_that_asks_for_more_than_there_is(both: Both, user: str) -> None:
    async with both.store.view(user) as view:
        assert view is None
    async with both.store.view(user, at_least=7) as view:
        assert view is None
    _, outcome = await write(both.store, user, change_of({"title": 1}, stamp=stamp_at(), key=KEY))
    for at_least in (0, 1, 2, 10**9):  # a restored server has less than a device was given
        async with both.store.view(user, at_least=at_least) as view:
            assert view is not None
            assert view.head == outcome.head


async def test_a_document_by_itself(both: Both, user: str) -> None:
    assert await both.store.document(user, KEY) is None
    await write(both.store, user, change_of({"title": 1}, stamp=stamp_at(), key=KEY))
    found = await both.store.document(user, KEY)
    assert found is not None
    assert found.registers() == {"title": (1, stamp_at())}
    found.values["title"] = "altered"
    assert (await stored(both.store, user))[KEY].values == {"title": 1}
    assert await both.store.document(new_id(), KEY) is None


# --- epochs


async def test_one_accounts_epoch_is_drawn_anew(both: Both, user: str) -> None:
    store, other = both.store, new_id()
    for owner in (user, other):
        await write(store, owner, change_of({"title": 1}, stamp=stamp_at(), key=KEY))
    before, theirs = await head_of(store, user), await head_of(store, other)
    assert await store.bump_epoch(user) is True
    after = await head_of(store, user)
    assert after.epoch != before.epoch
    assert replace(after, epoch=before.epoch) == before
    assert await head_of(store, other) == theirs
    # What is written then keeps it.
    _, outcome = await write(store, user, change_of({"title": 2}, stamp=stamp_at(counter=1), key=KEY))
    assert outcome.head.epoch == after.epoch == (await head_of(store, user)).epoch
    assert await store.bump_epoch(user) is True
    assert (await head_of(store, user)).epoch not in {before.epoch, after.epoch}


async def test_an_unknown_account_has_no_epoch(both: Both, user: str) -> None:
    assert await both.store.bump_epoch(user) is False
    assert await both.store.head(user) is None


async def test_all_epochs_are_others_after_a_restore(both: Both, user: str) -> None:
    store = both.store
    owners = [user, new_id()]
    for owner in owners:
        await write(store, owner, change_of({"title": 1}, stamp=stamp_at(), key=KEY))
    seen: list[list[Head]] = []
    for _ in range(3):
        seen.append([await head_of(store, owner) for owner in owners])
        await store.bump_all_epochs()
        # In every way to look at it, and after a write.
        for owner in owners:
            head = await head_of(store, owner)
            async with store.view(owner) as view:
                assert view is not None
                assert view.head == head
            state, outcome = await write(store, owner, change_of({"title": 1}, stamp=stamp_at(), key=KEY))
            assert state.head == outcome.head == head
            state, outcome = await write(store, owner, change_of({"rpe": len(seen)}, stamp=stamp_at(), key=KEY))
            assert outcome.head.epoch == head.epoch == (await head_of(store, owner)).epoch
    for heads in zip(*seen, strict=True):
        assert len({head.epoch for head in heads}) == 3
    # One bump for all and one for a single account do not undo each other.
    mine, theirs = [await head_of(store, owner) for owner in owners]
    await store.bump_epoch(user)
    assert (await head_of(store, user)).epoch != mine.epoch
    assert (await head_of(store, owners[1])).epoch == theirs.epoch
    await write(store, new_id(), change_of({"title": 1}, stamp=stamp_at(), key=KEY))


async def test_registering_and_forgetting_keep_the_epoch(both: Both, user: str) -> None:
    store, device_id = both.store, new_id()
    await store.register_device(user, device_id)
    await store.bump_all_epochs()
    epoch = (await head_of(store, user)).epoch
    await store.register_device(user, new_id())
    assert (await head_of(store, user)).epoch == epoch
    await store.forget_device(user, device_id)
    assert (await head_of(store, user)).epoch == epoch
