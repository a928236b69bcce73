"""The end of a deleted document, and each condition that it waits for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sync import digest, merge
from sync.document import Document, Key
from sync.head import Device, day_of
from sync.merge import EXPIRED_AFTER_MS, PURGE_AFTER_MS, Outcome
from tests.sync.model import NOW_MS, stamp_at
from tests.sync.test_merge import KEY, KEYS, OTHER, Account, write

DAY_MS = 86_400_000
LATER_MS = NOW_MS + PURGE_AFTER_MS


def seen(
    presented: int, *, collections: tuple[str, ...] = ("workouts", "goals"), seen_ms: int = LATER_MS, replica: int = 1
) -> Device:
    return Device(replica, day_of(seen_ms), presented, collections)


def deleted(*devices: Device) -> Account:
    """One document of `workouts`, deleted at NOW_MS under the sequence 2."""
    account = Account()
    account.apply(write({"title": 1, "tags/a": True}, stamp_at()), now_ms=NOW_MS - DAY_MS)
    account.apply(write({"deleted": True}, stamp_at(counter=1)))
    return with_devices(account, *devices)


def with_devices(account: Account, *devices: Device) -> Account:
    account.head = replace(account.head, devices={f"device {n}": device for n, device in enumerate(devices)})
    return account


def purge(account: Account, *, now_ms: int = LATER_MS) -> Outcome:
    outcome = merge.purge(account.state, now_ms=now_ms)
    account.take(outcome)
    return outcome


def is_purged(account: Account, *, now_ms: int = LATER_MS) -> bool:
    purge(account, now_ms=now_ms)
    return account.documents[KEY].purged


def test_its_registers_go_and_its_mark_has_a_sequence_of_its_own() -> None:
    account = deleted(seen(2))
    account.apply(write({"title": "stays"}, stamp_at(), OTHER))
    before = account.head
    [written] = purge(account).written
    assert written is account.documents[KEY]
    assert (written.seq, written.purged, written.deleted_ms, written.values, written.marks) == (4, True, 0, {}, {})
    assert account.head.seq == 4
    # Its registers count no more; nothing else of the head is another.
    rest = digest.of(account.documents[OTHER])
    assert account.head == replace(before, seq=4, digests={"workouts": 0, "goals": rest})


def test_an_account_without_devices_waits_for_nobody() -> None:
    assert is_purged(deleted())


@pytest.mark.parametrize(("now_ms", "is_due"), [(LATER_MS - 1, False), (LATER_MS, True), (NOW_MS, False)])
def test_thirty_days_after_the_deletion_came(now_ms: int, is_due: bool) -> None:
    account = deleted(seen(2, seen_ms=now_ms))
    before = account.head, account.registers
    assert is_purged(account, now_ms=now_ms) is is_due
    assert ((account.head, account.registers) == before) is not is_due


@pytest.mark.parametrize(("presented", "is_due"), [(0, False), (1, False), (2, True), (3, True)])
def test_once_every_device_has_presented_a_cursor_at_or_beyond_it(presented: int, is_due: bool) -> None:
    assert is_purged(deleted(seen(9, replica=1), seen(presented, replica=2), seen(9, replica=3))) is is_due
    assert is_purged(deleted(seen(presented))) is is_due


def test_a_device_that_does_not_sync_the_collection_is_not_asked() -> None:
    assert is_purged(deleted(seen(0, collections=("goals",)), seen(2)))
    assert is_purged(deleted(seen(0, collections=())))
    assert not is_purged(deleted(seen(0, collections=("workouts",))))


def test_a_device_that_was_registered_and_never_synced_is_not_asked() -> None:
    assert is_purged(deleted(Device(7), seen(2)))


def test_a_device_silent_for_half_a_year_holds_up_nothing() -> None:
    # It was seen on a day: until that day's end it is not silent for as long.
    on_day_ms = day_of(LATER_MS)
    silent = on_day_ms + EXPIRED_AFTER_MS
    assert not is_purged(deleted(seen(0, seen_ms=on_day_ms)), now_ms=silent)
    assert not is_purged(deleted(seen(0, seen_ms=on_day_ms)), now_ms=silent + DAY_MS)
    assert is_purged(deleted(seen(0, seen_ms=on_day_ms)), now_ms=silent + DAY_MS + 1)
    assert not is_purged(deleted(seen(0, seen_ms=on_day_ms), seen(0, seen_ms=silent)), now_ms=silent + DAY_MS + 1)


def test_what_was_restored_or_edited_since_stays() -> None:
    account = deleted(seen(9))
    account.apply(write({"deleted": False}, stamp_at(counter=5)), now_ms=LATER_MS - 1)
    assert not purge(account).writes
    assert not purge(account, now_ms=LATER_MS + 1_000 * DAY_MS).writes
    account = deleted(seen(9))
    account.apply(write({"notes": "late"}, stamp_at(counter=1)), now_ms=NOW_MS + DAY_MS)
    assert not purge(account).writes
    assert is_purged(account, now_ms=LATER_MS + DAY_MS)
    # And who presented the deletion alone has not presented the edit.
    account = deleted(seen(2))
    account.apply(write({"notes": "late"}, stamp_at(counter=1)), now_ms=NOW_MS + DAY_MS)
    assert not is_purged(account, now_ms=LATER_MS + DAY_MS)


def test_a_purged_document_is_not_purged_again() -> None:
    account = deleted()
    assert is_purged(account)
    head = account.head
    assert not purge(account, now_ms=LATER_MS + 100 * DAY_MS).writes
    assert account.head == head


def test_each_of_several_goes_by_its_own_conditions() -> None:
    account = deleted()
    account.apply(write({"title": 1, "deleted": True}, stamp_at(counter=1), OTHER))
    with_devices(account, seen(2))  # knows of the first, not of the second
    [mark] = purge(account).written
    assert mark.key == KEY
    with_devices(account, seen(3))
    [mark] = purge(account).written
    assert (mark.key, mark.seq) == (OTHER, 5)
    assert set(account.head.digests.values()) == {0}


def test_marks_take_the_sequences_in_the_order_of_keys() -> None:
    account = deleted()
    account.apply(write({"deleted": True}, stamp_at(counter=1), OTHER))
    assert [(one.key, one.seq) for one in purge(account).written] == [(KEY, 4), (OTHER, 5)]
    assert [account.documents[key].seq for key in KEYS] == [4, 5]


def test_a_key_without_a_document_is_passed_over() -> None:
    assert not merge.purge(Account().state, now_ms=LATER_MS).writes


devices = st.lists(
    st.builds(
        Device,
        st.integers(1, 9),
        st.integers(-200, 30).map(lambda days: day_of(NOW_MS + days * DAY_MS)),
        st.integers(0, 4),
        st.sampled_from([(), ("workouts",), ("goals",), ("workouts", "goals")]),
    ),
    max_size=4,
)


@given(devices, st.integers(0, 60), st.integers(0, 3))
def test_nobody_loses_what_it_could_still_write_to(held: list[Device], days: int, edits: int) -> None:
    """The conditions, in the contract's words once more."""
    account = deleted()
    for edit in range(edits):
        account.apply(write({"notes": edit}, stamp_at(counter=5 + edit)), now_ms=NOW_MS + edit * DAY_MS)
    with_devices(account, *held)
    now_ms = NOW_MS + days * DAY_MS
    document: Document = account.documents[KEY]
    last_change_ms = NOW_MS + max(edits - 1, 0) * DAY_MS
    awaited = [
        device
        for device in held
        if "workouts" in device.collections and device.seen_ms + DAY_MS + 180 * DAY_MS >= now_ms
    ]
    expected = now_ms - last_change_ms >= 30 * DAY_MS and all(one.presented >= document.seq for one in awaited)
    assert is_purged(account, now_ms=now_ms) is expected
    assert Key("goals", KEY.id) not in account.documents
