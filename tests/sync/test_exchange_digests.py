"""A device that keeps its own sum, from answers alone, finds at the end of every run that it is the server's.

Its sum is taken by the contract's formula, and not by the server's code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sync import clock, values
from sync.document import Key
from sync.merge import PURGE_AFTER_MS
from sync.schema import COLLECTIONS
from sync.store import Store
from tests.sync.model import NOW_MS, Ledger, new_id, sent, stamp_at, stored_registers, trip
from tests.sync.test_digest import by_the_contract
from tests.sync.test_exchange import store as store  # noqa: PLC0414 - a fixture
from tests.sync.test_exchange import user as user  # noqa: PLC0414 - a fixture
from tests.sync.test_store import head_of

DAY_MS = 86_400_000
ALL = tuple(COLLECTIONS)


class Device(Ledger):
    """Uploads and downloads, applies results before documents, and compares sums whenever a run has ended."""

    def __init__(self, store: Store, user_id: str, device_id: str, collections: Sequence[str] | None = None) -> None:
        super().__init__()
        self.store, self.user_id, self.device_id, self.collections = store, user_id, device_id, collections
        self.compared = 0

    async def sync(self, *changes: Mapping[str, Any], limit: int = 500, now_ms: int = NOW_MS) -> dict[str, Any]:
        answer = await trip(
            self.store, self.user_id, self.device_id, *changes,
            cursor=self.cursor, collections=self.collections, limit=limit, now_ms=now_ms,
        )  # fmt: skip
        if answer["reset"]:
            self.registers.clear()
        for change, result in zip(changes, answer["results"], strict=True):
            self._enter_result(change, result)
        self.take(answer)
        assert ("digests" in answer) is not answer["more"]
        if not answer["more"]:
            wanted = ALL if self.collections is None else self.collections
            assert answer["digests"] == {name: self.sum_of(name) for name in wanted}
            self.compared += 1
        return answer

    def _enter_result(self, change: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        if result["status"] == "rejected":
            return
        key = Key(change["collection"], change["doc"])
        stamp = clock.from_wire(result.get("stamp", change["stamp"]))
        assert stamp is not None
        for path, value in change["set"].items():
            self.enter(key, path, values.from_wire(value), stamp)
        for path, (wire, value) in result.get("superseded", {}).items():
            greater = clock.from_wire(wire)
            assert greater is not None
            self.enter(key, path, values.from_wire(value), greater)

    def sum_of(self, collection: str) -> str:
        total = 0
        for key, registers in self.registers.items():
            if key.collection == collection:
                total += by_the_contract(key, {path: stamp for path, (_, stamp) in registers.items()})
        return f"{total % 2**64:016x}"

    async def run(self, *, limit: int = 500, now_ms: int = NOW_MS) -> int:
        """Round trips until the run has ended. Returns how many."""
        pages = 1
        while (await self.sync(limit=limit, now_ms=now_ms))["more"]:
            pages += 1
        return pages


@pytest.fixture
async def phone(store: Store, user: str) -> Device:
    return await registered(store, user)


@pytest.fixture
async def watch(store: Store, user: str) -> Device:
    return await registered(store, user)


async def registered(store: Store, user: str, collections: Sequence[str] | None = None) -> Device:
    device_id = new_id()
    await store.register_device(user, device_id)
    return Device(store, user, device_id, collections)


async def test_an_empty_account_sums_to_nothing(phone: Device) -> None:
    answer = await phone.sync()
    assert answer["digests"] == dict.fromkeys(ALL, "0" * 16)


async def test_of_what_a_device_wrote_itself(phone: Device) -> None:
    doc = new_id()
    await phone.sync(
        sent({"title": "a", "tags/x~1y": True}, stamp=stamp_at(), doc=doc),
        sent({"notes": "b"}, stamp=stamp_at(counter=1), doc=doc),
        sent({"progress/1": 5}, stamp=stamp_at(), doc=doc, collection="goals"),
    )
    await phone.sync(sent({"title": "c"}, stamp=stamp_at(counter=2), doc=doc))
    answer = await phone.sync(sent({"title": "again"}, stamp=stamp_at(counter=1), doc=doc))
    assert answer["results"][0]["status"] == "superseded"
    answer = await phone.sync(sent({"nope": 1}, stamp=stamp_at(), doc="x"))
    assert answer["results"][0]["status"] == "rejected"
    assert phone.compared == 4


async def test_over_a_snapshot_in_pages_and_the_delta_after_it(phone: Device, watch: Device) -> None:
    docs = [new_id() for _ in range(7)]
    for n, doc in enumerate(docs):
        await watch.sync(sent({"title": n}, stamp=stamp_at(counter=n, replica=2), doc=doc, collection=ALL[n % 3]))
    first = await phone.sync(limit=2)
    assert "digests" not in first
    # What moves meanwhile comes after the snapshot.
    stamp = stamp_at(counter=20, replica=2)
    await watch.sync(sent({"rpe": 1}, stamp=stamp, doc=docs[0]), sent({"deleted": True}, stamp=stamp, doc=docs[6]))
    assert await phone.run(limit=2) >= 3
    await watch.sync(sent({"title": "x"}, stamp=stamp + 4096, doc=docs[3]))
    assert await phone.run() == 1
    assert phone.compared == 2
    assert phone.registers == await stored_registers(phone.store, phone.user_id)


async def test_over_restamps_and_losses_against_others(phone: Device, watch: Device) -> None:
    doc = new_id()
    ahead = sent({"title": "ahead", "notes": "n"}, stamp=stamp_at(NOW_MS + 3_600_000), doc=doc)
    await watch.sync(sent({"title": "watch"}, stamp=stamp_at(counter=3, replica=2), doc=doc))
    first = await phone.sync(ahead)
    assert first["results"][0]["status"] == "restamped"
    await watch.sync(sent({"title": "newer"}, stamp=stamp_at(NOW_MS + 1_000, replica=2), doc=doc))
    again = await phone.sync(ahead)
    assert again["results"][0]["superseded"]["title"][1] == "newer"
    await phone.sync(sent({"rpe": 5}, stamp=stamp_at(counter=1), doc=doc))
    await watch.sync()
    assert (phone.compared, watch.compared) == (3, 3)


async def test_over_deletion_and_purge(store: Store, user: str, phone: Device, watch: Device) -> None:
    docs = [new_id() for _ in range(3)]
    await phone.sync(*(sent({"title": n}, stamp=stamp_at(counter=n), doc=doc) for n, doc in enumerate(docs)))
    await watch.sync()
    await phone.sync(*(sent({"deleted": True}, stamp=stamp_at(counter=9), doc=doc) for doc in docs[:2]))
    # The deleted ones still count, and their mark does not.
    for days in (1, 2):  # on the second they show that they have it
        for device in (phone, watch):
            await device.sync(now_ms=NOW_MS + days * DAY_MS)
    later_ms = NOW_MS + PURGE_AFTER_MS + DAY_MS
    for device in (phone, watch):
        await device.sync(now_ms=later_ms)
    assert {key.id for key in phone.registers} == {key.id for key in watch.registers} == {docs[2]}
    late = await registered(store, user)
    await late.sync(now_ms=later_ms)
    assert late.registers == phone.registers


async def test_of_a_subset_of_collections(store: Store, user: str, watch: Device) -> None:
    some = await registered(store, user, ["goals", "nutrition"])
    for n, name in enumerate(ALL):
        await watch.sync(sent({"x": n}, stamp=stamp_at(counter=n), doc=new_id(), collection=name))
    answer = await some.sync()
    assert set(answer["digests"]) == {"goals", "nutrition"}
    # One more, whose snapshot is read in the same run.
    some.collections = ["workouts", "goals"]
    answer = await some.sync()
    assert set(answer["digests"]) == {"workouts", "goals"}
    assert [given["collection"] for given in answer["documents"]] == ["workouts"]
    # It uploads into one that it does not sync: that one is not told.
    await some.sync(sent({"x": 1}, stamp=stamp_at(counter=50), doc=new_id(), collection="routines"))
    some.collections = []
    assert (await some.sync())["digests"] == {}


async def test_after_a_reset(store: Store, user: str, phone: Device) -> None:
    await phone.sync(*(sent({"title": n}, stamp=stamp_at(counter=n), doc=new_id()) for n in range(5)))
    await store.bump_epoch(user)
    first = await phone.sync(limit=2)
    assert (first["reset"], first["more"], "digests" in first) == (True, True, False)
    await phone.run(limit=2)
    assert phone.compared == 2
    assert len(phone.registers) == 5


async def test_a_device_that_lost_a_register_finds_out(phone: Device, watch: Device) -> None:
    doc = new_id()
    await watch.sync(sent({"title": "a", "notes": "b"}, stamp=stamp_at(replica=2), doc=doc))
    await phone.sync()
    del phone.registers[Key("workouts", doc)]["notes"]
    with pytest.raises(AssertionError, match="workouts"):
        await phone.sync()


async def test_the_heads_sums_are_the_documents(store: Store, user: str, phone: Device, watch: Device) -> None:
    """In the order in which several devices write at once."""
    docs = [new_id() for _ in range(4)]
    for step in range(40):
        device, doc = (phone, watch)[step % 2], docs[step * 7 % 4]
        ms = NOW_MS + (3_600_000 if step % 9 == 0 else 0)
        given: dict[str, Any] = {("title", "notes", "tags/a")[step % 3]: step % 2 == 0}
        if step % 8 == 5:
            given["deleted"] = step % 16 == 5
        change = sent(given, stamp=stamp_at(ms, counter=step * 5 % 40, replica=1 + step % 2), doc=doc)
        await device.sync(change, limit=1 + step % 3)
    registers = await stored_registers(store, user)
    expected = sum(
        by_the_contract(key, {path: stamp for path, (_, stamp) in held.items()}) for key, held in registers.items()
    )
    assert (await head_of(store, user)).digests == {"workouts": expected % 2**64}
    for device in (phone, watch):
        await device.run(limit=1)
        assert device.registers == registers
        assert device.compared > 5
