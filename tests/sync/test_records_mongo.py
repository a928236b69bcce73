"""Records come back from MongoDB as what they were made of, and are named so that none is taken for another."""

from typing import Any

import bson
import pytest
from bson.int64 import Int64
from hypothesis import example, given
from hypothesis import strategies as st

from sync import records_mongo as records
from sync import values
from sync.clock import MAX_STAMP, Stamp
from sync.conflicts import KEPT_MS, Conflict
from sync.digest import MODULUS, bucket_of
from sync.document import Document, Key, Mark
from sync.errors import AccountDeleted
from sync.head import Device, Head
from sync.quarantine import Rejected
from sync.schema import COLLECTIONS
from tests.sync.model import NOW_MS, documents, json_values, new_id, texts

KEY = Key("workouts", "0190a0b0-0000-7000-8000-00000000000b")
USER = "5a1f7d9e-0000-4000-8000-000000000001"

any_stamps = st.integers(1, MAX_STAMP).map(Stamp)
sequences = st.integers(0, 2**53)
instants = st.integers(0, 2**42)
names = st.sampled_from([*COLLECTIONS])
paths = st.lists(
    texts.filter(bool).map(lambda text: text.replace("~", "~0").replace("/", "~1")), min_size=1, max_size=4
).map("/".join)
stored_values = json_values.map(values.from_wire)


def through_bson(record: dict[str, Any]) -> dict[str, Any]:
    """As the database gives it back: dates with a zone, integers of 64 bits by themselves."""
    found: dict[str, Any] = bson.decode(bson.encode(record), bson.CodecOptions(tz_aware=True))
    return found


def exact(registers: dict[str, Any]) -> dict[str, tuple[type, str]]:
    return {path: (type(value), repr(value)) for path, value in registers.items()}


@st.composite
def any_documents(draw: st.DrawFn) -> Document:
    """Of any paths and values, at any moment."""
    held = draw(st.dictionaries(paths, stored_values, max_size=5))
    marks = st.builds(Mark, any_stamps, sequences)
    if draw(st.booleans()):
        held["deleted"] = True
    return Document(
        Key(draw(names), new_id()),
        seq=draw(sequences),
        values=held,
        usual=draw(marks),
        marks={path: draw(marks) for path in held if draw(st.booleans())},
        most_bytes=draw(st.integers(0, 2**20)),
        deleted_ms=draw(instants.filter(bool)) if held.get("deleted") else 0,
    )


def same(one: Document, other: Document) -> bool:
    return (
        (one.key, one.seq, one.usual, one.marks, one.most_bytes, one.deleted_ms, one.purged)
        == (other.key, other.seq, other.usual, other.marks, other.most_bytes, other.deleted_ms, other.purged)
    ) and exact(one.values) == exact(other.values)


@given(any_documents() | documents(KEY))
@example(Document(KEY, seq=1, values={"$": 1, "\0": 2, "$\0.$": 3, "~0": 4, "~1z": 5, "a.b": 6, "_id": 7, "$~0": 8}))
@example(
    Document(KEY, seq=2**53, values={"big": 2**53, "small": -(2**53), "one": 1, "minus": -0.0, "big float": 2.0**53})
)
def test_a_document_comes_back(document: Document) -> None:
    record = through_bson(records.of_document(USER, document))
    assert same(records.document(record), document)
    assert not any(type(value) is Int64 for value in records.document(record).values.values())
    assert record["_id"] == f"{USER}/{document.key.collection}/{document.key.id}"
    assert record["bucket"] == bucket_of(document.key.id)
    assert record["deleted"] is document.deleted
    assert ("log" in record) == bool(document.deleted_ms) == ("at" in record)


@given(st.dictionaries(paths, st.just(1), max_size=4))
def test_escaped_names_are_told_from_each_other(held: dict[str, Any]) -> None:
    record = records.of_document(USER, Document(KEY, seq=1, values=held))
    assert len(record["value"]) == len(held)
    assert not any(name.startswith("$") or "\0" in name for name in [*record["value"], *record["stamps"]])
    # What has no need of it stays as it is, so that it can be queried.
    if not any("$" in path or "\0" in path for path in held):
        assert "escaped" not in record
        assert set(record["value"]) == set(held)


@given(st.builds(Key, names, st.uuids().map(str)), sequences)
def test_a_purge_mark_comes_back_and_is_none_of_its_collection(key: Key, seq: int) -> None:
    mark = Document(key, seq=seq, purged=True)
    record = through_bson(records.of_document(USER, mark))
    assert same(records.document(record), mark)
    assert record["_id"] == records.document_id(USER, key)  # in the place of the document
    assert record["collection"] not in COLLECTIONS
    assert set(record) == {"_id", "user_id", "collection", "id", "seq"}


heads = st.builds(
    Head,
    epoch=st.integers(0, 2**31 - 1),
    seq=sequences,
    clock=any_stamps,
    restamped=st.integers(0, MAX_STAMP).map(Stamp),
    digests=st.dictionaries(names, st.integers(0, MODULUS - 1)),
    quarantined_bytes=sequences,
    purge_at_ms=instants,
    devices=st.dictionaries(
        st.uuids().map(str),
        st.builds(Device, st.integers(1, 4095), instants, sequences, st.lists(names, unique=True).map(tuple)),
        max_size=3,
    ),
)


@given(heads)
@example(
    Head(epoch=0, devices={}, digests={"workouts": MODULUS - 1, "goals": MODULUS // 2, "nutrition": MODULUS // 2 - 1})
)
def test_a_head_comes_back(head: Head) -> None:
    record = through_bson(records.of_head(USER, head))
    assert records.head(record) == head
    assert "seq" not in record
    assert "collection" not in record
    assert "log" not in record


def test_an_erased_accounts_head_is_no_head() -> None:
    record = through_bson(records.of_erased(USER, NOW_MS))
    assert record["_id"] == records.head_id(USER)
    with pytest.raises(AccountDeleted):
        records.head(record)


rejections = st.builds(
    Rejected,
    id=st.uuids().map(str),
    change_id=st.none() | texts,
    device_id=st.uuids().map(str),
    received_ms=instants,
    code=st.sampled_from(["invalid_value", "document_purged"]),
    detail=texts,
    format=st.sampled_from(["json", "msgpack"]),
    raw=st.binary(max_size=30),
)


@given(rejections)
def test_a_refused_change_comes_back(entry: Rejected) -> None:
    record = through_bson(records.of_rejected(USER, entry))
    assert records.rejected(record) == entry
    assert type(records.rejected(record).raw) is bytes
    assert (record["log"], record["at"]) == (records.REJECTED, entry.received_ms)


conflicts = st.builds(
    Conflict,
    id=st.uuids().map(str),
    key=st.builds(Key, names, st.uuids().map(str)),
    path=paths,
    lost_stamp=any_stamps,
    lost_value=stored_values,
    won_stamp=any_stamps,
    won_value=stored_values,
    at_ms=instants,
    restored_ms=instants,
)


@given(conflicts)
def test_a_conflict_comes_back_and_leaves_after_thirty_days(conflict: Conflict) -> None:
    record = through_bson(records.of_conflict(USER, conflict))
    found = records.conflict(record)
    assert found == conflict
    assert exact({"lost": found.lost_value, "won": found.won_value}) == exact(
        {"lost": conflict.lost_value, "won": conflict.won_value}
    )
    assert type(found.lost_value) is not Int64
    assert record["expires_at"].timestamp() * 1000 == pytest.approx(conflict.at_ms + KEPT_MS, abs=1)


def test_no_record_has_the_place_of_another() -> None:
    one = new_id()
    ids = [
        records.head_id(USER),
        records.replicas_id(USER),
        records.restamp_id(USER, Stamp(5)),
        records.rejected_id(USER, one),
        records.conflict_id(USER, one),
        *(records.document_id(USER, Key(name, one)) for name in COLLECTIONS),
    ]
    assert len(set(ids)) == len(ids)
    # A transaction finds the head first of all that it asks for: replica numbers or documents.
    assert min([ids[0], ids[1], *ids[5:]]) == ids[0]
    # So that sorted keys are sorted records.
    assert sorted(ids[5:]) == [records.document_id(USER, Key(name, one)) for name in sorted(COLLECTIONS)]
    assert records.entry_id({"_id": ids[3]}) == one


def test_a_list_of_documents_never_shows_what_is_beside_them() -> None:
    kinds = [records.of_head(USER, Head(epoch=1, devices={})), records.of_replicas(USER, [1]),
             records.of_restamp(USER, Stamp(2), Stamp(1))]  # fmt: skip
    assert all("seq" not in record and "collection" not in record and "log" not in record for record in kinds)
