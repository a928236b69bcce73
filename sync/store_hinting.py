"""A store that announces an account when something new landed in it, whoever wrote: devices, imports, track chunks."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager

from sync.clock import Stamp
from sync.document import Document, Key
from sync.head import Head
from sync.merge import Outcome, State
from sync.store import Step, Store, Tombstone, View


class HintingStore:
    """Keeps to the contract of the store that it wraps. `announce` must neither wait nor raise."""

    def __init__(self, store: Store, announce: Callable[[str], None]) -> None:
        self._store = store
        self._announce = announce

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        state, outcome = await self._store.update(user_id, keys, stamps, step)
        # Only what a device would be given is news; what the head says of devices, say, is not, or two would wake each other for
        # ever. Where all was there already, an answer may have been lost, and with it what would have been announced.
        if outcome.head.seq > state.head.seq or (keys and outcome.head == state.head):
            self._announce(user_id)
        return state, outcome

    async def bump_epoch(self, user_id: str) -> bool:
        bumped = await self._store.bump_epoch(user_id)
        self._announce(user_id)
        return bumped

    async def erase(self, user_id: str, *, now_ms: int) -> None:
        await self._store.erase(user_id, now_ms=now_ms)
        self._announce(user_id)

    async def bump_all_epochs(self) -> None:
        """Announces nobody: each device finds out when it next syncs."""
        await self._store.bump_all_epochs()

    async def register_device(self, user_id: str, device_id: str) -> int:
        return await self._store.register_device(user_id, device_id)

    async def forget_device(self, user_id: str, device_id: str) -> None:
        await self._store.forget_device(user_id, device_id)

    async def head(self, user_id: str) -> Head | None:
        return await self._store.head(user_id)

    def view(self, user_id: str, *, at_least: int = 0) -> AbstractAsyncContextManager[View | None]:
        return self._store.view(user_id, at_least=at_least)

    async def document(self, user_id: str, key: Key) -> Document | None:
        return await self._store.document(user_id, key)

    async def tombstones(self, user_id: str, *, limit: int) -> list[Tombstone]:
        return await self._store.tombstones(user_id, limit=limit)

    async def trim_rejected(self, user_id: str, *, most_bytes: int) -> Head:
        return await self._store.trim_rejected(user_id, most_bytes=most_bytes)
