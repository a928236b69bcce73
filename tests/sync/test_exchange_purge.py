"""Round trips over every store: what is noted of a device, and how deleted documents come to their end."""

from collections.abc import Sequence
from typing import Any

import pytest

from sync import exchange
from sync.document import Key
from sync.errors import DocumentPurged
from sync.head import Device, day_of
from sync.merge import EXPIRED_AFTER_MS, PURGE_AFTER_MS
from sync.schema import COLLECTIONS
from sync.store import Store
from tests.sync.model import NOW_MS, Ledger, new_id, sent, stamp_at, stored, trip
from tests.sync.test_exchange import phone as phone  # noqa: PLC0414 - a fixture
from tests.sync.test_exchange import store as store  # noqa: PLC0414 - a fixture
from tests.sync.test_exchange import user as user  # noqa: PLC0414 - a fixture
from tests.sync.test_exchange import watch as watch  # noqa: PLC0414 - a fixture
from tests.sync.test_store import head_of

DAY_MS = 86_400_000
LATER_MS = NOW_MS + PURGE_AFTER_MS
ALL = tuple(COLLECTIONS)


async def noted(store: Store, user: str, device_id: str) -> Device:
    return (await head_of(store, user)).devices[device_id]


def some(count: int, *, counter: int = 0, **given: Any) -> list[dict[str, Any]]:
    return [sent(given or {"title": 1}, stamp=stamp_at(counter=counter), doc=new_id()) for _ in range(count)]


def nothing() -> dict[str, Any]:
    """An upload that writes no document."""
    return sent({}, stamp=stamp_at(), doc=new_id())


# --- what is noted of a device


async def test_an_upload_notes_what_its_cursor_shows(store: Store, user: str, phone: str, watch: str) -> None:
    assert (await noted(store, user, phone)).collections == ()
    first = await trip(store, user, phone, *some(2))
    # It presented no cursor yet; what it is given now is not what it has shown to hold.
    device = await noted(store, user, phone)
    assert (device.seen_ms, device.presented, device.collections) == (day_of(NOW_MS), 0, ALL)
    await trip(store, user, watch, *some(3))
    second = await trip(store, user, phone, *some(1, counter=1), cursor=first["cursor"])
    assert (await noted(store, user, phone)).presented == 2
    await trip(store, user, phone, *some(1, counter=2), cursor=second["cursor"], now_ms=NOW_MS + 3 * DAY_MS)
    device = await noted(store, user, phone)
    assert (device.presented, device.seen_ms) == (6, day_of(NOW_MS + 3 * DAY_MS))


async def test_a_retried_upload_notes_nothing_new(store: Store, user: str, phone: str) -> None:
    first = await trip(store, user, phone)
    change = some(1)
    await trip(store, user, phone, *change, cursor=first["cursor"])
    head = await head_of(store, user)
    await trip(store, user, phone, *change, cursor=first["cursor"], now_ms=NOW_MS + 1)
    assert await head_of(store, user) == head


async def test_a_poll_is_noted_once_a_day(store: Store, user: str, phone: str, watch: str) -> None:
    day_ms = day_of(NOW_MS)
    first = await trip(store, user, phone, now_ms=day_ms + 5)
    assert await noted(store, user, phone) == Device((await noted(store, user, phone)).replica, day_ms, 0, ALL)
    await trip(store, user, watch, *some(2))
    second = await trip(store, user, phone, cursor=first["cursor"], now_ms=day_ms + 6)
    head = await head_of(store, user)
    await trip(store, user, phone, cursor=second["cursor"], now_ms=day_ms + DAY_MS - 1)
    assert await head_of(store, user) == head
    assert head.devices[phone].presented == 0
    await trip(store, user, phone, cursor=second["cursor"], now_ms=day_ms + DAY_MS)
    device = await noted(store, user, phone)
    assert (device.seen_ms, device.presented) == (day_ms + DAY_MS, 2)
    # A server whose clock ran ahead does not keep others from noting for as long.
    await trip(store, user, phone, cursor=second["cursor"], now_ms=day_ms + 400 * DAY_MS)
    await trip(store, user, phone, cursor=second["cursor"], now_ms=day_ms + 2 * DAY_MS)
    assert (await noted(store, user, phone)).seen_ms == day_ms + 2 * DAY_MS


async def test_other_collections_are_noted_at_once(store: Store, user: str, phone: str) -> None:
    """Else a device that has just added one would not be asked before its documents are purged."""
    first = await trip(store, user, phone, collections=["goals"])
    assert (await noted(store, user, phone)).collections == ("goals",)
    second = await trip(store, user, phone, cursor=first["cursor"], collections=["workouts", "goals"])
    assert (await noted(store, user, phone)).collections == ("workouts", "goals")
    await trip(store, user, phone, cursor=second["cursor"], collections=["goals", "workouts"])
    head = await head_of(store, user)
    await trip(store, user, phone, cursor=second["cursor"], collections=["goals", "workouts", "of a newer app"])
    assert await head_of(store, user) == head


async def test_a_collection_that_is_added_is_not_held_yet(store: Store, user: str, phone: str, watch: str) -> None:
    await trip(store, user, watch, *some(3))
    first = await trip(store, user, phone, collections=["goals"])
    await trip(store, user, phone, *some(1), cursor=first["cursor"], collections=["goals"])
    assert (await noted(store, user, phone)).presented == 3
    both = await trip(store, user, phone, *some(1), cursor=first["cursor"], collections=["goals", "workouts"])
    assert (await noted(store, user, phone)).presented == 0
    await trip(store, user, phone, *some(1), cursor=both["cursor"], collections=["goals", "workouts"])
    assert (await noted(store, user, phone)).presented == 5


async def test_nothing_is_held_for_sure_while_a_snapshot_goes_on(
    store: Store, user: str, phone: str, watch: str
) -> None:
    await trip(store, user, watch, *some(5))
    ledger = Ledger()
    for expected, is_last in [(0, False), (0, False), (0, True)]:
        answer = await trip(store, user, phone, nothing(), cursor=ledger.cursor, limit=2)
        ledger.take(answer)
        assert (await noted(store, user, phone)).presented == expected
        assert answer["more"] is not is_last
    await trip(store, user, phone, nothing(), cursor=ledger.cursor)
    assert (await noted(store, user, phone)).presented == 5


async def test_a_cursor_that_is_refused_shows_nothing(store: Store, user: str, phone: str) -> None:
    first = await trip(store, user, phone, *some(2))
    await trip(store, user, phone, *some(1, counter=1), cursor=first["cursor"])
    assert (await noted(store, user, phone)).presented == 2
    await store.bump_epoch(user)
    answer = await trip(store, user, phone, *some(1, counter=2), cursor=first["cursor"])
    assert (answer["reset"], (await noted(store, user, phone)).presented) == (True, 0)
    await trip(store, user, phone, *some(1, counter=3), cursor=answer["cursor"])
    assert (await noted(store, user, phone)).presented == 4
    for foreign in ("", "x", first["cursor"] + "x"):
        await trip(store, user, phone, *some(1, counter=4), cursor=foreign)
        assert (await noted(store, user, phone)).presented == 0


async def test_a_poll_that_is_noted_misses_nothing_that_lands_meanwhile(
    store: Store, user: str, phone: str, watch: str
) -> None:
    """The head is read, another device writes, and the note gives a newer head."""
    ledger = Ledger()
    await ledger.pull(store, user, phone)
    for n in range(5):
        await trip(store, user, watch, *some(1, counter=n))
        await ledger.pull(store, user, phone, now_ms=NOW_MS + (n + 1) * DAY_MS)
        assert len(ledger.registers) == n + 1


# --- purging


async def both_know(store: Store, user: str, *devices: str, now_ms: int = NOW_MS) -> list[str]:
    """Each downloads all and presents the cursor of that. Returns their cursors."""
    cursors = []
    for device in devices:
        ledger = Ledger()
        await ledger.pull(store, user, device, now_ms=now_ms)
        await trip(store, user, device, nothing(), cursor=ledger.cursor, now_ms=now_ms)
        cursors.append(ledger.cursor)
    return cursors


async def purged(store: Store, user: str) -> set[str]:
    return {key.id for key, document in (await stored(store, user)).items() if document.purged}


async def delete(store: Store, user: str, device: str, docs: Sequence[str], *, now_ms: int = NOW_MS) -> None:
    changes = [sent({"title": 1, "deleted": True}, stamp=stamp_at(counter=9), doc=doc) for doc in docs]
    await trip(store, user, device, *changes, now_ms=now_ms)


async def test_a_deleted_document_ends_in_a_round_trip_and_every_device_drops_it(
    store: Store, user: str, phone: str, watch: str
) -> None:
    gone, kept = new_id(), new_id()
    await trip(store, user, phone, sent({"title": 1}, stamp=stamp_at(), doc=kept))
    await delete(store, user, phone, [gone])
    cursors = await both_know(store, user, phone, watch)
    early = await trip(store, user, watch, cursor=cursors[1], now_ms=LATER_MS - 1)
    assert (early["documents"], await purged(store, user)) == ([], set())
    # The one that comes first purges, and is given the mark in the same answer.
    answer = await trip(store, user, watch, cursor=cursors[1], now_ms=LATER_MS)
    mark = {"collection": "workouts", "id": gone, "seq": 3, "purged": True, "fields": {}}
    assert (answer["documents"], answer["more"]) == ([mark], False)
    assert (await trip(store, user, phone, cursor=cursors[0], now_ms=LATER_MS))["documents"] == [mark]
    # Once given it is not news; and a device that begins anew never hears of it.
    assert (await trip(store, user, watch, cursor=answer["cursor"], now_ms=LATER_MS))["documents"] == []
    begun = await trip(store, user, watch, now_ms=LATER_MS)
    assert [given["id"] for given in begun["documents"]] == [kept]
    # A cursor of any age works: from before the document was deleted, and from before it was there.
    assert (await head_of(store, user)).seq == 3


async def test_the_mark_comes_with_an_upload_too(store: Store, user: str, phone: str) -> None:
    gone = new_id()
    await delete(store, user, phone, [gone])
    [cursor] = await both_know(store, user, phone)
    answer = await trip(store, user, phone, *some(1), cursor=cursor, now_ms=LATER_MS)
    assert [(given["id"], given.get("purged")) for given in answer["documents"]] == [(gone, True)]
    assert answer["results"][0]["status"] == "applied"
    assert answer["digests"]["workouts"] != "0" * 16


async def test_a_device_that_does_not_know_yet_delays_it_and_it_is_tried_again_the_next_day(
    store: Store, user: str, phone: str, watch: str
) -> None:
    gone = new_id()
    seen = await trip(store, user, watch)  # syncs all, and knows nothing of it
    await delete(store, user, phone, [gone])
    [mine] = await both_know(store, user, phone)
    await trip(store, user, phone, cursor=mine, now_ms=LATER_MS)
    assert await purged(store, user) == set()
    assert (await head_of(store, user)).purge_at_ms == LATER_MS + DAY_MS
    # The watch comes and presents; but it is not looked for again before the day is over.
    theirs = await trip(store, user, watch, cursor=seen["cursor"], now_ms=LATER_MS + 1)
    await trip(store, user, watch, nothing(), cursor=theirs["cursor"], now_ms=LATER_MS + 2)
    assert await purged(store, user) == set()
    await trip(store, user, phone, cursor=mine, now_ms=LATER_MS + DAY_MS)
    assert await purged(store, user) == {gone}


async def test_a_device_silent_for_half_a_year_delays_nothing(store: Store, user: str, phone: str, watch: str) -> None:
    gone = new_id()
    seen = await trip(store, user, watch, *(changes := some(1)))
    await delete(store, user, phone, [gone, changes[0]["doc"]])
    [mine] = await both_know(store, user, phone)
    long_ms = day_of(NOW_MS) + EXPIRED_AFTER_MS + DAY_MS
    await trip(store, user, phone, cursor=mine, now_ms=long_ms)
    assert await purged(store, user) == set()
    await trip(store, user, phone, cursor=mine, now_ms=long_ms + DAY_MS)
    assert await purged(store, user) == {gone, changes[0]["doc"]}
    # It comes back: it still drops what it holds, and nothing that it writes brings it back.
    late = sent({"notes": "late"}, stamp=stamp_at(counter=1), doc=changes[0]["doc"])
    answer = await trip(store, user, watch, late, cursor=seen["cursor"], now_ms=long_ms + DAY_MS)
    assert answer["reset"] is False
    assert {given["id"] for given in answer["documents"] if given.get("purged")} == {gone, changes[0]["doc"]}
    assert answer["results"][0]["code"] == "document_purged"


async def test_only_so_many_are_purged_at_once(
    store: Store, user: str, phone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_PURGED_AT_ONCE", 3)
    docs = [new_id() for _ in range(7)]
    await delete(store, user, phone, docs[:5])
    await delete(store, user, phone, docs[5:], now_ms=NOW_MS + 1)
    [cursor] = await both_know(store, user, phone)
    counts = []
    for _ in range(4):
        answer = await trip(store, user, phone, cursor=cursor, now_ms=LATER_MS + 1)
        counts.append(len(await purged(store, user)))
        cursor = answer["cursor"]
    assert counts == [3, 6, 7, 7]
    assert (await head_of(store, user)).purge_at_ms > LATER_MS + 1


async def test_what_a_silent_device_holds_up_is_in_nobody_else_s_way(
    store: Store, user: str, phone: str, watch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_PURGED_AT_ONCE", 1)
    await trip(store, user, watch, collections=["goals"])  # and is not seen again
    goals = [sent({"deleted": True}, stamp=stamp_at(), doc=new_id(), collection="goals") for _ in range(2)]
    await trip(store, user, phone, *goals)
    begun = await trip(store, user, phone, *some(2, deleted=True), now_ms=NOW_MS + 1)
    for _ in range(3):
        await trip(store, user, phone, cursor=begun["cursor"], now_ms=LATER_MS + DAY_MS)
    left = {key.collection for key, document in (await stored(store, user)).items() if not document.purged}
    assert left == {"goals"}


async def test_it_is_looked_for_when_the_next_is_due(store: Store, user: str, phone: str) -> None:
    docs = [new_id() for _ in range(2)]
    await delete(store, user, phone, docs[:1])
    await delete(store, user, phone, docs[1:], now_ms=NOW_MS + 5 * DAY_MS)
    assert (await head_of(store, user)).purge_at_ms == LATER_MS
    [cursor] = await both_know(store, user, phone)
    await trip(store, user, phone, cursor=cursor, now_ms=LATER_MS)
    assert await purged(store, user) == {docs[0]}
    assert (await head_of(store, user)).purge_at_ms == LATER_MS + 5 * DAY_MS
    await trip(store, user, phone, cursor=cursor, now_ms=LATER_MS + 5 * DAY_MS - 1)
    assert await purged(store, user) == {docs[0]}
    await trip(store, user, phone, cursor=cursor, now_ms=LATER_MS + 5 * DAY_MS)
    assert await purged(store, user) == set(docs)


async def test_restored_in_time_it_stays(store: Store, user: str, phone: str) -> None:
    gone = new_id()
    await delete(store, user, phone, [gone])
    restored = sent({"deleted": False}, stamp=stamp_at(NOW_MS + 1), doc=gone)
    await trip(store, user, phone, restored, now_ms=LATER_MS - 1)
    [cursor] = await both_know(store, user, phone)
    await trip(store, user, phone, cursor=cursor, now_ms=LATER_MS + DAY_MS)
    assert await purged(store, user) == set()
    # Restored by the very request that comes when it is due: the upload goes first.
    await delete(store, user, phone, [late := new_id()], now_ms=LATER_MS)
    [cursor] = await both_know(store, user, phone, now_ms=LATER_MS)
    restored = sent({"deleted": False}, stamp=stamp_at(NOW_MS + 1), doc=late)
    answer = await trip(store, user, phone, restored, cursor=cursor, now_ms=LATER_MS + PURGE_AFTER_MS)
    assert answer["results"][0]["status"] == "applied"
    assert await purged(store, user) == set()


async def test_the_server_itself_cannot_bring_it_back(store: Store, user: str, phone: str) -> None:
    gone = new_id()
    await delete(store, user, phone, [gone])
    [cursor] = await both_know(store, user, phone)
    await trip(store, user, phone, cursor=cursor, now_ms=LATER_MS)
    head = await head_of(store, user)
    for given in ({"title": "imported"}, {}):
        with pytest.raises(DocumentPurged):
            await exchange.fill(store, user, "workouts", gone, given, now_ms=LATER_MS)
    assert await head_of(store, user) == head
    document = await store.document(user, Key("workouts", gone))
    assert document is not None
    assert document.purged
