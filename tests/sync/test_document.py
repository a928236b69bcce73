"""Laws of the one merge rule, the four shapes, and paths."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import document, values
from sync.clock import Stamp
from sync.document import Document, Key, Mark, merge, wins
from sync.values import Value
from tests.sync.model import colliding_values, comparable, documents, stamps, texts

WORKOUT = Key("workouts", "0190a0b0-0000-7000-8000-00000000000b")
NUTRITION = Key("nutrition", WORKOUT.id)

states = documents(WORKOUT)
registers = st.tuples(colliding_values.map(values.from_wire), stamps)


def same(one: Document, other: Document) -> bool:
    return comparable(one.registers()) == comparable(other.registers())


@given(states, states)
def test_merging_is_commutative(one: Document, other: Document) -> None:
    assert same(merge(one, other), merge(other, one))


@given(states, states, states)
def test_merging_is_associative(one: Document, other: Document, third: Document) -> None:
    assert same(merge(merge(one, other), third), merge(one, merge(other, third)))


@given(states, states)
def test_merging_is_idempotent(one: Document, other: Document) -> None:
    merged = merge(one, other)
    assert same(merge(one, one), one)
    assert same(merge(merged, other), merged)
    assert same(merge(merged, one), merged)


@given(states, states)
def test_merging_alters_neither_side_and_keeps_each_greater_register(one: Document, other: Document) -> None:
    before = one.registers(), other.registers()
    merged = merge(one, other)
    assert (one.registers(), other.registers()) == before
    assert set(merged.values) == {*one.values, *other.values}
    for path, (value, stamp) in merged.registers().items():
        for side in (one, other):
            if path in side.values:
                theirs, their_stamp = side.registers()[path]
                assert not wins(theirs, their_stamp, value, stamp)
        assert any(side.registers().get(path) == (value, stamp) for side in (one, other))


@given(states)
def test_compacting_changes_no_register_and_no_mark(state: Document) -> None:
    compacted = state.compacted()
    assert compacted.registers() == state.registers()
    assert {path: compacted.mark(path) for path in state.values} == {path: state.mark(path) for path in state.values}
    assert 2 * len(compacted.marks) <= len(state.values) or len(compacted.marks) <= len(state.marks)
    assert (compacted.key, compacted.seq, compacted.most_bytes) == (state.key, state.seq, state.most_bytes)


@given(registers, registers, registers)
def test_registers_are_totally_ordered(
    one: tuple[Value, Stamp], other: tuple[Value, Stamp], third: tuple[Value, Stamp]
) -> None:
    equal = one[1] == other[1] and values.same(one[0], other[0])
    assert [wins(*one, *other), wins(*other, *one), equal].count(True) == 1
    if wins(*one, *other) and wins(*other, *third):
        assert wins(*one, *third)


def test_of_one_stamp_the_greater_canonical_form_wins() -> None:
    stamp = Stamp(5)
    rising = ['"text"', "-1", "0", "10", "9", "[1]", "[true]", "false", "null", "true", '{"a":1,"b":2}']
    kept = [values.from_wire(values.to_python(text.encode())) for text in rising]
    for index, value in enumerate(kept):
        assert not wins(value, stamp, value, stamp)
        for lower in kept[:index]:
            assert wins(value, stamp, lower, stamp)
            assert not wins(lower, stamp, value, stamp)
            assert wins(lower, Stamp(6), value, stamp)
    assert not wins(1, stamp, 1.0, stamp)
    assert not wins(1.0, stamp, 1, stamp)
    first, second = values.from_wire({"a": 1, "b": 2}), values.from_wire({"b": 2.0, "a": 1})
    assert not wins(first, stamp, second, stamp)
    assert not wins(second, stamp, first, stamp)


def state_of(given_values: dict[str, Any], key: Key = WORKOUT) -> Document:
    stored = {path: values.from_wire(value) for path, value in given_values.items()}
    return Document(key, values=stored, usual=Mark(Stamp(1), 1))


def test_a_register_is_read_as_its_value() -> None:
    given_values = {"title": "a", "notes": None, "new": {"b": [1]}, "new/deep/er": 1, "deleted": True}
    assert document.read(state_of(given_values)) == given_values
    assert document.read(Document(WORKOUT)) == {}
    assert document.read(state_of({"a/b": 1}, Key("horses", WORKOUT.id))) == {"a/b": 1}


def test_a_set_lists_what_is_true_by_utf_8_bytes() -> None:
    elements = ["\U0001f600", "\uffff", "z", "é", "a~1b", "~0", "10", "9", ""]
    shown = document.read(state_of({**{f"tags/{one}": True for one in elements[:-1]}, "tags/gone": False}))
    # UTF-16, which JavaScript sorts by, has the emoji before U+FFFF.
    assert shown["tags"] == ["10", "9", "a/b", "z", "~", "é", "\uffff", "\U0001f600"]
    assert document.read(state_of({"tags/gone": False}))["tags"] == []


def test_a_counter_is_a_sum_in_ascending_replica_order() -> None:
    totals = {"10": 1e16, "9": 1.0, "4095": -1e16, "0": 0.5}
    shown = document.read(state_of({f"water_ml/{replica}": total for replica, total in totals.items()}, NUTRITION))
    assert shown["water_ml"] == ((0.5 + 1.0) + 1e16) + -1e16
    assert type(document.read(state_of({"water_ml/7": 250, "water_ml/8": 50}, NUTRITION))["water_ml"]) is int


def test_children_stand_by_position_and_then_id() -> None:
    given_values = {
        "sets/b/pos": "a0", "sets/a/pos": "a0", "sets/c/pos": "Zz", "sets/d/reps": 5, "sets/e/pos": None, "sets/f/pos": "",
        "sets/\U0001f600/pos": "b", "sets/\uffff/pos": "b", "sets/g/pos": 5, "sets/h/pos": "\U0001f600", "sets/i/pos": "\uffff",
    }  # fmt: skip
    shown = document.read(state_of(given_values))["sets"]
    order = ["f", "c", "a", "b", "\uffff", "\U0001f600", "i", "h", "d", "e", "g"]
    assert [child["id"] for child in shown] == order
    assert shown[-3] == {"id": "d", "reps": 5}


def test_a_child_is_hidden_while_deleted_and_exists_by_any_path() -> None:
    assert document.read(state_of({"sets/a/reps": 1, "sets/a/deleted": True}))["sets"] == []
    assert document.read(state_of({"sets/a/deleted": False}))["sets"] == [{"id": "a", "deleted": False}]
    assert document.read(state_of({"sets/a/deleted": 1}))["sets"] == [{"id": "a", "deleted": 1}]
    assert document.read(state_of({"sets/a~1b/x~0y": {"n": 1}}))["sets"] == [{"id": "a/b", "x~y": {"n": 1}}]


@pytest.mark.parametrize("written", ["other", 5, None, ["x"]])
def test_a_childs_id_is_its_name_in_the_path(written: Any) -> None:
    assert document.read(state_of({"sets/a/id": written, "sets/a/reps": 5, "sets/b/reps": 6}))["sets"] == [
        {"id": "a", "reps": 5},
        {"id": "b", "reps": 6},
    ]


def test_deletion() -> None:
    assert state_of({"deleted": True, "title": "kept"}).deleted
    for not_true in (False, None, 1, "true", [True]):
        assert not state_of({"deleted": not_true}).deleted
    # It is free, so that a full document can be deleted, restored and edited again.
    assert state_of({"deleted": True, "title": 1}).path_count == 1
    assert state_of({"deleted": True, "title": 1}).encoded_bytes == len('{"title":1}')


@given(st.lists(texts.filter(bool), min_size=1, max_size=4))
def test_escaped_components_come_back(parts: list[str]) -> None:
    path = "/".join(document.escaped(part) for part in parts)
    assert document.components(path) == parts


@given(st.text(alphabet="~01/a", max_size=8))
def test_a_path_has_one_form(path: str) -> None:
    """What is read as components is what those are written as: no two paths name one register."""
    parts = document.components(path)
    if parts is not None:
        assert "/".join(map(document.escaped, parts)) == path


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a", ["a"]), ("a/b/c/d", ["a", "b", "c", "d"]), ("~0~1", ["~/"]), ("~01", ["~1"]), ("~00", ["~0"]), ("$.\0", ["$.\0"]),
        ("~1" * 128, ["/" * 128]), ("\U0001f600" * 128, ["\U0001f600" * 128]),
        ("", None), ("/", None), ("a/", None), ("a//b", None), ("a/b/c/d/e", None), ("a" * 129, None), ("~1" * 129, None),
        ("~", None), ("a~", None), ("~2", None), ("~~", None), ("~~1", None), ("~~10", None), ("~~01", None),
    ],
)  # fmt: skip
def test_paths(path: str, parts: list[str] | None) -> None:
    assert document.components(path) == parts


@pytest.mark.parametrize(
    ("component", "replica"),
    [("0", 0), ("7", 7), ("4095", 4095), ("4096", None), ("07", None), ("", None), ("-1", None), ("1.0", None), ("\u0667", None), ("\u00b2", None), ("10000", None)],
)  # fmt: skip
def test_a_replica_has_one_decimal_form(component: str, replica: int | None) -> None:
    assert document.replica_component(component) == replica
