"""What a user does with refused changes and lost values, over every store."""

from typing import Any

import msgspec
import pytest

from sync import changes, clock, merge, quarantine, review
from sync.changes import Refusal
from sync.clock import Stamp
from sync.conflicts import Conflict
from sync.document import MAX_PATHS, Key
from sync.errors import DocumentFull, DocumentPurged
from sync.merge import PURGE_AFTER_MS
from sync.quarantine import Rejected
from tests.sync.model import NOW_MS, change_of, new_id, sent, stamp_at, stored, stored_registers
from tests.sync.test_log import Both, conflict
from tests.sync.test_log import both as both  # noqa: PLC0414 - a fixture
from tests.sync.test_log import user as user  # noqa: PLC0414 - a fixture
from tests.sync.test_store import KEY, head_of, write

DEVICE = new_id()


async def quarantined(both: Both, user: str, change: dict[str, Any], *, packed: bool = False) -> Rejected:
    """An entry as a round trip makes it; a change that has become good since is told to have been refused."""
    raw = msgspec.msgpack.encode(change) if packed else msgspec.json.encode(change)
    try:
        changes.check(raw, "msgpack" if packed else "json")
        result = changes.Result(id=change["id"], status="rejected", code="document_full", detail="It was full.")
    except Refusal as refusal:
        result = refusal.result()
    entry = quarantine.entry(raw, "msgpack" if packed else "json", result, device_id=DEVICE, now_ms=NOW_MS)
    await both.keep(user, rejected=[entry])
    return entry


async def retry(both: Both, user: str, entry_id: str) -> changes.Result | None:
    return await review.retry(both.store, both.log, user, entry_id, now_ms=NOW_MS)


async def purge(both: Both, user: str, key: Key) -> None:
    await write(both.store, user, change_of({"deleted": True}, stamp=stamp_at(counter=500), key=key))
    later_ms = NOW_MS + PURGE_AFTER_MS
    await both.store.update(user, [key], (), lambda state: merge.purge(state, now_ms=later_ms))


# --- retry


@pytest.mark.parametrize("packed", [False, True])
async def test_a_change_that_has_room_by_now_is_merged_as_it_came_and_leaves(
    both: Both, user: str, packed: bool
) -> None:
    change = sent({"title": "x", "new/a": {"b": [1.5]}}, stamp=stamp_at(counter=3, replica=9), doc=KEY.id)
    entry = await quarantined(both, user, change, packed=packed)
    other = await quarantined(both, user, sent({}, stamp=stamp_at(), doc="x"))
    result = await retry(both, user, entry.id)
    assert result is not None
    assert (result.id, result.status) == (change["id"], "applied")
    registers = (await stored_registers(both.store, user))[KEY]
    assert {path: stamp for path, (_, stamp) in registers.items()} == dict.fromkeys(
        ("title", "new/a"), stamp_at(counter=3, replica=9)
    )
    assert await both.all_rejected(user) == [other]
    # Called again, as after a lost answer, there is nothing left to do.
    head = await head_of(both.store, user)
    assert await retry(both, user, entry.id) is None
    assert await head_of(both.store, user) == head


async def test_it_may_lose_by_now_and_leaves_all_the_same(both: Both, user: str) -> None:
    await write(both.store, user, change_of({"title": "newer"}, stamp=stamp_at(counter=5), key=KEY))
    entry = await quarantined(both, user, sent({"title": "x"}, stamp=stamp_at(), doc=KEY.id))
    result = await retry(both, user, entry.id)
    assert result is not None
    assert result.superseded == {"title": (clock.to_wire(stamp_at(counter=5)), "newer")}
    assert await both.all_rejected(user) == []


async def test_a_stamp_that_was_replaced_is_found_again(both: Both, user: str) -> None:
    ahead = stamp_at(NOW_MS + 3_600_000)
    await write(both.store, user, change_of({"title": "a"}, stamp=ahead, key=Key("goals", new_id())))
    new = (await head_of(both.store, user)).clock
    entry = await quarantined(both, user, sent({"title": "x"}, stamp=ahead, doc=KEY.id))
    result = await retry(both, user, entry.id)
    assert result is not None
    assert (result.status, result.stamp) == ("restamped", clock.to_wire(new))


async def test_refused_again_it_stays(both: Both, user: str) -> None:
    full = {f"new/{n}": 1 for n in range(MAX_PATHS)}
    await write(both.store, user, change_of(full, stamp=stamp_at(), key=KEY))
    entries = {
        "document_full": await quarantined(both, user, sent({"title": 1}, stamp=stamp_at(), doc=KEY.id)),
        "unknown_collection": await quarantined(
            both, user, sent({}, stamp=stamp_at(), doc=KEY.id, collection="horses")
        ),
        "invalid_value": await quarantined(both, user, {"id": "no uuid"}),
    }
    before = await head_of(both.store, user), await both.all_rejected(user)
    for code, entry in entries.items():
        for _ in range(2):
            result = await retry(both, user, entry.id)
            assert result is not None
            assert (result.status, result.code, result.id) == ("rejected", code, entry.change_id)
    assert (await head_of(both.store, user), await both.all_rejected(user)) == before


async def test_of_a_purged_document_it_stays(both: Both, user: str) -> None:
    entry = await quarantined(both, user, sent({"title": 1}, stamp=stamp_at(), doc=KEY.id))
    await purge(both, user, KEY)
    result = await retry(both, user, entry.id)
    assert result is not None
    assert result.code == "document_purged"
    assert await both.all_rejected(user) == [entry]


async def test_an_entry_that_is_not_there_or_anothers(both: Both, user: str) -> None:
    entry = await quarantined(both, user, sent({"title": 1}, stamp=stamp_at(), doc=KEY.id))
    for account, entry_id in ((user, new_id()), (new_id(), entry.id)):
        assert await retry(both, account, entry_id) is None
    assert await both.all_rejected(user) == [entry]


# --- restore


async def lost(both: Both, user: str, value: Any = "lost", *, key: Key = KEY) -> Conflict:
    """A device's value that loses to another's."""
    first = change_of({"title": value, "notes": "n"}, stamp=stamp_at(), key=key)
    await write(both.store, user, first)
    winner = change_of({"title": "won"}, stamp=stamp_at(counter=1, replica=2), key=key, base=0)
    await write(both.store, user, winner)
    [one, *_] = await both.all_conflicts(user)
    return one


async def restore(both: Both, user: str, conflict_id: str, *, now_ms: int = NOW_MS) -> Conflict | None:
    return await review.restore(both.store, both.log, user, conflict_id, now_ms=now_ms)


async def title(both: Both, user: str) -> tuple[Any, Stamp]:
    return (await stored_registers(both.store, user))[KEY]["title"]


@pytest.mark.parametrize("value", ["lost", None, 2**53, 1.5, [1, {"a": None}], True])
async def test_the_value_that_lost_is_written_over_what_is_there_now(both: Both, user: str, value: Any) -> None:
    one = await lost(both, user, value)
    await write(both.store, user, change_of({"title": "yet newer"}, stamp=stamp_at(NOW_MS + 50_000), key=KEY))
    before = await head_of(both.store, user)
    restored = await restore(both, user, one.id, now_ms=NOW_MS + 7)
    assert restored is not None
    assert (restored.restored_ms, restored.lost_value) == (NOW_MS + 7, one.lost_value)
    head = await head_of(both.store, user)
    assert await title(both, user) == (one.lost_value, head.clock)
    assert head.clock > stamp_at(NOW_MS + 50_000)
    assert clock.replica_of(head.clock) == clock.SERVER_REPLICA
    assert head.seq == before.seq + 1
    assert (await stored_registers(both.store, user))[KEY]["notes"] == ("n", stamp_at())
    # The list says so, in one entry.
    assert await both.all_conflicts(user) == [restored]


async def test_called_again_it_does_nothing_while_the_value_stands(both: Both, user: str) -> None:
    one = await lost(both, user)
    first = await restore(both, user, one.id)
    head = await head_of(both.store, user)
    assert await restore(both, user, one.id, now_ms=NOW_MS + 1_000) == first
    assert await head_of(both.store, user) == head
    # Overwritten since, it can be brought back once more.
    await write(both.store, user, change_of({"title": "again"}, stamp=stamp_at(NOW_MS + 50_000), key=KEY))
    again = await restore(both, user, one.id, now_ms=NOW_MS + 2_000)
    assert again is not None
    assert again.restored_ms == NOW_MS + 2_000
    assert (await title(both, user))[0] == "lost"


async def test_a_value_that_came_back_by_itself_is_left(both: Both, user: str) -> None:
    one = await lost(both, user)
    await write(both.store, user, change_of({"title": "lost"}, stamp=stamp_at(counter=9), key=KEY))
    head = await head_of(both.store, user)
    assert await restore(both, user, one.id) == one
    assert await head_of(both.store, user) == head


async def test_in_a_deleted_document_it_merges_and_deletion_itself_can_be_undone(both: Both, user: str) -> None:
    one = await lost(both, user)
    await write(both.store, user, change_of({"deleted": True}, stamp=stamp_at(counter=8), key=KEY))
    assert await restore(both, user, one.id) is not None
    document = (await stored(both.store, user))[KEY]
    assert (document.deleted, document.values["title"]) == (True, "lost")


async def test_a_purged_and_a_full_document_refuse_it(both: Both, user: str) -> None:
    one = await lost(both, user)
    await purge(both, user, KEY)
    before = await head_of(both.store, user)
    with pytest.raises(DocumentPurged):
        await restore(both, user, one.id)
    full = Key("goals", new_id())
    await write(
        both.store, user, change_of({f"new/{n}": 1 for n in range(MAX_PATHS)}, stamp=stamp_at(counter=501), key=full)
    )
    other = msgspec.structs.replace(conflict(), key=full)
    await both.keep(user, conflicts=[other])
    with pytest.raises(DocumentFull):
        await restore(both, user, other.id)
    assert (await head_of(both.store, user)).seq == before.seq + 1
    assert {entry.restored_ms for entry in await both.all_conflicts(user)} == {0}


async def test_a_conflict_that_is_not_there_anothers_or_too_old(both: Both, user: str) -> None:
    one = await lost(both, user)
    assert await restore(both, user, new_id()) is None
    assert await restore(both, new_id(), one.id) is None
    assert await restore(both, user, one.id, now_ms=NOW_MS + 30 * 86_400_000) is None
    assert (await title(both, user))[0] == "won"
