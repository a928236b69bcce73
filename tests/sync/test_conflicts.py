"""What a conflict is: each clause of its definition by itself, and both losers."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given

from sync import clock, conflicts, values
from sync.clock import Stamp
from sync.conflicts import Conflict
from sync.document import Document, Key, Mark
from tests.sync.model import NOW_MS, change_of, json_values, stamp_at

KEY = Key("workouts", "0190a0b0-0000-7000-8000-00000000000b")
GOAL = Key("goals", "0190a0b0-0000-7000-8000-00000000000c")

THEIRS = stamp_at(counter=5, replica=2)
EARLIER = stamp_at(counter=4, replica=1)
LATER = stamp_at(counter=6, replica=1)


def stored(value: Any, *, path: str = "title", stamp: Stamp = THEIRS, seq: int = 7, key: Key = KEY) -> Document:
    """A document that was written before, at 3, and in `path` at `seq`."""
    held = {"before": "x", path: values.from_wire(value)}
    return Document(
        key, seq=max(seq, 3), values=held, usual=Mark(stamp_at(replica=2), 3), marks={path: Mark(stamp, seq)}
    )


def found(
    document: Document, given_: dict[str, Any], *, stamp: int = LATER, base: int | None = 6, merged: int | None = None
) -> list[Conflict]:
    change = change_of(given_, stamp=stamp, key=document.key, base=base)
    under = Stamp(stamp if merged is None else merged)
    unseen = conflicts.unseen(change, under, document)
    return list(conflicts.between(change, under, document, unseen, now_ms=NOW_MS))


def test_the_stored_value_loses_to_a_later_stamp() -> None:
    [conflict] = found(stored("theirs"), {"title": "mine"})
    assert (conflict.key, conflict.path, conflict.at_ms, conflict.restored_ms) == (KEY, "title", NOW_MS, 0)
    assert (conflict.lost_value, conflict.lost_stamp) == ("theirs", THEIRS)
    assert (conflict.won_value, conflict.won_stamp) == ("mine", LATER)


def test_the_sent_value_loses_to_an_earlier_stamps_writer() -> None:
    [conflict] = found(stored("theirs"), {"title": "mine"}, stamp=EARLIER)
    assert (conflict.lost_value, conflict.lost_stamp) == ("mine", EARLIER)
    assert (conflict.won_value, conflict.won_stamp) == ("theirs", THEIRS)


@pytest.mark.parametrize("stamp", [EARLIER, LATER])
@pytest.mark.parametrize(("base", "is_one"), [(0, True), (5, True), (6, True), (7, False), (8, False), (None, False)])
def test_only_what_came_after_the_base(base: int | None, is_one: bool, stamp: Stamp) -> None:
    assert bool(found(stored("theirs"), {"title": "mine"}, base=base, stamp=stamp)) is is_one


def test_the_registers_sequence_counts_and_not_the_documents() -> None:
    """Another path was written since; this one was known."""
    document = stored("theirs", path="notes")
    assert found(document, {"before": "mine"}, base=3) == []
    assert len(found(document, {"before": "mine"}, base=2)) == 1


@pytest.mark.parametrize("stamp", [EARLIER, LATER])
def test_not_with_a_register_of_its_own_replica(stamp: Stamp) -> None:
    mine = stored("older of mine", stamp=stamp_at(counter=5, replica=1))
    assert found(mine, {"title": "mine"}, stamp=stamp) == []
    # Of one stamp, as a phone restored from a backup writes it.
    assert found(mine, {"title": "mine"}, stamp=stamp_at(counter=5, replica=1)) == []
    # The server is a writer like others.
    assert len(found(stored("the server's", stamp=stamp_at(counter=5, replica=0)), {"title": "mine"}, stamp=stamp)) == 1


@pytest.mark.parametrize("stamp", [EARLIER, LATER])
@pytest.mark.parametrize(
    ("theirs", "mine", "is_one"),
    [
        ("a", "a", False),
        (1, 1.0, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1.0}, False),
        (None, None, False),
        ("a", "A", True),
        (1, "1", True),
        (True, 1, True),
        (None, False, True),
        ([1, 2], [2, 1], True),
    ],
)
def test_only_another_value(theirs: Any, mine: Any, is_one: bool, stamp: Stamp) -> None:
    assert bool(found(stored(theirs), {"title": mine}, stamp=stamp)) is is_one


def test_counters_never_conflict() -> None:
    for path in ("progress/2", "progress/1"):
        assert found(stored(5, path=path, key=GOAL), {path: 6}) == []
    # A field that is no counter, or that is one in another collection, does.
    assert len(found(stored(5, path="progress/2"), {"progress/2": 6})) == 1
    assert len(found(stored(5, path="target", key=GOAL), {"target": 6})) == 1


def test_sets_children_and_deletion_conflict() -> None:
    for path, theirs, mine in [("tags/a", True, False), ("sets/x/reps", 5, 6), ("deleted", True, False)]:
        [conflict] = found(stored(theirs, path=path), {path: mine})
        assert (conflict.path, conflict.lost_value, conflict.won_value) == (path, theirs, mine)


def test_a_path_that_the_document_lacks_has_nobody_to_conflict_with() -> None:
    assert found(stored("theirs"), {"notes": "new"}) == []


def test_a_restamped_change_is_compared_under_the_stamp_it_is_merged_with() -> None:
    ahead = stamp_at(NOW_MS + 3_600_000, replica=1)
    [conflict] = found(stored("theirs"), {"title": "mine"}, stamp=ahead, merged=LATER)
    assert (conflict.won_stamp, conflict.lost_stamp) == (LATER, THEIRS)


def ids(conflicts_: Sequence[Conflict]) -> list[str]:
    return [one.id for one in conflicts_]


def test_an_entry_is_named_by_what_was_lost() -> None:
    [one] = found(stored("theirs"), {"title": "mine"})
    [again] = found(stored("theirs"), {"title": "mine"}, base=0)
    [later] = found(stored("theirs"), {"title": "other"}, stamp=LATER + 4096)
    assert one.id == again.id == later.id
    others = [
        found(stored("their other"), {"title": "mine"}),
        found(stored("theirs", path="notes"), {"notes": "mine"}),
        found(stored("theirs", stamp=stamp_at(counter=5, replica=3)), {"title": "mine"}),
        found(stored("theirs", key=Key("workouts", GOAL.id)), {"title": "mine"}),
        found(stored("theirs", key=Key("goals", KEY.id)), {"title": "mine"}),
        found(stored("theirs"), {"title": "mine"}, stamp=EARLIER),
    ]
    names = [ids(each)[0] for each in others]
    assert len({one.id, *names}) == len(names) + 1


@given(json_values, json_values)
def test_any_two_values_have_one_loser(theirs: Any, mine: Any) -> None:
    for stamp in (EARLIER, LATER):
        listed = found(stored(theirs), {"title": mine}, stamp=stamp)
        if values.canonical(values.from_wire(theirs)) == values.canonical(values.from_wire(mine)):
            assert listed == []
        else:
            [conflict] = listed
            lost, won = (theirs, mine) if stamp == LATER else (mine, theirs)
            assert (conflict.lost_value, conflict.won_value) == (values.from_wire(lost), values.from_wire(won))
            assert clock.replica_of(conflict.lost_stamp) != clock.replica_of(conflict.won_stamp)
