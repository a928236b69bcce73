"""Conflicts: what becomes of changes, in which order, under which stamps, and when they are refused.

Long, because one pure function decides all of it, and its tests share the least account that it runs on.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import clock, merge, values
from sync.changes import Change, Result
from sync.clock import ZERO, Stamp
from sync.document import MAX_DOCUMENT_BYTES, MAX_PATHS, Document, Key
from sync.head import Head
from sync.merge import Outcome, State
from sync.values import Value
from tests.sync.model import NOW_MS, change_of, colliding_paths, colliding_values, comparable, stamp_at, stamps

KEY = Key("workouts", "0190a0b0-0000-7000-8000-00000000000b")
OTHER = Key("goals", "0190a0b0-0000-7000-8000-00000000000c")
AHEAD_MS = NOW_MS + 60_001
KEYS = (KEY, OTHER)


class Account:
    """The least store that a step can run on."""

    def __init__(self) -> None:
        self.head = Head(epoch=1, devices={})
        self.documents: dict[Key, Document] = {}
        self.restamps: dict[Stamp, Stamp] = {}

    @property
    def state(self) -> State:
        return State(self.head, KEYS, dict(self.documents), dict(self.restamps))

    def take(self, outcome: Outcome) -> Sequence[Result]:
        if outcome.writes:
            self.head = outcome.head
            self.documents.update({document.key: document for document in outcome.written})
            self.restamps.update(outcome.restamps)
        return outcome.results

    def apply(self, *changes: Change, now_ms: int = NOW_MS) -> Sequence[Result]:
        return self.take(merge.apply(changes, self.state, now_ms=now_ms))

    def fill(self, given_values: Mapping[str, Value], *, now_ms: int = NOW_MS) -> Outcome:
        outcome = merge.fill(KEY, given_values, self.state, now_ms=now_ms)
        self.take(outcome)
        return outcome

    @property
    def registers(self) -> dict[Key, dict[str, tuple[bytes, Stamp]]]:
        return {key: comparable(document.registers()) for key, document in self.documents.items()}


def write(given_values: Mapping[str, Any], stamp: int, key: Key = KEY) -> Change:
    return change_of(given_values, stamp=stamp, key=key)


def statuses(results: Iterable[Result]) -> list[str]:
    return [result.status for result in results]


def test_what_becomes_of_a_change() -> None:
    account = Account()
    assert statuses(account.apply(write({"title": "a", "notes": "n"}, stamp_at(counter=5)))) == ["applied"]
    assert statuses(account.apply(write({"title": "a", "notes": "n"}, stamp_at(counter=5)))) == ["unchanged"]
    assert statuses(account.apply(write({"title": "b"}, stamp_at(counter=6)))) == ["applied"]
    [result] = account.apply(write({"title": "c", "notes": "n", "rpe": 1}, stamp_at(counter=5)))
    assert result.status == "superseded"
    assert result.superseded == {"title": (clock.to_wire(stamp_at(counter=6)), "b")}
    assert account.registers[KEY]["rpe"] == (b"1", stamp_at(counter=5))
    # Won here and there already elsewhere: nothing lost, so it is applied.
    assert statuses(account.apply(write({"rpe": 1, "sport": "run"}, stamp_at(counter=5)))) == ["applied"]
    assert statuses(account.apply(write({}, stamp_at(counter=9)))) == ["unchanged"]
    assert account.head.seq == 4


def test_of_one_stamp_the_greater_canonical_form_wins_whatever_the_order() -> None:
    first, second = write({"title": True}, stamp_at()), write({"title": 1}, stamp_at())
    for changes in ((first, second), (second, first)):
        account = Account()
        results = [account.apply(change)[0] for change in changes]
        assert account.registers[KEY] == {"title": (b"true", stamp_at())}
        assert statuses(results) == (["applied", "superseded"] if changes[0] is first else ["applied", "applied"])
    account = Account()
    assert statuses(account.apply(write({"title": 1}, stamp_at()), write({"title": 1.0}, stamp_at()))) == [
        "applied",
        "unchanged",
    ]


def test_results_stand_in_the_order_sent_and_merge_in_the_order_of_stamps() -> None:
    account = Account()
    late, early = write({"title": "late"}, stamp_at(counter=2)), write({"title": "early"}, stamp_at(counter=1))
    results = account.apply(late, early)
    assert [result.id for result in results] == [late.id, early.id]
    # In the order sent the early one would have been superseded.
    assert statuses(results) == ["applied", "applied"]
    assert account.registers[KEY]["title"] == (b'"late"', stamp_at(counter=2))


def test_every_document_written_gets_one_sequence_of_its_own() -> None:
    account = Account()
    account.apply(
        write({"title": 1}, stamp_at(counter=3)),
        write({"title": 2}, stamp_at(counter=1), OTHER),
        write({"notes": 2}, stamp_at(counter=2)),
    )
    assert {key: document.seq for key, document in account.documents.items()} == {OTHER: 1, KEY: 2}
    assert {account.documents[KEY].mark(path) for path in ("title", "notes")} == {
        (stamp_at(counter=3), 2),
        (stamp_at(counter=2), 2),
    }
    account.apply(write({"rpe": 2}, stamp_at(counter=4)))
    assert (account.documents[KEY].seq, account.head.seq) == (3, 3)
    # A register that did not change keeps the sequence at which it came.
    assert account.documents[KEY].mark("title") == (stamp_at(counter=3), 2)


def test_the_step_alters_nothing_that_it_was_given() -> None:
    account = Account()
    account.apply(write({"title": 1, "notes": 1}, stamp_at()))
    before = account.documents[KEY].copy()
    state = account.state
    first = merge.apply([write({"title": 2}, stamp_at(counter=1))], state, now_ms=NOW_MS)
    second = merge.apply([write({"title": 2}, stamp_at(counter=1))], state, now_ms=NOW_MS)
    assert state.documents[KEY].registers() == before.registers()
    assert [one.registers() for one in first.written] == [one.registers() for one in second.written]
    assert first.head == second.head


# --- size


def full_paths(prefix: str = "new") -> dict[str, Any]:
    return {f"{prefix}/{index}": 1 for index in range(MAX_PATHS)}


def test_two_thousand_paths_and_not_one_more() -> None:
    account = Account()
    [result] = account.apply(write({**full_paths(), "title": 1}, stamp_at()))
    assert (result.status, result.code) == ("rejected", "document_full")
    assert result.detail == "A document holds at most 2000 paths; with this change it would be 2001."
    assert account.documents == {}
    assert statuses(account.apply(write(full_paths(), stamp_at()))) == ["applied"]
    before = account.registers, account.head
    [result] = account.apply(write({"title": "x", "new/0": 2}, stamp_at(counter=1)))
    assert (result.status, result.code) == ("rejected", "document_full")
    # Atomic: the path that had room is not written either, and no sequence is spent.
    assert (account.registers, account.head) == before
    assert statuses(account.apply(write({"new/0": 2}, stamp_at(counter=1)))) == ["applied"]


def test_a_document_of_256_kib_and_not_a_byte_more() -> None:
    account = Account()
    parts = {f"p{index}": "x" * 16_000 for index in range(16)}
    rest = MAX_DOCUMENT_BYTES - values.encoded_bytes({**parts, "rest": ""})
    [result] = account.apply(write({**parts, "rest": "x" * (rest + 1)}, stamp_at()))
    assert (result.status, result.code) == ("rejected", "document_full")
    assert result.detail == "A document holds at most 262144 bytes; with this change it would be 262145."
    assert statuses(account.apply(write({**parts, "rest": "x" * rest}, stamp_at()))) == ["applied"]
    assert account.documents[KEY].encoded_bytes == MAX_DOCUMENT_BYTES
    [result] = account.apply(write({"rest": "x" * (rest + 1)}, stamp_at(counter=1)))
    assert result.code == "document_full"
    # It may shrink, and then grow again.
    assert statuses(account.apply(write({"p0": None}, stamp_at(counter=1)))) == ["applied"]
    assert statuses(account.apply(write({"more": "x" * 15_000}, stamp_at(counter=2)))) == ["applied"]


def test_many_small_writes_do_not_fill_a_small_document() -> None:
    """Size is bounded by a sum that only grows, and measured when that is full."""
    account = Account()
    text = "x" * 10_000
    for counter in range(300):
        assert statuses(account.apply(write({"notes": text}, stamp_at(counter=counter)))) == ["applied"]
        assert account.documents[KEY].most_bytes >= account.documents[KEY].encoded_bytes


@pytest.mark.parametrize("by", ["paths", "bytes"])
def test_deleting_and_restoring_is_never_refused_for_size(by: str) -> None:
    account = Account()
    parts = {f"p{index}": "x" * 16_000 for index in range(16)}
    rest = MAX_DOCUMENT_BYTES - values.encoded_bytes({**parts, "rest": ""})
    full = full_paths() if by == "paths" else {**parts, "rest": "x" * rest}
    account.apply(write(full, stamp_at()))
    assert statuses(account.apply(write({"deleted": True}, stamp_at(counter=1)))) == ["applied"]
    assert account.documents[KEY].deleted
    assert statuses(account.apply(write({"deleted": False}, stamp_at(counter=2)))) == ["applied"]
    # And what is restored can be edited as before.
    path = next(iter(full))
    assert statuses(account.apply(write({path: full[path]}, stamp_at(counter=3)))) == ["applied"]
    assert statuses(account.apply(write({path: 1, "deleted": True}, stamp_at(counter=4)))) == ["applied"]


def test_a_deleted_document_still_merges() -> None:
    account = Account()
    account.apply(write({"title": 1}, stamp_at()), write({"deleted": True}, stamp_at(counter=5)))
    assert statuses(account.apply(write({"title": 2}, stamp_at(counter=2)))) == ["applied"]
    assert account.documents[KEY].deleted
    assert account.registers[KEY]["title"] == (b"2", stamp_at(counter=2))


# --- stamps ahead of the wall clock


def test_sixty_seconds_ahead_are_believed() -> None:
    account = Account()
    latest = clock.latest_believed(NOW_MS)
    [result] = account.apply(write({"title": 1}, latest))
    assert (result.status, account.head.clock) == ("applied", latest)
    ahead = Stamp(latest + 2)  # of replica 1
    [result] = account.apply(write({"title": 2}, ahead + (5 << 12)))
    assert result.status == "restamped"
    assert result.stamp == clock.to_wire(ahead)
    assert account.restamps == {ahead + (5 << 12): ahead}
    # It is compared with the wall clock, however far the account's clock is.
    assert account.head.clock == ahead > latest + 1
    assert statuses(account.apply(write({"notes": 2}, latest + 1))) == ["restamped"]


@given(st.lists(st.integers(AHEAD_MS, 2**42 - 1), min_size=1, max_size=6), st.sampled_from([0, 1, 77, 4095]), stamps)
def test_a_restamp_is_above_all_accepted_and_keeps_its_replica(times: list[int], replica: int, accepted: Stamp) -> None:
    account = Account()
    account.apply(write({"title": 0}, accepted))
    old = [stamp_at(ms, counter=index, replica=replica) for index, ms in enumerate(times)]
    results = account.apply(*(write({"title": index}, stamp) for index, stamp in enumerate(old)))
    new = [clock.from_wire(str(result.stamp)) for result in results]
    assert statuses(results) == ["restamped"] * len(old)
    assert all(stamp is not None and stamp > accepted and clock.replica_of(stamp) == replica for stamp in new)
    assert len(set(new)) == len(set(old))
    # In the order of the old stamps, so that a queue keeps its order.
    assert [one for _, one in sorted(zip(old, new, strict=True))] == sorted(one for one in new if one is not None)
    assert account.head.clock == max(one for one in new if one is not None)
    assert account.head.restamped == max(old)
    assert account.restamps == dict(zip(old, new, strict=True))


def test_a_restamp_is_above_what_came_in_the_same_request() -> None:
    account = Account()
    ahead, latest = stamp_at(AHEAD_MS, counter=9), clock.latest_believed(NOW_MS)
    results = account.apply(write({"title": "ahead"}, ahead), write({"title": "latest"}, latest))
    assert statuses(results) == ["restamped", "applied"]
    assert account.registers[KEY]["title"][0] == b'"ahead"'


def test_one_old_stamp_twice_in_a_request_is_one_new_stamp() -> None:
    account = Account()
    old = stamp_at(AHEAD_MS, replica=9)
    results = account.apply(write({"title": 1}, old), write({"notes": 1}, old), write({"title": 2}, old, OTHER))
    assert statuses(results) == ["restamped"] * 3
    assert len({str(result.stamp) for result in results}) == 1
    assert len(account.restamps) == 1


def test_a_remembered_pair_outlives_the_wait_for_the_wall_clock() -> None:
    account = Account()
    old = stamp_at(AHEAD_MS)
    [first] = account.apply(write({"title": 1}, old))
    before = account.registers, account.head
    for now_ms in (NOW_MS, AHEAD_MS, AHEAD_MS + 365 * 86_400_000):
        [again] = account.apply(write({"title": 1}, old), now_ms=now_ms)
        assert (again.status, again.stamp) == ("restamped", first.stamp)
        assert (account.registers, account.head) == before
    # Another document's change of that stamp, from any device, gets the same.
    [other] = account.apply(write({"title": 1}, old, OTHER), now_ms=AHEAD_MS + 1_000_000)
    assert (other.status, other.stamp) == ("restamped", first.stamp)


def test_what_was_believed_once_is_believed_by_a_request_that_is_merged_late() -> None:
    """A request that was given up runs on with its own time, after its repetition and the device's next edit."""
    account = Account()
    sent = write({"title": "sent twice"}, stamp_at(NOW_MS + 60_500))
    assert statuses(account.apply(sent, now_ms=NOW_MS + 1_000)) == ["applied"]
    assert statuses(account.apply(write({"title": "edited"}, stamp_at(NOW_MS + 60_600)), now_ms=NOW_MS + 1_000)) == [
        "applied"
    ]
    before = account.registers
    [late] = account.apply(sent, now_ms=NOW_MS)
    assert late.status == "superseded"
    assert (account.registers, account.restamps) == (before, {})


def test_a_server_whose_clock_ran_ahead_is_not_followed_further_than_a_device() -> None:
    account = Account()
    years = 10 * 365 * 86_400_000
    account.apply(write({"title": 1}, stamp_at()), now_ms=NOW_MS + years)
    assert statuses(account.apply(write({"title": 2}, stamp_at(NOW_MS + 120_000)))) == ["applied"]
    assert statuses(account.apply(write({"title": 3}, stamp_at(NOW_MS + 120_001)))) == ["restamped"]
    assert account.head.wall_ms == NOW_MS + 60_000


def test_the_servers_own_writes_tell_no_time() -> None:
    account = Account()
    account.apply(write({"title": 1}, clock.latest_believed(NOW_MS)))
    account.fill({"notes": 1})
    assert account.head.wall_ms == NOW_MS
    assert statuses(account.apply(write({"notes": 2}, stamp_at(AHEAD_MS)))) == ["restamped"]


def test_a_restamped_change_may_be_superseded() -> None:
    account = Account()
    old = stamp_at(AHEAD_MS)
    account.apply(write({"title": 1}, old))
    account.apply(write({"title": 2}, stamp_at(NOW_MS + 1_000)), now_ms=NOW_MS)
    [again] = account.apply(write({"title": 1}, old))
    assert again.status == "restamped"
    assert again.superseded == {"title": (clock.to_wire(stamp_at(NOW_MS + 1_000)), 2)}


def test_a_refused_change_leaves_no_pair_and_no_clock() -> None:
    account = Account()
    account.apply(write(full_paths(), stamp_at()))
    before = account.head
    [result] = account.apply(write({"title": 1}, stamp_at(AHEAD_MS)))
    assert (result.status, result.code) == ("rejected", "document_full")
    assert (account.head, account.restamps) == (before, {})


def test_an_empty_change_ahead_is_remembered_too() -> None:
    account = Account()
    [result] = account.apply(write({}, stamp_at(AHEAD_MS)))
    assert result.status == "restamped"
    assert account.restamps == {stamp_at(AHEAD_MS): clock.from_wire(str(result.stamp))}
    assert account.documents == {}


def test_stamps_of_the_past_are_taken_as_they_are() -> None:
    account = Account()
    assert statuses(account.apply(write({"title": 1}, 1), write({"notes": 1}, stamp_at(86_400_000)))) == ["applied"] * 2
    assert account.registers[KEY]["title"] == (b"1", Stamp(1))
    assert account.head.clock == stamp_at(86_400_000)


# --- order does not matter

believable = st.builds(
    write,
    st.dictionaries(colliding_paths, colliding_values, min_size=1, max_size=3),
    stamps,
    st.sampled_from(KEYS),
)


@given(st.lists(believable, max_size=8), st.randoms(use_true_random=False), st.lists(st.integers(0, 8), max_size=4))
def test_any_order_in_any_requests_gives_the_same_registers(changes: list[Change], dice: Any, cuts: list[int]) -> None:
    together, apart = Account(), Account()
    together.apply(*changes)
    shuffled = list(changes)
    dice.shuffle(shuffled)
    bounds = [0, *sorted(cuts), len(shuffled)]
    for start, end in pairwise(bounds):
        apart.apply(*shuffled[start:end])
    apart.apply(*dice.choices(changes, k=3) if changes else [])  # some again
    assert together.registers == apart.registers
    assert together.head.clock == apart.head.clock
    # It is what the merge of single registers says.
    clocks = [stamp for held in together.registers.values() for _, stamp in held.values()]
    assert together.head.clock == max(clocks, default=ZERO)


@given(st.lists(believable, min_size=1, max_size=8))
def test_marks_tell_when_the_server_took_each_register(changes: list[Change]) -> None:
    account = Account()
    for change in changes:
        before = account.registers.get(change.key, {})
        account.apply(change)
        document = account.documents.get(change.key)
        for path, register in account.registers.get(change.key, {}).items():
            assert document is not None
            mark = document.mark(path)
            assert mark is not None
            assert (mark.seq == account.head.seq) or before.get(path) == register
            assert mark.seq <= document.seq <= account.head.seq


# --- fill


def test_fill_writes_only_what_is_lacking() -> None:
    account = Account()
    account.apply(write({"title": "mine", "notes": None}, stamp_at(NOW_MS + 30_000, counter=511, replica=3)))
    outcome = account.fill({"title": "t", "notes": "n", "rpe": 3})
    [written] = outcome.written
    stamp = written.registers()["rpe"][1]
    assert written.registers() == {
        "title": ("mine", stamp_at(NOW_MS + 30_000, counter=511, replica=3)),
        "notes": (None, stamp_at(NOW_MS + 30_000, counter=511, replica=3)),
        "rpe": (3, stamp),
    }
    assert clock.replica_of(stamp) == clock.SERVER_REPLICA
    assert stamp == outcome.head.clock == stamp_at(NOW_MS + 30_001, replica=0)
    assert not account.fill({"title": "t", "rpe": 4}).writes


def test_fill_makes_and_restores() -> None:
    account = Account()
    outcome = account.fill({"title": "t"})
    assert [one.registers() for one in outcome.written] == [{"title": ("t", stamp_at(replica=0))}]
    account.apply(write({"deleted": True}, stamp_at(counter=7)))
    outcome = account.fill({"title": "other"})
    [written] = outcome.written
    assert not written.deleted
    assert written.registers()["title"] == ("t", stamp_at(replica=0))
    assert not account.fill({"title": "other"}).writes
    assert not Account().fill({}).writes


def test_fill_goes_on_while_the_accounts_clock_is_ahead_of_the_wall() -> None:
    account = Account()
    latest = clock.latest_believed(NOW_MS)
    account.apply(write({"title": 1}, latest))
    outcome = account.fill({"notes": 1})
    assert outcome.restamps == {}
    assert statuses(outcome.results) == ["applied"]
    assert outcome.head.clock > latest
