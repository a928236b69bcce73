"""Round trips over every store: what becomes of refused changes and of values that lost."""

from typing import Any

import pytest
from msgspec.structs import replace

from sync import clock, quarantine
from sync.conflicts import KEPT_MS
from sync.document import MAX_PATHS, Key
from tests.sync.model import NOW_MS, Ledger, new_id, sent, stamp_at, stored_registers, trip
from tests.sync.test_log import Both, refusal
from tests.sync.test_log import both as both  # noqa: PLC0414 - a fixture
from tests.sync.test_log import user as user  # noqa: PLC0414 - a fixture
from tests.sync.test_store import head_of

DAY_MS = 86_400_000


@pytest.fixture
async def phone(both: Both, user: str) -> str:
    device_id = new_id()
    await both.store.register_device(user, device_id)
    return device_id


@pytest.fixture
async def watch(both: Both, user: str) -> str:
    device_id = new_id()
    await both.store.register_device(user, device_id)
    return device_id


def statuses(answer: dict[str, Any]) -> list[str]:
    return [result["status"] for result in answer["results"]]


# --- the quarantine


async def test_what_is_refused_is_kept_as_it_came_and_holds_up_nothing(both: Both, user: str, phone: str) -> None:
    doc = new_id()
    bad: list[Any] = [
        sent({"title": "x"}, stamp=stamp_at(), doc=doc, collection="horses"),
        {"id": "no uuid"},
        sent({"title": "x" * 20_000}, stamp=stamp_at(), doc=doc),
        5,
        sent({"title": "x"}, stamp="0" * 16, doc=doc),
    ]
    good = [sent({"title": n}, stamp=stamp_at(counter=n), doc=new_id()) for n in range(2)]
    answer = await trip(both.store, user, phone, *bad[:3], good[0], *bad[3:], good[1])
    assert statuses(answer) == ["rejected"] * 3 + ["applied"] + ["rejected"] * 2 + ["applied"]
    kept = {entry.raw: entry for entry in await both.all_rejected(user)}
    assert len(kept) == 5
    refused = [result for result in answer["results"] if result["status"] == "rejected"]
    assert sorted((entry.code, entry.detail) for entry in kept.values()) == sorted(
        (result["code"], result["detail"]) for result in refused
    )
    assert {entry.device_id for entry in kept.values()} == {phone}
    assert {entry.received_ms for entry in kept.values()} == {NOW_MS}
    assert sorted(str(entry.change_id) for entry in kept.values()) == sorted(str(result["id"]) for result in refused)
    assert len(await stored_registers(both.store, user)) == 2


async def test_nothing_but_refused_changes_is_an_upload_too(both: Both, user: str, phone: str) -> None:
    answer = await trip(both.store, user, phone, 5, None, {})  # type: ignore[arg-type]
    assert statuses(answer) == ["rejected"] * 3
    assert len(await both.all_rejected(user)) == 3
    assert (await head_of(both.store, user)).seq == 0
    assert (answer["more"], answer["documents"]) == (False, [])


async def test_a_refused_change_sent_again_makes_no_second_entry(both: Both, user: str, phone: str) -> None:
    change = sent({"title": "x", "notes": "y"}, stamp=stamp_at(), doc=new_id(), collection="horses")
    turned = dict(reversed(change.items())) | {"set": {"notes": "y", "title": "x"}}
    first = await trip(both.store, user, phone, change, change, turned)
    assert statuses(first) == ["rejected"] * 3
    [entry] = await both.all_rejected(user)
    head = await head_of(both.store, user)
    for again in (change, turned):
        for received in ("json", "msgpack"):
            answer = await trip(
                both.store, user, phone, again, received=received, cursor=first["cursor"], now_ms=NOW_MS + 5_000
            )
            assert statuses(answer) == ["rejected"]
    assert await both.all_rejected(user) == [entry]
    assert (await head_of(both.store, user)).quarantined_bytes == head.quarantined_bytes == entry.size_bytes


async def test_a_change_that_is_accepted_later_leaves(both: Both, user: str, phone: str) -> None:
    doc = new_id()
    full = {f"new/{n}": 1 for n in range(MAX_PATHS)}
    await trip(both.store, user, phone, sent(full, stamp=stamp_at(), doc=doc))
    change = sent({"title": "over"}, stamp=stamp_at(counter=1), doc=doc)
    other = sent({"title": "over"}, stamp=stamp_at(counter=1), doc=doc)
    assert statuses(await trip(both.store, user, phone, change, other)) == ["rejected"] * 2
    assert {entry.code for entry in await both.all_rejected(user)} == {"document_full"}
    # In one request with what it waited for: a register less than there was is not possible, so another document it is.
    moved = change | {"doc": new_id()}
    assert statuses(await trip(both.store, user, phone, moved)) == ["applied"]
    assert [entry.id for entry in await both.all_rejected(user)] == [other["id"]]
    assert statuses(await trip(both.store, user, phone, moved)) == ["unchanged"]


async def test_of_one_id_twice_in_a_request_the_refused_one_is_kept(both: Both, user: str, phone: str) -> None:
    good = sent({"title": "x"}, stamp=stamp_at(), doc=new_id())
    bad = good | {"collection": "horses"}
    for changes in ((good, bad), (bad, good)):
        await trip(both.store, user, phone, *changes)
        kept = await both.all_rejected(user)
        assert [(entry.id, entry.code) for entry in kept] == [(good["id"], "unknown_collection")]


async def test_a_purged_documents_changes_are_kept_too(both: Both, user: str, phone: str) -> None:
    doc = new_id()
    await trip(both.store, user, phone, sent({"title": 1, "deleted": True}, stamp=stamp_at(), doc=doc))
    later_ms = NOW_MS + 31 * DAY_MS
    ledger = Ledger()
    await ledger.pull(both.store, user, phone)
    await trip(both.store, user, phone, cursor=ledger.cursor, now_ms=later_ms)
    change = sent({"title": 2}, stamp=stamp_at(counter=1), doc=doc)
    answer = await trip(both.store, user, phone, change, cursor=ledger.cursor, now_ms=later_ms)
    assert [(result["status"], result["code"]) for result in answer["results"]] == [("rejected", "document_purged")]
    assert [(entry.id, entry.code) for entry in await both.all_rejected(user)] == [(change["id"], "document_purged")]


async def test_a_quarantine_beyond_its_bound_is_trimmed_by_the_next_round_trip(
    both: Both, user: str, phone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await both.keep(user, rejected=[refusal(NOW_MS - 1_000 + n, raw=b"x" * 700) for n in range(10)])
    head = await head_of(both.store, user)
    monkeypatch.setattr(quarantine, "MAX_BYTES", 10_000)
    await trip(both.store, user, phone)
    assert replace(await head_of(both.store, user), devices={}) == replace(head, devices={})
    answer = await trip(both.store, user, phone, sent({}, stamp=stamp_at(), doc="no uuid"))
    assert statuses(answer) == ["rejected"]
    kept = await both.all_rejected(user)
    assert kept[0].id == answer["results"][0]["id"]
    assert len(kept) == 5
    assert (await head_of(both.store, user)).quarantined_bytes == sum(entry.size_bytes for entry in kept) <= 5_000


async def test_a_rejected_changes_registers_are_no_echo(both: Both, user: str, phone: str, watch: str) -> None:
    """The server holds a part of it already, which its device, that drops the change, would never get."""
    doc = new_id()
    full = {f"new/{n}": 1 for n in range(MAX_PATHS - 1)}
    begun = await trip(both.store, user, phone)
    stamp = stamp_at(counter=5)
    await trip(both.store, user, watch, sent(full, stamp=stamp_at(), doc=doc))
    await trip(both.store, user, watch, sent({"title": "part"}, stamp=stamp, doc=doc))
    both_parts = sent({"title": "part", "notes": "over"}, stamp=stamp, doc=doc)
    answer = await trip(both.store, user, phone, both_parts, cursor=begun["cursor"])
    assert statuses(answer) == ["rejected"]
    [given] = answer["documents"]
    assert given["fields"][clock.to_wire(stamp)] == {"title": "part"}
    # While one that stands is its sender's own.
    whole = sent({"title": "part"}, stamp=stamp, doc=doc)
    answer = await trip(both.store, user, phone, whole, cursor=begun["cursor"])
    assert statuses(answer) == ["unchanged"]
    assert clock.to_wire(stamp) not in answer["documents"][0]["fields"]
    # And one of each in one request: what stands was carried.
    answer = await trip(both.store, user, phone, both_parts, whole, cursor=begun["cursor"])
    assert statuses(answer) == ["rejected", "unchanged"]
    assert clock.to_wire(stamp) not in answer["documents"][0]["fields"]


# --- conflicts


async def test_a_conflict_is_listed_once_however_often_its_change_is_sent(
    both: Both, user: str, phone: str, watch: str
) -> None:
    doc = new_id()
    base = (await trip(both.store, user, phone, sent({"title": "first"}, stamp=stamp_at(), doc=doc)))["documents"]
    assert base == []
    await trip(both.store, user, watch, sent({"title": "watch"}, stamp=stamp_at(counter=2, replica=2), doc=doc, base=1))
    assert await both.all_conflicts(user) == []
    won = sent({"title": "phone"}, stamp=stamp_at(counter=3), doc=doc, base=1)
    lost = sent({"title": "older"}, stamp=stamp_at(counter=1, replica=3), doc=doc, base=0)
    first = await trip(both.store, user, phone, won, lost)
    assert statuses(first) == ["applied", "superseded"]
    listed = await both.all_conflicts(user)
    # In stamp order: what had the least stamp met the watch's register, and so did the phone's.
    assert sorted((one.lost_value, one.won_value) for one in listed) == [("older", "watch"), ("watch", "phone")]
    assert {(one.key, one.path, one.at_ms) for one in listed} == {(Key("workouts", doc), "title", NOW_MS)}
    head = await head_of(both.store, user)
    again = await trip(both.store, user, phone, won, now_ms=NOW_MS + 1_000)
    assert statuses(again) == ["unchanged"]
    assert await both.all_conflicts(user) == listed
    assert (await head_of(both.store, user)).seq == head.seq


async def test_a_base_that_is_left_out_or_new_enough_makes_none(both: Both, user: str, phone: str, watch: str) -> None:
    doc = new_id()
    await trip(both.store, user, watch, sent({"title": "watch"}, stamp=stamp_at(replica=2), doc=doc))
    await trip(both.store, user, phone, sent({"title": "a"}, stamp=stamp_at(counter=1), doc=doc))
    assert await both.all_conflicts(user) == []
    await trip(both.store, user, watch, sent({"title": "b"}, stamp=stamp_at(counter=2, replica=2), doc=doc, base=2))
    assert await both.all_conflicts(user) == []
    await trip(both.store, user, phone, sent({"title": "c"}, stamp=stamp_at(counter=3), doc=doc, base=2))
    assert [one.lost_value for one in await both.all_conflicts(user)] == ["b"]


async def test_a_conflict_of_a_change_that_loses_writes_no_sequence(
    both: Both, user: str, phone: str, watch: str
) -> None:
    doc = new_id()
    await trip(both.store, user, watch, sent({"title": "watch"}, stamp=stamp_at(counter=9, replica=2), doc=doc))
    seq = (await head_of(both.store, user)).seq
    answer = await trip(both.store, user, phone, sent({"title": "older"}, stamp=stamp_at(), doc=doc, base=0))
    assert statuses(answer) == ["superseded"]
    [one] = await both.all_conflicts(user)
    assert (one.lost_value, one.won_value) == ("older", "watch")
    assert (await head_of(both.store, user)).seq == seq
    assert await both.all_conflicts(user, now_ms=NOW_MS + KEPT_MS) == []
