"""Store and log in one process's memory, for simulations: the same contracts, without a database's failures."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from msgspec.structs import replace

from sync import quarantine
from sync.clock import MAX_REPLICA, Stamp
from sync.conflicts import KEPT_MS, Conflict
from sync.digest import bucket_of
from sync.document import Document, Key
from sync.errors import AccountDeleted, ReplicasExhausted, TooManyDevices
from sync.head import MAX_DEVICES, Device, Head
from sync.log import MAX_LISTED_BYTES, Listed, Place
from sync.merge import Outcome, State
from sync.quarantine import Rejected
from sync.store import Step, Tombstone


class _Account:
    def __init__(self) -> None:
        self.head: Head | None = None
        self.used_replicas: set[int] = set()
        self.documents: dict[Key, Document] = {}
        self.restamps: dict[Stamp, Stamp] = {}
        self.rejected: dict[str, Rejected] = {}
        self.conflicts: dict[str, Conflict] = {}
        self.is_erased = False
        self.lane: Final = asyncio.Lock()


class MemoryStore:
    """dice: what epochs and replica numbers are drawn from."""

    def __init__(self, dice: Random | None = None) -> None:
        self._accounts: dict[str, _Account] = {}
        self._dice: Random = dice or secrets.SystemRandom()

    def _account(self, user_id: str) -> _Account:
        account = self._accounts.setdefault(user_id, _Account())
        if account.is_erased:
            raise AccountDeleted
        return account

    def _made_head(self, account: _Account) -> Head:
        if account.head is None:
            account.head = Head(epoch=self._dice.getrandbits(31), devices={})
        return account.head

    async def register_device(self, user_id: str, device_id: str) -> int:
        account = self._account(user_id)
        head = self._made_head(account)
        if device_id in head.devices:
            return head.devices[device_id].replica
        if len(account.used_replicas) >= MAX_REPLICA:
            raise ReplicasExhausted
        if len(head.devices) >= MAX_DEVICES:
            raise TooManyDevices(limit=MAX_DEVICES)
        while (replica := self._dice.randint(1, MAX_REPLICA)) in account.used_replicas:
            pass
        account.used_replicas.add(replica)
        account.head = head.with_device(device_id, Device(replica))
        return replica

    async def forget_device(self, user_id: str, device_id: str) -> None:
        account = self._account(user_id)
        if account.head is not None:
            devices = {name: device for name, device in account.head.devices.items() if name != device_id}
            account.head = replace(account.head, devices=devices)

    async def head(self, user_id: str) -> Head | None:
        return self._account(user_id).head

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        account = self._account(user_id)
        async with account.lane:
            head = self._made_head(self._account(user_id))
            found = {key: account.documents[key].copy() for key in keys if key in account.documents}
            restamps = {stamp: account.restamps[stamp] for stamp in stamps if stamp in account.restamps}
            state = State(head, keys, found, restamps)
            outcome = step(state)
            for entry_id in outcome.accepted:
                account.rejected.pop(entry_id, None)
            if outcome.rejected:
                held = {name: entry.content for name, entry in account.rejected.items()}
                outcome = outcome.with_added(quarantine.added(outcome.rejected, held))
            account.rejected.update({entry.id: entry for entry in outcome.rejected})
            account.head = outcome.head
            account.documents.update({document.key: document for document in outcome.written})
            account.restamps.update(outcome.restamps)
            known = account.conflicts
            new = [one for one in outcome.conflicts if one.restored_ms or one.id not in known]
            outcome = outcome._replace(conflicts=new)
            known.update({one.id: one for one in new})
            return state, outcome

    async def document(self, user_id: str, key: Key) -> Document | None:
        found = self._account(user_id).documents.get(key)
        return None if found is None else found.copy()

    @asynccontextmanager
    async def view(self, user_id: str, *, at_least: int = 0) -> AsyncIterator["MemoryView | None"]:  # noqa: ARG002
        account = self._account(user_id)
        yield None if account.head is None else MemoryView(account.head, account.documents.copy())

    async def tombstones(self, user_id: str, *, limit: int) -> list[Tombstone]:
        documents = self._account(user_id).documents.values()
        found = [
            Tombstone(document.key, document.seq, document.deleted_ms) for document in documents if document.deleted_ms
        ]
        return sorted(found, key=lambda tombstone: (tombstone.deleted_ms, tombstone.key))[:limit]

    async def bump_epoch(self, user_id: str) -> bool:
        account = self._account(user_id)
        if account.head is None:
            return False
        account.head = replace(account.head, epoch=self._dice.getrandbits(31))
        return True

    async def bump_all_epochs(self) -> None:
        for user_id, account in self._accounts.items():
            if not account.is_erased:
                await self.bump_epoch(user_id)

    async def erase(self, user_id: str, *, now_ms: int) -> None:  # noqa: ARG002 - nobody asks this store when
        account = self._accounts.setdefault(user_id, _Account())
        account.head = None
        account.is_erased = True  # also for an update that waits in the lane
        for records in (account.documents, account.restamps, account.rejected, account.conflicts):
            records.clear()

    async def rejected(self, user_id: str, *, below: Place | None, limit: int) -> Listed[Rejected]:
        found = self._newest_rejected(user_id, below)
        most = 1
        while most < min(limit, len(found)) and sum(one.size_bytes for one in found[: most + 1]) <= MAX_LISTED_BYTES:
            most += 1
        return Listed(found[:most], has_more=len(found) > most)

    async def rejected_one(self, user_id: str, entry_id: str) -> Rejected | None:
        return self._account(user_id).rejected.get(entry_id)

    async def conflicts(self, user_id: str, *, below: Place | None, limit: int, now_ms: int) -> Listed[Conflict]:
        kept = [one for one in self._account(user_id).conflicts.values() if one.at_ms > now_ms - KEPT_MS]
        newest_first = sorted(kept, key=lambda one: (one.at_ms, one.id), reverse=True)
        found = [one for one in newest_first if below is None or (one.at_ms, one.id) < below]
        return Listed(found[:limit], has_more=len(found) > limit)

    async def conflict(self, user_id: str, conflict_id: str, *, now_ms: int) -> Conflict | None:
        found = self._account(user_id).conflicts.get(conflict_id)
        return None if found is None or found.at_ms <= now_ms - KEPT_MS else found

    async def trim_rejected(self, user_id: str, *, most_bytes: int) -> Head:
        account = self._account(user_id)
        kept_bytes = 0
        for number, entry in enumerate(newest_first := self._newest_rejected(user_id, None)):
            if kept_bytes + entry.size_bytes > most_bytes:
                for gone in newest_first[number:]:
                    del account.rejected[gone.id]
                break
            kept_bytes += entry.size_bytes
        account.head = replace(self._made_head(account), quarantined_bytes=kept_bytes)
        return account.head

    def _newest_rejected(self, user_id: str, below: Place | None) -> list[Rejected]:
        entries = self._account(user_id).rejected.values()
        newest_first = sorted(entries, key=lambda entry: (entry.received_ms, entry.id), reverse=True)
        return [one for one in newest_first if below is None or (one.received_ms, one.id) < below]


class MemoryView:
    """Documents that are stored are never altered, only replaced."""

    def __init__(self, head: Head, documents: Mapping[Key, Document]) -> None:
        self.head = head
        self._documents = documents

    async def changed(
        self,
        collections: Collection[str],
        *,
        after: int,
        upto: int,
        snapshot: bool = False,
        room: Callable[[], int] | None = None,  # noqa: ARG002 - nothing is read
    ) -> AsyncIterator[Document]:
        found = self._changed(collections, after, upto, snapshot=snapshot)
        for document in sorted(found, key=_sequence, reverse=snapshot):
            yield document.copy()

    async def count_changed(
        self, collections: Collection[str], *, after: int, upto: int, snapshot: bool = False
    ) -> int:
        return len(self._changed(collections, after, upto, snapshot=snapshot))

    async def in_bucket(self, collection: str, bucket: int | None, *, after: int) -> AsyncIterator[Document]:
        for document in sorted(self._changed([collection], after, self.head.seq, snapshot=True), key=_sequence):
            if bucket is None or bucket_of(document.key.id) == bucket:
                yield document.copy()

    def _changed(self, collections: Collection[str], after: int, upto: int, *, snapshot: bool) -> list[Document]:
        documents = self._documents.values()
        wanted = (d for d in documents if after < d.seq <= upto and d.key.collection in collections)
        return [document for document in wanted if not (snapshot and document.purged)]


def _sequence(document: Document) -> int:
    return document.seq
