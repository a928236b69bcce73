"""Devices as a state machine: whatever happens to them, and in whichever order, they end alike, and none ever thinks that it diverged."""

import asyncio
import copy
import random
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sync.errors import UnknownDevice
from sync.replica import Replica
from sync.store_memory import MemoryStore
from tests.sync.answers import (
    IDS,
    USER,
    Json,
    answer,
    device,
    expected,
    registers,
    sync,
)
from tests.sync.model import NOW_MS, colliding_values

T = TypeVar("T")
DAY_MS = 86_400_000

who = st.integers(0, 1)
collections = st.sampled_from(["workouts", "goals"])
paths = st.sampled_from(["title", "deleted", "rpe", "tags/x", "sets/a/reps"])
# From decades behind to decades ahead, and around the minute that the server believes.
offsets = st.sampled_from([-10 * 365 * DAY_MS, -1000, 0, 1, 59_000, 61_000, 10 * 365 * DAY_MS])
subsets = st.sampled_from([None, ("workouts",), ("goals",), ("workouts", "goals")])


class Devices(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(random.Random(1))
        self.now_ms = NOW_MS
        self.replicas = [self.run(device(self.store)) for _ in range(2)]
        self.backup = copy.deepcopy(self.store)
        self.restores = 1
        self.under_way: dict[int, tuple[Json, Json]] = {}

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        self.now_ms += 1_000
        return asyncio.run(step)

    def answered(self, number: int, limit: int) -> tuple[Json, Json]:
        replica = self.replicas[number]
        try:
            request = replica.request(limit=limit)
            return request, self.run(answer(self.store, request, now_ms=self.now_ms))
        except UnknownDevice:
            replica.registered(replica.device_id, self.run(self.store.register_device(USER, replica.device_id)))
            return self.answered(number, limit)

    @rule(
        number=who,
        collection=collections,
        doc=st.sampled_from(IDS[:2]),
        path=paths,
        value=colliding_values,
        off_ms=offsets,
    )
    def edit(self, number: int, collection: str, doc: str, path: str, value: Any, off_ms: int) -> None:
        given = {path: bool(value) if path.startswith("tags/") else value}
        if collection == "goals" and path.startswith("sets/"):
            given = {f"progress/{self.replicas[number].number}": self.now_ms % 1000}
        self.replicas[number].edit(collection, doc, given, change_id=str(uuid.uuid4()), now_ms=self.now_ms + off_ms)

    @rule(number=who, limit=st.sampled_from([1, 2, 500]))
    def sync(self, number: int, limit: int) -> None:
        self.under_way.pop(number, None)
        self.replicas[number].receive(*self.answered(number, limit))

    @rule(number=who)
    def send(self, number: int) -> None:
        """The response comes later, or never."""
        self.under_way[number] = self.answered(number, 2)

    @rule(number=who)
    def response_comes(self, number: int) -> None:
        if number in self.under_way:
            self.replicas[number].receive(*self.under_way.pop(number))

    @rule(number=who)
    def crash(self, number: int) -> None:
        self.under_way.pop(number, None)
        self.replicas[number] = Replica.restore(self.replicas[number].snapshot())

    @rule(number=who, subset=subsets)
    def choose(self, number: int, subset: tuple[str, ...] | None) -> None:
        self.replicas[number].collections = subset

    @rule(number=who)
    def hand_over(self, number: int) -> None:
        self.replicas[1 - number].carry(self.replicas[number].hand_over())

    @rule(number=who)
    def tell(self, number: int) -> None:
        self.replicas[1 - number].told(copy.deepcopy(list(self.replicas[number].carried.values())))

    @rule(number=who)
    def set_aside(self, number: int) -> None:
        for change_id in list(self.replicas[number].unsent)[:1]:
            self.replicas[number].set_aside(change_id)

    @rule()
    def settle_and_back_up(self) -> None:
        for number, replica in enumerate(self.replicas):
            self.sync(number, 500)
            self.run(sync(self.store, replica, now_ms=self.now_ms))
        self.backup = copy.deepcopy(self.store)

    @rule(number=who)
    def restore(self, number: int) -> None:
        """As the protocol asks: the epoch is bumped before the restored server serves. Something was uploaded since, and is lost."""
        self.sync(number, 500)
        self.store = copy.deepcopy(self.backup)
        self.restores += 1
        self.store._dice.seed(self.restores)  # an epoch is never drawn twice
        self.run(self.store.bump_epoch(USER))

    @rule(number=who)
    def rewound(self, number: int) -> None:
        self.replicas[number].cursor = self.replicas[number].cursor and "of another server"

    @invariant()
    def none_diverged(self) -> None:
        assert not any(replica.diverged or replica.wants_to_repair for replica in self.replicas)

    def teardown(self) -> None:
        told = [
            (key, path, register.stamp)
            for replica in self.replicas
            for part in (replica.answered, replica._held or {})
            for key, held in part.items()
            for path, register in held.items()
        ]
        for replica in self.replicas:
            replica.collections = None
            for change_id in list(replica.aside):
                replica.put_back(change_id)
        for _ in range(3):  # what a restored server lost may be with the last of them, and overtake what the first gave
            for number, replica in enumerate(self.replicas):
                self.replicas[number].receive(*self.answered(number, 500))
                self.run(sync(self.store, replica, limit=2, now_ms=self.now_ms))
        held = self.run(expected(self.store))
        for replica in self.replicas:
            assert not replica.unsent
            assert registers(replica) == held
        for key, path, stamp in told:
            assert held[key][path][1] >= stamp
        self.none_diverged()


TestDevices = Devices.TestCase
TestDevices.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
