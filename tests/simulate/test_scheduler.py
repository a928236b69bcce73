"""Coroutines that are stepped by hand may use asyncio's locks, and die where they stand."""

import asyncio

import pytest

from tests.simulate.scheduler import Loop, Stepped, Stuck, pause


async def _hold(lock: asyncio.Lock, said: list[str], name: str) -> str:
    async with lock:
        said.append(f"{name} begins")
        await pause()
        said.append(f"{name} ends")
    return name


def test_a_coroutine_waits_for_the_lock_that_another_holds() -> None:
    loop, lock, said = Loop(), asyncio.Lock(), list[str]()
    first, second = (Stepped(loop, lambda name=name: _hold(lock, said, name)) for name in ("first", "second"))  # type: ignore[misc]
    with loop.running():
        first.step()
        second.go_on(3)
        assert said == ["first begins"]
        with pytest.raises(Stuck):
            second.finish()
        first.finish()
        second.finish()
    assert said == ["first begins", "first ends", "second begins", "second ends"]
    assert (first.result, second.result) == ("first", "second")


def test_a_coroutine_that_is_killed_lets_its_lock_go_and_does_nothing_more() -> None:
    loop, lock, said = Loop(), asyncio.Lock(), list[str]()
    first, second = (Stepped(loop, lambda name=name: _hold(lock, said, name)) for name in ("first", "second"))  # type: ignore[misc]
    with loop.running():
        first.step()
        second.step()
        first.kill()
        first.step()
        second.finish()
    assert said == ["first begins", "second begins", "second ends"]
    assert first.result is None
