"""What is kept of a refused change, and under which name it is known again."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import changes, quarantine
from sync.changes import Format, Refusal, Result
from sync.quarantine import Rejected
from tests.sync.model import NOW_MS, json_values, new_id

DEVICE = "0190a0b0-0000-7000-8000-00000000000d"
ID = "0190a0b0-0000-7000-8000-00000000000a"


def change(**more: Any) -> dict[str, Any]:
    return {"id": ID, "collection": "horses", "doc": new_id(), "stamp": "0cd0000000000001", "set": {}} | more


def refused(raw: bytes, format_: Format = "json", *, now_ms: int = NOW_MS) -> Rejected:
    """The entry of a change that is refused for what it is."""
    with pytest.raises(Refusal) as caught:
        changes.check(raw, format_)
    return quarantine.entry(raw, format_, caught.value.result(), device_id=DEVICE, now_ms=now_ms)


def in_json(sent: Any) -> bytes:
    return msgspec.json.encode(sent)


def test_an_entry_is_the_change_as_it_came() -> None:
    raw = b' {"collection":"horses", "id":"%s","doc":5}' % ID.encode()
    entry = refused(raw)
    assert (entry.id, entry.change_id, entry.device_id, entry.received_ms) == (ID, ID, DEVICE, NOW_MS)
    assert (entry.code, entry.format, entry.raw) == ("invalid_value", "json", raw)
    assert "doc" in entry.detail
    assert entry.size_bytes == len(raw) + 300


@pytest.mark.parametrize(
    ("raw", "change_id"),
    [
        (b'{"id":"no uuid"}', "no uuid"),
        (b'{"id":5}', None),
        (b'{"id":"' + b"x" * 65 + b'"}', None),
        (b"{}", None),
        (b"[1]", None),
        (b'"\xff"', None),
        (b'{"id":"%s"}' % ID.upper().encode(), ID.upper()),
    ],
)
def test_a_change_without_a_name_is_named_by_its_bytes(raw: bytes, change_id: str | None) -> None:
    entry = refused(raw)
    assert entry.change_id == change_id
    assert changes.is_uuid(entry.id)
    assert entry.id != ID
    assert refused(raw, now_ms=NOW_MS + 5).id == entry.id
    assert refused(raw + b" ").id != entry.id


def test_only_a_rejection_has_an_entry() -> None:
    with pytest.raises(ValueError, match="not rejected"):
        quarantine.entry(b"{}", "json", Result(id=ID, status="applied"), device_id=DEVICE, now_ms=NOW_MS)


def added(*entries: Rejected, to: list[Rejected] | None = None) -> list[Rejected]:
    return quarantine.added(entries, {one.id: one.content for one in to or []})


def test_a_change_that_comes_again_is_there_already() -> None:
    sent = change()
    entry = refused(in_json(sent))
    assert added(entry) == [entry]
    assert added(entry, entry) == [entry]
    assert added(refused(in_json(sent), now_ms=NOW_MS + 86_400_000), to=[entry]) == []


def test_the_format_and_the_order_of_members_make_no_other_change() -> None:
    sent = change(set={"b": 1, "a": {"y": [1.5, None], "x": True}})
    turned = dict(reversed(sent.items())) | {"set": {"a": {"x": True, "y": [1.5, None]}, "b": 1}}
    first = refused(in_json(sent))
    for raw, format_ in (
        (in_json(turned), "json"),
        (json.dumps(sent, indent=2).encode(), "json"),
        (msgspec.msgpack.encode(sent), "msgpack"),
        (msgspec.msgpack.encode(turned), "msgpack"),
    ):
        entry = refused(raw, format_)  # type: ignore[arg-type]
        assert entry.raw != first.raw
        assert added(entry, to=[first]) == []
        assert added(first, to=[entry]) == []


def test_the_same_change_on_another_base_is_no_other() -> None:
    """A device that was given more since tells another base when it sends again."""
    sent = change(set={"base": 1})
    first = refused(in_json(sent))
    for base in (0, 5, None, "x"):
        assert added(refused(in_json(sent | {"base": base})), to=[first]) == []
    # Only the change's own; a path of that name is another matter.
    other = refused(in_json(sent | {"set": {"base": 2}}))
    assert [one.raw for one in added(other, to=[first])] == [other.raw]


def test_an_id_that_is_used_for_another_change_loses_neither() -> None:
    first, second, third = (refused(in_json(change(set={"title": n}))) for n in (1, 2, 3))
    assert first.id == second.id == third.id == ID
    kept = added(first, second, third)
    assert [one.raw for one in kept] == [first.raw, second.raw, third.raw]
    assert len({one.id for one in kept}) == 3
    assert kept[0].id == ID
    assert {one.change_id for one in kept} == {ID}
    # Whichever of them comes again, all of them or one: each is known under its name.
    assert added(first, second, third, to=kept) == []
    for one in (first, second, third):
        assert added(one, to=kept) == []


def test_names_are_those_under_which_it_may_be_held() -> None:
    first, second = (refused(in_json(change(set={"title": n}))) for n in (1, 2))
    held = added(first, second)
    assert {one.id for one in held} <= {*quarantine.names(first), *quarantine.names(second)}


@pytest.mark.parametrize(
    ("format_", "raw"),
    [
        ("json", b'{"id":"%s","set":{"title":"\xff"}}' % ID.encode()),
        ("json", b'{"id":"%s","set":' % ID.encode() + b"[" * 5_000 + b"]" * 5_000 + b"}"),
        ("json", b'{"id":"%s","set":1e999}' % ID.encode()),
        ("msgpack", msgspec.msgpack.encode({"id": ID, "set": {1: 2, b"x": 3}})),
        ("msgpack", msgspec.msgpack.encode({"id": ID, "set": {"x": msgspec.msgpack.Ext(5, b"x")}})),
        ("msgpack", msgspec.msgpack.encode({"id": ID, "set": {"x": 2**64 - 1}})),
        ("msgpack", msgspec.msgpack.encode({"id": ID, "set": {"x": float("nan")}})),
        ("msgpack", b"\xc1"),
        ("msgpack", b""),
    ],
)
def test_what_cannot_be_decoded_or_compared_is_kept_by_its_bytes(format_: Format, raw: bytes) -> None:
    entry = refused(raw, format_)
    assert added(entry, entry) == [entry]
    other = refused(in_json(change()))
    assert [one.raw for one in added(entry, other)] == [entry.raw, other.raw]
    assert [one.raw for one in added(other, entry)] == [other.raw, entry.raw]


@given(st.lists(st.tuples(st.sampled_from([ID, "x", None]), json_values), max_size=6), st.integers(0, 6))
def test_nothing_is_lost_and_nothing_kept_twice(sent: list[tuple[Any, Any]], cut: int) -> None:
    """Sent in two requests, and all of it once more."""
    entries = [refused(in_json(change(id=change_id, set={"title": value}, doc=DEVICE))) for change_id, value in sent]
    held = added(*entries[:cut])
    held += added(*entries[cut:], to=held)
    assert added(*entries, to=held) == []
    assert len({one.id for one in held}) == len(held)
    assert {one.raw for one in held} <= {one.raw for one in entries}
    canonical = {_canonical(one.raw) for one in entries}
    assert {_canonical(one.raw) for one in held} == canonical


def _canonical(raw: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(raw), order="deterministic")
