"""The faults do happen, each as it says."""

import random
from collections import Counter

import httpx
import pytest

from fitness_api import cli
from fitness_api.fleet.faults import FAULTS, Fault, FaultyTransport, corrupted
from sync.clock import Stamp
from sync.document import Key
from sync.replica import Register, Replica


async def asked(*faults: Fault, times: int = 200) -> tuple[Counter[str], Counter[str], int]:
    """What happened to so many requests, what the transport says that it did, and how many reached the server."""
    reached = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal reached
        reached += 1
        return httpx.Response(200, text="whole")

    met: Counter[str] = Counter()
    happened: Counter[str] = Counter()
    transport = FaultyTransport(httpx.MockTransport(answer), frozenset(faults), random.Random(1), met)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as http:
        for _ in range(times):
            try:
                happened[(await http.post("/v1/sync", json={})).text] += 1
            except httpx.TransportError as error:
                happened[type(error).__name__] += 1
    return happened, met, reached


async def test_without_faults_every_request_goes_through_once() -> None:
    assert await asked() == (Counter(whole=200), Counter(), 200)


async def test_requests_and_responses_are_lost() -> None:
    happened, met, reached = await asked("drop")
    assert happened["ConnectError"] > 0
    assert happened["ReadError"] > 0
    assert met["drop"] == happened["ConnectError"] + happened["ReadError"]
    assert reached == 200 - happened["ConnectError"]


async def test_requests_are_sent_twice() -> None:
    happened, met, reached = await asked("duplicate")
    assert happened == Counter(whole=200)
    assert reached == 200 + met["duplicate"] > 200


async def test_requests_are_late() -> None:
    _, met, reached = await asked("delay", times=5)
    assert met.keys() <= {"delay"}
    assert reached == 5


@pytest.mark.parametrize("seed", range(5))
def test_a_corrupted_store_can_be_read_and_lacks_something(seed: int) -> None:
    replica = Replica("d", 1)
    for number in range(40):
        for path in ("title", "notes"):
            replica._answered.enter(Key("workouts", f"{number}"), path, Register(number, Stamp(8192)))
    replica.edit("workouts", "1", {"title": "unsent"}, change_id="c", now_ms=1)
    hurt = Replica.restore(corrupted(replica.snapshot(), random.Random(seed)))
    assert hurt.answered != replica.answered
    assert hurt.digests() != replica.digests()
    assert hurt.unsent == replica.unsent


def test_the_command_line_knows_every_fault() -> None:
    assert cli.FAULTS == FAULTS
