from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from sync import values
from sync.values import ValueInvalid
from tests.sync.model import json_values, texts


@given(json_values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    kept = values.from_wire(value)
    assert repr(values.to_python(kept)) == repr(value)
    assert repr(msgspec.json.decode(msgspec.json.encode(values.for_json(kept)))) == repr(value)
    assert isinstance(kept, bytes) == isinstance(value, list | dict)


@given(json_values)
def test_the_canonical_form_is_rfc_8785s(value: Any) -> None:
    def as_doubles(part: Any) -> Any:
        """Every number as JavaScript has it, which the RFC is written for."""
        if isinstance(part, list):
            return [as_doubles(item) for item in part]
        if isinstance(part, dict):
            return {name: as_doubles(item) for name, item in part.items()}
        return float(part) if type(part) is int else part

    assert values.canonical(values.from_wire(value)) == rfc8785.dumps(as_doubles(value))


@given(json_values, json_values)
def test_same_is_sameness_of_canonical_forms(one: Any, other: Any) -> None:
    first, second = values.from_wire(one), values.from_wire(other)
    assert values.same(first, second) == (values.canonical(first) == values.canonical(second))
    assert values.same(first, first)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1.0, True), (0.0, -0.0, True), (2**53, float(2**53), True), (1, 2, False), (True, 1, False), (False, 0, False),
        (None, False, False), (None, None, True), ("1", 1, False), ("null", None, False), ("[]", [], False), ([], {}, False),
        ([1], [1.0], True), ([True], [1], False), ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True), ([1, 2], [2, 1], False),
        ("\u00e9", "e\u0301", False), (1e20, 10**15, False),
    ],
)  # fmt: skip
def test_what_is_the_same_value(one: Any, other: Any, expected: bool) -> None:
    first, second = values.from_wire(one), values.from_wire(other)
    assert values.same(first, second) is expected
    assert values.same(second, first) is expected


def test_canonical_keys_are_ordered_by_utf_16() -> None:
    # U+FFFF comes before U+1F600 by code point, and after its surrogates.
    kept = values.from_wire({"\uffff": 1, "\U0001f600": 2, "a": 1e20})
    assert values.canonical(kept) == '{"a":100000000000000000000,"\U0001f600":2,"\uffff":1}'.encode()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (2**53 + 1, "invalid_value"), (-(2**53) - 1, "invalid_value"), (float("nan"), "invalid_value"), (float("inf"), "invalid_value"),
        ([float("-inf")], "invalid_value"), ({"a": [2**60]}, "invalid_value"), (b"x", "invalid_value"), ([b""], "invalid_value"),
        ({1: 2}, "invalid_value"), ([{None: 1}], "invalid_value"), (msgspec.msgpack.Ext(5, b""), "invalid_value"), ((1, 2), "invalid_value"),
        ("x" * 16_383, "too_large"), ([1.5] * 4_096, "too_large"), ({"x" * 16_384: 1}, "too_large"),
    ],
)  # fmt: skip
def test_what_is_no_value(value: Any, code: str) -> None:
    with pytest.raises(ValueInvalid) as refused:
        values.from_wire(value)
    assert refused.value.code == code


@given(json_values)
def test_canonical_json_is_at_most_four_times_shorter(value: Any) -> None:
    """What refusing a large value without its canonical form relies on."""
    assert len(msgspec.json.encode(value)) <= 4 * len(values.canonical(values.from_wire(value)))


def test_a_large_value_is_refused_without_its_canonical_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: Any) -> bytes:
        pytest.fail("It takes half a second a megabyte, in which nobody else is served.")

    monkeypatch.setattr("rfc8785.dumps", never)
    for value in ([1] * 40_000, "x" * 80_000, {"x": [-0.0] * 20_000}):
        with pytest.raises(ValueInvalid):
            values.from_wire(value)


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> Any:
        value: Any = []
        for _ in range(depth - 1):
            value = [value] if depth % 2 else {"a": value}
        return value

    for depth in (values.MAX_DEPTH - 1, values.MAX_DEPTH):
        assert values.to_python(values.from_wire(nested(depth))) == nested(depth)
    for depth in (values.MAX_DEPTH + 1, values.MAX_DEPTH + 2, 900):
        with pytest.raises(ValueInvalid):
            values.from_wire(nested(depth))


@given(st.dictionaries(texts, json_values, max_size=6))
def test_a_documents_size_is_the_length_of_its_json(given_values: dict[str, Any]) -> None:
    stored = {path: values.from_wire(value) for path, value in given_values.items()}
    assert values.encoded_bytes(stored) == len(msgspec.json.encode(given_values))


@given(json_values, st.sampled_from(["json", "msgpack"]))
def test_a_value_is_counted_at_most_six_times_as_long_as_sent(value: Any, sent_as: str) -> None:
    """What the bound of a document's size, which is kept instead of measuring at every change, relies on."""
    sent = msgspec.json.encode({"a": value}) if sent_as == "json" else msgspec.msgpack.encode({"a": value})
    assert values.encoded_bytes({"a": values.from_wire(value)}) <= 6 * len(sent)
