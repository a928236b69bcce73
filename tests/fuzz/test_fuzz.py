"""Ten thousand of a campaign's requests with each run of the tests; and a harness that sees what is wrong."""

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from sync.document import Key
from sync.quarantine import Rejected
from tests.fuzz import campaign
from tests.fuzz.campaign import Failure
from tests.fuzz.gateway import Fault, Gateway, Sent, World, opened
from tests.fuzz.invariants import Follower, check_accounts
from tests.fuzz.valid import Draw

REQUESTS = 10_000


@pytest.fixture
async def gateway(database: AsyncDatabase[dict[str, Any]], mongo_url: str, redis_url: str) -> AsyncIterator[Gateway]:
    async with opened(mongo_url, redis_url, database.name) as gateway:
        yield gateway


@pytest.fixture
async def world(gateway: Gateway) -> World:
    world = World(gateway, 1)
    await world.begin()
    return world


def upload(world: World, **more: Any) -> Sent:
    draw = Draw(world, Random(1))
    change = {
        "id": draw.uuid(),
        "collection": "workouts",
        "doc": draw.documents[0],
        "stamp": "0cd0000000000001",
        "set": {"title": "x"},
    }
    body = {"device_id": world.devices[0][0], "changes": [change], **more}
    return Sent(headers=((b"content-type", b"application/json"),), body=msgspec.json.encode(body))


async def test_mutated_requests_find_nothing(gateway: Gateway) -> None:
    figures = await campaign.run(gateway, requests=REQUESTS, seed=1)
    assert not figures.failures, campaign.shown(figures.failures[0])
    assert figures.requests == REQUESTS
    # It would find nothing either if nothing came through: every outcome has to be among the answers.
    assert {"applied", "unchanged", "superseded", "restamped", "invalid_value", "bad_stamp"} <= figures.results.keys()
    reached = {name.rpartition(" ")[2] for name in figures.statuses}
    assert {"200", "201", "400", "401", "404", "405", "406", "413", "415", "422"} <= reached


async def test_a_fault_of_the_application_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.store, "update", None)
    with pytest.raises(Fault, match="TypeError"):
        await world.send(upload(world))


async def test_wrong_states_are_seen(world: World) -> None:
    sent = upload(world)
    await world.send(sent)
    check_accounts(world)
    account = world.store._account(world.user_ids[0])
    assert account.head is not None
    right = account.head
    for wrong in (
        replace(right, digests={"workouts": 1}),
        replace(right, seq=0),
        replace(right, clock=0),
    ):
        account.head = wrong
        with pytest.raises(Fault):
            check_accounts(world)
    account.head = right
    check_accounts(world)
    account.rejected["x"] = Rejected(
        id="x",
        change_id=None,
        device_id="d",
        received_ms=1,
        code="bad_stamp",
        detail="",
        format="json",
        raw=b"{}",
        content=b"",
    )
    with pytest.raises(Fault):
        check_accounts(world)
    account.head = replace(right, quarantined_bytes=account.rejected["x"].size_bytes)
    check_accounts(world)


async def test_a_follower_sees_what_it_was_not_given(world: World) -> None:
    sent = upload(world)
    await world.send(sent)
    follower = Follower(world, 0, 1)
    await follower.catch_up(limit=1, answered="json")
    account = world.store._account(world.user_ids[0])
    key = Key("workouts", Draw(world, Random(1)).documents[0])
    account.documents[key].values["title"] = "y"
    with pytest.raises(Fault, match="follower"):
        await follower.catch_up(limit=1, answered="json")


async def test_a_failure_is_shrunk_and_can_be_replayed(
    gateway: Gateway, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sync.changes._repeats_keys", broken)
    good = upload(world)
    odd = {"id": "x", "set": {"x": {"a": 1}}}
    change = msgspec.json.decode(good.body)["changes"][0]
    bad = upload(world, changes=[change, {**change, "set": {"x": {"a": 1}}}, odd])
    failure = Failure(kind="logged", detail="", world_seed=1, requests=[good, good, bad, good])
    small = await campaign.shrunk(gateway, failure)
    assert len(small.requests) == 1
    assert len(small.requests[0].body) < len(bad.body) - 100
    again = campaign.load(campaign.save(small, tmp_path))
    fault = await campaign.replayed(gateway, again)
    assert fault is not None
    assert "ZeroDivisionError" in str(fault)
