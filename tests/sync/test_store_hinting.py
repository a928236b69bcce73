"""What is announced; that it is a store is checked with the others, in test_store."""

import pytest
from msgspec.structs import replace

from sync.clock import Stamp
from sync.document import Key
from sync.exchange import fill
from sync.merge import Outcome, State
from sync.store_hinting import HintingStore
from sync.store_memory import MemoryStore

USER = "7f1d5c9e-0000-4000-8000-000000000000"
WORKOUT = "0190f3a1-6f5e-7c3b-9d0a-3c5f6a7b8c9d"


@pytest.fixture
def announced() -> list[str]:
    return []


@pytest.fixture
async def store(announced: list[str]) -> HintingStore:
    store = HintingStore(MemoryStore(), announced.append)
    await store.register_device(USER, "a device")
    return store


async def test_what_lands_is_announced_once_it_is_stored(store: HintingStore, announced: list[str]) -> None:
    assert announced == []
    await fill(store, USER, "workouts", WORKOUT, {"title": "Leg day"}, now_ms=1)
    assert announced == [USER]
    head = await store.head(USER)
    assert head is not None
    assert head.seq == 1


async def test_what_is_there_already_is_announced_again_as_its_first_answer_may_have_been_lost(
    store: HintingStore, announced: list[str]
) -> None:
    for _ in range(2):
        await fill(store, USER, "workouts", WORKOUT, {"title": "Leg day"}, now_ms=1)
    assert announced == [USER, USER]


async def test_reading_and_what_the_head_says_of_devices_are_no_news(store: HintingStore, announced: list[str]) -> None:
    def step(state: State) -> Outcome:
        return Outcome(replace(state.head, restamped=Stamp(2)), restamps={Stamp(1): Stamp(2)})

    await store.update(USER, [Key("workouts", WORKOUT)], (), step)
    await store.update(USER, [], (), step)
    await store.update(USER, [], (), lambda state: Outcome(state.head))
    assert await store.document(USER, Key("workouts", WORKOUT)) is None
    async with store.view(USER) as view:
        assert view is not None
    await store.forget_device(USER, "a device")
    await store.bump_all_epochs()
    assert announced == []


async def test_what_fails_is_not_announced(store: HintingStore, announced: list[str]) -> None:
    def step(_: State) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.update(USER, [Key("workouts", WORKOUT)], (), step)
    assert announced == []


async def test_devices_hear_of_a_new_epoch_and_of_the_end(store: HintingStore, announced: list[str]) -> None:
    assert await store.bump_epoch(USER)
    await store.erase(USER, now_ms=1)
    assert announced == [USER, USER]
