"""A phone that carries a watch's changes: the watch keeps them until told, and nothing is taken twice or lost."""

import uuid

import msgspec

from sync.document import Key
from sync.replica import Replica
from sync.store_memory import MemoryStore
from tests.sync.answers import IDS, USER, answer, device, edit, expected, registers, sync
from tests.sync.model import NOW_MS


async def test_a_phone_carries_a_watch_s_changes_and_the_watch_keeps_them_until_told() -> None:
    store = MemoryStore()
    phone, watch = await device(store), await device(store)
    edit(watch, IDS[0], {"title": "Run", "tags/a": True})
    watch.edit("nowhere", IDS[1], {"title": "refused"}, change_id=str(uuid.uuid4()), now_ms=NOW_MS)
    edit(watch, IDS[0], {"title": "from a wrong clock"}, now_ms=NOW_MS + 10 * 365 * 86_400_000)
    handed = msgspec.json.decode(msgspec.json.encode(watch.hand_over()))
    assert len(watch.unsent) == 3
    phone.carry(handed)
    phone.carry(handed)
    assert not phone.hand_over()
    edit(phone, IDS[0], {"notes": "the phone's own"})
    phone = Replica.restore(phone.snapshot())
    await sync(store, phone)
    assert len(watch.unsent) == 3
    phone = Replica.restore(phone.snapshot())
    assert {one["status"] for one in phone.carried.values()} == {"applied", "rejected", "restamped"}
    phone.carry(handed)
    assert not phone.unsent
    watch.told(phone.carried.values())
    phone.delivered([one["id"] for one in handed])
    assert not watch.unsent
    assert not phone.carried
    assert watch.shown(Key("workouts", IDS[0]))["title"] == "from a wrong clock"
    await sync(store, watch)
    assert registers(watch) == registers(phone) == await expected(store)
    assert not watch.diverged | phone.diverged


async def test_a_watch_that_was_answered_itself_has_nothing_left_to_be_told() -> None:
    store = MemoryStore()
    phone, watch = await device(store), await device(store)
    edit(watch, IDS[0], {"title": "Run"})
    phone.carry(watch.hand_over())
    await sync(store, watch)
    await sync(store, phone)
    before = registers(watch)
    watch.told(phone.carried.values())
    assert registers(watch) == before


async def test_what_a_told_device_lost_is_found_by_the_round_trip_after() -> None:
    """Digests that come with a result of another device's tell nothing, so those of one more round trip are asked for."""
    store = MemoryStore()
    phone, watch = await device(store), await device(store)
    edit(watch, IDS[0], {"title": "Run"})
    await sync(store, watch)
    edit(watch, IDS[1], {"title": "Ride"})
    phone.carry(watch.hand_over())
    await sync(store, phone)
    del watch.answered[Key("workouts", IDS[0])]
    watch = Replica.restore(watch.snapshot())
    watch.told(phone.carried.values())
    request = watch.request()
    watch.receive(request, await answer(store, request))
    assert not watch.wants_to_repair
    assert watch.wants_to_sync
    await sync(store, watch)
    assert registers(watch) == await expected(store)


async def test_results_that_are_newer_than_the_next_digests_are_no_divergence() -> None:
    """The watch's answer is under way when the phone, which was answered later, tells it the result."""
    store = MemoryStore()
    phone, watch = await device(store), await device(store)
    request = watch.request()
    response = await answer(store, request)
    edit(watch, IDS[0], {"title": "Run"})
    phone.carry(watch.hand_over())
    await sync(store, phone)
    watch.told(phone.carried.values())
    watch.receive(request, response)
    assert not watch.wants_to_repair
    await sync(store, watch)
    assert registers(watch) == await expected(store)


async def test_what_a_phone_carried_is_no_conflict_with_what_it_edits_later() -> None:
    """No answer tells the sequence of what it uploaded, and under a watch's stamp that would pass for unseen."""
    store, user = MemoryStore(), USER
    phone, watch, other = await device(store), await device(store), await device(store)
    edit(watch, IDS[0], {"title": "Run"})
    phone.carry(watch.hand_over())
    await sync(store, phone)
    phone = Replica.restore(phone.snapshot())
    edit(phone, IDS[0], {"title": "Morning run"})
    assert [change.base for change in phone.unsent.values()] == [None]
    await sync(store, phone)
    assert (await store.conflicts(user, below=None, limit=9, now_ms=NOW_MS)).entries == []
    # Given again, because another wrote it, the document has a sequence to go by.
    await sync(store, other)
    edit(other, IDS[0], {"notes": "windy"})
    await sync(store, other)
    await sync(store, phone)
    edit(phone, IDS[0], {"title": "Run in the wind"})
    assert [change.base for change in phone.unsent.values()] == [3]


async def test_a_carried_change_that_is_refused_alone_is_put_down() -> None:
    store = MemoryStore()
    phone, watch = await device(store), await device(store)
    edit(watch, IDS[0], {"title": "Run"}, name=IDS[1])
    phone.carry(watch.hand_over())
    phone.set_aside(IDS[1])
    assert not phone.aside
    assert not phone.unsent
    assert watch.unsent
