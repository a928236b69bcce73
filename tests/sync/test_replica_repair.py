"""A device that lost something of its store finds it out by the server's digests, and mends it without losing what only it has."""

import random
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sync import digest
from sync.clock import Stamp
from sync.document import Key
from sync.replica import REPAIRS_IN_A_ROW, Register, Replica
from sync.replica_repair import Repair, RepairAsk
from sync.replica_state import Stored, StoredDocument
from sync.store_memory import MemoryStore
from tests.sync.answers import (
    IDS,
    Json,
    answer,
    answer_repair,
    device,
    digests,
    edit,
    expected,
    registers,
    repair_step,
    sync,
)
from tests.sync.model import NOW_MS

KEY = Key("workouts", IDS[0])
Damage = Callable[[list[StoredDocument]], list[StoredDocument]]


async def filled(store: MemoryStore, documents: int = 12) -> Replica:
    """A phone that holds documents of two collections, some deleted."""
    phone = await device(store)
    for number in range(documents):
        edit(phone, str(uuid.UUID(int=number + 1)), {"title": f"Run {number}", "notes": [number], "tags/a": True})
        phone.edit("goals", str(uuid.UUID(int=number + 1)), {"title": "x"}, change_id=str(uuid.uuid4()), now_ms=NOW_MS)
    edit(phone, IDS[1], {"deleted": True})
    await sync(store, phone)
    return phone


def damaged(replica: Replica, damage: Damage) -> Replica:
    """The replica as it comes back from a store that something happened to."""
    stored = msgspec.msgpack.decode(replica.snapshot(), type=Stored)
    hurt = msgspec.structs.replace(stored, answered=damage(stored.answered))
    return Replica.restore(msgspec.msgpack.encode(hurt))


def without_the_first(documents: list[StoredDocument]) -> list[StoredDocument]:
    return documents[1:]


def without_anything(_: list[StoredDocument]) -> list[StoredDocument]:
    return []


def without_a_register(documents: list[StoredDocument]) -> list[StoredDocument]:
    return [
        msgspec.structs.replace(one, registers={path: held for path, held in one.registers.items() if path != "notes"})
        for one in documents
    ]


def with_older_registers(documents: list[StoredDocument]) -> list[StoredDocument]:
    return [
        msgspec.structs.replace(
            one, registers={path: ("old", stamp - 4096) for path, (_, stamp) in one.registers.items()}
        )
        for one in documents
    ]


def with_a_document_of_nowhere(documents: list[StoredDocument]) -> list[StoredDocument]:
    [title] = {"title": ("only here", NOW_MS << 21 | 7)}.items()
    return [*documents, StoredDocument("workouts", str(uuid.UUID(int=999)), 0, dict([title]))]


async def test_a_device_keeps_the_servers_sum_register_by_register() -> None:
    store = MemoryStore()
    phone, watch = await device(store), await device(store)
    for number in range(20):
        for one in (phone, watch):
            edit(one, IDS[number % 3], {"title": f"{number} of {one.number}"}, now_ms=NOW_MS + number)
        await sync(store, phone)
        assert {name: one for name, one in phone.digests().items() if one != "0" * 16} == await digests(store)
    await sync(store, watch)
    assert watch.digests() == Replica.restore(watch.snapshot()).digests()


async def test_devices_that_are_in_order_never_repair() -> None:
    store = MemoryStore()
    phone = await filled(store)
    for _ in range(3):
        request = phone.request()
        phone.receive(request, await answer(store, request))
        assert not phone.wants_to_repair
    assert not phone.diverged


@pytest.mark.parametrize(
    "damage",
    [
        without_the_first,
        without_anything,
        without_a_register,
        with_older_registers,
        with_a_document_of_nowhere,
    ],
)
async def test_a_damaged_store_is_found_out_and_mended(damage: Damage) -> None:
    store = MemoryStore()
    phone = damaged(await filled(store), damage)
    before = registers(phone)
    assert before != await expected(store)
    request = phone.request()
    phone.receive(request, await answer(store, request))
    assert phone.wants_to_repair
    await sync(store, phone)
    assert registers(phone) == await expected(store)
    assert (phone.wants_to_repair, phone.wants_to_sync, phone.diverged) == (False, False, set())
    for key, held in before.items():
        for path, (_, stamp) in held.items():
            assert registers(phone)[key][path][1] >= stamp


async def test_only_the_parts_that_differ_are_fetched_and_page_by_page() -> None:
    store = MemoryStore()
    phone = await filled(store, documents=600)
    lost = [one for one in phone.answered if one.collection == "workouts" and digest.bucket_of(one.id) == 5]
    assert len(lost) > 1
    phone = damaged(phone, lambda documents: [one for one in documents if Key(one.collection, one.id) != lost[0]])
    request = phone.request()
    phone.receive(request, await answer(store, request))
    asked = []
    for ask in iter(lambda: phone.repair_request() if phone.wants_to_repair else None, None):
        asked.append(ask)
        phone.receive_repair(ask, await answer_repair(store, ask, page=1))
    assert asked[0] == RepairAsk("/v1/sync/digest", {"collection": "workouts", "buckets": 256})
    first, *others = asked[1:]
    assert first == RepairAsk("/v1/sync/fetch", {"collection": "workouts", "bucket": 5})
    assert len(others) == len(lost) - 1
    assert all(ask.body == {**first.body, "after": ask.body["after"]} for ask in others)
    assert registers(phone) == await expected(store)
    assert phone.wants_to_sync  # a round trip tells whether it helped


async def test_a_device_shows_what_it_held_until_a_part_is_whole() -> None:
    store = MemoryStore()
    phone = damaged(await filled(store), with_older_registers)
    request = phone.request()
    phone.receive(request, await answer(store, request))
    assert phone.shown(KEY)["title"] == "old"
    while phone.wants_to_repair:
        before = {key: phone.shown(key) for key in phone.known()}
        ask = phone.repair_request()
        given = await answer_repair(store, ask, page=1)
        phone.receive_repair(ask, given)
        if given.get("more"):
            assert {key: phone.shown(key) for key in phone.known()} == before
    assert phone.shown(KEY)["title"] == "Run 0"


async def test_what_round_trips_tell_while_a_part_is_fetched_is_not_lost_with_what_was_held() -> None:
    """The part's first page is fetched, then another device writes into it and a document of it is purged."""
    store = MemoryStore()
    phone = await filled(store, documents=300)
    watch = await device(store)
    await sync(store, watch)
    parts: dict[int, list[str]] = {}
    for key in sorted(phone.answered):
        if key.collection == "workouts":
            parts.setdefault(digest.bucket_of(key.id), []).append(key.id)
    part = max(parts, key=lambda part: len(parts[part]))
    phone = damaged(phone, without_a_register)
    request = phone.request()
    phone.receive(request, await answer(store, request))
    assert phone._repair is not None
    phone._repair.differing = [part]
    ask = phone.repair_request()
    page = await answer_repair(store, ask, page=2)
    assert page["more"]
    first, second = (one["id"] for one in page["documents"])
    phone.receive_repair(ask, page)
    edit(watch, first, {"title": "meanwhile"}, now_ms=NOW_MS + 5)
    await sync(store, watch)
    request = phone.request()
    response = await answer(store, request)
    purged = {"collection": "workouts", "id": second, "seq": 9_999, "purged": True, "fields": {}}
    phone.receive(request, {**response, "documents": [*response["documents"], purged]})
    while phone.wants_to_repair:
        ask = phone.repair_request()
        phone.receive_repair(ask, await answer_repair(store, ask))
    assert phone.answered[Key("workouts", first)]["title"].value == "meanwhile"
    assert Key("workouts", second) not in phone.known()


async def test_a_repair_that_never_helps_is_given_up_and_reported() -> None:
    store = MemoryStore()
    phone = await filled(store)
    repairs = 0
    for _ in range(20):
        request = phone.request()
        response = await answer(store, request)
        phone.receive(request, {**response, "digests": {**response["digests"], "workouts": "f" * 16}})
        repairs += phone.wants_to_repair
        while phone.wants_to_repair:
            await repair_step(store, phone)
    assert repairs == REPAIRS_IN_A_ROW
    assert phone.diverged == {"workouts"}
    await sync(store, phone)
    assert not phone.diverged


async def test_a_server_that_cannot_repair_is_reported() -> None:
    store = MemoryStore()
    phone = damaged(await filled(store), without_the_first)
    request = phone.request()
    phone.receive(request, await answer(store, request))
    phone.give_up_repair()
    assert not phone.wants_to_repair
    assert phone.diverged == {"workouts"}
    phone.give_up_repair()


async def test_a_reset_ends_a_repair_and_a_late_answer_to_it_is_ignored() -> None:
    store = MemoryStore()
    phone = damaged(await filled(store), without_the_first)
    request = phone.request()
    phone.receive(request, await answer(store, request))
    late = phone.repair_request()
    phone.cursor = "of a server that is no more"
    request = phone.request()
    response = await answer(store, request)
    assert response["reset"]
    phone.receive(request, response)
    phone.receive_repair(late, await answer_repair(store, late))
    assert not phone.wants_to_repair
    with pytest.raises(ValueError, match="Nothing"):
        phone.repair_request()
    assert registers(phone) == await expected(store)


def test_a_page_before_the_digests_is_a_defect() -> None:
    with pytest.raises(ValueError, match="after"):
        Repair("workouts").take_page({"documents": [], "more": False})


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_is_damaged_while_others_write_all_end_alike(seed: int) -> None:
    dice = random.Random(seed)
    store = MemoryStore()
    phone = await filled(store, documents=30)
    watch = await device(store)
    await sync(store, watch)

    def damage(documents: list[StoredDocument]) -> list[StoredDocument]:
        kept = [one for one in documents if dice.random() < 0.8]
        return [msgspec.structs.replace(one, registers=_hurt(one.registers, dice)) for one in kept]

    phone = damaged(phone, damage)
    for turn in range(30):
        one = dice.choice([phone, watch])
        edit(one, str(uuid.UUID(int=dice.randrange(40) + 1)), {"rpe": turn}, now_ms=NOW_MS + turn)
        if one.wants_to_repair and dice.random() < 0.7:
            await repair_step(store, one)
        elif dice.random() < 0.7:
            request = one.request(limit=dice.choice([1, 3, 500]))
            one.receive(request, await answer(store, request))
    for _ in range(2):
        for one in (phone, watch):
            await sync(store, one)
    assert registers(phone) == registers(watch) == await expected(store)
    assert not phone.diverged | watch.diverged


def _hurt(held: dict[str, tuple[Any, int]], dice: random.Random) -> dict[str, tuple[Any, int]]:
    return {
        path: (value, stamp - 4096 * dice.choice([0, 0, 0, 1]))
        for path, (value, stamp) in held.items()
        if dice.random() < 0.9
    }


def test_a_register_in_a_part_is_the_greater_one() -> None:
    repair = Repair("workouts")
    repair.take_digests(["1" * 16], [0])
    page: Json = {"documents": [], "more": True, "after": ""}
    document_id = next(str(uuid.UUID(int=n)) for n in range(9999) if digest.bucket_of(str(uuid.UUID(int=n))) == 0)
    key = Key("workouts", document_id)
    repair.take_page(page)
    repair.enter(key, "title", Register("new", Stamp(2)))
    repair.enter(key, "title", Register("old", Stamp(1)))
    repair.enter(Key("goals", document_id), "title", Register("elsewhere", Stamp(2)))
    part = repair.take_page({"documents": [], "more": False})
    assert part is not None
    assert part.documents == {key: {"title": Register("new", Stamp(2))}}
    assert repair.is_done
