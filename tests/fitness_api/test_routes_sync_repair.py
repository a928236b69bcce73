"""Repair over HTTP: digests of buckets, and their documents in pages."""

import asyncio
import json
from uuid import uuid4

import msgspec
import pytest

from fitness_api import routes_sync_review
from sync import digest
from sync.document import Key
from sync.errors import StoreUnavailable
from sync.schema import COLLECTIONS
from tests.fitness_api.client import Json, device_of
from tests.fitness_api.test_routes_sync import STAMP, Account, change
from tests.fitness_api.test_routes_sync import ada as ada  # noqa: PLC0414 - a fixture
from tests.fitness_api.test_routes_sync_review import MSGPACK, post
from tests.sync.test_digest import by_the_contract


async def test_a_device_finds_the_bucket_and_fetches_it(ada: Account) -> None:
    other = Account(ada.api, ada.headers, await device_of(ada.api, ada.headers))
    sent = [change(title=str(n), rpe=n) for n in range(20)]
    told = (await other.sync(*sent)).json()["digests"]["workouts"]
    answer = await post(ada, "digest", {"collection": "workouts"})
    assert answer.status_code == 200, answer.text
    sums = answer.json()["digests"]
    assert (answer.json()["collection"], len(sums)) == ("workouts", 256)
    assert f"{sum(int(one, 16) for one in sums) % 2**64:016x}" == told
    stamp = int(STAMP, 16)
    for one in sent:
        bucket = digest.bucket_of(one["doc"])
        page = (await post(ada, "fetch", {"collection": "workouts", "bucket": bucket})).json()
        assert (page["more"], "after" in page) == (False, False)
        given = {document["id"]: document for document in page["documents"]}
        assert given[one["doc"]]["fields"] == {STAMP: one["set"]}
        total = 0
        for document in page["documents"]:
            assert digest.bucket_of(document["id"]) == bucket
            paths = dict.fromkeys(document["fields"][STAMP], stamp)
            total += by_the_contract(Key(document["collection"], document["id"]), paths)
        assert sums[bucket] == f"{total % 2**64:016x}"


async def test_a_bucket_comes_in_pages(ada: Account) -> None:
    docs: list[str] = []
    while len(docs) < 9:
        if digest.bucket_of(one := str(uuid4())) == 7:
            docs.append(one)
    for doc in docs:
        await ada.sync(change(**{f"p{n}": "x" * 16_000 for n in range(12)}) | {"doc": doc})
    body: Json = {"collection": "workouts", "bucket": 7}
    found: list[str] = []
    pages = 0
    while True:
        page = (await post(ada, "fetch", body)).json()
        found += [one["id"] for one in page["documents"]]
        pages += 1
        if not page["more"]:
            break
        body["after"] = page["after"]
    assert (found, pages) == (docs, 2)
    packed = await ada.api.post(
        "/v1/sync/fetch", content=msgspec.msgpack.encode(body), headers={**ada.headers, "content-type": MSGPACK}
    )
    assert msgspec.msgpack.decode(packed.content) == page


async def test_every_collection_can_be_asked_for(ada: Account) -> None:
    for name in COLLECTIONS:
        assert (await post(ada, "digest", {"collection": name, "buckets": 256})).json()["digests"] == ["0" * 16] * 256
        assert (await post(ada, "fetch", {"collection": name, "bucket": 255})).json() == {
            "documents": [],
            "more": False,
        }


WRONG_QUESTIONS: list[tuple[str, Json, str]] = [
    ("digest", {}, "/collection"),
    ("digest", {"collection": "horses"}, "/collection"),
    ("digest", {"collection": ".purged"}, "/collection"),
    ("digest", {"collection": "workouts.purged"}, "/collection"),
    ("digest", {"collection": 5}, "/collection"),
    ("digest", {"collection": "workouts", "buckets": 16}, "/buckets"),
    ("digest", {"collection": "workouts", "buckets": "256"}, "/buckets"),
    ("fetch", {"collection": "workouts"}, "/bucket"),
    ("fetch", {"collection": "horses", "bucket": 1}, "/collection"),
    ("fetch", {"collection": "workouts", "bucket": -1}, "/bucket"),
    ("fetch", {"collection": "workouts", "bucket": 256}, "/bucket"),
    ("fetch", {"collection": "workouts", "bucket": 1.5}, "/bucket"),
    ("fetch", {"collection": "workouts", "bucket": 1, "after": -1}, "/after"),
    ("fetch", {"collection": "workouts", "bucket": 1, "after": None}, "/after"),
    ("fetch", {"collection": "workouts", "bucket": 1, "after": 2**53 + 1}, "/after"),
    ("fetch", {"collection": "workouts", "bucket": 1, "after": 2**63}, "/after"),
    ("fetch", {"collection": "workouts", "bucket": 1, "after": 10**30}, "/after"),
]


async def test_a_wrong_question_is_422(ada: Account) -> None:
    for path, body, pointer in WRONG_QUESTIONS:
        answer = await post(ada, path, body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body"), (body, answer.text)
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_place_beyond_everything_has_no_more(ada: Account) -> None:
    await ada.sync(change(title="x"))
    for after in (1, 2, 2**53):
        answer = await post(ada, "fetch", {"collection": "workouts", "bucket": 1, "after": after})
        assert answer.json() == {"documents": [], "more": False}


async def test_a_body_that_is_too_large_or_none_is_refused(ada: Account) -> None:
    for path in ("digest", "fetch"):
        answer = await post(ada, path, {"collection": "workouts", "bucket": 1, "x": "x" * 5_000})
        assert answer.json()["code"] == "body_too_large"
        empty = await ada.api.post(
            f"/v1/sync/{path}", content=b"", headers={**ada.headers, "content-type": "application/json"}
        )
        assert empty.json()["code"] == "malformed_body"
        assert json.loads(empty.content)["status"] == 400


async def test_who_waits_too_long_for_a_repair_comes_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_sync_review, "_PATIENCE_S", 0.01)
    places = asyncio.Semaphore(1)
    async with routes_sync_review._place(places):
        with pytest.raises(StoreUnavailable) as refused:
            await routes_sync_review._place(places).__aenter__()
        assert refused.value.retry_after_s > 1
    for _ in range(2):
        async with routes_sync_review._place(places):
            assert places.locked()
