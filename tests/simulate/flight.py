"""A request on its way, and the store as that request has it: every call may stop, fail or be run again."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sync.changes import Format
from sync.clock import Stamp
from sync.document import Document, Key
from sync.errors import StoreUnavailable
from sync.head import Head
from sync.merge import Outcome, State
from sync.store import Step, Tombstone, View
from tests.simulate.oracle import Expected
from tests.simulate.scheduler import Stepped, pause

if TYPE_CHECKING:
    from tests.simulate.server import Server


class Flight:
    """One request on its way. `faults`: what befalls which call of the store, counted from 0."""

    serving: Stepped[bytes]

    def __init__(
        self, body: bytes, sent: Mapping[str, Any], received: Format, answered: Format, faults: Mapping[int, str]
    ) -> None:
        self.body = body
        self.sent = sent
        self.received: Format = received
        self.answered: Format = answered
        self.faults = faults
        self.calls = 0
        self.is_refused = False
        self.now_ms = 0
        self.expected: list[Expected | None] = []

    def again(self) -> "Flight":
        return Flight(self.body, self.sent, self.received, self.answered, {})


class _Retried(Exception):
    """Ends a step whose transaction met another one."""


class FlightStore:
    """The store as one request has it. Every call stops before and after; some fail, with or without having taken effect."""

    def __init__(self, server: "Server", flight: Flight | None = None, told: Callable[[], Any] | None = None) -> None:
        self._server = server
        self._flight = flight or Flight(b"", {}, "json", "json", {})
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server.store, name)

    async def _begin(self) -> str:
        """Stop, fail if this call is to; return what else is to befall it."""
        fault = self._flight.faults.get(self._flight.calls, "")
        self._flight.calls += 1
        await pause()
        if fault == "before":
            raise StoreUnavailable("simulated")
        return fault

    async def head(self, user_id: str) -> Head | None:
        await self._begin()
        head = await self._server.store.head(user_id)
        await pause()
        return head

    @asynccontextmanager
    async def view(self, user_id: str, *, at_least: int = 0) -> AsyncIterator[View | None]:
        fault = await self._begin()
        async with self._server.store.view(user_id, at_least=at_least) as view:
            await pause()
            if view is None:
                yield None
            else:
                yield _FlightView(self._server.earlier_view(view, at_least) if fault == "stale" else view)

    async def tombstones(self, user_id: str, *, limit: int) -> list[Tombstone]:
        await self._begin()
        tombstones = await self._server.store.tombstones(user_id, limit=limit)
        await pause()
        return tombstones

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        fault = await self._begin()
        if fault == "partial":
            keys = keys[:1]
        if fault == "rerun":
            await self._rerun(user_id, keys, stamps, step)
        state, outcome = await self._server.store.update(user_id, keys, stamps, step)
        if self._told is not None:
            self._told()
        elif outcome.results or outcome.rejected:  # else it is of the device, or of what is purged
            self._server.upload_committed(self._flight, state)
        self._server.purge_committed(self._flight, outcome)
        self._server.compare(outcome)
        self._server.remember()
        if fault == "after":
            raise StoreUnavailable("simulated; it was stored")
        await pause()
        return state, outcome

    async def _rerun(self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step) -> None:
        """Run the step on what is there now and store nothing, as a transaction that then meets another one."""

        def retried(state: State) -> Outcome:
            step(state)
            raise _Retried

        try:
            await self._server.store.update(user_id, keys, stamps, retried)
        except _Retried:
            await pause()


class _FlightView:
    """A view that is read one document at a time, with others at work between two."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.head = view.head
        self.in_bucket = view.in_bucket

    async def changed(
        self,
        collections: Collection[str],
        *,
        after: int,
        upto: int,
        snapshot: bool = False,
        room: Callable[[], int] | None = None,
    ) -> AsyncIterator[Document]:
        async for document in self._view.changed(collections, after=after, upto=upto, snapshot=snapshot, room=room):
            yield document
            await pause()

    async def count_changed(
        self, collections: Collection[str], *, after: int, upto: int, snapshot: bool = False
    ) -> int:
        await pause()
        return await self._view.count_changed(collections, after=after, upto=upto, snapshot=snapshot)
