"""The check of one change, in both formats: every code of the contract, and nothing but Refusal on any bytes.

Long, because the tables of what is refused make up most of it.
"""

import json
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sync import changes, clock, values
from sync.changes import Change, Format, Refusal, SyncRequest, check
from sync.document import components
from sync.schema import COLLECTIONS
from tests.sync.model import json_values, new_id, texts

ID = "0190a0b0-0000-7000-8000-00000000000a"
DOC = "0190a0b0-0000-7000-8000-00000000000b"
STAMP = clock.to_wire(clock.tick(clock.ZERO, now_ms=1_767_225_600_000, replica=7))
FORMATS: tuple[Format, Format] = ("json", "msgpack")


def change(given_set: Any = None, **members: Any) -> dict[str, Any]:
    whole = {
        "id": ID,
        "collection": "workouts",
        "doc": DOC,
        "stamp": STAMP,
        "set": {} if given_set is None else given_set,
    }
    return {name: value for name, value in {**whole, **members}.items() if value is not ...}


def encoded(value: Any, format_: Format) -> bytes:
    return msgspec.json.encode(value) if format_ == "json" else msgspec.msgpack.encode(value)


def refused(raw: bytes, format_: Format) -> Refusal:
    with pytest.raises(Refusal) as caught:
        check(raw, format_)
    return caught.value


def json_change(set_json: str, rest: str = "") -> bytes:
    text = f'{{"id":"{ID}","collection":"workouts","doc":"{DOC}","stamp":"{STAMP}","set":{set_json}{rest}}}'
    return text.encode("utf-8", "surrogatepass")


def msgpack_change(set_bytes: bytes) -> bytes:
    """A change whose `set` is the given bytes, which an encoder would not make."""
    return bytes(msgpack.packb(change("@")).replace(b"\xa1@", set_bytes))


@pytest.mark.parametrize("format_", FORMATS)
def test_a_change_is_read(format_: Format) -> None:
    given_set = {
        "title": "a:b",
        "tags/x": True,
        "sets/a/reps": 5,
        "laps/b/note": [1],
        "new": {"b": 1, "a": 2},
        "rpe": None,
    }
    raw = encoded(change(given_set, base=7), format_)
    read = check(raw, format_)
    assert read[:4] == (ID, ("workouts", DOC), int(STAMP, 16), 7)
    assert read.values == {**given_set, "laps/b/note": b"[1]", "new": b'{"b":1,"a":2}'}
    assert list(read.values) == list(given_set)
    assert read.encoded_bytes == len(raw)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"collection": "horses"}, "unknown_collection"),
        ({"collection": "Workouts"}, "unknown_collection"),
        ({"collection": None}, "unknown_collection"),
        ({"collection": ["workouts"]}, "unknown_collection"),
        ({"collection": ...}, "unknown_collection"),
        ({"stamp": "0" * 16}, "bad_stamp"),
        ({"stamp": "0" * 15 + "A"}, "bad_stamp"),
        ({"stamp": "1" * 15}, "bad_stamp"),
        ({"stamp": "1" * 17}, "bad_stamp"),
        ({"stamp": "8" + "0" * 15}, "bad_stamp"),
        ({"stamp": "1" * 16 + "\n"}, "bad_stamp"),
        ({"stamp": "0" * 15 + "\u0661"}, "bad_stamp"),
        ({"stamp": 5}, "bad_stamp"),
        ({"stamp": None}, "bad_stamp"),
        ({"stamp": ...}, "bad_stamp"),
        ({"doc": ...}, "invalid_value"),
        ({"doc": DOC.upper()}, "invalid_value"),
        ({"doc": DOC + "\n"}, "invalid_value"),
        ({"doc": 5}, "invalid_value"),
        ({"doc": {}}, "invalid_value"),
        ({"base": -1}, "invalid_value"),
        ({"base": 1.0}, "invalid_value"),
        ({"base": True}, "invalid_value"),
        ({"base": "1"}, "invalid_value"),
        ({"base": 2**53 + 1}, "invalid_value"),
        ({"set": ...}, "invalid_value"),
        ({"set": None}, "invalid_value"),
        ({"set": []}, "invalid_value"),
        ({"set": "title"}, "invalid_value"),
        ({"set": {"title/x": 1}}, "invalid_value"),
        ({"set": {"tags/x\ntags/y": True}}, "invalid_value"),  # three components, that look like two lines of two
        ({"set": {"sets/a/reps\nsets/b/reps": 1}}, "invalid_value"),
        ({"set": {"tags/x\nsets/a/reps": 1, "tags/y": True}}, "invalid_value"),
        ({"set": {"title": 2**63}}, "invalid_value"),
        ({"set": {"deleted/x": 1}}, "invalid_value"),
        ({"set": {"tags": ["a"]}}, "invalid_value"),
        ({"set": {"tags/a": 1}}, "invalid_value"),
        ({"set": {"tags/a": None}}, "invalid_value"),
        ({"set": {"tags/a/b": True}}, "invalid_value"),
        ({"set": {"sets": []}}, "invalid_value"),
        ({"set": {"sets/a": {}}}, "invalid_value"),
        ({"set": {"sets/a/b/c": 1}}, "invalid_value"),
        ({"set": {"title": 2**53 + 1}}, "invalid_value"),
        ({"set": {"title": -(2**53) - 1}}, "invalid_value"),
        ({"set": {"title": [2**63]}}, "invalid_value"),
        ({"set": {"title": "x" * (values.MAX_VALUE_BYTES - 1)}}, "too_large"),
        ({"set": {"title": ["x" * (values.MAX_VALUE_BYTES - 3)]}}, "too_large"),
    ],
)  # fmt: skip
def test_what_is_wrong_inside_a_change_is_its_own(format_: Format, members: dict[str, Any], code: str) -> None:
    refusal = refused(encoded(change(**members), format_), format_)
    assert (refusal.code, refusal.change_id) == (code, ID)
    result = refusal.result()
    assert (result.id, result.status, result.code) == (ID, "rejected", code)
    assert isinstance(result.detail, str)
    assert len(result.detail) < 200


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "value",
    [2**53 + 1, "x" * values.MAX_VALUE_BYTES, json.loads("[" * 101 + "]" * 101)],
    ids=["integer", "size", "depth"],
)
def test_a_refused_value_is_named_by_its_path(format_: Format, value: Any) -> None:
    sent = encoded(change({"title": "x", "notes": value, "sport": "run"}), format_)
    assert str(refused(sent, format_)).startswith("'notes': ")


def test_a_wrong_escape_in_a_path_is_explained() -> None:
    assert str(refused(encoded(change({"new/50~": 1}), "json"), "json")).endswith("with / as ~1 and ~ as ~0.")


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("water_ml/7", 250, None),
        ("water_ml/7", 0.5, None),
        ("water_ml/8", 250, "not_your_counter"),
        ("water_ml/0", 250, "not_your_counter"),
        ("water_ml/4095", 250, "not_your_counter"),
        ("water_ml/4096", 250, "invalid_value"),
        ("water_ml/07", 250, "invalid_value"),
        ("water_ml/\u0667", 250, "invalid_value"),
        ("water_ml/-7", 250, "invalid_value"),
        ("water_ml/7/7", 250, "invalid_value"),
        ("water_ml", 250, "invalid_value"),
        ("water_ml/7", True, "invalid_value"),
        ("water_ml/7", None, "invalid_value"),
        ("water_ml/7", "250", "invalid_value"),
    ],
)
def test_a_counter_is_written_by_its_replica(format_: Format, path: str, value: Any, code: str | None) -> None:
    raw = encoded(change({path: value}, collection="nutrition"), format_)
    if code is None:
        assert check(raw, format_).values == {path: value}
    else:
        assert refused(raw, format_).code == code


@pytest.mark.parametrize("format_", FORMATS)
def test_members_that_may_be_left_out_or_are_unknown(format_: Format) -> None:
    assert check(encoded(change(), format_), format_).base is None
    assert check(encoded(change(base=None), format_), format_).base is None
    assert check(encoded(change(base=0), format_), format_).base == 0
    newer = change({"title": 1}, why={"nested": [1, {"a": 2}]}, x=None)
    assert check(encoded(newer, format_), format_).values == {"title": 1}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("given_id", "shown"),
    [(..., None), (None, None), (5, None), ({}, None), ("x" * 65, None), ("x", "x"), (ID.upper(), ID.upper())],
)
def test_an_unreadable_id_is_not_given_back(format_: Format, given_id: Any, shown: str | None) -> None:
    refusal = refused(encoded(change(id=given_id), format_), format_)
    assert (refusal.code, refusal.change_id) == ("invalid_value", shown)


def test_what_is_no_object_has_no_id() -> None:
    for value in (None, 5, "x", [], [ID], True, 1.5):
        for format_ in FORMATS:
            assert refused(encoded(value, format_), format_).change_id is None
    for format_ in FORMATS:
        for raw in (b"", b"\xff", b"\xc1", b"{", b'{"id":"', b"\x81"):
            assert refused(raw, format_).code == "invalid_value"


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b/c/d",
        "é" * 128,
        "\U0001f600" * 128,
        "a/" + "b" * 128,
        "~0~1" * 64,
        "$",
        "$a.b",
        ".",
        "a\0b",
        "\0",
        " ",
        "~01",
    ],
)
@pytest.mark.parametrize("format_", FORMATS)
def test_paths(format_: Format, path: str) -> None:
    assert check(encoded(change({path: 1, f"sets/{'x' * 128}/y": 2}), format_), format_).values[path] == 1


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "a/b/c/d/e",
        "é" * 129,
        "~",
        "~2",
        "a~",
        "~~",
        "~~1",
        "~~10",
        "~~01",
        "a/~",
        "sets//x",
    ],
)
@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_not_a_path(format_: Format, path: str) -> None:
    assert refused(encoded(change({path: 1}), format_), format_).code == "invalid_value"


@pytest.mark.parametrize(
    "path", ["sets/a/~2", "sets/~/reps", f"sets/{'x' * 129}/reps", f"sets/a/{'x' * 129}", "sets/a/", "sets//reps"]
)
def test_a_childs_path_keeps_the_rules_behind_another_of_the_same_child(path: str) -> None:
    """The check of a path passes quickly over fields of the child before."""
    for before in ({}, {"sets/a/reps": 1}):
        assert refused(encoded(change({**before, path: 1}), "json"), "json").code == "invalid_value"


@pytest.mark.parametrize(
    "set_json",
    [
        '{"title":1,"title":1}',
        '{"title":1,"title" :2}',
        '{"title"\n:1,"title":2}',
        '{"title"\t:1,"title"\r:2}',
        '{"title":1, "title":2}',
        '{"title":1,"\\u0074itle":2}',
        '{"a:b":1,"a\\u003ab":2}',
        '{"title":"a\\u003ab","rpe":1,"rpe":2}',
        '{"title":"a\\u003Ab","rpe":1,"rpe":2}',
        '{"title":"\\":","rpe":1,"rpe":2}',
        '{"title":{"a":1,"a":2}}',
        '{"title":[{"a":1,"\\u0061":2}]}',
        '{"title":{"a":{"b":{},"b":{}}}}',
        '{"title":1,"rpe":2},"set":{"title":1,"rpe":2}',
        '{},"base":1,"base":1',
        '{},"\\u0062ase":1,"base":1',
        '{},"x":{"a":1,"a":1}',
        f'{{}},"id":"{ID}"',
    ],
)
def test_a_repeated_key_in_json(set_json: str) -> None:
    assert refused(json_change(set_json), "json").code == "invalid_value"


@pytest.mark.parametrize(
    "set_json",
    [
        '{"title" : 1 , "rpe"\t:\n2}',
        '{"title":"\\":","notes":"\\":\\":"}',
        '{"title":"a\\u003ab"}',
        '{"\\u0074itle":1}',
        '{"title":{"a":{"a":{"a":1}}}}',
        '{"title":[{"a":1},{"a":1}]}',
        '{},"x":{"a":1,"b":":"}',
    ],
)
def test_no_key_is_repeated_in_json(set_json: str) -> None:
    assert isinstance(check(json_change(set_json), "json"), Change)


@pytest.mark.parametrize(
    "set_bytes",
    [
        b"\x82\xa5title\x01\xa5title\x01",
        b"\x82\xa5title\x01\xd9\x05title\x02",
        b"\xde\x00\x02\xa5title\x01\xa5title\x02",
        b"\x81\xa5title\x82\xa1a\x01\xa1a\x02",
        b"\x81\xa5title\x91\x82\xa1a\x01\xd9\x01a\x02",
    ],
)
def test_a_repeated_key_in_msgpack(set_bytes: bytes) -> None:
    assert refused(msgpack_change(set_bytes), "msgpack").code == "invalid_value"


def test_a_longer_msgpack_form_is_no_repetition() -> None:
    assert check(msgpack_change(b"\xdf\x00\x00\x00\x01\xda\x00\x05title\xd1\x00\x05"), "msgpack").values == {"title": 5}


@given(
    pairs=st.lists(st.tuples(st.sampled_from(["title", "notes", "a:b", ":", "x/y"]), st.sampled_from([1, ":", '":', "\\", []])), max_size=5),
    base=st.booleans(),
    spaced=st.booleans(),
    escape=st.booleans(),
)  # fmt: skip
def test_the_quick_test_for_repetition_agrees_with_the_plain_one(
    pairs: list[tuple[str, Any]], base: bool, spaced: bool, escape: bool
) -> None:
    colon = " : " if spaced else ":"
    text = "{" + ",".join(f"{json.dumps(path)}{colon}{json.dumps(value)}" for path, value in pairs) + "}"
    if escape:
        text = text.replace("a:b", "a\\u003ab")
        pairs = json.loads(text, object_pairs_hook=list)
    raw = json_change(text, ',"base":1' if base else "")
    if len({path for path, _ in pairs}) < len(pairs):
        assert refused(raw, "json").code == "invalid_value"
    else:
        assert list(check(raw, "json").values) == [path for path, _ in pairs]


@pytest.mark.parametrize(
    "value",
    ['"\\ud800"', '"\\udc00x"', '"\\ud800\\u0041"', '"\ud800"', '{"\\ud800":1}', "NaN", "Infinity", "-Infinity", "1e400", "-1e400",
     "9007199254740993", "-9007199254740993", "[9007199254740993]", "18446744073709551616", "1" * 400, "1" * 5000, "01", "1.", "'a'"],
)  # fmt: skip
def test_what_is_not_jsons(value: str) -> None:
    assert refused(json_change(f'{{"title":{value}}}'), "json").code == "invalid_value"
    assert refused(json_change(f'{{"title":[{value}]}}'), "json").code == "invalid_value"


@pytest.mark.parametrize(
    "packed",
    [
        b"\xc4\x01a",
        b"\x91\xc4\x00",
        b"\xd4\x05a",
        b"\xd6\xff\x00\x00\x00\x01",
        b"\xd7\xff" + b"\xff" * 8,
        b"\xca\x7f\x80\x00\x00",
        b"\xca\x7f\xc0\x00\x00",
        b"\xcb\x7f\xf8" + b"\0" * 6,
        b"\xcf" + b"\xff" * 8,
        b"\xd3\x80" + b"\0" * 7,
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\x81\x01\x01",
        b"\x81\xc0\x01",
        b"\x81\x80\x01",
        b"\x81\x91\x80\x01",
        b"\x81\xc4\x01a\x01",
        b"\x81\xcb\x7f\xf8" + b"\0" * 6 + b"\x01",
        b"\xc1",
    ],
)
def test_what_is_not_jsons_in_msgpack(packed: bytes) -> None:
    assert refused(msgpack_change(b"\x81\xa5title" + packed), "msgpack").code == "invalid_value"
    assert (
        refused(msgpack_change(packed if packed[0] == 0x81 else b"\x81" + packed + b"\x01"), "msgpack").code
        == "invalid_value"
    )


def test_numbers_at_their_bounds_are_kept_as_sent() -> None:
    for text, value in [
        ("9007199254740992", 2**53), ("-9007199254740992", -(2**53)), ("9007199254740992.0", 2.0**53),
        ("1e20", 1e20), ("-0.0", -0.0), ("5e-324", 5e-324), ("1.0", 1.0), ("1", 1),
    ]:  # fmt: skip
        kept = check(json_change(f'{{"title":{text}}}'), "json").values["title"]
        assert (type(kept), repr(kept)) == (type(value), repr(value))
    float32 = check(msgpack_change(b"\x81\xa5title\xca\x3d\xcc\xcc\xcd"), "msgpack").values["title"]
    assert float32 == 0.10000000149011612


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("fits", "over"),
    [
        ("x" * (16 * 1024 - 2), "x" * (16 * 1024 - 1)),
        ("\x01" * 2730, "\x01" * 2731),
        ("é" * 8191, "é" * 8192),
        ('"' * 8191, '"' * 8192),
        (["x" * (16 * 1024 - 4)], ["x" * (16 * 1024 - 3)]),
        # 1e20 is canonically 100000000000000000000, five times as long as sent.
        ([1e20] * 744, [1e20] * 745),
        # … and 1.0 is 1, half as long, so that more was sent than may be stored.
        ([1.0] * 8191, [1.0] * 8192),
    ],
)
def test_sixteen_kibibytes_of_canonical_json_and_not_one_more(format_: Format, fits: Any, over: Any) -> None:
    kept = check(encoded(change({"title": fits}), format_), format_).values["title"]
    assert values.to_python(kept) == fits
    assert refused(encoded(change({"title": over}), format_), format_).code == "too_large"


@pytest.mark.parametrize("format_", FORMATS)
def test_a_member_that_is_not_read_may_be_nested_as_deep_as_a_decoder_allows(format_: Format) -> None:
    """There are a few depths that one codec still takes and the next one, called from a little deeper, does not."""
    for depth in range(500, 1_010):
        nested = b"[" * depth + b"]" * depth if format_ == "json" else b"\x91" * depth + b"\x01"
        raw = encoded(change({"title": "x"}, newer=msgspec.Raw(nested)), format_)
        try:
            assert check(raw, format_).values == {"title": "x"}
        except Refusal as refusal:
            assert refusal.code == "invalid_value"  # noqa: PT017 - either will do


@pytest.mark.parametrize("format_", FORMATS)
def test_deep_nesting(format_: Format) -> None:
    def nested(depth: int) -> bytes:
        if format_ == "json":
            return json_change('{"title":' + "[" * depth + "]" * depth + "}")
        return msgpack_change(b"\x81\xa5title" + b"\x91" * (depth - 1) + b"\x90")

    assert isinstance(check(nested(values.MAX_DEPTH), format_), Change)
    # Around the interpreter's own limit too, where one decoder may still read what another can not.
    for depth in (values.MAX_DEPTH + 1, 400, *range(850, 1_050), 100_000):
        assert refused(nested(depth), format_).code == "invalid_value"


wild = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**64), 2**64 - 1).filter(lambda n: n >= -(2**63)), st.floats(), texts, st.binary(max_size=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.one_of(texts, st.integers(0, 9), st.binary(max_size=2)), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
some_paths = st.sampled_from(["title", "tags/a", "sets/a/reps", "water_ml/7", "new", "a/b", "", "~", "$a.b", "a\0"])
members = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from([ID, "x", 5, None]) | wild,
        "collection": st.sampled_from([*COLLECTIONS, "horses"]) | wild,
        "doc": st.just(DOC) | wild,
        "stamp": st.just(STAMP) | wild,
        "base": st.integers(-1, 3) | wild,
        "set": st.dictionaries(some_paths, wild, max_size=3) | wild,
        "more": wild,
    },
)


def only_refusals(raw: bytes, format_: Format) -> Change | None:
    try:
        read = check(raw, format_)
    except Refusal as refusal:
        assert refusal.change_id is None or len(refusal.change_id) <= 64  # noqa: PT017
        msgspec.json.encode(refusal.result())
        return None
    assert all(components(path) for path in read.values)
    assert all(len(values.canonical(value)) <= values.MAX_VALUE_BYTES for value in read.values.values())
    return read


@settings(max_examples=300)
@given(members=members)
def test_any_msgpack_is_a_change_or_refused(members: dict[str, Any]) -> None:
    only_refusals(msgpack.packb({**change(), **members}), "msgpack")
    only_refusals(msgpack.packb(members), "msgpack")


@settings(max_examples=300)
@given(members=members)
def test_any_json_is_a_change_or_refused(members: dict[str, Any]) -> None:
    for whole in (members, {**change(), **members}):
        for ascii_only in (True, False):
            text = json.dumps(whole, default=repr, ensure_ascii=ascii_only, skipkeys=True)
            only_refusals(text.encode("utf-8", "surrogatepass"), "json")


@settings(max_examples=300)
@given(
    set_=st.dictionaries(some_paths, json_values, max_size=3),
    cuts=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=3),
)
@example(set_={}, cuts=[(0, b"\xff")])
def test_damaged_bytes_are_a_change_or_refused(set_: dict[str, Any], cuts: list[tuple[int, bytes]]) -> None:
    for format_ in FORMATS:
        raw = encoded(change(set_), format_)
        for place, put in cuts:
            at = place % (len(raw) + 1)
            raw = raw[:at] + put + raw[at + len(put) :]
        only_refusals(raw, format_)


@settings(max_examples=200)
@given(raw=st.binary(max_size=60))
def test_any_bytes_are_refused(raw: bytes) -> None:
    for format_ in FORMATS:
        assert only_refusals(raw, format_) is None


@settings(max_examples=200)
@given(set_=st.dictionaries(st.sampled_from(["title", "new/x", "sets/a/note", "notes"]), json_values))
def test_a_change_is_the_same_in_both_formats(set_: dict[str, Any]) -> None:
    as_json, as_msgpack = (only_refusals(encoded(change(set_), format_), format_) for format_ in FORMATS)
    assert as_json is not None
    assert as_msgpack is not None
    assert repr(as_json.values) == repr(as_msgpack.values)
    assert {path: repr(values.to_python(value)) for path, value in as_json.values.items()} == {
        path: repr(value) for path, value in set_.items()
    }


def test_the_envelope_is_the_requests() -> None:
    """Only what is wrong here refuses the whole request; what is wrong in a change does not reach it."""

    def read(**members_: Any) -> SyncRequest:
        return msgspec.json.decode(msgspec.json.encode({"device_id": new_id(), **members_}), type=SyncRequest)

    request = read(changes=[5, None, {"id": []}, "x"], newer=1)
    assert [refused(bytes(raw), "json").code for raw in request.changes] == ["invalid_value"] * 4
    assert (request.cursor, request.limit, request.collections) == ("", 500, msgspec.UNSET)
    envelopes: list[dict[str, Any]] = [
        {"device_id": "x"}, {"device_id": 5}, {"limit": 0}, {"limit": changes.MAX_LIMIT + 1}, {"limit": "1"},
        {"cursor": None}, {"changes": {}}, {"collections": "workouts"}, {"collections": None},
    ]  # fmt: skip
    for wrong in envelopes:
        with pytest.raises(msgspec.ValidationError):
            read(**wrong)
