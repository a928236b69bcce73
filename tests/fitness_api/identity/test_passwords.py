import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type

from fitness_api.identity import passwords as module
from fitness_api.identity.errors import PasswordHashersBusy
from fitness_api.identity.passwords import MAX_WAITING_PER_HASHER, STRANGERS_WAITING_PER_HASHER, Passwords


@pytest.fixture
def one() -> Iterator[Passwords]:
    one = Passwords(hashers=1)
    yield one
    one.close()


async def test_a_password_is_known_by_its_hash_and_no_other(passwords: Passwords) -> None:
    first, second = await passwords.hash("correct horse"), await passwords.hash("correct horse")
    assert first != second
    assert await passwords.verify(first, "correct horse")
    assert not await passwords.verify(first, "correct hors")
    assert not await passwords.verify("not a hash", "correct horse")


async def test_hashes_are_made_as_asvs_asks(passwords: Passwords) -> None:
    parameters = extract_parameters(await passwords.hash("x"))
    assert parameters.type == Type.ID
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (46 * 1024, 1, 1)


async def test_nobodys_hash_costs_what_a_real_one_does_and_matches_nothing(passwords: Passwords) -> None:
    assert extract_parameters(module._DUMMY) == extract_parameters(await passwords.hash("x"))
    assert not passwords.is_outdated(module._DUMMY)
    assert not await passwords.verify(None, "")
    assert not await passwords.verify(None, "x")


async def test_hashes_of_other_parameters_are_outdated_and_still_hold(passwords: Passwords) -> None:
    old = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1).hash("correct horse")
    assert passwords.is_outdated(old)
    assert await passwords.verify(old, "correct horse")
    assert not passwords.is_outdated(await passwords.hash("correct horse"))


async def test_beyond_the_queue_callers_are_turned_away_at_once(one: Passwords) -> None:
    room = 1 + MAX_WAITING_PER_HASHER
    waiting = [asyncio.create_task(one.verify(None, "x", is_known_device=True)) for _ in range(room)]
    await asyncio.sleep(0)
    with pytest.raises(PasswordHashersBusy) as error:
        await one.verify(None, "x", is_known_device=True)
    assert error.value.retry_after_s >= 1
    with pytest.raises(PasswordHashersBusy):
        await one.hash("x", is_known_device=True)
    assert await asyncio.gather(*waiting) == [False] * room
    assert not await one.verify(None, "x")


async def test_a_flood_of_strangers_leaves_room_for_known_devices(one: Passwords) -> None:
    strangers = [asyncio.create_task(one.verify(None, "x")) for _ in range(10 * MAX_WAITING_PER_HASHER)]
    await asyncio.sleep(0)
    assert one._admitted == 1 + STRANGERS_WAITING_PER_HASHER
    assert not await one.verify(None, "x", is_known_device=True)
    refused = [one for one in await asyncio.gather(*strangers, return_exceptions=True) if one is not False]
    assert len(refused) == 10 * MAX_WAITING_PER_HASHER - 1 - STRANGERS_WAITING_PER_HASHER
    assert all(isinstance(one, PasswordHashersBusy) for one in refused)


async def test_known_devices_come_first(one: Passwords) -> None:
    finished: list[str] = []

    async def tries(who: str) -> None:
        await one.verify(None, "x", is_known_device=who == "known")
        finished.append(who)

    strangers = [asyncio.create_task(tries("stranger")) for _ in range(1 + STRANGERS_WAITING_PER_HASHER)]
    await asyncio.sleep(0)
    known = [asyncio.create_task(tries("known")) for _ in range(2)]
    await asyncio.sleep(0)
    strangers[-1].cancel()
    known[0].cancel()
    await asyncio.gather(*strangers, *known, return_exceptions=True)
    # After the one whose password was being checked.
    assert finished == ["stranger", "known"] + ["stranger"] * (STRANGERS_WAITING_PER_HASHER - 1)
    assert (one._free, one._admitted) == (1, 0)


async def test_a_place_is_held_from_before_anything_is_read(one: Passwords) -> None:
    with ExitStack() as strangers:
        for _ in range(1 + STRANGERS_WAITING_PER_HASHER):
            strangers.enter_context(one.admitted(is_known_device=False))
        with pytest.raises(PasswordHashersBusy), one.admitted(is_known_device=False):
            pass
        with one.admitted(is_known_device=True):
            assert not await one.verify(None, "x", is_known_device=True)
    with one.admitted(is_known_device=False):
        pass


async def test_those_who_leave_the_queue_make_room(one: Passwords) -> None:
    waiting = [asyncio.create_task(one.verify(None, "x")) for _ in range(1 + STRANGERS_WAITING_PER_HASHER)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert one._admitted == 0
    assert not await one.verify(None, "x")
