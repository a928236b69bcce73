"""Starts parts one after the other, watches them, and stops them in reverse order.

    async with Supervisor(report=print) as supervisor:
        await supervisor.start(part)      # returns when the part is ready
        await supervisor.watch()          # raises when one of them ends

A part that has to be killed costs a bound, never a hang.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fitness_api.embedded import process
from fitness_api.embedded.errors import ChildDied, NotReady

# What is shown of a dead server's log: enough for a reason, short enough to be read.
LAST_LINES = 15


@dataclass(frozen=True, kw_only=True)
class Part:
    """`ready` returns when the part serves; it may take long, and is cancelled when the part dies or time is up."""

    name: str
    argv: Sequence[str | Path]
    environ: Mapping[str, str]
    log: Path
    ready: Callable[[], Awaitable[None]]
    ready_within_s: float
    stop_within_s: float
    folder: Path | None = None


class Supervisor:
    def __init__(self, *, report: Callable[[str], None]) -> None:
        self._report = report
        self._children: list[tuple[Part, process.Child]] = []
        self._hurry = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, part: Part) -> None:
        """Raises ChildDied if it ends before it is ready, NotReady if it takes too long."""
        child = await process.start(part.name, part.argv, log=part.log, environ=part.environ, folder=part.folder)
        self._children.append((part, child))
        ready = asyncio.ensure_future(part.ready())
        ended = asyncio.ensure_future(child.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=part.ready_within_s, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise _died(child, ended.result())
            if not ready.done():
                raise NotReady(what=part.name, within_s=part.ready_within_s, reason="no answer", log=part.log)
            ready.result()
        finally:
            await _cancel(ready)
            await _cancel(ended)

    async def watch(self) -> None:
        """Runs until cancelled. Raises ChildDied when a child ends that nobody stopped."""
        waits = {asyncio.ensure_future(child.wait()): child for _, child in self._children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            ended = next(iter(done))
            raise _died(waits[ended], ended.result())
        finally:
            for waiting in waits:
                await _cancel(waiting)

    def hurry(self) -> None:
        """Every child that is still there is killed now."""
        self._hurry.set()

    async def stop(self) -> None:
        while self._children:
            part, child = self._children[-1]
            if child.running:
                began_s = time.monotonic()
                by_itself = await child.stop(within_s=part.stop_within_s, hurry=self._hurry)
                took_s = time.monotonic() - began_s
                self._report(f"{part.name} {'stopped' if by_itself else 'killed'} ({took_s:.1f} s)")
            # Only now: an interrupted stop leaves the child on the list.
            self._children.pop()


def _died(child: process.Child, how: str) -> ChildDied:
    return ChildDied(what=child.name, how=how, log=child.log, last_lines=child.last_lines(LAST_LINES))


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
