import asyncio

from msgspec.structs import replace

from sync import merge
from sync.attach import find_workout
from sync.clock import Stamp
from sync.document import Key
from sync.exchange import fill
from sync.merge import Outcome, State
from sync.store_hinting import HintingStore
from sync.store_memory import MemoryStore

USER = "7f1d5c9e-0000-4000-8000-000000000000"
WORKOUT = "0190f3a1-6f5e-7c3b-9d0a-3c5f6a7b8c9d"


async def test_what_lands_is_announced_once_it_is_stored_and_nothing_else_is() -> None:
    announced: list[str] = []
    store = HintingStore(MemoryStore(), announced.append)
    replica = await store.register_device(USER, "a device")
    assert await store.head(USER) is not None
    assert announced == []
    await fill(store, USER, "workouts", WORKOUT, {"title": "Leg day"}, now_ms=1)
    assert announced == [USER]
    await fill(store, USER, "workouts", WORKOUT, {"title": "Another"}, now_ms=2)  # nothing is lacking
    assert await find_workout(store, USER, WORKOUT) is not None
    assert announced == [USER]
    assert await store.count_changed(USER, ["workouts"], after=0, upto=9) == 1
    found = store.changed(USER, ["workouts"], after=0, upto=9, newest_first=False)
    assert [document.key.id async for document in found] == [WORKOUT]
    assert await store.register_device(USER, "a device") == replica
    await store.forget_device(USER, "a device")
    assert announced == [USER]


async def test_a_head_that_changes_without_a_document_is_no_news() -> None:
    announced: list[str] = []
    store = HintingStore(MemoryStore(), announced.append)

    def step(state: State) -> Outcome:
        return Outcome(replace(state.head, restamped=Stamp(2)), (), {Stamp(1): Stamp(2)}, ())

    _, outcome = await store.update(USER, [], (), step)
    assert outcome.writes
    assert announced == []


async def test_what_fails_is_not_announced() -> None:
    announced: list[str] = []
    store = HintingStore(MemoryStore(), announced.append)

    def step(state: State) -> Outcome:
        merge.fill(Key("workouts", WORKOUT), {"title": "x"}, state, now_ms=1)
        raise ZeroDivisionError

    results = await asyncio.gather(store.update(USER, [Key("workouts", WORKOUT)], (), step), return_exceptions=True)
    assert isinstance(results[0], ZeroDivisionError)
    assert announced == []
