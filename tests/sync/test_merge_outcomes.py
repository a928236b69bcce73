"""What a step writes beside documents: sums, conflicts, the time of a deletion; and what is barred."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sync import clock, conflicts, digest, merge
from sync.changes import Change
from sync.clock import Stamp
from sync.conflicts import Conflict
from sync.document import MAX_PATHS, Document, Key
from sync.errors import BatchTooLarge
from sync.merge import PURGE_AFTER_MS
from tests.sync.model import NOW_MS, change_of, colliding_paths, colliding_values, stamp_at, stamps
from tests.sync.test_merge import AHEAD_MS, KEY, KEYS, OTHER, Account, statuses, write

DAY_MS = 86_400_000


def based(given_values: dict[str, Any], stamp: int, base: int | None, key: Key = KEY) -> Change:
    return change_of(given_values, stamp=stamp, key=key, base=base)


# --- bounds

ARRAY = [1.5] * 1000


@pytest.mark.parametrize("base", [None, 0])
def test_a_batch_that_is_answered_by_too_much_is_refused_and_half_of_it_is_not(base: int | None) -> None:
    """Small changes that each lose to all of a large document."""
    account = Account()
    account.apply(write({f"new/{n}": "x" * 16_000 for n in range(16)}, stamp_at(counter=500, replica=2)))
    before = account.state
    small = {f"new/{n}": n for n in range(16)}
    batch = [based(small, stamp_at(counter=number, replica=1), base) for number in range(32)]
    with pytest.raises(BatchTooLarge):
        account.apply(*batch)
    assert account.state == before
    if base is None:
        assert statuses(account.apply(*batch[:16])) == ["superseded"] * 16
    assert statuses(account.apply(batch[0])) == ["superseded"]


def test_a_batch_that_wins_over_too_much_unseen_is_refused() -> None:
    """Each of two replicas goes over what the other wrote in the same request: the losers are all kept."""
    account = Account()
    batch = [
        based({f"new/{path}": chr(97 + n) * 16_000 for path in range(16)}, stamp_at(counter=n, replica=1 + n % 2), 0)
        for n in range(16)
    ]
    with pytest.raises(BatchTooLarge):
        account.apply(*batch)
    assert statuses(account.apply(*batch[:8])) == ["applied"] * 8


def test_arrays_of_one_stamp_are_dearer_than_texts() -> None:
    account = Account()
    account.apply(write({f"new/{n}": ARRAY for n in range(60)}, stamp_at()))
    other = {f"new/{n}": [0] for n in range(60)}
    assert statuses(account.apply(write(other, stamp_at()), write(other, stamp_at()))) == ["superseded"] * 2
    with pytest.raises(BatchTooLarge):
        account.apply(*(write(other, stamp_at()) for _ in range(4)))


def test_a_whole_document_alone_always_passes() -> None:
    account = Account()
    whole = {f"new/{n}": ARRAY for n in range(64)}
    account.apply(write(whole, stamp_at()))
    [again] = account.apply(write(whole, stamp_at()))
    [other] = account.apply(write({path: [1.4] * 1000 for path in whole}, stamp_at()))
    assert statuses([again, other]) == ["unchanged", "superseded"]


def test_what_is_sent_again_costs_nothing() -> None:
    account = Account()
    whole = write({f"new/{n}": ARRAY for n in range(60)}, stamp_at())
    account.apply(whole)
    assert statuses(account.apply(*[whole] * 100)) == ["unchanged"] * 100


# --- digests


def sums(account: Account) -> dict[str, int]:
    """Taken over the documents as they are."""
    totals: dict[str, int] = {}
    for key, document in account.documents.items():
        totals[key.collection] = (totals.get(key.collection, 0) + digest.of(document)) % digest.MODULUS
    return {name: total for name, total in totals.items() if total}


def kept(account: Account) -> dict[str, int]:
    return {name: total for name, total in account.head.digests.items() if total}


def test_a_digest_follows_every_way_to_write() -> None:
    account = Account()
    account.apply(write({"title": 1, "notes": 2}, stamp_at()), write({"title": 1}, stamp_at(), OTHER))
    seen = [kept(account)]
    account.apply(write({"title": 2}, stamp_at(counter=1)), write({"title": 3, "rpe": 1}, stamp_at(counter=2)))
    seen.append(kept(account))
    account.apply(write({"title": 9}, stamp_at(AHEAD_MS)))
    seen.append(kept(account))
    account.fill({"source": "server"})
    seen.append(kept(account))
    account.apply(write({"deleted": True}, stamp_at(counter=5)))
    seen.append(kept(account))
    account.apply(write({"deleted": True}, stamp_at(counter=6)))  # the same value under another stamp
    seen.append(kept(account))
    assert kept(account) == sums(account)
    assert len({tuple(sorted(each.items())) for each in seen}) == len(seen)
    assert {each["goals"] for each in seen} == {seen[0]["goals"]}


def test_what_is_refused_or_lost_changes_no_digest() -> None:
    account = Account()
    account.apply(write({f"new/{n}": n for n in range(MAX_PATHS)}, stamp_at(counter=5)))
    before = kept(account)
    [full] = account.apply(write({"title": 1, "new/0": 2}, stamp_at(counter=6)))
    [lost] = account.apply(write({"new/0": 3}, stamp_at(counter=4)))
    [again] = account.apply(write({"new/0": 0}, stamp_at(counter=5)))
    assert statuses([full, lost, again]) == ["rejected", "superseded", "unchanged"]
    assert kept(account) == before == sums(account)


all_changes = st.builds(
    lambda given_, stamp, key, base: based(given_, stamp, base, key),
    st.dictionaries(colliding_paths, colliding_values, max_size=4),
    st.one_of(stamps, st.builds(stamp_at, ms=st.integers(AHEAD_MS, AHEAD_MS + 3), replica=st.sampled_from([1, 2]))),
    st.sampled_from(KEYS),
    st.none() | st.integers(0, 5),
)


@given(st.lists(st.lists(all_changes, max_size=4), max_size=6), st.integers(0, 6))
def test_digests_are_kept_over_any_merges_and_purges(requests: list[list[Change]], purged_after: int) -> None:
    account = Account()
    for number, request in enumerate(requests):
        account.apply(*request)
        assert kept(account) == sums(account)
        if number == purged_after:
            account.take(merge.purge(account.state, now_ms=NOW_MS + PURGE_AFTER_MS))
            assert kept(account) == sums(account)


# --- conflicts

THEIRS = stamp_at(counter=5, replica=2)
MINE = stamp_at(counter=6, replica=1)


def conflicts_of(account: Account, *changes: Change) -> list[Conflict]:
    outcome = merge.apply(changes, account.state, now_ms=NOW_MS)
    account.take(outcome)
    return list(outcome.conflicts)


def with_theirs() -> Account:
    account = Account()
    account.apply(write({"title": "theirs", "notes": "theirs"}, THEIRS))
    return account


def test_the_winner_and_the_loser_of_one_change() -> None:
    account = with_theirs()
    account.apply(write({"notes": "newer"}, stamp_at(counter=9, replica=2)))
    listed = conflicts_of(account, based({"title": "mine", "notes": "mine", "rpe": 1}, MINE, 0))
    assert {one.path: (one.lost_value, one.won_value) for one in listed} == {
        "title": ("theirs", "mine"),
        "notes": ("mine", "newer"),
    }
    assert {one.at_ms for one in listed} == {NOW_MS}


def test_what_the_device_had_seen_is_no_conflict() -> None:
    for base in (1, 2, None):
        assert conflicts_of(with_theirs(), based({"title": "mine"}, MINE, base)) == []
    assert len(conflicts_of(with_theirs(), based({"title": "mine"}, MINE, 0))) == 1


def test_a_refused_change_conflicts_with_nothing() -> None:
    account = with_theirs()
    too_many = {"title": "mine", **{f"new/{n}": n for n in range(MAX_PATHS)}}
    outcome = merge.apply([based(too_many, MINE, 0)], account.state, now_ms=NOW_MS)
    assert (statuses(outcome.results), list(outcome.conflicts)) == (["rejected"], [])


def test_a_retried_change_names_the_same_conflict() -> None:
    account = with_theirs()
    change = based({"title": "mine"}, stamp_at(counter=4, replica=1), 0)
    [first], [again] = conflicts_of(account, change), conflicts_of(account, change)
    assert first.id == again.id
    # A winner finds itself there when it comes again.
    change = based({"title": "mine"}, MINE, 0)
    assert len(conflicts_of(account, change)) == 1
    assert conflicts_of(account, change) == []


def test_a_restamped_change_conflicts_under_its_new_stamp() -> None:
    account = with_theirs()
    [listed] = conflicts_of(account, based({"title": "mine"}, stamp_at(AHEAD_MS, replica=1), 0))
    assert clock.replica_of(listed.won_stamp) == 1
    assert listed.won_stamp == account.head.clock


def test_changes_of_two_replicas_in_one_request_conflict_too() -> None:
    """A phone that carries its watch's queue: neither had seen the other's."""
    listed = conflicts_of(
        Account(), based({"title": "phone"}, stamp_at(counter=1, replica=1), 0), based({"title": "watch"}, THEIRS, 0)
    )
    assert [(one.lost_value, one.won_value) for one in listed] == [("phone", "watch")]


def test_one_step_lists_a_bounded_number_of_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "MAX_CONFLICTS", 5)
    account = Account()
    account.apply(*(write({f"new/{n}": "theirs" for n in range(4)}, THEIRS, key) for key in KEYS))
    changes = [based({f"new/{n}": "mine" for n in range(4)}, MINE, 0, key) for key in KEYS]
    listed = conflicts_of(account, *changes)
    assert len(listed) == 5
    # The merge itself is not bounded.
    assert all(stamp == MINE for registers in account.registers.values() for _, stamp in registers.values())


def test_an_outcome_of_conflicts_alone_is_written() -> None:
    account = with_theirs()
    outcome = merge.apply([based({"title": "mine"}, stamp_at(replica=1), 0)], account.state, now_ms=NOW_MS)
    assert (outcome.written, len(outcome.conflicts), outcome.writes) == ([], 1, True)


# --- deleted and purged documents


def test_the_time_of_a_deletion_is_its_last_changes() -> None:
    account = Account()
    account.apply(write({"title": 1}, stamp_at()))
    assert (account.documents[KEY].deleted_ms, account.head.purge_at_ms) == (0, 0)
    account.apply(write({"deleted": True}, stamp_at(counter=1)), now_ms=NOW_MS + 1)
    assert account.documents[KEY].deleted_ms == NOW_MS + 1
    assert account.head.purge_at_ms == NOW_MS + 1 + PURGE_AFTER_MS
    # What is still written to it delays its end; what loses or is there already does not.
    account.apply(write({"notes": 1}, stamp_at(counter=2)), now_ms=NOW_MS + DAY_MS)
    account.apply(write({"notes": 1}, stamp_at(counter=2)), now_ms=NOW_MS + 2 * DAY_MS)
    account.apply(write({"title": 0}, stamp_at(0)), now_ms=NOW_MS + 2 * DAY_MS)
    assert account.documents[KEY].deleted_ms == NOW_MS + DAY_MS
    assert account.head.purge_at_ms == NOW_MS + 1 + PURGE_AFTER_MS
    account.apply(write({"deleted": False}, stamp_at(counter=3)), now_ms=NOW_MS + 3 * DAY_MS)
    assert account.documents[KEY].deleted_ms == 0
    account.apply(write({"deleted": True}, stamp_at(counter=4)), now_ms=NOW_MS + 4 * DAY_MS)
    assert account.documents[KEY].deleted_ms == NOW_MS + 4 * DAY_MS


def test_a_document_that_comes_deleted_has_its_time_too() -> None:
    account = Account()
    account.apply(write({"title": 1}, stamp_at()), write({"deleted": True}, stamp_at(counter=1)))
    account.apply(write({"deleted": True, "title": 1}, stamp_at(), OTHER))
    assert [account.documents[key].deleted_ms for key in KEYS] == [NOW_MS, NOW_MS]


@pytest.fixture
def barred() -> Account:
    account = Account()
    account.documents[KEY] = Document(KEY, seq=3, purged=True)
    account.head = replace(account.head, seq=3)
    return account


def test_every_change_of_a_purged_document_is_refused(barred: Account) -> None:
    before = barred.head, barred.registers
    changes = [
        write({}, stamp_at()),
        write({"title": 1}, stamp_at(counter=1)),
        write({"deleted": False}, stamp_at(counter=3)),
        write({"deleted": True}, stamp_at(counter=3)),
        based({"title": 1}, stamp_at(AHEAD_MS), 0),
    ]
    outcome = merge.apply(changes, barred.state, now_ms=NOW_MS)
    assert {(one.status, one.code) for one in outcome.results} == {("rejected", "document_purged")}
    assert [one.id for one in outcome.results] == [change.id for change in changes]
    assert not outcome.writes
    barred.take(outcome)
    # The clock takes nothing of them either, and no stamp is replaced.
    assert (barred.head, barred.registers) == before
    assert outcome.head == barred.head


def test_others_of_the_request_stand(barred: Account) -> None:
    results = barred.apply(write({"title": 1}, stamp_at()), write({"title": 1}, stamp_at(), OTHER))
    assert statuses(results) == ["rejected", "applied"]
    assert barred.documents[KEY].purged
    assert barred.registers[OTHER]["title"] == (b"1", stamp_at())


@pytest.mark.parametrize("restores", [True, False])
@pytest.mark.parametrize("given_values", [{"title": "t"}, {"deleted": True}])
def test_the_server_itself_is_refused_as_well(barred: Account, restores: bool, given_values: dict[str, Any]) -> None:
    filled = merge.fill(KEY, given_values, barred.state, now_ms=NOW_MS, restores=restores)
    written = merge.write(KEY, given_values, barred.state, now_ms=NOW_MS)
    for outcome in (filled, written):
        assert [one.code for one in outcome.results] == ["document_purged"]
        assert not outcome.writes


def test_filling_nothing_tells_a_purged_document_from_one_that_is_whole(barred: Account) -> None:
    """An import of a known file asks only whether its workouts are there."""
    assert [one.code for one in merge.fill(KEY, {}, barred.state, now_ms=NOW_MS).results] == ["document_purged"]
    assert merge.fill(KEY, {}, barred.state, now_ms=NOW_MS, restores=False).results == ()
    assert merge.fill(OTHER, {}, barred.state, now_ms=NOW_MS).results == ()


# --- write


def test_a_write_goes_over_what_is_there() -> None:
    account = Account()
    account.apply(write({"title": "theirs", "notes": "n"}, stamp_at(NOW_MS + 50_000, counter=511)))
    outcome = merge.write(KEY, {"title": "the server's"}, account.state, now_ms=NOW_MS)
    account.take(outcome)
    value, stamp = account.documents[KEY].registers()["title"]
    assert (value, clock.replica_of(stamp), stamp) == ("the server's", clock.SERVER_REPLICA, account.head.clock)
    assert stamp > stamp_at(NOW_MS + 50_000, counter=511, replica=4095)
    assert account.documents[KEY].registers()["notes"] == ("n", stamp_at(NOW_MS + 50_000, counter=511))
    assert kept(account) == sums(account)
    assert merge.write(KEY, {}, account.state, now_ms=NOW_MS).results == ()


def test_fill_leaves_a_deleted_document_deleted_unless_it_restores() -> None:
    account = Account()
    account.apply(write({"title": 1, "deleted": True}, stamp_at()))
    outcome = merge.fill(KEY, {"tracks/a": True}, account.state, now_ms=NOW_MS + DAY_MS, restores=False)
    [written] = outcome.written
    assert (written.deleted, written.deleted_ms) == (True, NOW_MS + DAY_MS)
    account.take(outcome)
    [written] = merge.fill(KEY, {}, account.state, now_ms=NOW_MS + DAY_MS).written
    assert (written.deleted, written.deleted_ms) == (False, 0)


@given(st.lists(all_changes, max_size=5), st.dictionaries(colliding_paths, colliding_values, max_size=3))
def test_what_the_server_writes_is_above_all_it_accepted(changes: list[Change], given_values: dict[str, Any]) -> None:
    account = Account()
    account.apply(*changes)
    accepted = account.head.clock
    stored = change_of(given_values, stamp=1, key=KEY).values
    outcome = merge.write(KEY, stored, account.state, now_ms=NOW_MS)
    account.take(outcome)
    assert outcome.restamps == {}
    for path in given_values:
        _, stamp = account.registers[KEY][path]
        assert Stamp(stamp) == account.head.clock > accepted
