"""Devices against the real exchange over the memory store: random histories end alike, and a reset loses nothing."""

import asyncio
import itertools
import random
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync import clock, values
from sync.changes import MAX_REQUEST_BYTES
from sync.document import Document, Key, Mark
from sync.replica import BYTES_A_REQUEST, CHANGES_A_REQUEST, Replica, SnapshotUnreadable
from sync.replica_state import Unused
from sync.store_memory import MemoryStore
from tests.sync.answers import IDS, USER, answer, device, edit, expected, registers, sync
from tests.sync.model import NOW_MS, colliding_values, comparable, stored_registers

# What may happen to a device: it edits (with a clock that may be years off), syncs, or syncs and loses the response.
PATHS = ["title", "deleted", "rpe", "notes", "tags/x", "sets/a/reps"]
OFF_MS = [-10 * 365 * 86_400_000, -1000, 0, 1, 59_000, 61_000, 10 * 365 * 86_400_000]
documents, paths = st.sampled_from(IDS), st.sampled_from(PATHS)
edits = st.tuples(st.just("edit"), st.integers(0, 2), documents, paths, colliding_values, st.sampled_from(OFF_MS))
syncs = st.tuples(st.just("sync"), st.integers(0, 2), st.sampled_from([1, 2, 500]))
losses = st.tuples(st.just("lose"), st.integers(0, 2))


@settings(max_examples=150, deadline=None)
@given(st.lists(edits | syncs | losses, max_size=25))
def test_devices_of_any_history_end_with_the_state_of_the_server(history: list[tuple[Any, ...]]) -> None:
    async def play() -> None:
        store = MemoryStore()
        devices = [await device(store) for _ in range(3)]
        now_ms = NOW_MS
        for step in history:
            now_ms += 1_000
            match step:
                case ("edit", who, document_id, path, value, off_ms):
                    sent = bool(value) if path.startswith("tags/") else value
                    edit(devices[who], document_id, {path: sent}, now_ms=now_ms + off_ms)
                case ("sync", who, limit):
                    request = devices[who].request(limit=limit)
                    devices[who].receive(request, await answer(store, request, now_ms=now_ms))
                case ("lose", who):
                    await answer(store, devices[who].request(), now_ms=now_ms)
        for _ in range(2):
            for one in devices:
                await sync(store, one, limit=2, now_ms=now_ms)
        expected = {key: comparable(held) for key, held in (await stored_registers(store, USER)).items()}
        for one in devices:
            assert registers(one) == expected
            assert not one.unsent
            assert {key: one.shown(key) for key in one.known()} == {key: devices[0].shown(key) for key in expected}

    asyncio.run(play())


async def test_a_device_shows_its_unsent_changes_merged_with_what_it_was_given() -> None:
    store = MemoryStore()
    phone, watch = await device(store), await device(store)
    edit(phone, IDS[0], {"title": "Ride", "tags/lake": True})
    await sync(store, phone)
    await sync(store, watch)
    edit(watch, IDS[0], {"title": "Long ride"})
    assert watch.shown(Key("workouts", IDS[0])) == {"title": "Long ride", "tags": ["lake"]}
    assert watch.answered[Key("workouts", IDS[0])]["title"].value == "Ride"


async def test_the_next_stamp_exceeds_all_that_was_seen_whatever_the_wall_clock_says() -> None:
    store = MemoryStore()
    ahead, behind = await device(store), await device(store)
    edit(ahead, IDS[0], {"title": "from a clock 59 s ahead"}, now_ms=NOW_MS + 59_000)
    await sync(store, ahead)
    await sync(store, behind)
    edit(behind, IDS[0], {"title": "later"}, now_ms=NOW_MS - 86_400_000)
    await sync(store, behind)
    await sync(store, ahead)
    assert ahead.shown(Key("workouts", IDS[0])) == {"title": "later"}


async def test_a_rejected_change_is_dropped_and_the_rest_of_the_queue_goes_on() -> None:
    store = MemoryStore()
    phone = await device(store)
    phone.edit("nowhere", IDS[0], {"title": "no such collection"}, change_id=str(uuid.uuid4()), now_ms=NOW_MS)
    edit(phone, IDS[1], {"title": "good"})
    await sync(store, phone)
    assert not phone.unsent
    assert set(phone.known()) == {Key("workouts", IDS[1])}


async def test_a_long_queue_goes_up_in_stamp_order_and_in_batches() -> None:
    store = MemoryStore()
    phone = await device(store)
    names = [str(uuid.uuid4()) for _ in range(2 * CHANGES_A_REQUEST + 1)]
    for name in random.Random(1).sample(names, len(names)):
        edit(phone, str(uuid.uuid4()), {"title": name}, name=name)
    request = phone.request()
    assert len(request["changes"]) == CHANGES_A_REQUEST
    stamps = [change["stamp"] for change in request["changes"]]
    assert stamps == sorted(stamps)
    assert stamps[-1] < min(clock.to_wire(one.stamp) for one in list(phone.unsent.values())[CHANGES_A_REQUEST:])
    await sync(store, phone)
    assert len(await stored_registers(store, USER)) == len(names)


async def test_a_queue_of_large_changes_goes_up_within_the_servers_bound() -> None:
    store = MemoryStore()
    phone = await device(store)
    for _ in range(20):
        edit(phone, str(uuid.uuid4()), {f"notes{n}": "x" * 16_000 for n in range(15)})
    request = phone.request()
    assert 1 < len(request["changes"]) < 20
    assert len(msgspec.json.encode(request)) < 1.1 * BYTES_A_REQUEST < MAX_REQUEST_BYTES
    assert len(phone.request(most_changes=2)["changes"]) == 2
    await sync(store, phone)
    assert len(await stored_registers(store, USER)) == 20


async def test_a_change_that_is_refused_alone_is_set_aside_and_kept_by_the_app() -> None:
    phone = await device(MemoryStore())
    edit(phone, IDS[0], {"title": "x"}, name=IDS[1])
    kept = phone.set_aside(IDS[1])
    assert kept is not None
    assert kept.values == {"title": "x"}
    assert not phone.unsent
    assert phone.set_aside(IDS[1]) is None


@pytest.mark.parametrize("resets", [1, 2])
async def test_after_a_restored_server_a_device_brings_back_what_it_lost(resets: int) -> None:
    store = MemoryStore()
    phone = await device(store)
    for document_id in IDS:
        edit(phone, document_id, {"title": "kept", "notes": "before the backup"})
    await sync(store, phone)
    edit(phone, IDS[0], {"title": "after the backup"}, now_ms=NOW_MS + 1)
    await sync(store, phone)
    before = registers(phone)

    for number in range(resets):
        # A server restored from an older backup: another epoch, one document gone, one with its older state.
        restored = MemoryStore()
        await restored.register_device(USER, phone.device_id)
        older = Replica(phone.device_id, phone.number)
        edit(older, IDS[1], {"title": "kept"}, now_ms=NOW_MS - 1)
        request = older.request()
        older.receive(request, await answer(restored, request))
        if number < resets - 1:  # the run that a second reset interrupts
            request = phone.request(limit=1)
            response = await answer(restored, request)
            assert response["reset"]
            phone.receive(request, {**response, "more": True})
    edit(phone, IDS[2], {"rpe": 7}, now_ms=NOW_MS + 2)
    await sync(restored, phone, limit=1)
    expected = {key: comparable(held) for key, held in (await stored_registers(restored, USER)).items()}
    assert registers(phone) == expected
    for key, held in before.items():
        assert expected[key].items() >= held.items()
    assert phone.shown(Key("workouts", IDS[2]))["rpe"] == 7


async def test_what_a_run_that_a_second_reset_interrupts_was_answered_is_brought_back_too() -> None:
    phone = await device(MemoryStore())
    phone.cursor = "of a server that is no more"
    edit(phone, IDS[0], {"title": "sent in the interrupted run"})
    first, second = MemoryStore(), MemoryStore()
    for restored in (first, second):
        await restored.register_device(USER, phone.device_id)
    request = phone.request()
    phone.receive(request, {**await answer(first, request), "more": True})
    assert not phone.unsent
    await sync(second, phone)
    [held] = (await stored_registers(second, USER)).values()
    assert held["title"][0] == "sent in the interrupted run"
    assert phone.shown(Key("workouts", IDS[0])) == {"title": "sent in the interrupted run"}


async def test_a_document_that_was_purged_is_dropped() -> None:
    phone = Replica(str(uuid.uuid4()), 1)
    key = Key("workouts", IDS[0])
    phone.answered[key] = {}
    purged = {"collection": "workouts", "id": IDS[0], "seq": 9, "purged": True, "fields": {}}
    response = {"results": [], "documents": [purged], "stamp": "0" * 16, "cursor": "c", "more": False, "reset": False}
    phone.receive(phone.request(), response)
    assert not phone.known()


async def test_a_purged_document_that_a_device_still_edits_is_dropped_with_its_result() -> None:
    store = MemoryStore()
    phone = await device(store)
    edit(phone, IDS[0], {"title": "x"})
    await sync(store, phone)
    edit(phone, IDS[0], {"title": "y"})
    request = phone.request()
    response = await answer(store, request)
    result = {"id": request["changes"][0]["id"], "status": "rejected", "code": "document_purged", "detail": "gone"}
    phone.receive(request, {**response, "results": [result], "digests": {}})
    assert not phone.known()
    assert set(phone.digests().values()) == {"0" * 16}


async def test_a_result_is_taken_whatever_became_of_the_queue_meanwhile() -> None:
    """A change that was set aside while its request was under way was applied, and is not given again."""
    store = MemoryStore()
    phone = await device(store)
    edit(phone, IDS[0], {"title": "x"}, name=IDS[1])
    request = phone.request()
    response = await answer(store, request)
    phone.set_aside(IDS[1])
    phone.receive(request, response)
    assert not phone.aside
    assert not phone.wants_to_repair
    assert registers(phone) == await expected(store)


async def test_a_change_that_was_set_aside_can_be_put_back() -> None:
    store = MemoryStore()
    phone = await device(store)
    edit(phone, IDS[0], {"title": "x"}, name=IDS[1])
    phone.set_aside(IDS[1])
    phone = Replica.restore(phone.snapshot())
    assert list(phone.aside) == [IDS[1]]
    phone.put_back(IDS[1])
    phone.put_back(IDS[1])
    await sync(store, phone)
    assert phone.shown(Key("workouts", IDS[0])) == {"title": "x"}


async def test_a_clock_that_was_years_ahead_and_was_set_right_is_forgotten_once_the_change_is_restamped() -> None:
    store = MemoryStore()
    phone = await device(store)
    edit(phone, IDS[0], {"title": "from the future"}, now_ms=NOW_MS + 10 * 365 * 86_400_000)
    edit(phone, IDS[0], {"notes": "while that is in the queue"}, now_ms=NOW_MS)
    assert max(one.stamp for one in phone.unsent.values()) >> 21 > NOW_MS + 365 * 86_400_000
    await sync(store, phone)
    edit(phone, IDS[0], {"title": "now"}, now_ms=NOW_MS)
    [change] = phone.unsent.values()
    assert change.stamp >> 21 <= NOW_MS + 1
    await sync(store, phone)
    assert phone.shown(Key("workouts", IDS[0])) == {"title": "now", "notes": "while that is in the queue"}


async def test_a_stamp_that_was_replaced_is_never_given_again() -> None:
    """The clock stands still, years ahead: the server would give another change of that stamp the replacement of the first."""
    store = MemoryStore()
    phone, watch = await device(store), await device(store)
    frozen_ms = NOW_MS + 10 * 365 * 86_400_000
    stamps = set()
    for number in range(5):
        edit(phone, IDS[0], {"title": number}, now_ms=frozen_ms)
        stamps |= {change.stamp for change in phone.unsent.values()}
        await sync(store, phone, now_ms=NOW_MS + number)
        await sync(store, watch, now_ms=NOW_MS + number)
        edit(watch, IDS[0], {"title": "between"}, now_ms=NOW_MS + number)
        await sync(store, watch, now_ms=NOW_MS + number)
        phone = Replica.restore(phone.snapshot())
    assert len(stamps) == 5
    edit(phone, IDS[0], {"title": "last"}, now_ms=frozen_ms)
    await sync(store, phone, now_ms=NOW_MS + 9)
    await sync(store, watch, now_ms=NOW_MS + 9)
    assert watch.shown(Key("workouts", IDS[0])) == {"title": "last"}


@given(st.lists(st.tuples(st.integers(-2, 400), st.booleans()), max_size=60))
def test_no_stamp_is_given_twice_and_none_without_need_lies_ahead(turns: list[tuple[int, bool]]) -> None:
    unused, last, told, given_ = Unused(), clock.Stamp(0), clock.Stamp(0), set()
    for number, (days_ahead, is_replaced) in enumerate(turns):
        now_ms = NOW_MS + number
        stamp = unused.tick(last, now_ms=now_ms + days_ahead * 86_400_000, replica=1)
        assert stamp not in given_
        given_.add(stamp)
        told = last = clock.tick(told, now_ms=now_ms, replica=0)
        if is_replaced:
            unused.add(stamp, told=told)
        else:
            last = max(last, stamp)
            told = last
    assert unused.spans == sorted(unused.spans)
    assert all(b[0] - a[1] > 86_400_000 << 21 for a, b in itertools.pairwise(unused.spans))


def test_a_clock_that_was_set_right_is_believed_beside_the_stamps_of_the_wrong_one() -> None:
    unused = Unused()
    unused.add(clock.Stamp((NOW_MS + 61_000) << 21 | 1), told=clock.Stamp(NOW_MS << 21))
    unused.add(clock.Stamp((NOW_MS + 10**12) << 21 | 1), told=clock.Stamp(NOW_MS << 21))
    assert len(unused.spans) == 2
    assert unused.tick(clock.ZERO, now_ms=NOW_MS + 61_001, replica=1) >> 21 == NOW_MS + 61_001
    unused.add(clock.Stamp((NOW_MS + 2 * 10**12) << 21 | 1), told=clock.Stamp((NOW_MS + 61_002) << 21))
    assert len(unused.spans) == 2


async def test_results_of_a_server_that_is_no_more_are_not_told() -> None:
    store = MemoryStore()
    phone, watch = await device(store), await device(store)
    edit(watch, IDS[0], {"title": "Run"})
    phone.carry(watch.hand_over())
    await sync(store, phone)
    assert phone.carried
    phone.cursor = "of another server"
    request = phone.request()
    phone.receive(request, await answer(store, request))
    assert not phone.carried


async def test_a_subset_of_collections_is_downloaded_and_one_that_is_added_gets_its_snapshot() -> None:
    store = MemoryStore()
    phone, watch = await device(store), await device(store, collections=["workouts"])
    for collection in ("workouts", "goals"):
        phone.edit(collection, IDS[0], {"title": collection}, change_id=str(uuid.uuid4()), now_ms=NOW_MS)
    await sync(store, phone)
    await sync(store, watch)
    assert set(watch.answered) == {Key("workouts", IDS[0])}
    watch.edit("goals", IDS[1], {"title": "unasked"}, change_id=str(uuid.uuid4()), now_ms=NOW_MS)
    await sync(store, watch)
    watch.collections = ("workouts", "goals")
    await sync(store, watch)
    await sync(store, phone)
    assert registers(watch) == registers(phone) == await expected(store)
    watch.collections = ("goals",)
    await sync(store, watch)
    assert not watch.wants_to_repair
    phone.edit("workouts", IDS[0], {"title": "meanwhile"}, change_id=str(uuid.uuid4()), now_ms=NOW_MS + 1)
    await sync(store, phone)
    await sync(store, watch)
    assert watch.shown(Key("workouts", IDS[0])) == {"title": "workouts"}  # stale, and not forgotten
    watch.collections = None
    await sync(store, watch)
    assert registers(watch) == await expected(store)


async def test_what_was_purged_while_its_collection_was_left_out_does_not_stay() -> None:
    """The snapshot of an added collection does not tell it; what the device held is sent, and answered `document_purged`."""
    store = MemoryStore()
    watch = await device(store, collections=["workouts"])
    watch.edit("goals", IDS[1], {"title": "uploaded only"}, change_id=str(uuid.uuid4()), now_ms=NOW_MS)
    await sync(store, watch)
    watch.collections = ("workouts", "goals")
    request = watch.request()
    response = await answer(store, request)
    watch.receive(request, {**response, "documents": [], "digests": {"goals": "0" * 16}})
    assert not watch.wants_to_repair
    [change] = watch.request()["changes"]
    assert change["set"] == {"title": "uploaded only"}
    assert "base" not in change
    result = {"id": change["id"], "status": "rejected", "code": "document_purged", "detail": "gone"}
    response = {**response, "results": [result], "documents": [], "digests": {"goals": "0" * 16}}
    watch.receive(watch.request(), response)
    assert not watch.known()


async def test_sequences_of_a_server_that_is_no_more_are_no_base() -> None:
    store = MemoryStore()
    phone = await device(store)
    edit(phone, IDS[0], {"title": "x"})
    await sync(store, phone)
    await sync(store, phone)
    phone.seqs[Key("workouts", IDS[0])] = 7
    edit(phone, IDS[0], {"title": "y"})
    assert phone.request()["changes"][0]["base"] == 7
    request = phone.request()
    response = await answer(store, request)
    edit(phone, IDS[0], {"title": "z"})
    phone.receive(request, {**response, "reset": True, "more": True})
    assert all("base" not in change for change in phone.request()["changes"])


def test_a_store_that_is_damaged_or_of_another_version_is_not_read() -> None:
    snapshot = Replica(str(uuid.uuid4()), 1).snapshot()
    other = msgspec.msgpack.encode({**msgspec.msgpack.decode(snapshot), "version": 2})
    for broken in (b"", snapshot[:-1], b"\xc1", other):
        with pytest.raises(SnapshotUnreadable):
            Replica.restore(broken)


def test_a_state_merges_like_a_document() -> None:
    """The device's own merge, register by register, is the document's."""
    phone = Replica(str(uuid.uuid4()), 1)
    key = Key("workouts", IDS[0])
    document = Document(key, values={"title": values.from_wire("a")}, usual=Mark(clock.Stamp(5), 1))
    phone.answered[key] = {}
    for path, (value, stamp) in document.registers().items():
        given = {"collection": "workouts", "id": IDS[0], "seq": 1, "fields": {clock.to_wire(stamp): {path: value}}}
        response = {
            "results": [],
            "documents": [given],
            "stamp": "0" * 16,
            "cursor": "c",
            "more": False,
            "reset": False,
        }
        phone.receive(phone.request(), response)
    assert dict(phone.answered[key]) == document.registers()
