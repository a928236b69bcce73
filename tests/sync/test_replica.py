"""Devices against the real exchange over the memory store: random histories end alike, and a reset loses nothing."""

import asyncio
import random
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from sync import clock, exchange, values
from sync.changes import MAX_REQUEST_BYTES, SyncRequest
from sync.document import Document, Key, Mark
from sync.replica import BYTES_A_REQUEST, CHANGES_A_REQUEST, Replica
from sync.store import Store
from sync.store_memory import MemoryStore
from tests.sync.model import CURSOR_KEY, NOW_MS, colliding_values, comparable, stored_registers

Json = dict[str, Any]
USER = "5a1f7d9e-0000-4000-8000-000000000001"
IDS = [str(uuid.UUID(int=n)) for n in range(1, 4)]


async def device(store: Store) -> Replica:
    device_id = str(uuid.uuid4())
    return Replica(device_id, await store.register_device(USER, device_id))


async def answer(store: Store, request: Json, *, now_ms: int = NOW_MS) -> Json:
    wire = msgspec.convert(request | {"changes": []}, SyncRequest)
    wire = msgspec.structs.replace(wire, changes=[Raw(msgspec.json.encode(one)) for one in request["changes"]])
    response = await exchange.round_trip(
        store, wire, user_id=USER, cursor_key=CURSOR_KEY, received="json", answered="json", now_ms=now_ms
    )
    decoded: Json = msgspec.json.decode(msgspec.json.encode(response))
    return decoded


async def sync(store: Store, replica: Replica, *, limit: int = 500, now_ms: int = NOW_MS) -> None:
    for trip in range(1000):
        if trip and not replica.wants_to_sync:
            return
        request = replica.request(limit=limit)
        replica.receive(request, await answer(store, request, now_ms=now_ms))
    raise AssertionError("The queue does not drain.")


def registers(replica: Replica) -> dict[Key, dict[str, tuple[bytes, clock.Stamp]]]:
    return {key: comparable(dict(held)) for key, held in replica.answered.items()}


def edit(replica: Replica, document_id: str, given: Json, *, now_ms: int = NOW_MS, name: str | None = None) -> None:
    replica.edit("workouts", document_id, given, change_id=name or str(uuid.uuid4()), now_ms=now_ms)


# What may happen to a device: it edits (with a clock that may be years off), syncs, or syncs and loses the response.
PATHS = ["title", "deleted", "rpe", "notes", "tags/x", "sets/a/reps"]
edits = st.tuples(
    st.just("edit"),
    st.integers(0, 2),
    st.sampled_from(IDS),
    st.sampled_from(PATHS),
    colliding_values,
    st.sampled_from([-10 * 365 * 86_400_000, -1000, 0, 1, 59_000, 61_000, 10 * 365 * 86_400_000]),
)
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
