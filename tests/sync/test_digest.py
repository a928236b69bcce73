"""Sums over registers, held against the contract's formula, which is written down here once more."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import digest, merge
from sync.changes import Change
from sync.clock import Stamp
from sync.document import Document, Key, Mark
from sync.head import Head
from sync.merge import State
from tests.sync.model import NOW_MS, change_of, colliding_paths, colliding_values, documents, stamp_at, stamps

KEY = Key("workouts", "0190a0b0-0000-7000-8000-00000000000b")
OTHER = Key("goals", "0190a0b0-0000-7000-8000-00000000000c")


def by_the_contract(key: Key, registers: Mapping[str, int]) -> int:
    """The sum modulo 2^64 of the first 8 bytes (big-endian) of SHA-256("<collection>/<id>/<path>=<stamp>")."""
    total = 0
    for path, stamp in registers.items():
        name = f"{key.collection}/{key.id}/{path}={format(stamp, '016x')}"
        total += int.from_bytes(sha256(name.encode("utf-8")).digest()[:8], "big")
    return total % 2**64


def of_document(document: Document) -> int:
    return by_the_contract(document.key, {path: stamp for path, (_, stamp) in document.registers().items()})


def test_one_register_as_another_program_computes_it() -> None:
    """printf '%s' 'workouts/0190a0b0-0000-7000-8000-00000000000b/title=0cd0000000000001' | sha256sum | cut -c 1-16"""
    held = Document(KEY, seq=1, values={"title": "x"}, usual=Mark(Stamp(0x0CD0000000000001), 1))
    assert digest.to_wire(digest.of(held)) == "9fbd078fda017412"


def test_escapes_count_as_they_are_on_the_wire() -> None:
    paths = {"tags/a~1b": stamp_at(), "new/~0é\U0001f600": stamp_at(counter=1)}
    assert digest.of_registers(KEY, list(paths.items())) == by_the_contract(KEY, paths)
    assert digest.of_registers(KEY, [("tags/a~1b", stamp_at())]) != digest.of_registers(KEY, [("tags/a/b", stamp_at())])


def test_nothing_sums_to_nothing() -> None:
    assert digest.of(Document(KEY)) == 0
    assert digest.of(Document(KEY, seq=5, purged=True)) == 0
    assert digest.to_wire(0) == "0" * 16
    assert digest.to_wire(2**64 - 1) == "f" * 16
    assert digest.all_to_wire({"goals": 10, "workouts": 1}, ["workouts", "nutrition"]) == {
        "workouts": "0000000000000001",
        "nutrition": "0000000000000000",
    }


@given(documents(KEY))
def test_a_documents_sum_is_the_contracts(document: Document) -> None:
    assert digest.of(document) == digest.of(document.compacted()) == of_document(document)


@given(documents(KEY))
def test_values_do_not_count_and_deleted_documents_do(document: Document) -> None:
    other = document.copy()
    other.values = dict.fromkeys(document.values, "another")
    assert digest.of(other) == digest.of(document)
    other.values = dict.fromkeys(document.values, True)
    assert digest.of(other) == digest.of(document)


@pytest.mark.parametrize("part", ["collection", "id", "path", "stamp"])
def test_every_part_of_a_register_counts(part: str) -> None:
    key = OTHER if part == "id" else Key("routines", KEY.id) if part == "collection" else KEY
    register = ("notes" if part == "path" else "title", stamp_at(counter=part == "stamp"))
    assert digest.of_registers(key, [register]) != digest.of_registers(KEY, [("title", stamp_at())])


changes = st.builds(
    lambda given_, stamp, key: change_of(given_, stamp=stamp, key=key),
    st.dictionaries(colliding_paths, colliding_values, max_size=4),
    stamps,
    st.sampled_from([KEY, OTHER]),
)


@given(st.lists(st.lists(changes, min_size=1, max_size=4), max_size=6))
def test_changed_keeps_what_of_computes(requests: list[list[Change]]) -> None:
    """Merge after merge, several changes of a document in one, restamped ones among them."""
    head = Head(epoch=1, devices={})
    held: dict[Key, Document] = {}
    restamps: dict[Stamp, Stamp] = {}
    sums: dict[str, int] = {}
    for request in requests:
        outcome = merge.apply(request, State(head, [KEY, OTHER], dict(held), dict(restamps)), now_ms=NOW_MS - 1)
        head = outcome.head
        restamps |= outcome.restamps
        for document in outcome.written:
            gained = digest.changed(held.get(document.key), document)
            sums[document.key.collection] = (sums.get(document.key.collection, 0) + gained) % 2**64
            held[document.key] = document
        expected = {document.key.collection: of_document(document) for document in held.values()}
        assert sums == expected
        assert {name: head.digests.get(name, 0) for name in expected} == expected


def test_buckets_are_the_first_byte_of_the_ids_hash() -> None:
    assert digest.bucket_of(KEY.id) == int(sha256(KEY.id.encode()).hexdigest()[:2], 16)
    ids: list[Any] = [f"0190a0b0-0000-7000-8000-{n:012x}" for n in range(4_000)]
    assert {digest.bucket_of(one) for one in ids} == set(range(digest.BUCKETS))
