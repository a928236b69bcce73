"""Coroutines stepped by hand: no threads, no clock, nothing runs but what was asked to.

A coroutine stops at every `pause()`, which is where a process may die and where others may come between, and at every future it
waits for, as `asyncio.Lock` makes them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context
from types import coroutine
from typing import Any, Final, Generic, TypeVar, cast

T = TypeVar("T")

# A coroutine that stops more often than this waits for something that never comes.
_MOST_STOPS: Final = 10_000


class Stuck(Exception):
    """A coroutine waits for what no other will bring."""


@coroutine
def _stop() -> Generator[None, None, None]:
    yield


def pause() -> Awaitable[None]:
    """Stop here until stepped again."""
    return cast("Awaitable[None]", _stop())


class Loop:
    """What asyncio's locks and futures ask of a running loop: to make a future, and to call soon. Time stands still."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:  # noqa: ARG002
        self._ready.append((callback, args))

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=cast("asyncio.AbstractEventLoop", self))

    def get_debug(self) -> bool:
        return False

    def time(self) -> float:
        return 0.0

    def is_running(self) -> bool:
        return True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise AssertionError(context)

    def drain(self) -> None:
        while self._ready:
            callback, args = self._ready.popleft()
            callback(*args)

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """While this holds, what the code under test calls the running loop is this one."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(cast("asyncio.AbstractEventLoop", self))
        try:
            yield
        finally:
            asyncio._set_running_loop(before)


class Stepped(Generic[T]):
    """A coroutine under way: `step` it, `finish` it, or `kill` it where it stands."""

    def __init__(self, loop: Loop, begin: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._loop = loop
        self._begin = begin
        self._running: Coroutine[Any, Any, T] | None = None
        self._waits_for: asyncio.Future[Any] | None = None
        self.is_done = False
        self.result: T | None = None
        self.error: Exception | None = None

    def step(self) -> None:
        """Go on to the next stop. A coroutine that waits for a future which is not done stays where it is."""
        if self.is_done or (self._waits_for is not None and not self._waits_for.done()):
            return
        self._waits_for = None
        if self._running is None:
            self._running = self._begin()
        try:
            stopped_at = self._running.send(None)
        except StopIteration as stop:
            self.is_done, self.result = True, stop.value
        except Exception as error:  # noqa: BLE001 - for whoever looks at it
            self.is_done, self.error = True, error
        else:
            if stopped_at is not None:
                stopped_at._asyncio_future_blocking = False
                self._waits_for = stopped_at
        self._loop.drain()

    def go_on(self, stops: int) -> None:
        for _ in range(stops):
            self.step()

    def finish(self) -> None:
        """Go on to the end. Raises Stuck if it waits for another coroutine."""
        for _ in range(_MOST_STOPS):
            if self.is_done:
                return
            if self._waits_for is not None and not self._waits_for.done():
                break
            self.step()
        raise Stuck

    def kill(self) -> None:
        """As when the process dies: what is stored is stored, and nothing more happens."""
        self.is_done = True
        if self._running is not None:
            self._running.close()
            self._loop.drain()
