"""The round trip over HTTP: what a client sends wrong, what it gets for it, and that nothing of it is stored."""

import gzip
import json
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pymongo.asynchronous.database import AsyncDatabase

from sync import clock
from sync.changes import MAX_CHANGES, MAX_REQUEST_BYTES
from sync.schema import COLLECTIONS
from tests.fitness_api.client import Json, bearer, device_of, registered

STAMP = clock.to_wire(clock.Stamp(1_700_000_000_000 << 21 | 5))


class Account:
    def __init__(self, api: httpx.AsyncClient, headers: dict[str, str], device: Json) -> None:
        self.api = api
        self.headers = headers
        self.device_id: str = device["device_id"]
        self.replica: int = device["replica"]

    async def sync(self, *changes: Any, cursor: str = "", **more: Any) -> httpx.Response:
        body = {"device_id": self.device_id, "cursor": cursor, "changes": list(changes), **more}
        return await self.api.post("/v1/sync", json=body, headers=self.headers)

    async def send(self, content: bytes, **headers: str) -> httpx.Response:
        sent = {"content-type": "application/json", **self.headers, **headers}
        return await self.api.post("/v1/sync", content=content, headers=sent)


async def account_of(api: httpx.AsyncClient, email: str) -> Account:
    headers = bearer(await registered(api, email))
    return Account(api, headers, await device_of(api, headers))


@pytest.fixture
async def ada(api: httpx.AsyncClient) -> Account:
    return await account_of(api, "ada@example.org")


def change(**given: Any) -> Json:
    return {"id": str(uuid4()), "collection": "workouts", "doc": str(uuid4()), "stamp": STAMP, "set": given}


async def document_count(database: AsyncDatabase[dict[str, Any]]) -> int:
    return await database["sync_records"].count_documents({"collection": {"$exists": True}})


async def test_what_one_device_uploads_another_is_given(ada: Account) -> None:
    other = Account(ada.api, ada.headers, await device_of(ada.api, ada.headers))
    sent = change(title="Leg day", rpe=7.5, notes=None, deleted=False)
    up = (await ada.sync(sent)).json()
    assert [result["status"] for result in up["results"]] == ["applied"]
    assert (up["documents"], up["more"], up["reset"], up["remaining"]) == ([], False, False, 0)
    down = (await other.sync()).json()
    assert down["documents"] == [
        {"collection": "workouts", "id": sent["doc"], "seq": 1, "fields": {STAMP: sent["set"]}}
    ]
    assert down["stamp"] == STAMP
    assert down["limits"] == {"max_changes": MAX_CHANGES, "max_bytes": MAX_REQUEST_BYTES, "next_sync_after_s": 0}


async def test_msgpack_and_json_carry_the_same(ada: Account) -> None:
    sent = change(title="Leg day", rpe=7.5, distance_m=2**40, x={"a": [1, 2.5, None]})
    body = msgspec.msgpack.encode({"device_id": ada.device_id, "changes": [sent]})
    up = await ada.send(body, **{"content-type": "application/msgpack", "accept": "application/msgpack"})
    assert msgspec.msgpack.decode(up.content)["results"][0]["status"] == "applied"
    as_json = (await ada.sync()).json()["documents"]
    request = msgspec.msgpack.encode({"device_id": ada.device_id})
    as_msgpack = await ada.send(request, **{"content-type": "application/msgpack"})
    assert msgspec.msgpack.decode(as_msgpack.content)["documents"] == as_json
    assert as_json[0]["fields"][STAMP] == sent["set"]


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        (b"", 400, "malformed_body", None),
        (b"{", 400, "malformed_body", None),
        (b'{"device_id": "\xff"}', 400, "malformed_body", None),
        (b'{"x": ' + b"[" * 100_000, 400, "malformed_body", None),
        (b'{"device_id": NaN}', 400, "malformed_body", None),
        (b"[]", 422, "invalid_body", ""),
        (b"{}", 422, "invalid_body", "/device_id"),
        (b'{"device_id": 5}', 422, "invalid_body", "/device_id"),
        (b'{"device_id": "Z"}', 422, "invalid_body", "/device_id"),
        (b'{"device_id": "%s", "limit": 0}', 422, "invalid_body", "/limit"),
        (b'{"device_id": "%s", "limit": "x"}', 422, "invalid_body", "/limit"),
        (b'{"device_id": "%s", "changes": {}}', 422, "invalid_body", "/changes"),
        (b'{"device_id": "%s", "collections": [5]}', 422, "invalid_body", "/collections/0"),
        (b'{"device_id": "%s", "cursor": null}', 422, "invalid_body", "/cursor"),
    ],
)
async def test_a_wrong_envelope_is_refused_with_a_pointer_and_stores_nothing(
    ada: Account, database: AsyncDatabase[dict[str, Any]], body: bytes, status: int, code: str, pointer: str | None
) -> None:
    answer = await ada.send(body.replace(b"%s", ada.device_id.encode()))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert pointer is None or [error["pointer"] for error in problem["errors"]] == [pointer]
    assert await document_count(database) == 0


async def test_a_bad_change_is_its_own_result_and_the_good_one_stands(ada: Account) -> None:
    good = change(title="good")
    bad: list[Any] = [
        5,
        None,
        "x",
        [],
        {},
        change() | {"id": "no"},
        change() | {"stamp": "0" * 16},
        change() | {"collection": "x"},
    ]
    answer = await ada.sync(*bad[:4], good, *bad[4:])
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["rejected"] * 4 + ["applied"] + ["rejected"] * 4
    assert results[4]["id"] == good["id"]
    assert [result["code"] for result in results[-2:]] == ["bad_stamp", "unknown_collection"]


@pytest.mark.parametrize("wrong", ["\\ud800", "\\uDFFF\\ud800", "\\\\\\udc00x", "\\ud83d\\u0041"])
async def test_a_lone_surrogate_is_its_own_changes_rejection(ada: Account, wrong: str) -> None:
    good = change(title="\U0001f600", notes="a literal \\ud800")
    bad = change(title="WRONG")
    body = json.dumps({"device_id": ada.device_id, "changes": [bad, good]}).replace("WRONG", wrong)
    results = (await ada.send(body.encode())).json()["results"]
    assert [(one["id"], one["status"]) for one in results] == [(bad["id"], "rejected"), (good["id"], "applied")]
    assert results[0]["code"] == "invalid_value"
    given = (await ada.sync()).json()["documents"]
    assert [one["fields"][STAMP] for one in given] == [good["set"]]


async def test_too_many_changes_or_bytes_are_413_with_the_limits(
    ada: Account, database: AsyncDatabase[dict[str, Any]]
) -> None:
    many = await ada.sync(*[change(title="x")] * (MAX_CHANGES + 1))
    long = await ada.send(b'{"device_id": "' + b"x" * MAX_REQUEST_BYTES)
    for answer in (many, long):
        assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")
        assert answer.json()["limits"] == {"max_changes": MAX_CHANGES, "max_bytes": MAX_REQUEST_BYTES}
    assert await document_count(database) == 0


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_compression_bomb_is_413(ada: Account, coding: str) -> None:
    zeros = b"0" * (64 * 1024 * 1024)
    bomb = gzip.compress(zeros) if coding == "gzip" else zstandard.compress(zeros)
    answer = await ada.send(bomb, **{"content-encoding": coding})
    assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")


async def test_a_compressed_batch_is_read(ada: Account) -> None:
    body = {"device_id": ada.device_id, "changes": [change(title="x")]}
    answer = await ada.send(zstandard.compress(json.dumps(body).encode()), **{"content-encoding": "zstd"})
    assert answer.json()["results"][0]["status"] == "applied"


async def test_an_unregistered_device_is_409_and_its_changes_are_not_stored(
    ada: Account, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada.device_id = str(uuid4())
    for changes in ([change(title="x")], []):
        answer = await ada.sync(*changes)
        assert (answer.status_code, answer.json()["code"]) == (409, "unknown_device")
    assert await document_count(database) == 0


async def test_another_accounts_documents_device_and_cursor_are_of_no_use(ada: Account) -> None:
    eve = await account_of(ada.api, "eve@example.org")
    hers = change(title="hers")
    cursor = (await ada.sync(hers)).json()["cursor"]
    # The same document id is another document in another account.
    answer = (await eve.sync(hers | {"set": {"title": "mine"}}, cursor=cursor)).json()
    assert answer["reset"] is True
    assert (await ada.sync(cursor=cursor)).json()["documents"] == []
    eve.device_id = ada.device_id
    assert (await eve.sync()).json()["code"] == "unknown_device"


async def test_a_token_is_needed(ada: Account) -> None:
    ada.headers = {}
    assert (await ada.sync()).status_code == 401


async def test_the_schema_names_every_collection_and_shape(ada: Account) -> None:
    answer = await ada.api.get("/v1/sync/schema", headers=ada.headers)
    collections = answer.json()["collections"]
    assert set(collections) == set(COLLECTIONS)
    assert collections["workouts"]["tags"] == {"shape": "set"}
    assert collections["nutrition"]["water_ml"]["shape"] == "counter"
    assert collections["workouts"]["sets"]["fields"]["weight_kg"]["unit"] == "kg"
    again = await ada.api.get("/v1/sync/schema", headers={**ada.headers, "if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


scraps = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_no_request_is_a_500(ada: Account, data: st.DataObject) -> None:
    """A good request, then some of it replaced by scraps, then some of its bytes."""
    one = change(title="x", **{"tags/a": True, "water": {"a": 1}})
    request: Json = {"device_id": ada.device_id, "cursor": "", "limit": 5, "changes": [one, change(rpe=1)]}
    for _ in range(data.draw(st.integers(0, 2))):
        target = data.draw(st.sampled_from([request, one, one["set"]]))
        if isinstance(target, dict) and target:  # `set` may have become a scrap itself
            target[data.draw(st.sampled_from([*target, "more"]))] = data.draw(scraps)
    form = data.draw(st.sampled_from(["json", "msgpack"]))
    try:
        body = bytearray(json.dumps(request).encode() if form == "json" else msgspec.msgpack.encode(request))
    except (OverflowError, UnicodeEncodeError):
        return  # msgpack has no such integer or text
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    answer = await ada.send(bytes(body), **{"content-type": f"application/{form}"})
    assert answer.status_code in {200, 400, 409, 413, 422}, answer.text
