from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import document as documents
from sync.clock import Stamp
from sync.document import Document, Key, Mark
from sync.patch import PatchInvalid, paths, position
from sync.values import from_wire
from tests.sync.model import new_id

KEY = Key("workouts", "0190a0b0-0000-7000-8000-00000000000b")
ONE, OTHER = "0190a0b0-0000-7000-8000-000000000001", "0190a0b0-0000-7000-8000-000000000002"


def held(**registers: Any) -> Document:
    values = {path.replace("__", "/"): from_wire(value) for path, value in registers.items()}
    return Document(KEY, values=values, usual=Mark(Stamp(5), 1))


def patched(there: Document | None, given_members: dict[str, Any], new: Callable[[], str] = new_id) -> dict[str, Any]:
    return paths("workouts", there, given_members, new_id=new)


def after(there: Document | None, given_members: dict[str, Any]) -> dict[str, Any]:
    stored = {path: from_wire(value) for path, value in patched(there, given_members).items()}
    before = {} if there is None else there.values
    return documents.read(Document(KEY, values={**before, **stored}))


def test_only_what_differs_is_written() -> None:
    there = held(title="Run", rpe=5, notes=None)
    assert patched(there, {"title": "Run", "rpe": 5.0, "notes": None}) == {}
    assert patched(there, {"title": "Ride", "rpe": 6, "sport": None}) == {"title": "Ride", "rpe": 6, "sport": None}


def test_a_set_is_its_list() -> None:
    there = Document(KEY, values={"tags/a": True, "tags/b": True, "tags/c": False}, usual=Mark(Stamp(5), 1))
    assert patched(there, {"tags": ["b", "c", "x/y~z"]}) == {"tags/a": False, "tags/c": True, "tags/x~1y~0z": True}
    assert patched(there, {"tags": None}) == {"tags/a": False, "tags/b": False}
    assert after(there, {"tags": ["b", "x/y"]})["tags"] == ["b", "x/y"]


def test_children_are_their_list() -> None:
    there = Document(
        KEY,
        values={f"sets/{ONE}/reps": 5, f"sets/{ONE}/pos": "c000", f"sets/{OTHER}/reps": 8, f"sets/{OTHER}/pos": "c001"},
        usual=Mark(Stamp(5), 1),
    )
    assert patched(there, {"sets": [{"id": ONE, "reps": 6}]}) == {f"sets/{ONE}/reps": 6, f"sets/{OTHER}/deleted": True}
    new = new_id()
    added = patched(there, {"sets": [{"id": ONE}, {"id": OTHER}, {"reps": 3}]}, lambda: new)
    assert added == {f"sets/{new}/reps": 3, f"sets/{new}/pos": "c002"}
    assert [child["reps"] for child in after(there, {"sets": [{"id": OTHER}, {"id": ONE}]})["sets"]] == [8, 5]


def test_a_deleted_child_that_is_named_comes_back() -> None:
    there = Document(
        KEY,
        values={f"sets/{ONE}/reps": 5, f"sets/{ONE}/pos": "c000", f"sets/{ONE}/deleted": True},
        usual=Mark(Stamp(5), 1),
    )
    assert patched(there, {"sets": []}) == {}
    assert patched(there, {"sets": [{"id": ONE}]}) == {f"sets/{ONE}/deleted": False}


def test_what_the_server_does_not_know_is_a_register() -> None:
    assert patched(None, {"mood": {"a": [1]}, "x/y": 1}) == {"mood": {"a": [1]}, "x/y": 1}


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"tags": "a"}, "/tags"),
        ({"tags": [1]}, "/tags"),
        ({"sets": {}}, "/sets"),
        ({"sets": [1]}, "/sets"),
        ({"sets": [{"id": "x"}]}, "/sets/0/id"),
        ({"sets": [{"id": 7}]}, "/sets/0/id"),
        ({"sets": [{"id": ONE}, {"id": ONE}]}, "/sets/1/id"),
        ({"tracks": []}, "/tracks"),
    ],
)
def test_what_has_not_its_shape_is_refused(members: dict[str, Any], pointer: str) -> None:
    with pytest.raises(PatchInvalid) as refused:
        patched(None, members)
    assert refused.value.pointer == pointer


items = st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "title": items,
        "notes": items,
        "tags": st.lists(st.text(min_size=1, max_size=4), max_size=4, unique=True),
        "sets": st.lists(
            st.fixed_dictionaries({"id": st.sampled_from([ONE, OTHER])}, optional={"reps": items, "exercise": items}),
            max_size=2,
            unique_by=lambda child: child["id"],
        ),
    },
)


@given(bodies, bodies)
def test_what_is_written_is_read_and_writing_it_again_changes_nothing(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    there = Document(KEY, values={path: from_wire(value) for path, value in patched(None, first).items()})
    there.usual = Mark(Stamp(5), 1)
    shown = after(there, second)
    for member, value in second.items():
        if member == "tags":
            assert shown.get("tags", []) == sorted(value, key=str.encode)
        elif member == "sets":
            assert [child["id"] for child in shown.get("sets", [])] == [child["id"] for child in value]
        else:
            assert shown[member] == value
    stored = {path: from_wire(value) for path, value in patched(there, second).items()}
    again = Document(KEY, values={**there.values, **stored}, usual=Mark(Stamp(6), 2))
    assert patched(again, second) == {}


def test_positions_are_in_order() -> None:
    positions = [position(index) for index in range(300)]
    assert positions == sorted(positions)
    assert positions[0] == "c000"


@pytest.mark.parametrize("name", ["tracks", f"tracks/{ONE}", f"imports/{ONE}", f"laps/{ONE}/trigger", "title/x"])
def test_paths_into_fields_are_no_way_around_their_shape(name: str) -> None:
    with pytest.raises(PatchInvalid):
        patched(None, {name: True})


def test_more_children_than_a_document_has_paths_are_refused_before_they_are_named() -> None:
    def none() -> str:
        raise AssertionError("no id is made")

    with pytest.raises(PatchInvalid):
        patched(None, {"laps": [{}] * (documents.MAX_PATHS + 1)}, none)
