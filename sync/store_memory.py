"""The store in one process's memory, for simulations: the same contract, without a database's failures."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final

from msgspec.structs import replace

from sync.clock import MAX_REPLICA, Stamp
from sync.document import Document, Key
from sync.errors import ReplicasExhausted, TooManyDevices
from sync.head import MAX_DEVICES, Device, Head
from sync.merge import Outcome, State
from sync.store import Step


class _Account:
    def __init__(self) -> None:
        self.head: Head | None = None
        self.used_replicas: set[int] = set()
        self.documents: dict[Key, Document] = {}
        self.restamps: dict[Stamp, Stamp] = {}
        self.lane: Final = asyncio.Lock()


class MemoryStore:
    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def _account(self, user_id: str) -> _Account:
        return self._accounts.setdefault(user_id, _Account())

    async def register_device(self, user_id: str, device_id: str) -> int:
        account = self._account(user_id)
        head = account.head or Head(epoch=secrets.randbits(31), devices={})
        if device_id in head.devices:
            return head.devices[device_id].replica
        free = [number for number in range(1, MAX_REPLICA + 1) if number not in account.used_replicas]
        if not free:
            raise ReplicasExhausted
        if len(head.devices) >= MAX_DEVICES:
            raise TooManyDevices(limit=MAX_DEVICES)
        replica = secrets.choice(free)
        account.used_replicas.add(replica)
        account.head = replace(head, devices={**head.devices, device_id: Device(replica)})
        return replica

    async def forget_device(self, user_id: str, device_id: str) -> None:
        account = self._account(user_id)
        if account.head is not None:
            devices = {name: device for name, device in account.head.devices.items() if name != device_id}
            account.head = replace(account.head, devices=devices)

    async def head(self, user_id: str, *, surely_newest: bool = False) -> Head | None:  # noqa: ARG002 - always is
        return self._account(user_id).head

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        account = self._account(user_id)
        async with account.lane:
            account.head = account.head or Head(epoch=secrets.randbits(31), devices={})
            found = {key: account.documents[key].copy() for key in keys if key in account.documents}
            restamps = {stamp: account.restamps[stamp] for stamp in stamps if stamp in account.restamps}
            state = State(account.head, keys, found, restamps)
            outcome = step(state)
            if outcome.writes:
                account.head = outcome.head
                account.documents.update({document.key: document for document in outcome.written})
                account.restamps.update(outcome.restamps)
            return state, outcome

    async def changed(
        self, user_id: str, collections: Collection[str], *, after: int, upto: int, newest_first: bool
    ) -> AsyncIterator[Document]:
        for document in sorted(
            self._changed(user_id, collections, after, upto),
            key=lambda document: document.seq,
            reverse=newest_first,
        ):
            yield document.copy()

    async def count_changed(self, user_id: str, collections: Collection[str], *, after: int, upto: int) -> int:
        return len(self._changed(user_id, collections, after, upto))

    def _changed(self, user_id: str, collections: Collection[str], after: int, upto: int) -> list[Document]:
        documents = self._account(user_id).documents.values()
        return [d for d in documents if after < d.seq <= upto and d.key.collection in collections]
